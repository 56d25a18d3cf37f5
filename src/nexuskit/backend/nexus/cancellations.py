"""Cancellations: the handler of an operation that has started is told that its caller wants it to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.nexus.v1 import CancelOperationRequest, Request

from nexuskit.backend.history import activity_failures, nexus_cancellation
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.nexus_operation import NexusOperation, deadlines
from nexuskit.backend.nexus import failures
from nexuskit.backend.nexus.operations import Refused
from nexuskit.backend.times import timestamp

if TYPE_CHECKING:
    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.nexus.calls import Calls, Target


class Cancellations:
    """Tells handlers to stop."""

    def __init__(self, engine: Engine, calls: Calls) -> None:
        self._engine = engine
        self._calls = calls
        self._under_way: set[Waiting] = set()

    async def call(self, waiting: Waiting) -> None:
        """One attempt at a cancellation, if it still waits for it."""
        if waiting in self._under_way:
            return
        self._under_way.add(waiting)
        try:
            await self._call(waiting)
        finally:
            self._under_way.discard(waiting)

    async def _call(self, waiting: Waiting) -> None:
        resident = await self._engine.get(waiting.execution)
        scheduled_id = int(waiting.key)
        operation = self._operation(resident, waiting)
        if operation is None:
            return
        now = self._engine.clock.now()
        ends = [(end, kind) for end, kind in deadlines(operation) if end]
        until = min([now + self._engine.limits.NEXUS_REQUEST_TIMEOUT, *(end for end, _ in ends)])
        if ends and until - now < self._engine.limits.NEXUS_REQUEST_TIMEOUT_MIN:
            too_late = Refused(out_of_time(min(ends)[1]), retryable=False)
            self._engine.run(resident, lambda tx: self._save(tx, waiting, too_late))
            return
        event = await self._engine.event(resident, scheduled_id)
        refused = await self._ask(resident, operation, event, now, until)
        resident = await self._engine.get(waiting.execution)
        self._engine.run(resident, lambda tx: self._save(tx, waiting, refused))

    @staticmethod
    def _operation(resident: Resident, waiting: Waiting) -> NexusOperation | None:
        """The operation, if its cancellation still waits for that attempt."""
        if nexus_cancellation.attempted(resident.execution, int(waiting.key), waiting.stamp) is None:
            return None
        return resident.execution.of(NexusOperation).get(waiting.key)

    async def _ask(
        self, resident: Resident, operation: NexusOperation, event: HistoryEvent, now: int, until: int
    ) -> Refused | None:
        target = self._calls.target(operation.endpoint_id)
        if isinstance(target, Failure):
            return Refused(target, retryable=False)
        request = self._request(resident, operation, event, target, now, until)
        answer = await self._calls.ask(target, request, until)
        if not isinstance(answer, Failure):
            return None
        cut_causes(answer, self._engine.limits)
        return Refused(answer, failures.retryable(answer))

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
    def _save(tx: Transaction, waiting: Waiting, refused: Refused | None) -> None:
        row = nexus_cancellation.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is None:
            return  # the operation has ended meanwhile
        if refused is None:
            nexus_cancellation.complete(tx, row)
        elif refused.retryable:
            nexus_cancellation.attempt_failed(tx, row, activity_failures.cut(refused.failure, tx.limits))
        else:
            nexus_cancellation.fail(tx, row, refused.failure)


def out_of_time(kind: int) -> Failure:
    """There is too little time left to tell the handler, before the timeout of that kind (`TimeoutType`)."""
    name = activity_failures.TIMEOUT_NAMES[TimeoutType.ValueType(kind)]
    return Failure(
        message=f"not enough time to execute another request before {name} timeout",
        application_failure_info=ApplicationFailureInfo(type="CallError", non_retryable=True),
    )
