"""Cancellations: the handler of an operation that has started is told that its caller wants it to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.nexus.v1 import CancelOperationRequest, Request, Response

from nexuskit.backend.history import activity_failures, nexus_cancellation
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.nexus_cancellation import NexusCancellation
from nexuskit.backend.history.nexus_operation import NexusOperation, attempt_until, polled_queue
from nexuskit.backend.nexus import failures
from nexuskit.backend.nexus.calls import Calls, Handler, Target, said
from nexuskit.backend.nexus.lanes import NOTHING_SAID, Lanes, Place, Said
from nexuskit.backend.times import timestamp

if TYPE_CHECKING:
    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.transaction import Transaction


class Cancellations:
    """Tells handlers to stop."""

    def __init__(self, engine: Engine, calls: Calls, lanes: Lanes) -> None:
        self._engine = engine
        self._calls = calls
        self._lanes = lanes

    async def call(self, waiting: Waiting) -> None:
        """A handler is to be told, as soon as its turn comes."""
        resident = await self._engine.get(waiting.execution)
        operation = self._operation(resident, waiting)
        if operation is not None:
            place = Place(NexusCancellation.kind, resident.execution.info.namespace_id, operation.endpoint_id)
            self._lanes.enter(place, waiting, self._attempt)

    async def _attempt(self, waiting: Waiting) -> Said:
        """One attempt at a cancellation, if it still waits for it."""
        resident = await self._engine.get(waiting.execution)
        operation = self._operation(resident, waiting)
        if operation is None:
            return NOTHING_SAID
        now = self._engine.clock.now()
        until, too_short = attempt_until(operation, now, self._engine.limits)
        target = self._calls.target(operation.endpoint_id) if too_short is None else out_of_time(too_short)
        if isinstance(target, Failure):
            failure = target
            self._engine.run(resident, lambda tx: self._fail(tx, waiting, failure))
            return NOTHING_SAID
        if not self._calls.polled(target):
            self._engine.run(resident, lambda tx: self._nobody_there(tx, waiting, target))
            return NOTHING_SAID
        event = await self._engine.event(resident, operation.scheduled_id)
        request = self._request(resident, operation, event, target, now, until)
        reply = await self._calls.ask(target, request, until, lambda: self._waits(waiting))
        resident = await self._engine.get(waiting.execution)
        if reply.handler == Handler.AWAY:
            self._engine.run(resident, lambda tx: self._nobody_there(tx, waiting, target))
        else:
            self._engine.run(resident, lambda tx: self._save(tx, waiting, reply.answer))
        return said(resident.execution.info.workflow_id, reply)

    @staticmethod
    def _operation(resident: Resident, waiting: Waiting) -> NexusOperation | None:
        """The operation, if its cancellation still waits for that attempt."""
        if nexus_cancellation.attempted(resident.execution, int(waiting.key), waiting.stamp) is None:
            return None
        return resident.execution.of(NexusOperation).get(waiting.key)

    def _waits(self, waiting: Waiting) -> bool:
        """Whether the cancellation still waits for that attempt, as far as is known without reading the disk."""
        resident = self._engine.at_hand(waiting.execution)
        return resident is None or self._operation(resident, waiting) is not None

    def _request(
        self,
        resident: Resident,
        operation: NexusOperation,
        event: HistoryEvent,
        target: Target,
        now: int,
        until: int,
    ) -> Request:
        given = event.nexus_operation_scheduled_event_attributes.nexus_header
        return Request(
            header=self._calls.headers(given, resident.execution.info.namespace_id, until - now),
            scheduled_time=timestamp(now),
            capabilities=Request.Capabilities(temporal_failure_responses=True),
            endpoint=target.endpoint,
            cancel_operation=CancelOperationRequest(
                service=operation.service,
                operation=operation.operation,
                operation_id=operation.token,
                operation_token=operation.token,
            ),
        )

    @staticmethod
    def _nobody_there(tx: Transaction, waiting: Waiting, target: Target) -> None:
        row = nexus_cancellation.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is not None:
            failure = activity_failures.cut(failures.no_worker(target.queue, target.namespace), tx.limits)
            awaits = polled_queue(target.namespace_id, target.queue)
            nexus_cancellation.attempt_failed(tx, row, failure, awaits)

    @staticmethod
    def _fail(tx: Transaction, waiting: Waiting, failure: Failure) -> None:
        row = nexus_cancellation.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is not None:
            nexus_cancellation.fail(tx, row, failure)

    @staticmethod
    def _save(tx: Transaction, waiting: Waiting, answer: Response | Failure) -> None:
        row = nexus_cancellation.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is None:
            return  # the operation has ended meanwhile
        if not isinstance(answer, Failure):
            nexus_cancellation.complete(tx, row)
            return
        cut_causes(answer, tx.limits)
        if failures.retryable(answer):
            nexus_cancellation.attempt_failed(tx, row, activity_failures.cut(answer, tx.limits))
        else:
            nexus_cancellation.fail(tx, row, answer)


def out_of_time(kind: int) -> Failure:
    """There is too little time left to tell the handler, before the timeout of that kind (`TimeoutType`)."""
    name = activity_failures.TIMEOUT_NAMES[TimeoutType.ValueType(kind)]
    return Failure(
        message=f"not enough time to execute another request before {name} timeout",
        application_failure_info=ApplicationFailureInfo(type="CallError", non_retryable=True),
    )
