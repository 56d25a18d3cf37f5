"""Signals: messages to a workflow, which take their place in its history and wake its code.

A signal with a request id is taken once, however often it is sent, as long as the run is open.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.common.v1 import Header, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionSignaledEventAttributes

from nexuskit.backend.errors import invalid_argument, not_found
from nexuskit.backend.history import start
from nexuskit.backend.history.state import NOTHING, Index, Info, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.api.common.v1 import Link

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction


class SignalRequest(Row, frozen=True):
    """A request whose signal was taken. The key is its id."""

    kind = "signal_request"

    def index(self, info: Info) -> Index:
        return NOTHING


class Signal(NamedTuple):
    """One signal.

    Attributes:
        name: what the workflow's code calls it.
        input, header: what it carries.
        identity: who sent it.
        request_id: tells a repeat from another one; empty for one that is never repeated.
        links: to where it came from.
        sender: the workflow that sent it, if one did.
    """

    name: str
    input: Payloads | None
    header: Header | None
    identity: str
    request_id: str = ""
    links: Sequence[Link] = ()
    sender: WorkflowExecution | None = None


def apply_signaled(state: Execution, event: HistoryEvent) -> None:
    state.info.signals += 1
    request_id = event.workflow_execution_signaled_event_attributes.request_id
    if request_id:
        state.of(SignalRequest).put(request_id, SignalRequest())


class Wake(Enum):
    """What follows a signal."""

    AFTER_PAUSE = "a workflow task, when the pause before the first one is over"
    NOW = "a workflow task, and the pause is cut short (Temporal: a signal with start)"
    NOT = "nothing: the run begins in the same transaction, which wakes it by itself"


def take(tx: Transaction, signal: Signal, *, wake: Wake = Wake.AFTER_PAUSE) -> None:
    """The workflow gets a signal; nothing happens if it has that one already.

    Args:
        tx: the transaction.
        signal: the signal.
        wake: what follows it.

    Raises:
        StatusError: NOT_FOUND, if the run is closed; INVALID_ARGUMENT, if it took as many as it may.
    """
    state = tx.state
    if signal.request_id and state.of(SignalRequest).get(signal.request_id) is not None:
        return
    if not state.info.running:
        raise not_found(f"workflow execution already completed: {state.info.workflow_id!r}, run {state.info.run_id}")
    if state.info.signals >= tx.limits.SIGNALS:
        raise invalid_argument(
            f"exceeded workflow execution limit for signal events: workflow {state.info.workflow_id!r} took"
            f" {tx.limits.SIGNALS}; continue as new before that"
        )
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        links=list(signal.links),
        workflow_execution_signaled_event_attributes=WorkflowExecutionSignaledEventAttributes(
            signal_name=signal.name,
            input=signal.input,
            identity=signal.identity,
            header=signal.header,
            external_workflow_execution=signal.sender,
            request_id=signal.request_id,
        ),
    )
    if wake is Wake.NOW:
        start.wake_now(tx)
    elif wake is Wake.AFTER_PAUSE:
        start.wake(tx)
