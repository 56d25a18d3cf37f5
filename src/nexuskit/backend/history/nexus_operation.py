"""A Nexus operation, as its caller's history keeps it.

    SCHEDULED ── the handler answers with a result ─────────────────> nothing (completed, failed, cancelled)
        │ ^  └── the handler answers with a token ──> STARTED ── completion, or timeout ──> nothing
        └─┘ the attempt failed and may be repeated: attempt + 1, after a pause

Each attempt carries the same request id, so that a handler can tell a repeat. A completion that comes before the answer
to the start (the handler was quick, or its answer was lost) starts the operation first. Timeouts: schedule-to-close
bounds all, schedule-to-start the wait until the handler has answered, start-to-close an asynchronous operation's run
(temporalio/temporal: components/nexusoperations).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from temporalio.api.common.v1 import Link, Payload
from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import (
    CanceledFailureInfo,
    Failure,
    NexusHandlerFailureInfo,
    NexusOperationFailureInfo,
    TimeoutFailureInfo,
)
from temporalio.api.history.v1 import (
    HistoryEvent,
    NexusOperationCanceledEventAttributes,
    NexusOperationCompletedEventAttributes,
    NexusOperationFailedEventAttributes,
    NexusOperationScheduledEventAttributes,
    NexusOperationStartedEventAttributes,
    NexusOperationTimedOutEventAttributes,
)

from nexuskit.backend.errors import not_found
from nexuskit.backend.history import retry, workflow_task
from nexuskit.backend.history.command import CommandError, check_span
from nexuskit.backend.history.state import Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import SECOND, duration, moment, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from temporalio.api.command.v1 import Command

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES

RESERVED_HEADERS = frozenset({"request-timeout", "temporal-nexus-failure-support"})
"""Headers that the backend sets by itself, and a workflow may not: as the real server's
`nexusoperation.disallowedHeaders`.
"""


class NexusOperation(Row, frozen=True, omit_defaults=True):
    """A pending operation; started once `started_time` is set. The key is its scheduled event's id."""

    kind = "nexus_operation"
    scheduled_id: int
    endpoint: str
    endpoint_id: str
    service: str
    operation: str
    request_id: str
    scheduled_time: int
    ready: int
    """From when on the next attempt may be made."""
    schedule_to_close: int = 0
    schedule_to_start: int = 0
    start_to_close: int = 0
    attempt: int = 1
    last_failure: bytes = b""
    """`Failure` of the attempt before, serialised, cut to its limit."""
    last_attempt_end: int = 0
    started_time: int = 0
    token: str = ""

    def index(self, info: Info) -> Index:
        due = min(filter(None, (end for end, _ in deadlines(self))), default=0)
        if self.started_time:
            return Index(due=due, stamp=self.attempt)
        return Index(due, Destination(self.kind, info.namespace_id), self.ready, self.attempt)


def deadlines(row: NexusOperation) -> list[tuple[int, int]]:
    """The moments at which this operation times out, 0 for never, each with its `TimeoutType`."""
    close = row.scheduled_time + row.schedule_to_close if row.schedule_to_close else 0
    ends: list[tuple[int, int]] = [(close, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE)]
    if row.started_time:
        run = row.started_time + row.start_to_close if row.start_to_close else 0
        ends.append((run, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE))
    else:
        start = row.scheduled_time + row.schedule_to_start if row.schedule_to_start else 0
        ends.append((start, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START))
    return ends


class AttemptFailed(Record, frozen=True):
    """The handler could not be asked, or said to ask again."""

    scheduled_id: int
    failure: bytes
    ended: int
    ready: int


# --- what happened


def apply_scheduled(state: Execution, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_scheduled_event_attributes
    time = moment(event.event_time)
    row = NexusOperation(
        scheduled_id=event.event_id,
        endpoint=attributes.endpoint,
        endpoint_id=attributes.endpoint_id,
        service=attributes.service,
        operation=attributes.operation,
        request_id=attributes.request_id,
        scheduled_time=time,
        ready=time,
        schedule_to_close=span(attributes.schedule_to_close_timeout),
        schedule_to_start=span(attributes.schedule_to_start_timeout),
        start_to_close=span(attributes.start_to_close_timeout),
    )
    state.of(NexusOperation).put(event.event_id, row)


def apply_started(state: Execution, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_started_event_attributes
    row = state.of(NexusOperation).get(attributes.scheduled_event_id)
    if row is not None:
        changed = msgspec.structs.replace(
            row, started_time=moment(event.event_time), token=attributes.operation_token, last_failure=b"", ready=0
        )
        state.of(NexusOperation).put(row.scheduled_id, changed)


def apply_attempt_failed(state: Execution, record: AttemptFailed) -> None:
    row = state.of(NexusOperation).get(record.scheduled_id)
    if row is not None:
        changed = msgspec.structs.replace(
            row, attempt=row.attempt + 1, last_failure=record.failure, last_attempt_end=record.ended, ready=record.ready
        )
        state.of(NexusOperation).put(row.scheduled_id, changed)


def apply_completed(state: Execution, event: HistoryEvent) -> None:
    state.of(NexusOperation).remove(event.nexus_operation_completed_event_attributes.scheduled_event_id)


def apply_failed(state: Execution, event: HistoryEvent) -> None:
    state.of(NexusOperation).remove(event.nexus_operation_failed_event_attributes.scheduled_event_id)


def apply_cancelled(state: Execution, event: HistoryEvent) -> None:
    state.of(NexusOperation).remove(event.nexus_operation_canceled_event_attributes.scheduled_event_id)


def apply_timed_out(state: Execution, event: HistoryEvent) -> None:
    state.of(NexusOperation).remove(event.nexus_operation_timed_out_event_attributes.scheduled_event_id)


def reapply(tx: Transaction, event: HistoryEvent) -> None:
    """What became of an operation comes again, with a reset to a point at which the operation was under way."""
    name = event.WhichOneof("attributes") or ""
    attributes = getattr(event, name)
    row = tx.state.of(NexusOperation).get(attributes.scheduled_event_id)
    started = event.event_type == EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED
    if row is not None and not (started and row.started_time):
        tx.add(event.event_type, links=list(event.links), **{name: attributes})


# --- what a workflow commands


def schedule(tx: Transaction, command: Command, completed_id: int) -> None:
    """ScheduleNexusOperation: the call is written down, and made as soon as that is on disk."""
    attributes = command.schedule_nexus_operation_command_attributes
    prefix = "ScheduleNexusOperationCommandAttributes"
    endpoint_id = tx.endpoints.get(attributes.endpoint, "")
    for field, value in (("Service", attributes.service), ("Operation", attributes.operation)):
        if not value:
            raise CommandError(_BAD, f"{prefix}.{field} is not set on command.")
        if len(value.encode()) > tx.limits.NEXUS_NAME_LENGTH:
            raise CommandError(_BAD, f"{prefix}.{field} exceeds length limit of {tx.limits.NEXUS_NAME_LENGTH}")
    if not endpoint_id and str(tx.limits.UNKNOWN_ENDPOINT) == "fail_task":
        raise CommandError(_BAD, f"endpoint {attributes.endpoint!r} not found")
    to_close, to_start, run = (
        check_span(_BAD, f"{prefix}.{field}", getattr(attributes, proto))
        for field, proto in (
            ("ScheduleToCloseTimeout", "schedule_to_close_timeout"),
            ("ScheduleToStartTimeout", "schedule_to_start_timeout"),
            ("StartToCloseTimeout", "start_to_close_timeout"),
        )
    )
    size = attributes.input.ByteSize()
    if size > tx.limits.PAYLOAD_SIZE:
        message = f"{prefix}.Input exceeds size limit: {size} bytes, at most {tx.limits.PAYLOAD_SIZE}"
        raise CommandError(_BAD, message, terminate=True)
    headers = _headers(tx, attributes.nexus_header)
    pending = len(tx.state.of(NexusOperation))
    if pending >= tx.limits.PENDING_NEXUS_OPERATIONS:
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PENDING_NEXUS_OPERATIONS_LIMIT_EXCEEDED
        message = f"workflow has reached the pending nexus operation limit of {tx.limits.PENDING_NEXUS_OPERATIONS}"
        raise CommandError(cause, f"{message} for this namespace")
    # Nothing outlives the run, and a part cannot last longer than the whole.
    whole = min(filter(None, (to_close, tx.state.info.run_timeout)), default=0)
    scheduled_id = tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED,
        nexus_operation_scheduled_event_attributes=NexusOperationScheduledEventAttributes(
            endpoint=attributes.endpoint,
            endpoint_id=endpoint_id,
            service=attributes.service,
            operation=attributes.operation,
            input=attributes.input if attributes.HasField("input") else None,
            schedule_to_close_timeout=duration(whole),
            schedule_to_start_timeout=duration(min(to_start, whole) if whole else to_start),
            start_to_close_timeout=duration(min(run, whole) if whole else run),
            nexus_header=headers,
            workflow_task_completed_event_id=completed_id,
            request_id=tx.draw.uuid(),
        ),
    )
    row = tx.state.of(NexusOperation).get(scheduled_id)
    if row is not None and not endpoint_id:
        # The real server fails the workflow task here, for ever, and no workflow can catch that.
        message = f"endpoint {attributes.endpoint!r} is not registered: no endpoint of that name is in the registry"
        info = NexusHandlerFailureInfo(type="NOT_FOUND")
        _add_failed(tx, row, Failure(message=message, nexus_handler_failure_info=info), later=True)


def _headers(tx: Transaction, given: Mapping[str, str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in given.items():
        if name.lower() in RESERVED_HEADERS:
            field = "ScheduleNexusOperationCommandAttributes.NexusHeader"
            raise CommandError(_BAD, f'{field} contains a disallowed header key: "{name}"')
        headers[name.lower()] = value
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if size > tx.limits.NEXUS_HEADERS_SIZE:
        field = "ScheduleNexusOperationCommandAttributes.NexusHeader"
        raise CommandError(_BAD, f"{field} exceeds size limit: {size} bytes, at most {tx.limits.NEXUS_HEADERS_SIZE}")
    return headers


# --- what the handler and time say


def find(state: Execution, scheduled_id: int, request_id: str) -> NexusOperation:
    """The pending operation that a completion names.

    Raises:
        StatusError: NOT_FOUND, if it has ended, is another one, or the caller has closed.
    """
    row = state.of(NexusOperation).get(scheduled_id)
    if not state.info.running or row is None or row.request_id != request_id:
        raise not_found(
            f"operation not found: workflow {state.info.workflow_id!r} has no pending Nexus operation"
            f" at event {scheduled_id}"
        )
    return row


def attempted(state: Execution, scheduled_id: int, attempt: int) -> NexusOperation | None:
    """The operation, if it still waits for the answer of that attempt."""
    row = state.of(NexusOperation).get(scheduled_id)
    if not state.info.running or row is None or row.started_time or row.attempt != attempt:
        return None
    return row


def start(
    tx: Transaction, row: NexusOperation, token: str, links: Sequence[Link], *, at: int = 0, ended: bool = False
) -> None:
    """The handler works on it and will complete it later.

    Args:
        tx: the transaction.
        row: the operation.
        token: names it at its handler.
        links: to the handler's side.
        at: when it started (ns); 0 for now.
        ended: its end follows in the same transaction, and it is that which the workflow is woken for.
    """
    event = HistoryEvent(
        event_type=EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED,
        links=links,
        nexus_operation_started_event_attributes=NexusOperationStartedEventAttributes(
            scheduled_event_id=row.scheduled_id,
            operation_id=token,
            operation_token=token,
            request_id=row.request_id,
        ),
    )
    event.event_time.seconds, event.event_time.nanos = divmod(at or tx.now, SECOND)
    tx.put(event)
    if not ended:
        workflow_task.schedule(tx)


def complete(tx: Transaction, row: NexusOperation, result: Payload | None, links: Sequence[Link] = ()) -> None:
    """It succeeded."""
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED,
        links=list(links),
        nexus_operation_completed_event_attributes=NexusOperationCompletedEventAttributes(
            scheduled_event_id=row.scheduled_id, result=result, request_id=row.request_id
        ),
    )
    workflow_task.schedule(tx)


def fail(tx: Transaction, row: NexusOperation, cause: Failure) -> None:
    """It failed for good, because of `cause`."""
    _add_failed(tx, row, cause)
    workflow_task.schedule(tx)


def _add_failed(tx: Transaction, row: NexusOperation, cause: Failure, *, later: bool = False) -> None:
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED,
        later=later,
        nexus_operation_failed_event_attributes=NexusOperationFailedEventAttributes(
            scheduled_event_id=row.scheduled_id, failure=_failure(row, cause), request_id=row.request_id
        ),
    )


def cancel(tx: Transaction, row: NexusOperation, cause: Failure) -> None:
    """It was cancelled, as `cause` says."""
    if not cause.HasField("canceled_failure_info"):
        cause = Failure(
            message=cause.message,
            stack_trace=cause.stack_trace,
            canceled_failure_info=CanceledFailureInfo(),
            cause=cause.cause if cause.HasField("cause") else None,
        )
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED,
        nexus_operation_canceled_event_attributes=NexusOperationCanceledEventAttributes(
            scheduled_event_id=row.scheduled_id, failure=_failure(row, cause), request_id=row.request_id
        ),
    )
    workflow_task.schedule(tx)


def attempt_failed(tx: Transaction, row: NexusOperation, failure: Failure) -> None:
    """The attempt failed and may be repeated: the next one waits its pause out, for ever if it must."""
    pause = retry.doubling(tx.limits.NEXUS_RETRY_INTERVAL, tx.limits.NEXUS_RETRY_INTERVAL_MAX, row.attempt)
    ready = tx.now + tx.draw.jitter(pause)
    tx.note(AttemptFailed(row.scheduled_id, failure.SerializeToString(), tx.now, ready))


def time_out(tx: Transaction, row: NexusOperation, kind: int) -> None:
    """One of its timeouts is over."""
    cause = Failure(
        message="operation timed out",
        timeout_failure_info=TimeoutFailureInfo(timeout_type=TimeoutType.ValueType(kind)),
    )
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT,
        nexus_operation_timed_out_event_attributes=NexusOperationTimedOutEventAttributes(
            scheduled_event_id=row.scheduled_id, failure=_failure(row, cause), request_id=row.request_id
        ),
    )
    workflow_task.schedule(tx)


def due(tx: Transaction, row: NexusOperation) -> None:
    """Its time has come."""
    over = [(end, kind) for end, kind in deadlines(row) if end and end <= tx.now]
    if over and tx.state.info.running:
        time_out(tx, row, min(over)[1])


def _failure(row: NexusOperation, cause: Failure) -> Failure:
    return Failure(
        message="nexus operation completed unsuccessfully",
        nexus_operation_execution_failure_info=NexusOperationFailureInfo(
            scheduled_event_id=row.scheduled_id,
            endpoint=row.endpoint,
            service=row.service,
            operation=row.operation,
            operation_id=row.token,
            operation_token=row.token,
        ),
        cause=cause,
    )
