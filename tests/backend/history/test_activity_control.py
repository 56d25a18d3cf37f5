"""What operators do to pending activities."""

from __future__ import annotations

import pytest
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Priority, RetryPolicy
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import activity, activity_control, activity_options
from nexuskit.backend.history.activity_control import ResetRequest, Which
from nexuskit.backend.history.state import NOTHING
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from tests.support.world import World, payloads, schedule_activity, seconds

KEY = 5
"""The scheduled event of the first command of a first task."""
ONE = Which(activity_id="a")
RESET = ResetRequest(reset_heartbeat=False, keep_paused=False, jitter=0)


def scheduled(**options: object) -> World:
    world = World()
    world.start()
    world.turn(schedule_activity("a", **options))
    return world


def pause(world: World, request_id: str = "one") -> None:
    because = activity.Pause(world.now, "operator", "look first", request_id)
    world.run(lambda tx: activity_control.pause(tx, ONE, because))


def unpause(world: World, *, reset_attempts: bool = False, reset_heartbeat: bool = False, jitter: int = 0) -> None:
    world.run(
        lambda tx: activity_control.unpause(
            tx, ONE, reset_attempts=reset_attempts, reset_heartbeat=reset_heartbeat, jitter=jitter
        )
    )


def beat(world: World, details: str) -> activity.Told:
    row = world.activity(KEY)
    return world.run(lambda tx: activity.heartbeat(tx, row, payloads(details)))


def test_a_paused_activity_is_given_to_nobody_and_does_not_time_out() -> None:
    world = scheduled(schedule_to_close=3)
    stamp = world.activity(KEY).stamp
    pause(world)
    assert world.activity(KEY).index(world.execution.info) == NOTHING
    assert world.run(lambda tx: activity.start(tx, activity.Start(KEY, stamp, "worker"))) is None
    assert world.take_activity(KEY) is None
    world.pass_time(9 * SECOND)
    assert world.event_types()[-1] == "ACTIVITY_TASK_SCHEDULED"


def test_an_unpaused_activity_waits_from_then_on_and_what_is_over_is_over() -> None:
    world = scheduled(schedule_to_start=3)
    pause(world)
    world.pass_time(9 * SECOND)
    unpause(world, jitter=2 * SECOND)
    row = world.activity(KEY)
    assert row.attempt_time == world.now + 2 * SECOND
    assert row.index(world.execution.info).due == row.attempt_time + 3 * SECOND


def test_one_that_runs_while_it_is_paused_waits_when_it_has_failed() -> None:
    world = scheduled(policy=RetryPolicy(maximum_attempts=1))
    world.take_activity(KEY)
    pause(world)
    assert beat(world, "half").paused
    world.fail_activity(KEY)
    row = world.activity(KEY)
    assert (row.attempt, row.started_time) == (2, 0)
    assert row.index(world.execution.info) == NOTHING
    unpause(world, reset_attempts=True, reset_heartbeat=True)
    row = world.activity(KEY)
    assert (row.attempt, row.heartbeat_details, row.last_failure) == (1, b"", b"")
    assert world.take_activity(KEY) is not None


def test_a_second_pause_is_refused_but_for_the_same_request() -> None:
    world = scheduled()
    pause(world)
    pause(world)
    with pytest.raises(StatusError) as refused:
        pause(world, "two")
    assert refused.value.code == Code.FAILED_PRECONDITION


def test_the_worker_of_an_activity_that_was_reset_may_still_answer() -> None:
    world = scheduled()
    world.take_activity(KEY)
    world.fail_activity(KEY)
    world.pass_time(1 * SECOND)
    taken = world.take_activity(KEY)
    assert taken is not None
    assert taken.attempt == 2
    world.run(lambda tx: activity_control.reset(tx, ONE, RESET))
    assert world.activity(KEY).attempt == 1
    found = activity.find(world.execution, KEY, taken.attempt, taken.started_time)
    assert found.reset
    assert beat(world, "half").reset
    world.complete_activity(KEY)
    assert world.event_types()[-2] == "ACTIVITY_TASK_COMPLETED"


def test_a_reset_of_heartbeats_waits_for_the_attempt_to_end() -> None:
    world = scheduled()
    world.take_activity(KEY)
    beat(world, "half")
    world.run(lambda tx: activity_control.reset(tx, ONE, RESET._replace(reset_heartbeat=True)))
    assert world.activity(KEY).heartbeat_details
    world.fail_activity(KEY)
    assert not world.activity(KEY).heartbeat_details
    assert not world.activity(KEY).reset


def test_a_task_that_was_given_out_before_a_reset_is_stale() -> None:
    world = scheduled()
    stamp = world.activity(KEY).stamp
    world.run(lambda tx: activity_control.reset(tx, ONE, RESET))
    assert world.run(lambda tx: activity.start(tx, activity.Start(KEY, stamp, "worker"))) is None
    assert world.take_activity(KEY) is not None


def test_a_reset_may_keep_the_pause_and_restore_the_options() -> None:
    world = scheduled(start_to_close=10)
    pause(world)
    originals = {KEY: world.activity(KEY).options}
    longer = ActivityOptions(start_to_close_timeout=seconds(99))
    world.run(lambda tx: activity_control.update_options(tx, ONE, longer, ["start_to_close_timeout"]))
    assert world.activity(KEY).start_to_close == 99 * SECOND
    keep = ResetRequest(reset_heartbeat=False, keep_paused=True, jitter=0, originals=originals)
    world.run(lambda tx: activity_control.reset(tx, ONE, keep))
    row = world.activity(KEY)
    assert (row.start_to_close, row.pause is not None) == (10 * SECOND, True)


def test_other_options_hold_at_once() -> None:
    world = scheduled(start_to_close=10)
    world.take_activity(KEY)
    shorter = ActivityOptions(start_to_close_timeout=seconds(2), task_queue=TaskQueue(name="other"))
    world.run(lambda tx: activity_control.update_options(tx, ONE, shorter, ["startToCloseTimeout", "taskQueue.name"]))
    world.pass_time(2 * SECOND)
    row = world.activity(KEY)
    assert (row.attempt, row.queue) == (2, "other")


@pytest.mark.parametrize(
    ("options", "paths", "message"),
    [
        (ActivityOptions(), ["task_queue.name"], "TaskQueue is not provided"),
        (ActivityOptions(task_queue=TaskQueue()), ["task_queue.name"], "missing task queue name"),
        (ActivityOptions(), ["start_delay"], "start_delay"),
        (ActivityOptions(heartbeat_timeout=seconds(-1)), ["heartbeat_timeout"], "invalid HeartbeatTimeout"),
    ],
)
def test_options_that_make_no_sense_change_nothing(options: ActivityOptions, paths: list[str], message: str) -> None:
    world = scheduled()
    before = world.activity(KEY)
    with pytest.raises(StatusError, match=message) as refused:
        world.run(lambda tx: activity_control.update_options(tx, ONE, options, paths))
    assert refused.value.code == Code.INVALID_ARGUMENT
    assert world.activity(KEY) == before


def test_a_fairness_key_has_its_limit() -> None:
    activity_options.check_priority(Priority(fairness_key="k" * limits.FAIRNESS_KEY_LENGTH), limits=DEFAULTS)
    with pytest.raises(StatusError, match="fairness key length exceeds limit"):
        activity_options.check_priority(Priority(fairness_key="k" * (limits.FAIRNESS_KEY_LENGTH + 1)), limits=DEFAULTS)
    with pytest.raises(StatusError, match="must be greater than zero"):
        activity_options.check_priority(Priority(fairness_weight=float("nan")), limits=DEFAULTS)
