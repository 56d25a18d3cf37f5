"""A Nexus operation that stands alone: an execution of its own, which no workflow scheduled.

    nothing ── start ──> RUNNING ── completed, failed, timed out, cancelled, terminated ──> CLOSED

It is the same machine as a workflow's operation (`nexus_operation`, `nexus_cancellation`): its attempts, timeouts and
cancellation are decided there, and the events that it writes make a short history that nobody is shown: the scheduled
event, which holds the input, and the one that closed it, which holds the outcome. What is different is here: how it
starts, and that the execution ends with its operation (temporalio/temporal: chasm/lib/nexusoperation).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, NexusOperationExecutionStatus
from temporalio.api.failure.v1 import Failure, TerminatedFailureInfo
from temporalio.api.history.v1 import (
    HistoryEvent,
    NexusOperationCancelRequestedEventAttributes,
    NexusOperationFailedEventAttributes,
    NexusOperationScheduledEventAttributes,
)

from nexuskit.backend.errors import InvariantError, invariant
from nexuskit.backend.history import callback, nexus_cancellation, nexus_operation, standalone
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.history.standalone import ONLY, SCHEDULED_ID, Asked, CancelAsked, Standalone, Terminated, about
from nexuskit.backend.history.state import OPERATION
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import moment
from nexuskit.backend.visibility.search_attributes import merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from temporalio.api.workflowservice.v1 import StartNexusOperationExecutionRequest

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_Status = NexusOperationExecutionStatus
_STATUS: Mapping[int, _Status.ValueType] = MappingProxyType(
    {
        EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED: _Status.NEXUS_OPERATION_EXECUTION_STATUS_COMPLETED,
        EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED: _Status.NEXUS_OPERATION_EXECUTION_STATUS_FAILED,
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED: _Status.NEXUS_OPERATION_EXECUTION_STATUS_CANCELED,
        EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT: _Status.NEXUS_OPERATION_EXECUTION_STATUS_TIMED_OUT,
    }
)


class Begun(Record, frozen=True):
    """It was started by a request; history does not hold all of that."""

    request_id: str
    identity: str
    links: tuple[bytes, ...]
    search_attributes: bytes


# --- what happened


def apply_begun(state: Execution, record: Begun) -> None:
    info = state.info
    row = alone(state)
    info.workflow_type = row.operation
    info.task_queue = row.endpoint
    info.start_time = info.execution_time = row.scheduled_time
    info.keywords = {"Service": row.service, "RequestId": row.request_id}
    info.start_request_id = record.request_id
    info.search_attributes = record.search_attributes
    state.of(Standalone).put(ONLY, Standalone(links=record.links, identity=record.identity))


def apply_started(state: Execution, event: HistoryEvent) -> None:
    """A handler works on an operation, a workflow's or one that stands alone."""
    nexus_operation.apply_started(state, event)
    _link(state, event)


def apply_ended(state: Execution, event: HistoryEvent) -> None:
    """An operation has ended: a workflow's is pending no more, one that stands alone is closed."""
    info = state.info
    if info.archetype != OPERATION:
        nexus_operation.apply_ended(state, event)
        return
    _link(state, event)
    row = alone(state)
    info.status = int(_status(event))
    info.close_time = moment(event.event_time)
    info.close_event_id = event.event_id
    if ended_by_answer(state):
        row = msgspec.structs.replace(row, last_attempt_end=info.close_time)
    state.of(NexusOperation).put(SCHEDULED_ID, msgspec.structs.replace(row, ended=True, awaits=""))
    nexus_cancellation.operation_closed(state, SCHEDULED_ID)
    callback.apply_closed(state, info.close_time)


def _link(state: Execution, event: HistoryEvent) -> None:
    """What the handler links to is kept with one that stands alone: its history is shown to nobody."""
    if state.info.archetype == OPERATION and event.links:
        row = about(state)
        links = (*row.links, *(link.SerializeToString() for link in event.links))
        state.of(Standalone).put(ONLY, msgspec.structs.replace(row, links=links))


def _status(event: HistoryEvent) -> _Status.ValueType:
    if event.nexus_operation_failed_event_attributes.failure.HasField("terminated_failure_info"):
        # What a handler says is the cause of a failure; this one is nobody's answer.
        return _Status.NEXUS_OPERATION_EXECUTION_STATUS_TERMINATED
    return _STATUS[event.event_type]


def alone(state: Execution) -> NexusOperation:
    """The operation itself."""
    row = state.of(NexusOperation).get(SCHEDULED_ID)
    if row is None:
        raise InvariantError("a Nexus operation that stands alone has its row, also when it is closed")
    return row


def ended_by_answer(state: Execution) -> bool:
    """Whether it failed, or was cancelled, by its handler's answer to the call: so the last attempt failed, too."""
    failed = (_Status.NEXUS_OPERATION_EXECUTION_STATUS_FAILED, _Status.NEXUS_OPERATION_EXECUTION_STATUS_CANCELED)
    return state.info.status in failed and not alone(state).started_time


# --- what is to be done


def start(
    tx: Transaction, request: StartNexusOperationExecutionRequest, endpoint_id: str, headers: Mapping[str, str]
) -> None:
    """A new one begins, on an execution of which nothing is known but its ids.

    Args:
        tx: the transaction.
        request: who asks for it, checked; its timeouts are those that count.
        endpoint_id: names the endpoint from now on, whatever it is called.
        headers: those of the request, checked.
    """
    invariant(tx.state.info.next_event_id == 1, "a run starts once")
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED,
        user_metadata=request.user_metadata if request.HasField("user_metadata") else None,
        nexus_operation_scheduled_event_attributes=NexusOperationScheduledEventAttributes(
            endpoint=request.endpoint,
            endpoint_id=endpoint_id,
            service=request.service,
            operation=request.operation,
            input=request.input if request.HasField("input") else None,
            schedule_to_close_timeout=request.schedule_to_close_timeout,
            schedule_to_start_timeout=request.schedule_to_start_timeout,
            start_to_close_timeout=request.start_to_close_timeout,
            nexus_header=headers,
            request_id=tx.draw.uuid(),
        ),
    )
    attributes = merge(b"", request.search_attributes).SerializeToString(deterministic=True)
    tx.note(Begun(request.request_id, request.identity, standalone.packed(request.links), attributes))
    for each in request.completion_callbacks:
        tx.note(callback.Registered(each.SerializeToString(), request.request_id, tx.now))


def request_cancel(tx: Transaction, asked: Asked) -> None:
    """Ask its handler to stop, as soon as that has it.

    Raises:
        StatusError: FAILED_PRECONDITION, if it is closed, or somebody else has asked.
    """
    before = about(tx.state).cancel
    if before is not None and before.request_id == asked.request_id:
        return
    if not tx.state.info.running:
        raise standalone.precondition("operation already completed")
    if before is not None:
        raise standalone.precondition(f"cancellation already requested with request ID {before.request_id}")
    tx.note(CancelAsked(asked))
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED,
        nexus_operation_cancel_requested_event_attributes=NexusOperationCancelRequestedEventAttributes(
            scheduled_event_id=SCHEDULED_ID
        ),
    )


def terminate(tx: Transaction, request_id: str, identity: str, reason: str) -> None:
    """End it, whatever its handler does, which is not told.

    Raises:
        StatusError: FAILED_PRECONDITION, if it is closed, but for the same request again.
    """
    info = tx.state.info
    if info.status == _Status.NEXUS_OPERATION_EXECUTION_STATUS_TERMINATED:
        before = about(tx.state).terminate_request_id
        if before == request_id:
            return
        raise standalone.precondition(f"already terminated with request ID {before}")
    if not info.running:
        name = _Status.Name(_Status.ValueType(info.status)).removeprefix("NEXUS_OPERATION_EXECUTION_STATUS_")
        shown = "Succeeded" if name == "COMPLETED" else "".join(word.title() for word in name.split("_"))
        raise standalone.precondition(f"invalid transition from {shown}")
    tx.note(Terminated(request_id))
    failure = Failure(message=reason, terminated_failure_info=TerminatedFailureInfo(identity=identity))
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED,
        nexus_operation_failed_event_attributes=NexusOperationFailedEventAttributes(
            failure=failure, scheduled_event_id=SCHEDULED_ID, request_id=alone(tx.state).request_id
        ),
    )


_NOTHING = Payload(metadata={"encoding": b"binary/null"})
"""What an SDK reads as no value, where the handler's side gave none at all."""


def outcome(close_event: HistoryEvent) -> Payload | Failure:
    """How it ended, from the event that closed it: the handler's result, or why there is none."""
    if close_event.event_type == EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED:
        result = close_event.nexus_operation_completed_event_attributes.result
        return result if result != Payload() else _NOTHING
    failure: Failure = getattr(close_event, close_event.WhichOneof("attributes") or "").failure
    # A workflow is told in which operation it happened; whoever waits for this one knows.
    return failure.cause if failure.HasField("nexus_operation_execution_failure_info") else failure
