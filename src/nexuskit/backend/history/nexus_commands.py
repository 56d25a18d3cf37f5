"""What a workflow commands of Nexus operations: to schedule one, and to ask that one stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure, NexusHandlerFailureInfo
from temporalio.api.history.v1 import (
    HistoryEvent,
    NexusOperationCancelRequestedEventAttributes,
    NexusOperationScheduledEventAttributes,
)

from nexuskit.backend.history import buffer, nexus_operation, system_endpoint
from nexuskit.backend.history.command import CommandError, check_given, check_timeout
from nexuskit.backend.history.nexus_cancellation import NexusCancellation
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.history.system_endpoint import SYSTEM_ENDPOINT
from nexuskit.backend.times import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from temporalio.api.command.v1 import Command, ScheduleNexusOperationCommandAttributes

    from nexuskit.backend.history.route import Route
    from nexuskit.backend.history.transaction import Transaction

_CAUSE = WorkflowTaskFailedCause
_BAD = _CAUSE.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES
_BAD_CANCEL = _CAUSE.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_NEXUS_OPERATION_ATTRIBUTES

RESERVED_HEADERS = frozenset(
    {
        "request-timeout",
        "xdc-redirection",
        "xdc-redirection-api",
        "xdc-redirection-source-cell",
        "caller-name",
        "caller-type",
        "call-initiation",
        "temporal-principal-type",
        "temporal-principal-name",
    }
)
"""Headers that a server sets by itself, and a workflow may not: the real server's
`component.nexusoperations.disallowedHeaders`.
"""


def schedule(tx: Transaction, command: Command, completed_id: int) -> None:
    """ScheduleNexusOperation: the call is written down, and made as soon as that is on disk."""
    check_given(_BAD, command)
    attributes = command.schedule_nexus_operation_command_attributes
    prefix = "ScheduleNexusOperationCommandAttributes"
    system = attributes.endpoint == SYSTEM_ENDPOINT
    route = tx.endpoints.get(attributes.endpoint)
    for field, value in (("Service", attributes.service), ("Operation", attributes.operation)):
        if not value:
            raise CommandError(_BAD, f"{prefix}.{field} is not set on command.")
        if len(value.encode()) > tx.limits.NEXUS_NAME_LENGTH:
            raise CommandError(_BAD, f"{prefix}.{field} exceeds length limit of {tx.limits.NEXUS_NAME_LENGTH}")
    if system:
        _check_system_call(tx, attributes)
    elif route is None and str(tx.limits.UNKNOWN_ENDPOINT) == "fail_task":
        raise CommandError(_BAD, f"endpoint {attributes.endpoint!r} not found")
    to_close, to_start, run = (
        check_timeout(_BAD, f"{prefix}.{field} is invalid", getattr(attributes, proto))
        for field, proto in (
            ("ScheduleToCloseTimeout", "schedule_to_close_timeout"),
            ("ScheduleToStartTimeout", "schedule_to_start_timeout"),
            ("StartToCloseTimeout", "start_to_close_timeout"),
        )
    )
    size = attributes.input.ByteSize()
    if size > tx.limits.PAYLOAD_SIZE and not system:  # what is in there has limits of its own
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
            endpoint_id=route.id if route is not None else "",
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
    refused = None if system else _refusal(tx, attributes.endpoint, route)
    if row is not None and refused is not None:
        nexus_operation.fail(tx, row, refused, at_once=True)


def _refusal(tx: Transaction, endpoint: str, route: Route | None) -> Failure | None:
    """Why the call is not made; None if it is. The workflow can catch that."""
    if route is None:
        # The real server fails the workflow task here, for ever.
        message = f"endpoint {endpoint!r} is not registered: no endpoint of that name is in the registry"
        return Failure(message=message, nexus_handler_failure_info=NexusHandlerFailureInfo(type="NOT_FOUND"))
    if route.allowed.names is None:
        return None
    caller = _own_name(tx)
    if route.allowed.allows(caller):
        return None
    unauthorized = NexusHandlerFailureInfo(type="UNAUTHORIZED")
    return Failure(message=route.allowed.refusal(endpoint, caller), nexus_handler_failure_info=unauthorized)


def _own_name(tx: Transaction) -> str | None:
    """The name of the workflow's own namespace; None if that is deleted."""
    own = tx.state.info.namespace_id
    return next((name for name, id in tx.namespaces.items() if id == own), None)


def _check_system_call(tx: Transaction, attributes: ScheduleNexusOperationCommandAttributes) -> None:
    if attributes.nexus_header:
        field = "ScheduleNexusOperationCommandAttributes.NexusHeader"
        raise CommandError(_BAD, f"{field} must be empty when using {SYSTEM_ENDPOINT} endpoint")
    try:
        system_endpoint.read(attributes.service, attributes.operation, attributes.input, _own_name(tx) or "")
    except system_endpoint.SystemCallError as error:
        raise CommandError(_BAD, str(error)) from None


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


def request_cancel(tx: Transaction, command: Command, completed_id: int) -> None:
    """RequestCancelNexusOperation: it is written down; its handler is told as soon as the operation has started.

    A workflow cannot know of an end that came while its task ran, so it may ask for what has just ended: then it is
    written down, and nobody is told.
    """
    check_given(_BAD_CANCEL, command)
    scheduled_id = command.request_cancel_nexus_operation_command_attributes.scheduled_event_id
    pending = tx.state.of(NexusOperation).get(scheduled_id)
    if pending is None and not _has_just_ended(tx, scheduled_id):
        raise CommandError(
            _BAD_CANCEL,
            "requested cancelation for a non-existing or already completed operation with scheduled event ID of"
            f" {scheduled_id}",
        )
    if tx.state.of(NexusCancellation).get(scheduled_id) is not None:
        raise CommandError(
            _BAD_CANCEL,
            f"cancelation was already requested for an operation with scheduled event ID {scheduled_id}",
        )
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED,
        nexus_operation_cancel_requested_event_attributes=NexusOperationCancelRequestedEventAttributes(
            scheduled_event_id=scheduled_id, workflow_task_completed_event_id=completed_id
        ),
    )


def _has_just_ended(tx: Transaction, scheduled_id: int) -> bool:
    """Whether the operation's end waits for its place in history, behind what this workflow task commands."""
    for raw in buffer.waiting(tx.state).events:
        event = HistoryEvent.FromString(raw)
        name = event.WhichOneof("attributes") or ""
        if name in buffer.NEXUS_ENDS and getattr(event, name).scheduled_event_id == scheduled_id:
            return True
    return False
