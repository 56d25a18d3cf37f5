"""Completion callbacks: when a run closes, whoever asked to be told is told.

A callback whose token is ours completes an operation of a caller in this very database: what the caller's history gains
and the delivered callback are committed together, so it happens exactly once. There is no way out of the process here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Callback as CallbackProto
from temporalio.api.common.v1 import Link, Payload
from temporalio.api.enums.v1 import ActivityExecutionStatus, EventType, TimeoutType, WorkflowExecutionStatus
from temporalio.api.failure.v1 import Failure, ServerFailureInfo, TerminatedFailureInfo, TimeoutFailureInfo

from nexuskit.backend import tokens
from nexuskit.backend.errors import Code, StatusError, not_found
from nexuskit.backend.history import activity_failures, callback, nexus_operation, standalone, update, workflow
from nexuskit.backend.history.attach import Attached
from nexuskit.backend.history.state import ACTIVITY
from nexuskit.backend.history.workflow import Outcome
from nexuskit.backend.nexus.breaker import Verdict
from nexuskit.backend.nexus.lanes import NOTHING_SAID, Lanes, Place, Said
from nexuskit.backend.nexus.operations import CALLBACK_TOKEN_HEADER, OPERATION_TOKEN_HEADER, SYSTEM_CALLBACK_URL, header

if TYPE_CHECKING:
    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.namespaces import Namespaces


class Callbacks:
    """Delivers completion callbacks."""

    def __init__(self, engine: Engine, namespaces: Namespaces, lanes: Lanes, key: bytes) -> None:
        self._engine = engine
        self._lanes = lanes
        self._namespaces = namespaces
        self._key = key

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
        try:
            if target.url != SYSTEM_CALLBACK_URL:
                raise StatusError(
                    Code.UNIMPLEMENTED,
                    f"callbacks to {target.url!r} are not delivered by this backend, only to {SYSTEM_CALLBACK_URL}",
                )
            token = tokens.verify(header(target.header, CALLBACK_TOKEN_HEADER), self._key)
            told = await self._engine.event(source, _told_by(source.execution, row))
            caller = await self._caller(token)
            source = await self._engine.get(waiting.execution)
            named = header(target.header, OPERATION_TOKEN_HEADER)
            outcome = _outcome(source.execution, row, told)
            self._complete(caller, token, _began(source.execution, row), outcome, self._link(source, row), named)
        except StatusError as error:
            if error.code == Code.UNAVAILABLE:
                raise
            failure = Failure(message=error.message, server_failure_info=ServerFailureInfo(non_retryable=True))
            source = await self._engine.get(waiting.execution)
            self._engine.run(source, lambda tx: self._refused(tx, waiting, failure))
            return Said(Verdict.WELL)
        # No `await` since the caller's side was settled: both sides are in the same commit group.
        self._engine.run(source, lambda tx: self._delivered(tx, waiting))
        return Said(Verdict.WELL)

    async def _caller(self, token: tokens.CallbackToken) -> Resident:
        """The run that made the call, or the one that goes on where that one was reset.

        Raises:
            StatusError: NOT_FOUND, if it is not there.
        """
        caller = await self._engine.get(token.execution)
        if caller.execution.info.run_id != token.run_id:
            raise not_found("the callback token names a run that is not there")
        while (run_id := caller.execution.info.reset_run_id) and not caller.execution.info.running:
            info = caller.execution.info
            caller = await self._engine.find(info.namespace_id, info.workflow_id, run_id)
        return caller

    def _complete(
        self,
        caller: Resident,
        token: tokens.CallbackToken,
        began: int,
        outcome: Outcome,
        link: Link,
        operation_token: str,
    ) -> None:
        def complete(tx: Transaction) -> None:
            row = nexus_operation.find(tx.state, token.key, token.request_id)
            if not row.started_time:
                # The handler was quicker than its answer, or the answer was lost: the operation starts with its end.
                nexus_operation.start(tx, row, operation_token, [link], at=began, ended=True)
                row = nexus_operation.find(tx.state, token.key, token.request_id)
            _end(tx, row, outcome)

        self._engine.run(caller, complete)

    def _link(self, source: Resident, row: callback.Callback) -> Link:
        """To where the run was asked to call back: its start, or the request that was attached to it later."""
        info = source.execution.info
        namespace = self._namespaces.get_by_id(info.namespace_id).name
        if info.archetype == ACTIVITY:
            return Link(activity=Link.Activity(namespace=namespace, activity_id=info.workflow_id, run_id=info.run_id))
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
    def _refused(tx: Transaction, waiting: Waiting, failure: Failure) -> None:
        row = callback.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is not None:
            callback.refused(tx, row, activity_failures.cut(failure, tx.limits), retryable=False)


def lane_of(row: callback.Callback, namespace_id: str) -> Place:
    """Where a callback of that namespace waits for its turn: beside the others to the same URL."""
    return Place(callback.Callback.kind, namespace_id, CallbackProto.FromString(row.callback).nexus.url)


def _told_by(source: Execution, row: callback.Callback) -> int:
    """The event that holds what is to be told; an update's that has none is told by the one that closed the run."""
    completed = source.of(update.Completed).get(row.update_id) if row.update_id else None
    return completed.event_id if completed is not None else source.info.close_event_id


def _began(source: Execution, row: callback.Callback) -> int:
    """Since when it is under way (ns)."""
    return row.registered if row.update_id else source.info.start_time


def _outcome(source: Execution, row: callback.Callback, closing: HistoryEvent) -> Outcome:
    """How a run ended, or an update of it; of an activity that stands alone in a workflow's terms."""
    if row.update_id:
        return _of_update(closing)
    if source.info.archetype != ACTIVITY:
        return workflow.outcome(closing)
    ended = standalone.outcome(source, closing)
    if ended.HasField("result"):
        return Outcome(int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED), result=ended.result)
    if source.info.status == ActivityExecutionStatus.ACTIVITY_EXECUTION_STATUS_CANCELED:
        return Outcome(int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED), failure=ended.failure)
    return Outcome(int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED), failure=ended.failure)


def _of_update(event: HistoryEvent) -> Outcome:
    failed = int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED)
    if not event.HasField("workflow_execution_update_completed_event_attributes"):
        return Outcome(failed, failure=update.RUN_ENDED_FIRST)
    outcome = event.workflow_execution_update_completed_event_attributes.outcome
    if outcome.HasField("failure"):
        return Outcome(failed, failure=outcome.failure)
    return Outcome(int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED), result=outcome.success)


def _end(tx: Transaction, row: nexus_operation.NexusOperation, outcome: Outcome) -> None:
    match outcome.status:
        case WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED:
            payloads = outcome.result.payloads if outcome.result is not None else ()
            # A workflow has one result; an operation's is that, or nothing.
            nexus_operation.complete(tx, row, payloads[0] if payloads else Payload())
        case WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
            timeout = TimeoutFailureInfo(timeout_type=TimeoutType.TIMEOUT_TYPE_UNSPECIFIED)
            nexus_operation.fail(
                tx, row, Failure(message="operation exceeded internal timeout", timeout_failure_info=timeout)
            )
        case WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED:
            terminated = Failure(message="operation terminated", terminated_failure_info=TerminatedFailureInfo())
            nexus_operation.fail(tx, row, terminated)
        case WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED if outcome.failure is not None:
            nexus_operation.cancel(tx, row, outcome.failure)
        case _:
            nexus_operation.fail(tx, row, outcome.failure or Failure(message="operation failed"))
