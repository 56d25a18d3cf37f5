"""Signals and cancel requests, from one workflow to another of its namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    CancelExternalWorkflowExecutionFailedCause,
    SignalExternalWorkflowExecutionFailedCause,
)

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import cancel, external, signal
from nexuskit.backend.history.identities import SERVER

if TYPE_CHECKING:
    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.state import Info

_SIGNAL = SignalExternalWorkflowExecutionFailedCause
_CANCEL = CancelExternalWorkflowExecutionFailedCause
_NOT_FOUND = _SIGNAL.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND
_TOO_MANY = _SIGNAL.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_SIGNAL_COUNT_LIMIT_EXCEEDED
_NOT_THERE = _CANCEL.CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND


class Externals:
    """Carries signals and cancel requests to their targets."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def signal(self, waiting: Waiting) -> None:
        """Deliver a signal, if its sender still waits for that."""
        engine = self._engine
        sender = await engine.get(waiting.execution)
        row = sender.execution.of(external.ExternalSignal).get(waiting.key)
        if row is None:
            return
        event = await engine.event(sender, row.initiated_id)
        attributes = event.signal_external_workflow_execution_initiated_event_attributes
        target, sender = await self._both(waiting, attributes.workflow_execution)
        info = sender.execution.info
        if sender.execution.of(external.ExternalSignal).get(waiting.key) is None:
            return
        # No `await` from here on: both sides are in the same commit group.
        if target is None or not _may_reach(info, target, child_only=attributes.child_workflow_only):
            engine.run(sender, lambda tx: external.signal_failed(tx, row.initiated_id, attributes, int(_NOT_FOUND)))
            return
        sent = signal.Signal(
            name=attributes.signal_name,
            input=attributes.input if attributes.HasField("input") else None,
            header=attributes.header if attributes.HasField("header") else None,
            identity=SERVER,
            request_id=row.request_id,
            sender=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
        )
        try:
            engine.run(target, lambda tx: signal.take(tx, sent))
        except StatusError as error:
            if error.code not in (Code.NOT_FOUND, Code.INVALID_ARGUMENT):
                raise
            cause = int(_NOT_FOUND if error.code == Code.NOT_FOUND else _TOO_MANY)
            engine.run(sender, lambda tx: external.signal_failed(tx, row.initiated_id, attributes, cause))
            return
        engine.run(sender, lambda tx: external.signalled(tx, row.initiated_id, attributes))

    async def cancel(self, waiting: Waiting) -> None:
        """Deliver a cancel request, if its sender still waits for that. A target that has closed got it, too."""
        engine = self._engine
        sender = await engine.get(waiting.execution)
        row = sender.execution.of(external.ExternalCancel).get(waiting.key)
        if row is None:
            return
        event = await engine.event(sender, row.initiated_id)
        attributes = event.request_cancel_external_workflow_execution_initiated_event_attributes
        target, sender = await self._both(waiting, attributes.workflow_execution)
        info = sender.execution.info
        if sender.execution.of(external.ExternalCancel).get(waiting.key) is None:
            return
        if target is None or not _may_reach(info, target, child_only=attributes.child_workflow_only):
            engine.run(sender, lambda tx: external.cancel_failed(tx, row.initiated_id, attributes, int(_NOT_THERE)))
            return
        asked = cancel.CancelRequest(
            reason=attributes.reason,
            identity=SERVER,
            sender=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
            initiated_id=row.initiated_id,
        )
        engine.run(target, lambda tx: cancel.request(tx, asked))
        engine.run(sender, lambda tx: external.cancel_requested(tx, row.initiated_id, attributes))

    async def _both(self, waiting: Waiting, named: WorkflowExecution) -> tuple[Resident | None, Resident]:
        """The target, None if there is none, and the sender; nothing is awaited after the two were at hand."""
        engine = self._engine
        while True:
            sender = await engine.get(waiting.execution)
            namespace_id = sender.execution.info.namespace_id
            target: Resident | None = None
            try:
                target = await engine.find(namespace_id, named.workflow_id, named.run_id)
            except StatusError as error:
                if error.code != Code.NOT_FOUND:
                    raise
            if not sender.lost and (target is None or not target.lost):
                return target, sender


def _may_reach(sender: Info, target: Resident, *, child_only: bool) -> bool:
    """A workflow does not reach itself; and only its child, where the command says so."""
    info = target.execution.info
    if info.workflow_id == sender.workflow_id:
        return False
    if not child_only:
        return True
    parent = info.parent
    return parent is not None and (parent.workflow_id, parent.run_id) == (sender.workflow_id, sender.run_id)
