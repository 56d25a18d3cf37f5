"""Updates: requests to a workflow's code that it accepts or rejects, and answers.

    nothing ── admit, reapply ──> ADMITTED ── accept ──> ACCEPTED ── complete ──> COMPLETED
                                     │ reject, or the run ends
                                     └──> nothing

An admitted update is in memory only: it is carried to the worker by the next workflow task, as a protocol message, and
a crash may lose it. So is its rejection: there is no trace of a rejected update, and the same id may come again. What
was accepted is in history, and stays findable by its id, also when the run is closed
(temporalio/temporal: service/history/workflow/update).

The updates that a run accepted after the point to which it is reset are given to the new run, too. They are admitted by
events, which are durable, and tell the worker of them in place of messages.

A worker answers with messages of its own: an acceptance, a rejection, a response. Where in the order of its commands an
acceptance or a response belongs, a command says that names the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from temporalio.api.enums.v1 import (
    EventType,
    ResourceExhaustedCause,
    ResourceExhaustedScope,
    UpdateAdmittedEventOrigin,
    UpdateWorkflowExecutionLifecycleStage,
    WorkflowTaskFailedCause,
)
from temporalio.api.errordetails.v1 import ResourceExhaustedFailure, WorkflowNotReadyFailure
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowExecutionUpdateAcceptedEventAttributes,
    WorkflowExecutionUpdateAdmittedEventAttributes,
    WorkflowExecutionUpdateCompletedEventAttributes,
)
from temporalio.api.protocol.v1 import Message
from temporalio.api.update.v1 import Acceptance, Rejection, Request, Response

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found
from nexuskit.backend.history import update_callbacks, workflow_task
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.command import CommandError, check_given
from nexuskit.backend.history.state import NOTHING, Index, Info, Row
from nexuskit.backend.history.transaction import Record, Verdict
from nexuskit.backend.times import moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from temporalio.api.command.v1 import Command

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.history.workflow_task import StartedTask, WorkflowTask
    from nexuskit.backend.settings import Limits

M = TypeVar("M", Acceptance, Rejection, Response)

FAILING_FROM = 3
"""While a workflow task is at this attempt or beyond, its workflow is taken to be broken and gets no updates."""

ABORTED_BY_CLOSING = "workflow update was aborted by closing workflow"
"""What those are told whose update was not accepted when the run ended; the SDKs know the sentence."""

_BAD_MESSAGE = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE
_STAGE = UpdateWorkflowExecutionLifecycleStage

_UNPROCESSED = Failure(
    message="Workflow Update is rejected because it wasn't processed by worker. "
    "Probably, Workflow Update is not supported by the worker.",
    source="Server",
    application_failure_info=ApplicationFailureInfo(type="UnprocessedUpdate", non_retryable=True),
)
RUN_ENDED_FIRST = Failure(
    message="Workflow Update failed because the Workflow completed before the Update completed.",
    source="Server",
    application_failure_info=ApplicationFailureInfo(type="AcceptedUpdateCompletedWorkflow", non_retryable=True),
)
"""The outcome of an update that was accepted and whose run ended before it completed."""


class Update(Row, frozen=True, omit_defaults=True):
    """An update that is under way, under its id."""

    kind = "update"
    outlives = True
    request: bytes = b""
    """`temporal.api.update.v1.Request`, serialised, until it is in history."""
    sent: bool = False
    """A worker has been told of it, and has not answered yet."""
    accepted_id: int = 0
    """The event that says that it is accepted; 0 until then."""
    admitted_id: int = 0
    """The event that admitted it and holds its request; 0 where there is none, or it is accepted."""
    joined: tuple[bytes, ...] = ()
    """Requests of others for it, serialised, whose callbacks are left with it when it is accepted."""

    @property
    def volatile(self) -> bool:
        return not self.accepted_id and not self.admitted_id

    def index(self, info: Info) -> Index:
        return NOTHING

    def weight(self) -> int:
        """Requests have a limit of their own, and do not count among what is kept."""
        return 0 if self.volatile else super().weight()


class Completed(Row, frozen=True):
    """An update that has its outcome, under its id; kept apart, for there may be many of them.

    `event_id` is the event that holds the outcome.
    """

    kind = "completed_update"
    outlives = True
    event_id: int

    def index(self, info: Info) -> Index:
        return NOTHING


class Admitted(Record, frozen=True):
    """An update waits for the workflow's code."""

    update_id: str
    request: bytes


class Joined(Record, frozen=True):
    """Somebody else asks for an update that is not accepted yet, and wants to be told of its outcome."""

    update_id: str
    request: bytes


class Sent(Record, frozen=True):
    """A worker is told of these updates."""

    update_ids: tuple[str, ...]


class Gone(Record, frozen=True):
    """An update was rejected, or given up: there is no trace of it."""

    update_id: str


class Status(NamedTuple):
    """How far an update has come.

    Attributes:
        stage: an `UpdateWorkflowExecutionLifecycleStage`.
        completed_id: the event that holds its outcome; 0 where there is no such event.
        failure: its outcome, where that is not in history.
    """

    stage: int
    completed_id: int = 0
    failure: Failure | None = None


# --- what happened


def apply_admitted(state: Execution, record: Admitted) -> None:
    state.of(Update).put(record.update_id, Update(request=record.request))


def apply_reapplied(state: Execution, event: HistoryEvent) -> None:
    request = event.workflow_execution_update_admitted_event_attributes.request
    state.of(Update).put(request.meta.update_id, Update(admitted_id=event.event_id))
    update_callbacks.register(state, request.meta.update_id, request, moment(event.event_time))


def apply_joined(state: Execution, record: Joined) -> None:
    row = state.of(Update).get(record.update_id)
    if row is not None:
        state.of(Update).put(record.update_id, msgspec.structs.replace(row, joined=(*row.joined, record.request)))


def apply_sent(state: Execution, record: Sent) -> None:
    table = state.of(Update)
    for update_id in record.update_ids:
        row = table.get(update_id)
        if row is not None:
            table.put(update_id, msgspec.structs.replace(row, sent=True))


def apply_gone(state: Execution, record: Gone) -> None:
    state.of(Update).remove(record.update_id)


def apply_accepted(state: Execution, event: HistoryEvent) -> None:
    update_id = event.workflow_execution_update_accepted_event_attributes.protocol_instance_id
    state.of(Update).put(update_id, Update(accepted_id=event.event_id))
    request = event.workflow_execution_update_accepted_event_attributes.accepted_request
    update_callbacks.register(state, update_id, request, moment(event.event_time))


def apply_completed(state: Execution, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_update_completed_event_attributes
    state.of(Update).remove(attributes.meta.update_id)
    state.of(Completed).put(attributes.meta.update_id, Completed(event.event_id))
    update_callbacks.apply_completed(state, attributes.meta.update_id, moment(event.event_time))


# --- what there is


def status(state: Execution, update_id: str) -> Status | None:
    """How far an update has come; None where there is none of that id, or no trace of it any more."""
    completed = state.of(Completed).get(update_id)
    if completed is not None:
        return Status(_STAGE.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, completed.event_id)
    row = state.of(Update).get(update_id)
    if row is None:
        return None
    if not row.accepted_id:
        closed = row.admitted_id and not state.info.running
        return None if closed else Status(_STAGE.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED)
    if state.info.running:
        return Status(_STAGE.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED)
    return Status(_STAGE.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED, failure=RUN_ENDED_FIRST)


def closed_under(state: Execution) -> StatusError:
    """What those are told whose update was admitted, and then the run ended.

    Where another run goes on in its place, they are to ask again, and reach that one.
    """
    if state.info.new_run_id:
        detail = ResourceExhaustedFailure(
            cause=ResourceExhaustedCause.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW,
            scope=ResourceExhaustedScope.RESOURCE_EXHAUSTED_SCOPE_NAMESPACE,
        )
        text = "workflow operation can not be applied because workflow is closing"
        return StatusError(Code.RESOURCE_EXHAUSTED, text, [detail])
    return not_found(ABORTED_BY_CLOSING)


def waits(state: Execution) -> bool:
    """Whether an update is to be brought to a worker."""
    return next(_waiting(state), None) is not None


def many(tx: Transaction) -> bool:
    """Whether the run got so many updates that it should continue as new."""
    return _total(tx.state) >= tx.limits.SUGGEST_CONTINUE_AS_NEW_UPDATES


def _total(state: Execution) -> int:
    return len(state.of(Update)) + len(state.of(Completed))


def _waiting(state: Execution) -> Iterator[tuple[str, Update]]:
    for key, row in state.of(Update).items():
        if not row.accepted_id:
            yield str(key), row


# --- what is to be done


def admit(tx: Transaction, request: Request) -> None:
    """An update comes in. One that is there already, whatever became of it, is not made again.

    Raises:
        StatusError: NOT_FOUND, if the run is closed and has no such update; FAILED_PRECONDITION, if its workflow task
            keeps failing, or it got too many updates; RESOURCE_EXHAUSTED, if too many or too large ones are under way.
    """
    state = tx.state
    update_id = request.meta.update_id
    known = status(state, update_id)
    if not state.info.running:
        if known is None:
            raise not_found("workflow execution already completed")
        return
    task = workflow_task.current(state)
    if task is not None and task.attempt >= FAILING_FROM:
        raise _not_ready("Unable to perform workflow execution update due to Workflow Task in failed state.")
    raw = request.SerializeToString()
    if known is not None:
        _join(tx, request, raw)
        return
    _check_room(tx, len(raw))
    update_callbacks.check_room(tx, request)
    tx.note(Admitted(update_id, raw))
    workflow_task.speculate(tx)


def _join(tx: Transaction, request: Request, raw: bytes) -> None:
    """Somebody asks for an update that is there already, by another request, and wants to be told of its outcome."""
    row = tx.state.of(Update).get(request.meta.update_id)
    if row is None or not request.completion_callbacks:
        return  # it has its outcome, which whoever asks gets at once
    if row.accepted_id:
        update_callbacks.attach(tx, request)
        return
    asked = [Request.FromString(each) for each in (row.request, *row.joined) if each]
    if request.request_id not in [each.request_id for each in asked]:
        wanted = Request(meta=request.meta)
        for each in (request, *asked):
            wanted.completion_callbacks.extend(each.completion_callbacks)
        update_callbacks.check_room(tx, wanted)
        tx.note(Joined(request.meta.update_id, raw))


def reapply(tx: Transaction, request: Request) -> None:
    """An update that another run had accepted comes again, with a reset; not if this run knows it already."""
    if status(tx.state, request.meta.update_id) is None:
        tx.add(
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED,
            workflow_execution_update_admitted_event_attributes=WorkflowExecutionUpdateAdmittedEventAttributes(
                request=request, origin=UpdateAdmittedEventOrigin.UPDATE_ADMITTED_EVENT_ORIGIN_REAPPLY
            ),
        )


def _check_room(tx: Transaction, size: int) -> None:
    state = tx.state
    in_flight = state.of(Update)
    if len(in_flight) >= tx.limits.UPDATES_IN_FLIGHT:
        text = f"limit on number of concurrent in-flight updates has been reached ({tx.limits.UPDATES_IN_FLIGHT})"
        raise _busy(text)
    if _total(state) >= tx.limits.UPDATES:
        raise StatusError(Code.FAILED_PRECONDITION, _too_many(tx.limits))
    held = sum(len(str(key).encode()) + len(row.request) for key, row in in_flight.items())
    if held + size >= tx.limits.UPDATES_IN_FLIGHT_SIZE:
        raise _busy(
            "limit on total payload size of in-flight updates has been reached"
            f" ({tx.limits.UPDATES_IN_FLIGHT_SIZE} bytes)"
        )


def _too_many(most: Limits) -> str:
    return (
        "The limit on the total number of distinct updates in this workflow has been reached"
        f" ({most.UPDATES}). Make sure any duplicate updates share an Update ID so the server can deduplicate them,"
        " and consider rejecting updates that you aren't going to process. You can also Continue-as-New to avoid this;"
        " we recommend you check Continue-as-New Suggested in your Workflow."
    )


def _busy(message: str) -> StatusError:
    detail = ResourceExhaustedFailure(
        cause=ResourceExhaustedCause.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT,
        scope=ResourceExhaustedScope.RESOURCE_EXHAUSTED_SCOPE_NAMESPACE,
    )
    return StatusError(Code.RESOURCE_EXHAUSTED, message, [detail])


def _not_ready(message: str) -> StatusError:
    return StatusError(Code.FAILED_PRECONDITION, message, [WorkflowNotReadyFailure()])


def deliver(tx: Transaction, request: workflow_task.Start, *, again: bool = True) -> StartedTask | None:
    """A worker takes the workflow task that waits, and with it the updates that wait.

    Args:
        tx: the transaction.
        request: which task, and who takes it.
        again: bring also those that a worker was told of and has not answered.

    Returns:
        What the worker is to be given; None if the task is not there any more, or has nothing to bring.
    """
    task = workflow_task.current(tx.state)
    if task is not None and task.speculative and not task.started and not waits(tx.state):
        tx.note(workflow_task.Discarded())
        return None
    started = workflow_task.start(tx, request._replace(many_updates=many(tx)))
    if started is None:
        return None
    going = [(update_id, row) for update_id, row in _waiting(tx.state) if again or not row.sent]
    if not going:
        return started
    tx.note(Sent(tuple(update_id for update_id, _ in going)))
    before = started.task.started_id - 1
    messages = (_request_message(update_id, row, before) for update_id, row in going if not row.admitted_id)
    return started._replace(messages=tuple(messages))


def _request_message(update_id: str, row: Update, sequencing_id: int) -> Message:
    body = AnyMessage(type_url=f"type.googleapis.com/{Request.DESCRIPTOR.full_name}", value=row.request)
    return Message(id=_message_id(update_id), protocol_instance_id=update_id, event_id=sequencing_id, body=body)


def _message_id(update_id: str) -> str:
    return f"{update_id}/request"


def may_discard(state: Execution, task: WorkflowTask, messages: Sequence[Message], *, discards_events: bool) -> bool:
    """Whether a speculative task that brought no commands has done nothing that is worth a trace: only rejections.

    A worker that cannot take back events it was shown (`discards_events`) must have been shown none but the task's own;
    any other only so many, or they would be shown again and again.
    """
    if not task.speculative or any(not message.body.Is(Rejection.DESCRIPTOR) for message in messages):
        return False
    shown = state.info.next_event_id - (state.info.previous_started_id + 2)
    return shown <= (limits.DISCARDED_EVENTS if discards_events else 0)


def carry_out(tx: Transaction, command: Command, completed_id: int) -> None:
    """ProtocolMessage: here the named message has its place."""
    check_given(_BAD_MESSAGE, command)
    message_id = command.protocol_message_command_attributes.message_id
    if not message_id:
        raise CommandError(_BAD_MESSAGE, "MessageID is not set on ProtocolMessageCommand.")
    place = next((place for place, message in enumerate(tx.messages) if message.id == message_id), None)
    if place is None:
        raise CommandError(_BAD_MESSAGE, f"ProtocolMessageCommand referenced absent message ID {message_id}")
    _answer(tx, tx.messages.pop(place))


def carry_out_rest(tx: Transaction) -> None:
    """The messages that no command named, in their order."""
    while tx.messages:
        _answer(tx, tx.messages.pop(0))


def reject_unanswered(tx: Transaction) -> None:
    """What a worker was told of and did not answer, it does not understand: nobody is to wait for it."""
    verdict = Verdict(failure=_UNPROCESSED)
    for update_id, row in list(_waiting(tx.state)):
        if row.sent:
            tx.note(Gone(update_id))
            tx.verdicts[update_id] = verdict


def give_up_sent(tx: Transaction) -> None:
    """The worker's answer was refused as a whole: who waits for an update that it was told of, is told so.

    One that is in history comes to the worker again with it.
    """
    text = "Unable to perform workflow execution update due to unexpected workflow task failure."
    verdict = Verdict(error=_not_ready(text))
    for update_id, row in list(_waiting(tx.state)):
        if row.sent:
            if not row.admitted_id:
                tx.note(Gone(update_id))
            tx.verdicts[update_id] = verdict


def _answer(tx: Transaction, message: Message) -> None:
    """A worker's message about one update."""
    if not message.HasField("body"):
        # No failed task, as on the real server: an SDK that sends such a thing would send it again.
        raise invalid_argument("nil message body")
    update_id = message.protocol_instance_id
    if message.body.Is(Acceptance.DESCRIPTOR):
        acceptance = _unpack(Acceptance, message)
        request = acceptance.accepted_request if acceptance.HasField("accepted_request") else None
        _check_size(tx, message, request)
        if tx.state.info.running:
            _accept(tx, update_id, acceptance, request)
    elif message.body.Is(Rejection.DESCRIPTOR):
        rejection = _unpack(Rejection, message)
        _check_size(tx, message, rejection.rejected_request)
        _reject(tx, update_id, rejection)
    elif message.body.Is(Response.DESCRIPTOR):
        response = _unpack(Response, message)
        _check_size(tx, message, None)
        if tx.state.info.running:
            _complete(tx, update_id, response)
    else:
        raise CommandError(_BAD_MESSAGE, f"unsupported protocol type {message.body.type_url or 'unknown'}")


def _check_size(tx: Transaction, message: Message, brought: Request | None) -> None:
    """What a worker says must be within its limit; the request that comes back with it was, when it came in."""
    size = message.body.ByteSize() - (brought.ByteSize() if brought is not None else 0)
    if size > tx.limits.PAYLOAD_SIZE:
        raise CommandError(
            _BAD_MESSAGE,
            f"Message type {message.body.type_url} exceeds size limit: {size} bytes, at most {tx.limits.PAYLOAD_SIZE}.",
            terminate=True,
        )


def _unpack(kind: type[M], message: Message) -> M:
    try:
        return kind.FromString(message.body.value)
    except DecodeError as error:
        raise CommandError(_BAD_MESSAGE, f"unable to unmarshal request: {error}") from None


def _accept(tx: Transaction, update_id: str, acceptance: Acceptance, brought: Request | None) -> None:
    row = _open(tx, update_id, brought, "Acceptance")
    if not acceptance.accepted_request_sequencing_event_id:
        raise CommandError(_BAD_MESSAGE, "invalid *update.Acceptance: accepted_request_sequencing_event_id is not set")
    if not acceptance.accepted_request_message_id:
        raise CommandError(_BAD_MESSAGE, "invalid *update.Acceptance: accepted_request_message_id is not set")
    request = Request() if row.admitted_id else Request.FromString(row.request)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        links=[link for each in request.completion_callbacks for link in each.links],
        workflow_execution_update_accepted_event_attributes=WorkflowExecutionUpdateAcceptedEventAttributes(
            protocol_instance_id=update_id,
            accepted_request_message_id=_message_id(update_id),
            accepted_request_sequencing_event_id=acceptance.accepted_request_sequencing_event_id,
            accepted_request=None if row.admitted_id else request,
        ),
    )
    for raw in row.joined:
        update_callbacks.attach(tx, Request.FromString(raw))


def _reject(tx: Transaction, update_id: str, rejection: Rejection) -> None:
    brought = rejection.rejected_request if rejection.HasField("rejected_request") else None
    if tx.state.info.running:
        _open(tx, update_id, brought, "Rejection")
        tx.note(Gone(update_id))
    cut_causes(rejection.failure, tx.limits)
    tx.verdicts[update_id] = Verdict(failure=rejection.failure)


def _complete(tx: Transaction, update_id: str, response: Response) -> None:
    row = tx.state.of(Update).get(update_id)
    if row is None or not row.accepted_id:
        raise _wrong_state(tx.state, update_id, "Response")
    if response.meta.update_id != update_id:
        text = f"invalid *update.Response: meta.update_id {response.meta.update_id!r} != {update_id!r}"
        raise CommandError(_BAD_MESSAGE, text)
    if not response.HasField("outcome"):
        raise CommandError(_BAD_MESSAGE, "invalid *update.Response: outcome is not set")
    if response.outcome.HasField("failure"):
        cut_causes(response.outcome.failure, tx.limits)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
        workflow_execution_update_completed_event_attributes=WorkflowExecutionUpdateCompletedEventAttributes(
            meta=response.meta, accepted_event_id=row.accepted_id, outcome=response.outcome
        ),
    )


def _open(tx: Transaction, update_id: str, brought: Request | None, message: str) -> Update:
    """The update that a message accepts or rejects.

    It may have been lost in a crash while the worker's task was not: then the request comes back with the message.
    """
    row = tx.state.of(Update).get(update_id)
    if row is None:
        if brought is None or tx.state.of(Completed).get(update_id) is not None:
            raise _wrong_state(tx.state, update_id, message)
        if _total(tx.state) >= tx.limits.UPDATES:
            raise CommandError(_BAD_MESSAGE, _too_many(tx.limits))
        tx.note(Admitted(update_id, brought.SerializeToString()))
        row = Update(request=brought.SerializeToString())
    if row.accepted_id:
        raise _wrong_state(tx.state, update_id, message)
    return row


def _wrong_state(execution: Execution, update_id: str, message: str) -> CommandError:
    row = execution.of(Update).get(update_id)
    if execution.of(Completed).get(update_id) is not None:
        state = "Completed"
    elif row is None:
        return CommandError(
            _BAD_MESSAGE,
            f"update {update_id} wasn't found on the server. This is most likely a transient error which will be"
            " resolved automatically by retries",
        )
    else:
        state = "Accepted" if row.accepted_id else "Sent" if row.sent else "Admitted"
    return CommandError(
        _BAD_MESSAGE,
        f"invalid state transition attempted for Update {update_id}: received *update.{message} message"
        f" while in state {state}",
    )
