"""The activity's machine."""

from __future__ import annotations

import pytest
from temporalio.api.common.v1 import RetryPolicy
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import CanceledFailureInfo, Failure, ServerFailureInfo

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import activity, activity_failures
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import MILLISECOND, SECOND
from tests.support.world import (
    World,
    application_failure,
    cancel_activity,
    payloads,
    schedule_activity,
    seconds,
    start_timer,
)

KEY = 5
"""The scheduled event of the first command of a first task."""


def scheduled(**options: object) -> World:
    world = World()
    world.start()
    world.turn(schedule_activity("a", **options))
    return world


def test_a_scheduled_activity_waits_in_its_queue() -> None:
    world = scheduled()
    index = world.activity(KEY).index(world.execution.info)
    assert index.destination == ("activity", "ns", "work")
    assert index.ready == world.now


def test_completing_writes_the_started_event_with_the_completed_one() -> None:
    world = scheduled()
    world.take_activity(KEY)
    assert world.event_types()[-1] == "ACTIVITY_TASK_SCHEDULED"
    world.complete_activity(KEY)
    assert world.event_types()[-3:] == ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED", "WORKFLOW_TASK_SCHEDULED"]


def test_a_failure_is_tried_again_after_a_pause_that_doubles() -> None:
    world = scheduled()
    pauses: list[int] = []
    for _ in range(4):
        world.now = world.activity(KEY).attempt_time
        assert world.take_activity(KEY) is not None
        world.fail_activity(KEY)
        pauses.append((world.activity(KEY).attempt_time - world.now) // SECOND)
    assert pauses == [1, 2, 4, 8]
    assert world.activity(KEY).attempt == 5
    assert Failure.FromString(world.activity(KEY).last_failure).application_failure_info.type == "Oops"


def test_an_attempt_is_not_given_out_before_its_time() -> None:
    world = scheduled()
    world.take_activity(KEY)
    world.fail_activity(KEY)
    assert world.take_activity(KEY) is None
    world.now += 1 * SECOND
    assert world.take_activity(KEY) is not None


FINAL = {
    "a failure that says so": application_failure("Oops", final=True),
    "a type that the policy names": application_failure("Hopeless"),
    "a failure of the server's": Failure(server_failure_info=ServerFailureInfo(non_retryable=True)),
    "a cancellation": Failure(canceled_failure_info=CanceledFailureInfo()),
}


@pytest.mark.parametrize("failure", FINAL.values(), ids=FINAL.keys())
def test_some_failures_are_final(failure: Failure) -> None:
    world = scheduled(policy=RetryPolicy(non_retryable_error_types=["Hopeless"]))
    world.take_activity(KEY)
    world.fail_activity(KEY, failure)
    failed = world.history[-2].activity_task_failed_event_attributes
    assert failed.retry_state == RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE


def test_attempts_are_used_up() -> None:
    world = scheduled(policy=RetryPolicy(maximum_attempts=2))
    world.take_activity(KEY)
    world.fail_activity(KEY)
    world.now += 1 * SECOND
    world.take_activity(KEY)
    world.fail_activity(KEY)
    failed = world.history[-2].activity_task_failed_event_attributes
    assert failed.retry_state == RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
    started = world.history[-3].activity_task_started_event_attributes
    assert (started.attempt, started.last_failure.application_failure_info.type) == (2, "Oops")


def test_a_pause_that_the_failure_asks_for_is_kept() -> None:
    world = scheduled()
    world.take_activity(KEY)
    failure = application_failure("Oops")
    failure.application_failure_info.next_retry_delay.CopyFrom(seconds(30))
    world.fail_activity(KEY, failure)
    assert world.activity(KEY).attempt_time == world.now + 30 * SECOND


def test_an_activity_that_nobody_takes_times_out() -> None:
    world = scheduled(schedule_to_start=2)
    world.pass_time(2 * SECOND - 1)
    assert world.event_types()[-1] == "ACTIVITY_TASK_SCHEDULED"
    world.pass_time(1)
    timed_out = world.history[-2].activity_task_timed_out_event_attributes
    assert timed_out.failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
    assert timed_out.retry_state == RetryState.RETRY_STATE_TIMEOUT


def test_all_attempts_together_have_no_more_time_than_the_whole() -> None:
    world = scheduled(schedule_to_close=3, start_to_close=0)
    world.take_activity(KEY)
    world.pass_time(3 * SECOND)
    timed_out = world.history[-2].activity_task_timed_out_event_attributes
    assert timed_out.failure.timeout_failure_info.timeout_type in (
        TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE,
        TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE,
    )
    assert timed_out.started_event_id == world.history[-3].event_id


def test_an_attempt_that_takes_too_long_is_followed_by_another() -> None:
    world = scheduled(start_to_close=2)
    world.take_activity(KEY)
    world.pass_time(2 * SECOND)
    row = world.activity(KEY)
    assert (row.attempt, row.started_time) == (2, 0)
    failure = Failure.FromString(row.last_failure)
    assert failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE


def test_silence_is_a_timeout_and_a_heartbeat_ends_it() -> None:
    world = scheduled(heartbeat=1, policy=RetryPolicy(maximum_attempts=1))
    world.take_activity(KEY)
    for _ in range(3):
        world.pass_time(900 * MILLISECOND)
        row = world.activity(KEY)
        world.run(lambda tx, row=row: activity.heartbeat(tx, row, payloads("half")))
    world.pass_time(1 * SECOND)
    failure = world.history[-2].activity_task_timed_out_event_attributes.failure.timeout_failure_info
    assert failure.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT
    assert failure.last_heartbeat_details == payloads("half")


def test_heartbeat_details_outlive_the_attempt() -> None:
    world = scheduled()
    world.take_activity(KEY)
    row = world.activity(KEY)
    world.run(lambda tx: activity.heartbeat(tx, row, payloads("half")))
    world.fail_activity(KEY)
    assert world.activity(KEY).heartbeat_details == payloads("half").SerializeToString()


def test_an_answer_of_an_older_attempt_is_not_found() -> None:
    world = scheduled()
    first = world.take_activity(KEY)
    assert first is not None
    world.fail_activity(KEY)
    world.now += 1 * SECOND
    world.take_activity(KEY)
    with pytest.raises(StatusError) as refused:
        activity.find(world.execution, KEY, first.attempt, first.started_time)
    assert refused.value.code == Code.NOT_FOUND


def test_cancelling_one_that_waits_ends_it_at_once() -> None:
    world = World()
    world.start()
    world.turn(schedule_activity("a"), start_timer("t", 1))
    world.pass_time(1 * SECOND)
    world.turn(cancel_activity(KEY))
    assert world.event_types()[-3:] == [
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "ACTIVITY_TASK_CANCELED",
        "WORKFLOW_TASK_SCHEDULED",
    ]


def test_one_that_runs_learns_of_its_cancellation_by_heartbeat() -> None:
    world = World()
    world.start()
    world.turn(schedule_activity("a"), start_timer("t", 1))
    world.take_activity(KEY)
    world.pass_time(1 * SECOND)
    world.turn(cancel_activity(KEY))
    row = world.activity(KEY)
    assert world.run(lambda tx: activity.heartbeat(tx, row, None)).cancel_requested
    row = world.activity(KEY)
    world.run(lambda tx: activity.cancelled(tx, row, None, "worker"))
    assert world.event_types()[-2:] == ["ACTIVITY_TASK_CANCELED", "WORKFLOW_TASK_SCHEDULED"]


def test_a_kept_failure_is_cut_to_its_limit() -> None:
    failure = application_failure("T" * 100)
    failure.message = "ü" * 9_000
    short = activity_failures.cut(failure, limits=DEFAULTS)
    assert short.message == "Failure exceeds size limit."
    assert not short.server_failure_info.non_retryable
    assert short.cause.ByteSize() <= limits.FAILURE_SIZE
    assert short.cause.application_failure_info.type == "T" * 100
    assert short.cause.message.startswith("üüü")


def test_an_eager_activity_goes_to_the_worker_with_the_answer() -> None:
    world = World()
    world.start()
    outcome = world.turn(schedule_activity("a", eager=True))
    assert outcome.eager == (KEY,)
    assert world.activity(KEY).started_time == world.now
