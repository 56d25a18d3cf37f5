"""The Nexus operation's machine, and the callback's."""

from __future__ import annotations

import pytest
from temporalio.api.common.v1 import Callback as CallbackProto
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import TimeoutType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import callback, nexus_operation
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.times import HOUR, SECOND
from tests.support.world import World, application_failure, complete_workflow, schedule_operation

KEY = 5


def scheduled(**options: float) -> World:
    world = World()
    world.start()
    world.turn(schedule_operation(**options))
    return world


def row_of(world: World) -> NexusOperation:
    row = world.execution.of(NexusOperation).get(KEY)
    assert row is not None
    return row


def test_a_scheduled_operation_is_to_be_called_at_once() -> None:
    world = scheduled()
    index = row_of(world).index(world.execution.info)
    assert index.destination == ("nexus_operation", "ns", "")
    assert (index.ready, index.stamp) == (world.now, 1)


def test_an_answer_with_a_result_ends_it() -> None:
    world = scheduled()
    world.run(lambda tx: nexus_operation.complete(tx, row_of(world), Payload(data=b"1")))
    assert world.event_types()[-2:] == ["NEXUS_OPERATION_COMPLETED", "WORKFLOW_TASK_SCHEDULED"]
    assert len(world.execution.of(NexusOperation)) == 0


def test_an_answer_with_a_token_starts_it_and_a_completion_ends_it() -> None:
    world = scheduled()
    world.run(lambda tx: nexus_operation.start(tx, row_of(world), "token", []))
    assert row_of(world).token == "token"
    assert row_of(world).index(world.execution.info).destination is None
    world.run(lambda tx: nexus_operation.complete(tx, row_of(world), None))
    assert "NEXUS_OPERATION_COMPLETED" in world.event_types()


def test_a_failed_attempt_is_repeated_with_the_same_request_id_after_a_pause_that_doubles_up_to_an_hour() -> None:
    world = scheduled()
    request_id = row_of(world).request_id
    pauses: list[int] = []
    for _ in range(15):
        world.run(lambda tx: nexus_operation.attempt_failed(tx, row_of(world), Failure(message="away")))
        pauses.append(row_of(world).ready - world.now)
        world.now = row_of(world).ready
    assert pauses[:4] == [1 * SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND]
    assert pauses[-1] == HOUR
    assert row_of(world).request_id == request_id


def test_an_operation_that_nobody_is_there_for_waits_for_the_queue_and_that_lengthens_no_other_pause() -> None:
    world = scheduled()
    queue = nexus_operation.polled_queue("handlers", "work")
    pauses: list[int] = []
    for awaits in (queue, queue, queue, "", "", queue):
        world.run(lambda tx, awaits=awaits: nexus_operation.attempt_failed(tx, row_of(world), Failure(), awaits))
        assert row_of(world).index(world.execution.info).destination == ("nexus_operation", "ns", awaits)
        pauses.append((row_of(world).ready - world.now) // SECOND)
    assert pauses == [1, 2, 4, 1, 2, 8]
    assert (row_of(world).attempt, row_of(world).unmade) == (7, 4)
    world.run(lambda tx: nexus_operation.start(tx, row_of(world), "token", []))
    assert row_of(world).awaits == ""


def test_attempts_that_a_handler_was_too_slow_for_are_counted() -> None:
    world = scheduled()
    for too_slow in (True, False, True):
        world.run(lambda tx, slow=too_slow: nexus_operation.attempt_failed(tx, row_of(world), Failure(), too_slow=slow))
    assert row_of(world).too_slow == 2


def test_the_outcome_of_an_older_attempt_is_dropped() -> None:
    world = scheduled()
    world.run(lambda tx: nexus_operation.attempt_failed(tx, row_of(world), Failure(message="away")))
    assert nexus_operation.attempted(world.execution, KEY, 1) is None
    assert nexus_operation.attempted(world.execution, KEY, 2) is not None


def test_an_operation_completes_once() -> None:
    world = scheduled()
    request_id = row_of(world).request_id
    world.run(lambda tx: nexus_operation.complete(tx, row_of(world), None))
    with pytest.raises(StatusError) as refused:
        nexus_operation.find(world.execution, KEY, request_id)
    assert refused.value.code == Code.NOT_FOUND


def test_a_completion_for_another_request_is_refused() -> None:
    world = scheduled()
    with pytest.raises(StatusError):
        nexus_operation.find(world.execution, KEY, "another")


@pytest.mark.parametrize(
    ("options", "started", "kind"),
    [
        ({"schedule_to_close": 3}, False, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
        ({"schedule_to_start": 3}, False, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START),
        ({"schedule_to_close": 3}, True, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
        ({"start_to_close": 3}, True, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE),
    ],
    ids=["to close", "to start", "to close, started", "start to close"],
)
def test_time_runs_out(options: dict[str, float], started: bool, kind: int) -> None:
    world = scheduled(**options)
    if started:
        world.run(lambda tx: nexus_operation.start(tx, row_of(world), "token", []))
        world.turn()
    world.pass_time(3 * SECOND)
    assert world.event_types()[-2:] == ["NEXUS_OPERATION_TIMED_OUT", "WORKFLOW_TASK_SCHEDULED"]
    failure = world.history[-2].nexus_operation_timed_out_event_attributes.failure
    assert failure.cause.timeout_failure_info.timeout_type == kind


def test_no_operation_outlives_its_run() -> None:
    world = World()
    world.start(workflow_run_timeout={"seconds": 60})
    world.turn(schedule_operation(schedule_to_close=3600))
    assert row_of(world).schedule_to_close == 60 * SECOND


def test_a_cancelled_outcome_is_a_cancelled_failure_whatever_the_handler_sent() -> None:
    world = scheduled()
    world.run(lambda tx: nexus_operation.cancel(tx, row_of(world), application_failure("Cancelled")))
    failure = world.history[-2].nexus_operation_canceled_event_attributes.failure
    assert failure.cause.HasField("canceled_failure_info")


def test_an_unknown_endpoint_is_a_failed_operation_and_the_workflow_goes_on() -> None:
    world = World()
    world.start()
    outcome = world.turn(schedule_operation("nowhere"))
    assert outcome.error is None
    assert world.event_types()[4:] == [
        "NEXUS_OPERATION_SCHEDULED",
        "NEXUS_OPERATION_FAILED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    cause = world.history[5].nexus_operation_failed_event_attributes.failure.cause
    assert cause.nexus_handler_failure_info.type == "NOT_FOUND"


def test_a_caller_that_is_not_allowed_gets_a_failed_operation_in_the_same_commit() -> None:
    world = World()
    world.start()
    outcome = world.turn(schedule_operation("guarded"))
    assert outcome.error is None
    assert world.event_types()[4:] == [
        "NEXUS_OPERATION_SCHEDULED",
        "NEXUS_OPERATION_FAILED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    cause = world.history[5].nexus_operation_failed_event_attributes.failure.cause
    assert cause.nexus_handler_failure_info.type == "UNAUTHORIZED"
    assert "may not call endpoint 'guarded'" in cause.message


def test_an_unknown_endpoint_fails_the_workflow_task_where_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNKNOWN_ENDPOINT", "fail_task")
    world = World()
    world.start()
    outcome = world.turn(schedule_operation("nowhere"))
    assert outcome.error is not None
    assert "endpoint 'nowhere' not found" in outcome.error.message
    failed = world.history[3].workflow_task_failed_event_attributes
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES
    assert len(world.execution.of(NexusOperation)) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service", "s" * (limits.NEXUS_NAME_LENGTH + 1)),
        ("operation", "o" * (limits.NEXUS_NAME_LENGTH + 1)),
        ("service", ""),
        ("nexus_header", {"Request-Timeout": "1s"}),
        ("nexus_header", {"x": "y" * limits.NEXUS_HEADERS_SIZE}),
        ("schedule_to_close_timeout", {"seconds": -1}),
    ],
)
def test_a_call_that_cannot_be_is_refused(field: str, value: object) -> None:
    command = schedule_operation()
    attributes = command.schedule_nexus_operation_command_attributes
    attributes.ClearField(field)
    attributes.MergeFrom(type(attributes)(**{field: value}))
    world = World()
    world.start()
    outcome = world.turn(command)
    assert outcome.error is not None
    assert outcome.error.code == Code.INVALID_ARGUMENT
    failed = world.history[3].workflow_task_failed_event_attributes
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES


def test_header_names_are_kept_in_lower_case() -> None:
    command = schedule_operation()
    command.schedule_nexus_operation_command_attributes.nexus_header["X-Tenant"] = "blue"
    world = World()
    world.start()
    world.turn(command)
    assert dict(world.history[4].nexus_operation_scheduled_event_attributes.nexus_header) == {"x-tenant": "blue"}


def closed_with_callback() -> World:
    world = World()
    world.start(completion_callbacks=[CallbackProto(nexus=CallbackProto.Nexus(url="temporal://system"))])
    world.turn(complete_workflow())
    return world


def callback_of(world: World) -> callback.Callback:
    row = world.execution.of(callback.Callback).get(0)
    assert row is not None
    return row


def test_a_callback_stands_by_until_the_run_closes() -> None:
    world = World()
    world.start(completion_callbacks=[CallbackProto(nexus=CallbackProto.Nexus(url="temporal://system"))])
    assert callback_of(world).state == callback.State.STANDBY
    assert callback_of(world).index(world.execution.info).destination is None
    world.turn(complete_workflow())
    assert callback_of(world).state == callback.State.SCHEDULED
    assert callback_of(world).index(world.execution.info).destination == ("callback", "ns", "")


def test_a_delivered_callback_is_done() -> None:
    world = closed_with_callback()
    world.run(lambda tx: callback.delivered(tx, callback_of(world)))
    assert callback_of(world).state == callback.State.SUCCEEDED
    assert callback.attempted(world.execution, 0, 1) is None


def test_a_refused_callback_is_tried_again_only_where_that_can_help() -> None:
    world = closed_with_callback()
    world.run(lambda tx: callback.refused(tx, callback_of(world), Failure(message="busy"), retryable=True))
    assert callback_of(world).state == callback.State.BACKING_OFF
    assert callback_of(world).ready == world.now + 1 * SECOND
    world.run(lambda tx: callback.refused(tx, callback_of(world), Failure(message="gone"), retryable=False))
    assert callback_of(world).state == callback.State.FAILED
    assert callback_of(world).index(world.execution.info).destination is None
