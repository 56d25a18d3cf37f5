"""The machine of a Nexus operation's cancellation."""

from __future__ import annotations

import pytest
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure

from nexuskit.backend.errors import Code
from nexuskit.backend.history import nexus_cancellation, nexus_operation
from nexuskit.backend.history.nexus_cancellation import NexusCancellation, State
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.history.state import NOTHING
from nexuskit.backend.times import HOUR, SECOND
from tests.support.world import World, cancel_operation, schedule_operation

KEY = 5
BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_NEXUS_OPERATION_ATTRIBUTES


def operation_of(world: World) -> NexusOperation:
    row = world.execution.of(NexusOperation).get(KEY)
    assert row is not None
    return row


def row_of(world: World) -> NexusCancellation:
    row = world.execution.of(NexusCancellation).get(KEY)
    assert row is not None
    return row


def start(world: World) -> None:
    world.run(lambda tx: nexus_operation.start(tx, operation_of(world), "token", []))


def scheduled() -> World:
    world = World()
    world.start()
    world.turn(schedule_operation())
    return world


def started() -> World:
    world = scheduled()
    start(world)
    return world


def cancelling() -> World:
    """Its handler is to be told."""
    world = started()
    world.turn(cancel_operation(KEY))
    return world


def test_the_handler_of_a_started_operation_is_to_be_told_at_once() -> None:
    world = cancelling()
    assert world.event_types()[-1] == "NEXUS_OPERATION_CANCEL_REQUESTED"
    attributes = world.history[-1].nexus_operation_cancel_requested_event_attributes
    assert attributes.scheduled_event_id == KEY
    assert attributes.workflow_task_completed_event_id == world.history[-2].event_id
    row = row_of(world)
    assert (row.state, row.requested_id) == (State.SCHEDULED, world.history[-1].event_id)
    index = row.index(world.execution.info)
    assert index.destination == ("nexus_cancellation", "ns", "")
    assert (index.ready, index.stamp) == (world.now, 0)


def test_a_cancellation_waits_until_the_operation_has_its_token() -> None:
    world = scheduled()
    world.send("wake")
    world.turn(cancel_operation(KEY))
    assert row_of(world).state == State.UNSPECIFIED
    assert row_of(world).index(world.execution.info) == NOTHING
    assert nexus_cancellation.attempted(world.execution, KEY, 0) is None
    world.now += SECOND
    start(world)
    assert (row_of(world).state, row_of(world).ready) == (State.SCHEDULED, world.now)


def test_a_handler_that_was_told_is_told_no_more_and_the_operation_goes_on() -> None:
    world = cancelling()
    world.run(lambda tx: nexus_cancellation.complete(tx, row_of(world)))
    assert world.event_types()[-2:] == ["NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED", "WORKFLOW_TASK_SCHEDULED"]
    attributes = world.history[-2].nexus_operation_cancel_request_completed_event_attributes
    assert (attributes.scheduled_event_id, attributes.requested_event_id) == (KEY, row_of(world).requested_id)
    assert world.history[-2].worker_may_ignore
    assert (row_of(world).state, row_of(world).attempt) == (State.SUCCEEDED, 1)
    assert row_of(world).index(world.execution.info) == NOTHING
    assert operation_of(world).token == "token"


def test_a_handler_that_cannot_be_told_is_told_no_more() -> None:
    world = cancelling()
    world.run(lambda tx: nexus_cancellation.fail(tx, row_of(world), Failure(message="not mine")))
    assert world.event_types()[-2:] == ["NEXUS_OPERATION_CANCEL_REQUEST_FAILED", "WORKFLOW_TASK_SCHEDULED"]
    attributes = world.history[-2].nexus_operation_cancel_request_failed_event_attributes
    assert attributes.failure == Failure(message="not mine")
    assert (row_of(world).state, row_of(world).attempt) == (State.FAILED, 1)
    assert row_of(world).index(world.execution.info) == NOTHING


def test_a_failed_attempt_is_repeated_after_a_pause_that_doubles_up_to_an_hour() -> None:
    world = cancelling()
    pauses: list[int] = []
    for attempt in range(15):
        assert nexus_cancellation.attempted(world.execution, KEY, attempt) is not None
        world.run(lambda tx: nexus_cancellation.attempt_failed(tx, row_of(world), Failure(message="away")))
        assert nexus_cancellation.attempted(world.execution, KEY, attempt) is None
        assert row_of(world).state == State.BACKING_OFF
        pauses.append(row_of(world).ready - world.now)
        world.now = row_of(world).ready
    assert pauses[:4] == [1 * SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND]
    assert pauses[-1] == HOUR


@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "time out"])
def test_when_the_operation_is_over_nobody_is_told(end: str) -> None:
    world = cancelling()
    failure = Failure(message="over")
    row = operation_of(world)
    if end == "complete":
        world.run(lambda tx: nexus_operation.complete(tx, row, None))
    elif end == "fail":
        world.run(lambda tx: nexus_operation.fail(tx, row, failure))
    elif end == "cancel":
        world.run(lambda tx: nexus_operation.cancel(tx, row, failure))
    else:
        world.run(lambda tx: nexus_operation.time_out(tx, row, 1))
    assert len(world.execution.of(NexusCancellation)) == 0
    assert nexus_cancellation.attempted(world.execution, KEY, 0) is None


def test_an_operation_is_cancelled_once() -> None:
    world = cancelling()
    world.send("wake")
    outcome = world.turn(cancel_operation(KEY))
    assert outcome.error is not None
    assert outcome.error.code == Code.INVALID_ARGUMENT
    assert "already requested" in outcome.error.message
    failed = next(event for event in world.history if event.HasField("workflow_task_failed_event_attributes"))
    assert failed.workflow_task_failed_event_attributes.cause == BAD


@pytest.mark.parametrize("scheduled_id", [0, 4, 99])
def test_what_is_no_pending_operation_cannot_be_cancelled(scheduled_id: int) -> None:
    world = started()
    outcome = world.turn(cancel_operation(scheduled_id))
    assert outcome.error is not None
    assert f"scheduled event ID of {scheduled_id}" in outcome.error.message


def test_an_operation_that_ended_while_the_task_ran_may_be_cancelled_and_nobody_is_told() -> None:
    world = started()
    world.take_task()
    world.run(lambda tx: nexus_operation.complete(tx, operation_of(world), None))
    outcome = world.complete_task(cancel_operation(KEY))
    assert outcome.error is None
    assert world.event_types()[-4:] == [
        "WORKFLOW_TASK_COMPLETED",
        "NEXUS_OPERATION_CANCEL_REQUESTED",
        "NEXUS_OPERATION_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    assert len(world.execution.of(NexusCancellation)) == 0


def test_an_operation_that_fails_as_soon_as_it_is_scheduled_may_be_cancelled_by_the_next_command() -> None:
    world = World()
    world.start()
    outcome = world.turn(schedule_operation("nowhere"), cancel_operation(KEY))
    assert outcome.error is None
    assert world.event_types()[4:7] == [
        "NEXUS_OPERATION_SCHEDULED",
        "NEXUS_OPERATION_CANCEL_REQUESTED",
        "NEXUS_OPERATION_FAILED",
    ]


def test_a_closed_run_tells_nobody() -> None:
    world = cancelling()
    world.run(lambda tx: nexus_cancellation.attempt_failed(tx, row_of(world), Failure(message="away")))
    world.execution.info.status = 2
    assert nexus_cancellation.attempted(world.execution, KEY, 1) is None
