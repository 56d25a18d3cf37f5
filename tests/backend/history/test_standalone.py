"""An activity that stands alone: its moves, and what is left when it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import ActivityType, Callback, Link, RetryPolicy
from temporalio.api.enums.v1 import ActivityExecutionStatus, RetryState, TimeoutType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartActivityExecutionRequest

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import activity, activity_options, callback, standalone
from nexuskit.backend.history.rules import RULES
from nexuskit.backend.history.standalone import SCHEDULED_ID, Asked
from nexuskit.backend.history.state import ACTIVITY, NOTHING, Execution, Info
from nexuskit.backend.history.transaction import replay
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from tests.support.world import World, application_failure, payloads, seconds

Status = ActivityExecutionStatus
KEY = SCHEDULED_ID
ASKED = Asked("one", "boss", "no need")
CALLBACK = Callback(nexus=Callback.Nexus(url="temporal://system"))


def started(*, start_delay: float = 0, **options: Any) -> World:
    """One that waits for a worker."""
    world = World()
    info = Info(namespace_id="ns", workflow_id="a", run_id="run-1", archetype=ACTIVITY)
    world.execution = Execution(1, info)
    given = {"task_queue": TaskQueue(name="work"), "start_to_close_timeout": seconds(10), **options}
    checked = activity_options.checked(ActivityOptions(**given), "a", "charge", limits=DEFAULTS)
    request = StartActivityExecutionRequest(
        activity_id="a",
        activity_type=ActivityType(name="charge"),
        request_id="request-1",
        input=payloads("1"),
        start_delay=seconds(start_delay),
        completion_callbacks=[CALLBACK],
    )
    world.run(lambda tx: standalone.start(tx, request, checked))
    return world


def cancel(world: World) -> None:
    world.run(lambda tx: standalone.request_cancel(tx, ASKED))


def confirm(world: World) -> None:
    row = world.activity(KEY)
    world.run(lambda tx: activity.cancelled(tx, row, None, "worker"))


def terminate(world: World) -> None:
    world.run(lambda tx: standalone.terminate(tx, "one", "boss", "enough"))


def fail_for_good(world: World) -> None:
    world.take_activity(KEY)
    world.fail_activity(KEY, application_failure("Oops", final=True))


def complete(world: World) -> None:
    world.take_activity(KEY)
    world.complete_activity(KEY)


def cancel_while_it_runs(world: World) -> None:
    world.take_activity(KEY)
    cancel(world)
    assert world.execution.info.running
    confirm(world)


MOVES: dict[str, tuple[Callable[[World], None], ActivityExecutionStatus.ValueType]] = {
    "a worker completes it": (complete, Status.ACTIVITY_EXECUTION_STATUS_COMPLETED),
    "somebody completes it whom no worker is needed for": (
        lambda world: world.complete_activity(KEY),
        Status.ACTIVITY_EXECUTION_STATUS_COMPLETED,
    ),
    "its worker gives up": (fail_for_good, Status.ACTIVITY_EXECUTION_STATUS_FAILED),
    "it is cancelled before a worker has it": (cancel, Status.ACTIVITY_EXECUTION_STATUS_CANCELED),
    "its worker stops as it was asked to": (cancel_while_it_runs, Status.ACTIVITY_EXECUTION_STATUS_CANCELED),
    "it is terminated": (terminate, Status.ACTIVITY_EXECUTION_STATUS_TERMINATED),
    "its time is over": (lambda world: world.pass_time(99 * SECOND), Status.ACTIVITY_EXECUTION_STATUS_TIMED_OUT),
}


@pytest.mark.parametrize(("move", "status"), MOVES.values(), ids=MOVES.keys())
def test_it_closes(move: Callable[[World], None], status: ActivityExecutionStatus.ValueType) -> None:
    world = started(schedule_to_close_timeout=seconds(99))
    move(world)
    info = world.execution.info
    assert (info.status, info.close_time, info.close_event_id) == (status, world.now, world.history[-1].event_id)
    assert "WORKFLOW_TASK_SCHEDULED" not in world.event_types()
    row = world.activity(KEY)
    assert (row.ended, row.index(info)) == (True, NOTHING)
    told = world.execution.of(callback.Callback).get(0)
    assert told is not None
    assert told.state == callback.State.SCHEDULED
    outcome = standalone.outcome(world.execution, world.history[-1])
    assert outcome.HasField("result") == (status == Status.ACTIVITY_EXECUTION_STATUS_COMPLETED)
    history = list(world.history)
    late: list[Callable[[], object]] = [
        lambda: activity.find_by_id(world.execution, "a", started=False),
        lambda: world.run(lambda tx: standalone.request_cancel(tx, Asked("two", "", ""))),
        lambda: world.run(lambda tx: standalone.terminate(tx, "two", "boss", "enough")),
    ]
    for each in late:
        with pytest.raises(StatusError) as refused:
            each()
        assert refused.value.code in (Code.FAILED_PRECONDITION, Code.NOT_FOUND)
    world.pass_time(999 * SECOND)
    assert world.history == history
    again = Execution(1, Info(namespace_id="ns", workflow_id="a", run_id="run-1", archetype=ACTIVITY))
    replay(RULES, again, history)
    assert (again.info.status, again.info.close_time) == (info.status, info.close_time)


def test_the_same_request_to_end_it_is_no_second_one() -> None:
    world = started()
    world.take_activity(KEY)
    cancel(world)
    before = list(world.history)
    cancel(world)
    assert world.history == before
    with pytest.raises(StatusError, match="cancellation already requested with request ID one"):
        world.run(lambda tx: standalone.request_cancel(tx, Asked("two", "", "")))
    terminate(world)
    terminate(world)
    with pytest.raises(StatusError, match="already terminated with request ID one"):
        world.run(lambda tx: standalone.terminate(tx, "two", "boss", "enough"))


def test_one_that_was_asked_to_stop_is_not_tried_again() -> None:
    world = started()
    world.take_activity(KEY)
    cancel(world)
    world.fail_activity(KEY)
    outcome = standalone.outcome(world.execution, world.history[-1])
    assert outcome.retry_state == RetryState.RETRY_STATE_CANCEL_REQUESTED
    assert world.execution.info.status == Status.ACTIVITY_EXECUTION_STATUS_FAILED


def test_a_delay_holds_back_the_first_attempt_and_moves_every_deadline() -> None:
    world = started(start_delay=5, schedule_to_close_timeout=seconds(10), schedule_to_start_timeout=seconds(2))
    row = world.activity(KEY)
    assert row.index(world.execution.info).ready == world.now + 5 * SECOND
    assert row.expires == world.now + 15 * SECOND
    assert world.take_activity(KEY) is None
    world.pass_time(7 * SECOND)
    outcome = standalone.outcome(world.execution, world.history[-1])
    assert outcome.failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START


def test_the_whole_that_times_out_says_so_by_its_name() -> None:
    world = started(schedule_to_close_timeout=seconds(3), retry_policy=RetryPolicy(maximum_attempts=9))
    world.take_activity(KEY)
    world.fail_activity(KEY)
    world.pass_time(3 * SECOND)
    outcome = standalone.outcome(world.execution, world.history[-1])
    assert outcome.failure.message == "activity ScheduleToClose timeout"
    assert outcome.failure.cause.application_failure_info.type == "Oops"


def test_what_a_later_start_leaves_with_it_is_there_once_and_has_its_limit() -> None:
    world = started()
    link = Link(batch_job=Link.BatchJob(job_id="j"))
    for _ in range(2):
        world.run(lambda tx: standalone.attach(tx, "two", [CALLBACK], [link]))
    about = standalone.about(world.execution)
    assert (about.requests, len(about.links)) == (("two",), 1)
    assert len(world.execution.of(callback.Callback)) == 2
    world.run(lambda tx: standalone.attach(tx, "three", [], [link] * (limits.LINKS - 1)))
    with pytest.raises(StatusError, match="cannot attach more than 2000 links") as refused:
        world.run(lambda tx: standalone.attach(tx, "four", [], [link]))
    assert refused.value.code == Code.FAILED_PRECONDITION
    with pytest.raises(StatusError, match="cannot attach more than 2000 callbacks"):
        world.run(lambda tx: standalone.attach(tx, "five", [CALLBACK] * (limits.CALLBACKS - 1), []))
