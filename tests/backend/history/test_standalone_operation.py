"""A Nexus operation that stands alone: its moves, and what is left when it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from temporalio.api.common.v1 import Callback, Link, Payload, SearchAttributes
from temporalio.api.enums.v1 import NexusOperationExecutionStatus, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflowservice.v1 import StartNexusOperationExecutionRequest

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import callback, nexus_cancellation, nexus_operation, standalone, standalone_operation
from nexuskit.backend.history.nexus_cancellation import NexusCancellation
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.history.rules import RULES
from nexuskit.backend.history.standalone import SCHEDULED_ID, Asked
from nexuskit.backend.history.state import NOTHING, OPERATION, Execution, Info
from nexuskit.backend.history.transaction import replay
from nexuskit.backend.times import SECOND
from tests.support.world import ENDPOINTS, World, application_failure, seconds

Status = NexusOperationExecutionStatus
KEY = SCHEDULED_ID
ASKED = Asked("one", "boss", "no need")
CALLBACK = Callback(nexus=Callback.Nexus(url="temporal://system"))
TO_WORKFLOW = Link(workflow_event=Link.WorkflowEvent(namespace="n", workflow_id="w", run_id="r"))


def fresh() -> Info:
    return Info(namespace_id="ns", workflow_id="op", run_id="run-1", archetype=OPERATION)


def started(**options: Any) -> World:
    """One that waits for its handler."""
    world = World()
    world.execution = Execution(1, fresh())
    request = StartNexusOperationExecutionRequest(
        operation_id="op",
        endpoint="payments",
        service="Payments",
        operation="charge",
        request_id="request-1",
        identity="somebody",
        input=Payload(data=b"1"),
        completion_callbacks=[CALLBACK],
        **options,
    )
    endpoint_id = ENDPOINTS["payments"].id
    world.run(lambda tx: standalone_operation.start(tx, request, endpoint_id, {"trace": "7"}))
    return world


def row_of(world: World) -> NexusOperation:
    return standalone_operation.alone(world.execution)


def cancellation_of(world: World) -> NexusCancellation:
    row = world.execution.of(NexusCancellation).get(KEY)
    assert row is not None
    return row


def accept(world: World) -> None:
    world.run(lambda tx: nexus_operation.start(tx, row_of(world), "token", [TO_WORKFLOW]))


def complete(world: World) -> None:
    world.run(lambda tx: nexus_operation.complete(tx, row_of(world), Payload(data=b"done")))


def fail(world: World) -> None:
    world.run(lambda tx: nexus_operation.fail(tx, row_of(world), application_failure("Oops")))


def stop(world: World) -> None:
    world.run(lambda tx: nexus_operation.cancel(tx, row_of(world), Failure(message="stopped")))


def cancel(world: World, asked: Asked = ASKED) -> None:
    world.run(lambda tx: standalone_operation.request_cancel(tx, asked))


def terminate(world: World, request_id: str = "one") -> None:
    world.run(lambda tx: standalone_operation.terminate(tx, request_id, "boss", "enough"))


def after_the_start(move: Callable[[World], None]) -> Callable[[World], None]:
    def both(world: World) -> None:
        accept(world)
        move(world)

    return both


MOVES: dict[str, tuple[Callable[[World], None], NexusOperationExecutionStatus.ValueType]] = {
    "its handler answers with a result": (complete, Status.NEXUS_OPERATION_EXECUTION_STATUS_COMPLETED),
    "its handler refuses it": (fail, Status.NEXUS_OPERATION_EXECUTION_STATUS_FAILED),
    "its handler says that it was cancelled": (stop, Status.NEXUS_OPERATION_EXECUTION_STATUS_CANCELED),
    "it completes later": (after_the_start(complete), Status.NEXUS_OPERATION_EXECUTION_STATUS_COMPLETED),
    "it fails later": (after_the_start(fail), Status.NEXUS_OPERATION_EXECUTION_STATUS_FAILED),
    "it is cancelled later": (after_the_start(stop), Status.NEXUS_OPERATION_EXECUTION_STATUS_CANCELED),
    "it is terminated": (terminate, Status.NEXUS_OPERATION_EXECUTION_STATUS_TERMINATED),
    "it is terminated later": (after_the_start(terminate), Status.NEXUS_OPERATION_EXECUTION_STATUS_TERMINATED),
    "its time is over": (
        lambda world: world.pass_time(99 * SECOND),
        Status.NEXUS_OPERATION_EXECUTION_STATUS_TIMED_OUT,
    ),
}


@pytest.mark.parametrize(("move", "status"), MOVES.values(), ids=MOVES.keys())
def test_it_closes(move: Callable[[World], None], status: NexusOperationExecutionStatus.ValueType) -> None:
    world = started(schedule_to_close_timeout=seconds(99))
    move(world)
    info = world.execution.info
    assert (info.status, info.close_time, info.close_event_id) == (status, world.now, world.history[-1].event_id)
    assert "WORKFLOW_TASK_SCHEDULED" not in world.event_types()
    assert (row_of(world).ended, row_of(world).index(info)) == (True, NOTHING)
    told = world.execution.of(callback.Callback).get(0)
    assert told is not None
    assert told.state == callback.State.SCHEDULED
    outcome = standalone_operation.outcome(world.history[-1])
    assert isinstance(outcome, Payload) == (status == Status.NEXUS_OPERATION_EXECUTION_STATUS_COMPLETED)
    history = list(world.history)
    late: list[Callable[[], object]] = [
        lambda: nexus_operation.find(world.execution, KEY, row_of(world).request_id),
        lambda: cancel(world, Asked("two", "", "")),
        lambda: terminate(world, "two"),
    ]
    for each in late:
        with pytest.raises(StatusError) as refused:
            each()
        assert refused.value.code in (Code.FAILED_PRECONDITION, Code.NOT_FOUND)
    assert nexus_operation.attempted(world.execution, KEY, row_of(world).attempt) is None
    world.pass_time(999 * SECOND)
    assert world.history == history
    again = Execution(1, fresh())
    replay(RULES, again, history)
    assert (again.info.status, again.info.close_time) == (info.status, info.close_time)


def test_what_is_known_of_it_from_its_start() -> None:
    world = started(links=[TO_WORKFLOW], search_attributes=SearchAttributes())
    info = world.execution.info
    assert (info.workflow_type, info.task_queue, info.start_request_id) == ("charge", "payments", "request-1")
    assert info.start_time == info.execution_time == world.now
    assert info.keywords == {"Service": "Payments", "RequestId": row_of(world).request_id}
    assert standalone.about(world.execution).identity == "somebody"
    assert len(standalone.about(world.execution).links) == 1
    assert row_of(world).index(info).destination == ("nexus_operation", "ns", "")


@pytest.mark.parametrize(
    ("options", "accepted", "kind"),
    [
        ({"schedule_to_close_timeout": seconds(3)}, False, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
        ({"schedule_to_start_timeout": seconds(3)}, False, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START),
        ({"schedule_to_close_timeout": seconds(3)}, True, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
        ({"start_to_close_timeout": seconds(3)}, True, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE),
    ],
)
def test_each_timeout_says_its_name(options: dict[str, Any], accepted: bool, kind: TimeoutType.ValueType) -> None:
    world = started(**options)
    if accepted:
        accept(world)
    world.pass_time(3 * SECOND)
    outcome = standalone_operation.outcome(world.history[-1])
    assert isinstance(outcome, Failure)
    assert (outcome.message, outcome.timeout_failure_info.timeout_type) == ("operation timed out", kind)
    assert not standalone_operation.ended_by_answer(world.execution)


def test_what_the_handler_said_is_told_without_the_operation_around_it() -> None:
    world = started()
    fail(world)
    assert standalone_operation.outcome(world.history[-1]) == application_failure("Oops")
    assert standalone_operation.ended_by_answer(world.execution)


def test_no_result_is_one_that_an_sdk_can_read() -> None:
    world = started()
    world.run(lambda tx: nexus_operation.complete(tx, row_of(world), None))
    assert standalone_operation.outcome(world.history[-1]) == Payload(metadata={"encoding": b"binary/null"})


def test_links_of_the_handler_are_kept() -> None:
    world = started(links=[TO_WORKFLOW])
    accept(world)
    assert standalone.about(world.execution).links == (TO_WORKFLOW.SerializeToString(),) * 2


def test_a_cancellation_waits_for_the_start_and_is_over_with_the_operation() -> None:
    world = started()
    cancel(world)
    assert cancellation_of(world).index(world.execution.info) == NOTHING
    accept(world)
    assert cancellation_of(world).index(world.execution.info).destination == ("nexus_cancellation", "ns", "")
    complete(world)
    row = cancellation_of(world)
    assert (row.ended, row.index(world.execution.info)) == (True, NOTHING)
    assert nexus_cancellation.attempted(world.execution, KEY, row.attempt) is None


def test_the_same_request_to_end_it_is_no_second_one() -> None:
    world = started()
    cancel(world)
    before = list(world.history)
    cancel(world)
    assert world.history == before
    with pytest.raises(StatusError, match="cancellation already requested with request ID one"):
        cancel(world, Asked("two", "", ""))
    terminate(world)
    terminate(world)
    with pytest.raises(StatusError, match="already terminated with request ID one"):
        terminate(world, "two")
    cancel(world)  # the repeat of a request that came before
    with pytest.raises(StatusError, match="operation already completed"):
        cancel(world, Asked("two", "", ""))
