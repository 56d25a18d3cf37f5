"""Completion callbacks: when a run closes, whoever asked to be told is told.

A callback whose token is ours completes an operation of a caller in this very database: what the caller's history gains
and the delivered callback are committed together, so it happens exactly once. One to a URL goes out by HTTP, at least
once, until somebody takes it or refuses it for good; see `http_callbacks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Callback as CallbackProto
from temporalio.api.common.v1 import Link, Payload, Payloads
from temporalio.api.enums.v1 import (
    ActivityExecutionStatus,
    EventType,
    NexusOperationExecutionStatus,
    WorkflowExecutionStatus,
)
from temporalio.api.failure.v1 import Failure, ServerFailureInfo

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import activity_failures, callback, standalone, standalone_operation, update, workflow
from nexuskit.backend.history.attach import Attached
from nexuskit.backend.history.state import ACTIVITY, OPERATION
from nexuskit.backend.history.workflow import Outcome
from nexuskit.backend.nexus import http_callbacks
from nexuskit.backend.nexus.breaker import Fault, Verdict
from nexuskit.backend.nexus.calls import MESSAGE_SHOWN
from nexuskit.backend.nexus.completions import SYSTEM_CALLBACK_URL, Completion, header
from nexuskit.backend.nexus.lanes import NOTHING_SAID, Lanes, Place, Said
from nexuskit.backend.times import moment
from nexuskit.protocol.headers import OPERATION_TOKEN

if TYPE_CHECKING:
    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.namespaces import Namespaces
    from nexuskit.backend.nexus.completions import Completions
    from nexuskit.backend.nexus.outward import Outward


_CANCELLED = int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED)
_FAILED = int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED)


class Callbacks:
    """Delivers completion callbacks."""

    def __init__(
        self, engine: Engine, namespaces: Namespaces, lanes: Lanes, completions: Completions, outward: Outward
    ) -> None:
        self._engine = engine
        self._outward = outward
        self._lanes = lanes
        self._namespaces = namespaces
        self._completions = completions

    async def deliver(self, waiting: Waiting) -> None:
        """A callback is to be delivered, as soon as its turn comes."""
        source = await self._engine.get(waiting.execution)
        row = callback.attempted(source.execution, int(waiting.key), waiting.stamp)
        if row is not None:
            self._lanes.enter(lane_of(row, source.execution.info.namespace_id), waiting, self._attempt)

    async def _attempt(self, waiting: Waiting) -> Said:
        """One attempt at a callback, if it still waits for it."""
        source = await self._engine.get(waiting.execution)
        row = callback.attempted(source.execution, int(waiting.key), waiting.stamp)
        if row is None:
            return NOTHING_SAID
        target = CallbackProto.FromString(row.callback).nexus
        told = await self._engine.event(source, _told_by(source.execution, row))
        if target.url != SYSTEM_CALLBACK_URL:
            return await self._send(waiting, source, row, target, told)
        try:
            token = self._completions.verify(target.header)
            caller = await self._completions.caller(token)
            source = await self._engine.get(waiting.execution)
            self._completions.complete(caller, token, self._completion(source, row, target, told))
        except StatusError as error:
            if error.code == Code.UNAVAILABLE:
                raise
            failure = Failure(message=error.message, server_failure_info=ServerFailureInfo(non_retryable=True))
            source = await self._engine.get(waiting.execution)
            self._engine.run(source, lambda tx: self._refused(tx, waiting, failure, retryable=False))
            return Said(Verdict.WELL)
        # No `await` since the caller's side was settled: both sides are in the same commit group.
        self._engine.run(source, lambda tx: self._delivered(tx, waiting))
        return Said(Verdict.WELL)

    async def _send(
        self,
        waiting: Waiting,
        source: Resident,
        row: callback.Callback,
        target: CallbackProto.Nexus,
        told: HistoryEvent,
    ) -> Said:
        completion = self._completion(source, row, target, told)
        closed, limits = moment(told.event_time), self._engine.limits
        undelivered = await http_callbacks.deliver(self._outward, target, completion, closed, limits)
        source = await self._engine.get(waiting.execution)
        if undelivered is None:
            self._engine.run(source, lambda tx: self._delivered(tx, waiting))
            return Said(Verdict.WELL)
        failure, retryable, sent = undelivered
        self._engine.run(source, lambda tx: self._refused(tx, waiting, failure, retryable=retryable))
        if not sent:
            return NOTHING_SAID
        if not retryable:
            return Said(Verdict.WELL)
        return Said(Verdict.UNWELL, Fault(source.execution.info.workflow_id, failure.message[:MESSAGE_SHOWN]))

    def _completion(
        self, source: Resident, row: callback.Callback, target: CallbackProto.Nexus, told: HistoryEvent
    ) -> Completion:
        return Completion(
            _outcome(source.execution, row, told),
            _began(source.execution, row),
            [self._link(source, row)],
            header(target.header, OPERATION_TOKEN),
        )

    def _link(self, source: Resident, row: callback.Callback) -> Link:
        """To where the run was asked to call back: its start, or the request that was attached to it later."""
        info = source.execution.info
        namespace = self._namespaces.get_by_id(info.namespace_id).name
        if info.archetype == ACTIVITY:
            return Link(activity=Link.Activity(namespace=namespace, activity_id=info.workflow_id, run_id=info.run_id))
        if info.archetype == OPERATION:
            ids = Link.NexusOperation(namespace=namespace, operation_id=info.workflow_id, run_id=info.run_id)
            return Link(nexus_operation=ids)
        event = Link.WorkflowEvent(namespace=namespace, workflow_id=info.workflow_id, run_id=info.run_id)
        if row.update_id:
            event.request_id_ref.request_id = row.request_id
            event.request_id_ref.event_type = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
        elif source.execution.of(Attached).get(row.request_id) is not None:
            event.request_id_ref.request_id = row.request_id
            event.request_id_ref.event_type = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED
        else:
            event.event_ref.event_id = 1
            event.event_ref.event_type = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
        return Link(workflow_event=event)

    @staticmethod
    def _delivered(tx: Transaction, waiting: Waiting) -> None:
        row = callback.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is not None:
            callback.delivered(tx, row)

    @staticmethod
    def _refused(tx: Transaction, waiting: Waiting, failure: Failure, *, retryable: bool) -> None:
        row = callback.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is not None:
            callback.refused(tx, row, activity_failures.cut(failure, tx.limits), retryable=retryable)


def lane_of(row: callback.Callback, namespace_id: str) -> Place:
    """Where a callback of that namespace waits for its turn: beside the others to the same host and port."""
    url = CallbackProto.FromString(row.callback).nexus.url
    return Place(callback.Callback.kind, namespace_id, http_callbacks.destination(url))


def _told_by(source: Execution, row: callback.Callback) -> int:
    """The event that holds what is to be told; an update's that has none is told by the one that closed the run."""
    completed = source.of(update.Completed).get(row.update_id) if row.update_id else None
    return completed.event_id if completed is not None else source.info.close_event_id


def _began(source: Execution, row: callback.Callback) -> int:
    """Since when it is under way (ns)."""
    return row.registered if row.update_id else source.info.start_time


def _outcome(source: Execution, row: callback.Callback, closing: HistoryEvent) -> Outcome:
    """How a run ended, or an update of it; of what stands alone in a workflow's terms."""
    if row.update_id:
        return _of_update(closing)
    if source.info.archetype == OPERATION:
        told = standalone_operation.outcome(closing)
        if isinstance(told, Payload):
            completed = int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED)
            return Outcome(completed, result=Payloads(payloads=[told]))
        cancelled = source.info.status == NexusOperationExecutionStatus.NEXUS_OPERATION_EXECUTION_STATUS_CANCELED
        return Outcome(_CANCELLED if cancelled else _FAILED, failure=told)
    if source.info.archetype != ACTIVITY:
        return workflow.outcome(closing)
    ended = standalone.outcome(source, closing)
    if ended.HasField("result"):
        return Outcome(int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED), result=ended.result)
    cancelled = source.info.status == ActivityExecutionStatus.ACTIVITY_EXECUTION_STATUS_CANCELED
    return Outcome(_CANCELLED if cancelled else _FAILED, failure=ended.failure)


def _of_update(event: HistoryEvent) -> Outcome:
    if not event.HasField("workflow_execution_update_completed_event_attributes"):
        return Outcome(_FAILED, failure=update.RUN_ENDED_FIRST)
    outcome = event.workflow_execution_update_completed_event_attributes.outcome
    if outcome.HasField("failure"):
        return Outcome(_FAILED, failure=outcome.failure)
    return Outcome(int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED), result=outcome.success)
