"""Start requests that came for a run which was there already, and were given a share in it.

With the conflict policy USE_EXISTING a request may leave its id, its callbacks and its links with the running workflow
(Temporal: `OnConflictOptions`); the event that says so also makes a repeat of the request recognisable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionOptionsUpdatedEventAttributes

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import callback
from nexuskit.backend.history.state import NOTHING, Index, Info, Row
from nexuskit.backend.times import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.api.common.v1 import Callback, Link

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction


class Attached(Row, frozen=True):
    """A start request that was attached. The key is its id; `event_id` is 0 while its event waits for a place."""

    kind = "attached"
    outlives = True
    event_id: int

    def index(self, info: Info) -> Index:
        return NOTHING


def apply_options_updated(state: Execution, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_options_updated_event_attributes
    request_id = attributes.attached_request_id
    if request_id:
        state.of(Attached).put(request_id, Attached(event.event_id))
    for each in attributes.attached_completion_callbacks:
        registered = callback.Registered(each.SerializeToString(), request_id, moment(event.event_time))
        callback.apply_registered(state, registered)
    for update in attributes.workflow_update_options:
        state.of(Attached).put(update.attached_request_id, Attached(event.event_id))
        for each in update.attached_completion_callbacks:
            registered = callback.Registered(
                each.SerializeToString(), update.attached_request_id, moment(event.event_time), update.update_id
            )
            callback.apply_registered(state, registered)


def apply_placed(state: Execution, event: HistoryEvent) -> None:
    """The event has its id now."""
    attributes = event.workflow_execution_options_updated_event_attributes
    ids = [attributes.attached_request_id, *(each.attached_request_id for each in attributes.workflow_update_options)]
    for request_id in filter(None, ids):
        state.of(Attached).put(request_id, Attached(event.event_id))


def attach(tx: Transaction, request_id: str, callbacks: Sequence[Callback], links: Sequence[Link]) -> None:
    """Leave a request's id, callbacks and links with the run. Nothing happens if that id was left before.

    Raises:
        StatusError: FAILED_PRECONDITION or INVALID_ARGUMENT, if the run has as many as it may.
    """
    state = tx.state
    if request_id and (state.of(Attached).get(request_id) is not None or state.info.start_request_id == request_id):
        return
    there = len(state.of(callback.Callback))
    if there + len(callbacks) > tx.limits.CALLBACKS:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            f"cannot attach more than {tx.limits.CALLBACKS} callbacks to a workflow"
            f" ({there} callbacks already attached)",
        )
    if len(state.of(Attached)) >= tx.limits.ATTACHED_REQUESTS:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            f"cannot attach more than {tx.limits.ATTACHED_REQUESTS} requests to workflow {state.info.workflow_id!r}",
        )
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED,
        links=list(links),
        worker_may_ignore=True,
        workflow_execution_options_updated_event_attributes=WorkflowExecutionOptionsUpdatedEventAttributes(
            attached_request_id=request_id, attached_completion_callbacks=callbacks
        ),
    )
