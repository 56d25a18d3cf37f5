"""Completion callbacks of updates: somebody is to be told when an update has its outcome.

They are callbacks of the run like others (see `callback`), and stand by until the update completes, or its run ends
before. They are registered when the update is accepted, because of one that is rejected no trace stays. Who asks for
an update that is there already leaves his callbacks with it: by an event, once it is accepted; until then in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import WorkflowExecutionOptionsUpdatedEventAttributes

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import callback

if TYPE_CHECKING:
    from temporalio.api.update.v1 import Request

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction


def register(state: Execution, update_id: str, request: Request, time: int) -> None:
    """The update was accepted: its callbacks stand by."""
    for each in request.completion_callbacks:
        registered = callback.Registered(each.SerializeToString(), request.request_id, time, update_id)
        callback.apply_registered(state, registered)


def apply_completed(state: Execution, update_id: str, time: int) -> None:
    """The update has its outcome: its callbacks are to be delivered."""
    callback.apply_scheduled(state, update_id, time)


def check_room(tx: Transaction, request: Request) -> None:
    """There is room for the callbacks of this request.

    Raises:
        StatusError: FAILED_PRECONDITION.
    """
    update_id, more = request.meta.update_id, len(request.completion_callbacks)
    if not more:
        return
    rows = [row for _, row in tx.state.of(callback.Callback).items()]
    of_update = sum(row.update_id == update_id for row in rows)
    if of_update + more > tx.limits.UPDATE_CALLBACKS:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            f'cannot attach more than {tx.limits.UPDATE_CALLBACKS} callbacks to update "{update_id}"'
            f" ({of_update} callbacks already attached)",
        )
    if len(rows) + more > tx.limits.CALLBACKS:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            f"cannot attach more than {tx.limits.CALLBACKS} callbacks to a workflow"
            f" ({len(rows)} callbacks already attached)",
        )


def attach(tx: Transaction, request: Request) -> None:
    """Leave the callbacks of another request with an update that is accepted; not those of one that did so before."""
    update_id = request.meta.update_id
    for _, row in tx.state.of(callback.Callback).items():
        if (row.update_id, row.request_id) == (update_id, request.request_id):
            return
    check_room(tx, request)
    attached = WorkflowExecutionOptionsUpdatedEventAttributes.WorkflowUpdateOptionsUpdate(
        update_id=update_id,
        attached_request_id=request.request_id,
        attached_completion_callbacks=request.completion_callbacks,
    )
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED,
        worker_may_ignore=True,
        workflow_execution_options_updated_event_attributes=WorkflowExecutionOptionsUpdatedEventAttributes(
            workflow_update_options=[attached]
        ),
    )
