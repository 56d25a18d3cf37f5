"""Calls: a scheduled operation is taken to its handler, and what the handler says is written into the caller's history.

The request goes to the endpoint's task queue as a Nexus task; its answer is a result, a token, or a failure. What the
handler cannot say now it may be asked again, with the same request id, until the operation's time is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from nexusrpc import HandlerErrorType
from temporalio.api.common.v1 import Link, Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import Request, Response, StartOperationRequest

from nexuskit.backend import tokens
from nexuskit.backend.history import activity_failures, nexus_operation
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.history.state import OPERATION
from nexuskit.backend.history.system_endpoint import SYSTEM_ENDPOINT
from nexuskit.backend.nexus import failures, links
from nexuskit.backend.nexus.calls import Calls, Handler, Reply, Target, said
from nexuskit.backend.nexus.failures import handler_error
from nexuskit.backend.nexus.headers import milliseconds
from nexuskit.backend.nexus.lanes import NOTHING_SAID, Lanes, Place, Said
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import timestamp
from nexuskit.protocol.headers import OPERATION_TIMEOUT

if TYPE_CHECKING:
    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.nexus.completions import Completions


class Succeeded(NamedTuple):
    """The handler answered with a result."""

    result: Payload | None
    links: list[Link]


class Accepted(NamedTuple):
    """The handler will complete it later."""

    token: str
    links: list[Link]


class Failed(NamedTuple):
    """The operation failed, or was cancelled (the failure says which)."""

    failure: Failure


class Refused(NamedTuple):
    """The handler could not be asked, or answered with a handler error."""

    failure: Failure
    retryable: bool


Answer = Succeeded | Accepted | Failed | Refused


class SystemCall(NamedTuple):
    """A call of the system endpoint.

    Attributes:
        namespace: the caller's name.
        service, operation, input: as it was scheduled.
        request_id: of the operation.
        link: to where it was scheduled.
    """

    namespace: str
    service: str
    operation: str
    input: Payload
    request_id: str
    link: Link


class Operations:
    """Takes calls to their handlers."""

    def __init__(
        self,
        engine: Engine,
        calls: Calls,
        lanes: Lanes,
        completions: Completions,
        system: Callable[[SystemCall], Awaitable[Answer]],
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._lanes = lanes
        self._completions = completions
        self._system = system

    async def call(self, waiting: Waiting) -> None:
        """A scheduled operation is to be called, as soon as its turn comes."""
        resident = await self._engine.get(waiting.execution)
        row = nexus_operation.attempted(resident.execution, int(waiting.key), waiting.stamp)
        if row is not None:
            place = Place(NexusOperation.kind, resident.execution.info.namespace_id, row.endpoint_id)
            self._lanes.enter(place, waiting, self._attempt)

    async def _attempt(self, waiting: Waiting) -> Said:
        """One attempt at an operation, if it still waits for it."""
        resident = await self._engine.get(waiting.execution)
        row = nexus_operation.attempted(resident.execution, int(waiting.key), waiting.stamp)
        if row is None:
            return NOTHING_SAID
        now = self._engine.clock.now()
        until, too_short = nexus_operation.attempt_until(row, now, self._engine.limits)
        if too_short is not None:
            kind = too_short
            self._engine.run(resident, lambda tx: self._out_of_time(tx, waiting, kind))
            return NOTHING_SAID
        if row.endpoint == SYSTEM_ENDPOINT:
            return await self._system_call(resident, row, waiting)
        # Again, because a call may have waited for its worker for days.
        target = self._calls.refusal(row.endpoint_id, resident.execution.info.namespace_id) or self._calls.target(
            row.endpoint_id
        )
        if isinstance(target, Failure):
            refused = Refused(target, retryable=False)
            self._engine.run(resident, lambda tx: self._save(tx, waiting, refused))
            return NOTHING_SAID
        if not self._calls.polled(target):
            self._engine.run(resident, lambda tx: self._nobody_there(tx, waiting, target))
            return NOTHING_SAID
        event = await self._engine.event(resident, row.scheduled_id)
        request = self._request(resident, row, event, target, now, until)
        reply = await self._calls.ask(target, request, until, lambda: self._waits(waiting))
        return await self._answered(waiting, target, reply, until - now)

    async def _system_call(self, resident: Resident, row: NexusOperation, waiting: Waiting) -> Said:
        """A call of the backend itself, which is always there."""
        event = await self._engine.event(resident, row.scheduled_id)
        given = event.nexus_operation_scheduled_event_attributes.input
        namespace = self._calls.namespace(resident.execution.info.namespace_id)
        call = SystemCall(namespace, row.service, row.operation, given, row.request_id, self._link(resident, row))
        answer = await self._system(call)
        resident = await self._engine.get(waiting.execution)
        self._engine.run(resident, lambda tx: self._save(tx, waiting, answer))
        return NOTHING_SAID

    def _link(self, resident: Resident, row: NexusOperation) -> Link:
        """To who calls: the event by which a workflow does, or the operation itself where it stands alone."""
        info = resident.execution.info
        namespace = self._calls.namespace(info.namespace_id)
        if info.archetype == OPERATION:
            alone = Link.NexusOperation(namespace=namespace, operation_id=info.workflow_id, run_id=info.run_id)
            return Link(nexus_operation=alone)
        event = Link.WorkflowEvent(namespace=namespace, workflow_id=info.workflow_id, run_id=info.run_id)
        event.event_ref.event_id = row.scheduled_id
        event.event_ref.event_type = EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED
        return Link(workflow_event=event)

    def _waits(self, waiting: Waiting) -> bool:
        """Whether the operation still waits for that attempt, as far as is known without reading the disk."""
        resident = self._engine.at_hand(waiting.execution)
        if resident is None:
            return True
        return nexus_operation.attempted(resident.execution, int(waiting.key), waiting.stamp) is not None

    async def _answered(self, waiting: Waiting, target: Target, reply: Reply, timeout: int) -> Said:
        resident = await self._engine.get(waiting.execution)
        if reply.handler == Handler.AWAY:
            self._engine.run(resident, lambda tx: self._nobody_there(tx, waiting, target))
        elif reply.handler == Handler.TOO_SLOW:
            self._engine.run(resident, lambda tx: self._too_slow(tx, waiting, reply, timeout))
        else:
            answer = read_answer(reply.answer, self._engine.limits)
            self._engine.run(resident, lambda tx: self._save(tx, waiting, answer))
        return said(resident.execution.info.workflow_id, reply)

    def _request(
        self, resident: Resident, row: NexusOperation, event: HistoryEvent, target: Target, now: int, until: int
    ) -> Request:
        info = resident.execution.info
        attributes = event.nexus_operation_scheduled_event_attributes
        headers = self._calls.headers(attributes.nexus_header, info.namespace_id, until - now)
        time_left = [row.start_to_close] if row.start_to_close else []
        if row.schedule_to_close:
            time_left.append(row.scheduled_time + row.schedule_to_close - now)
        if time_left:
            headers.setdefault(OPERATION_TIMEOUT, milliseconds(min(time_left)))
        token = tokens.CallbackToken(
            resident.execution.id, info.namespace_id, info.run_id, row.scheduled_id, row.request_id
        )
        return Request(
            header=headers,
            scheduled_time=timestamp(now),
            capabilities=Request.Capabilities(temporal_failure_responses=True),
            endpoint=target.endpoint,
            start_operation=StartOperationRequest(
                service=row.service,
                operation=row.operation,
                request_id=row.request_id,
                callback=self._calls.callback_url(target),
                callback_header=self._completions.headers(token),
                payload=attributes.input if attributes.HasField("input") else None,
                links=links.all_to_nexus([self._link(resident, row)]),
            ),
        )

    @staticmethod
    def _out_of_time(tx: Transaction, waiting: Waiting, kind: int) -> None:
        row = nexus_operation.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is not None:
            nexus_operation.time_out(tx, row, kind)

    @staticmethod
    def _nobody_there(tx: Transaction, waiting: Waiting, target: Target) -> None:
        row = nexus_operation.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is not None:
            failure = failures.no_worker(target.queue, target.namespace)
            awaits = nexus_operation.polled_queue(target.namespace_id, target.queue)
            nexus_operation.attempt_failed(tx, row, activity_failures.cut(failure, tx.limits), awaits)

    @staticmethod
    def _too_slow(tx: Transaction, waiting: Waiting, reply: Reply, timeout: int) -> None:
        row = nexus_operation.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is None or not isinstance(reply.answer, Failure):
            return
        times = row.too_slow + 1
        failure = reply.answer
        if times >= tx.limits.NEXUS_TOO_SLOW_FROM:
            by_http = failure.HasField("application_failure_info")
            failure = failures.too_slow_at_a_url(times, timeout) if by_http else failures.too_slow(times, timeout)
        nexus_operation.attempt_failed(tx, row, failure, too_slow=True)

    @staticmethod
    def _save(tx: Transaction, waiting: Waiting, answer: Answer) -> None:
        row = nexus_operation.attempted(tx.state, int(waiting.key), waiting.stamp)
        if row is None:
            return  # it has completed, timed out or been asked again meanwhile
        match answer:
            case Succeeded(result, found):
                nexus_operation.complete(tx, row, result, found)
            case Accepted(token, found):
                nexus_operation.start(tx, row, token, found)
            case Failed(failure) if failure.HasField("canceled_failure_info"):
                nexus_operation.cancel(tx, row, failure)
            case Failed(failure):
                nexus_operation.fail(tx, row, failure)
            case Refused(failure, True):
                nexus_operation.attempt_failed(tx, row, activity_failures.cut(failure, tx.limits))
            case Refused(failure, _):
                nexus_operation.fail(tx, row, failure)


def read_answer(answer: Response | Failure, limits: Limits) -> Answer:
    """What a worker answered to a start, checked against the limits."""
    if isinstance(answer, Failure):
        cut_causes(answer, limits)
        return Refused(answer, failures.retryable(answer))
    start = answer.start_operation
    match start.WhichOneof("variant"):
        case "sync_success":
            payload = start.sync_success.payload if start.sync_success.HasField("payload") else None
            if payload is not None and payload.ByteSize() > limits.PAYLOAD_SIZE:
                size = payload.ByteSize()
                message = f"the handler's result exceeds size limit: {size} bytes, at most {limits.PAYLOAD_SIZE}"
                return Refused(handler_error(HandlerErrorType.INTERNAL, message), retryable=False)
            return Succeeded(payload, links.all_from_nexus(start.sync_success.links))
        case "async_success":
            token = start.async_success.operation_token or start.async_success.operation_id
            size = len(token.encode())
            if not token or size > limits.NEXUS_TOKEN_SIZE:
                message = f"invalid operation token: length is zero or exceeds limit ({size}/{limits.NEXUS_TOKEN_SIZE})"
                return Refused(handler_error(HandlerErrorType.INTERNAL, message), retryable=False)
            return Accepted(token, links.all_from_nexus(start.async_success.links))
        case "failure":
            cut_causes(start.failure, limits)
            return Failed(start.failure)
        case "operation_error":
            failure = failures.from_nexus(start.operation_error.failure)
            failures.set_state(failure, canceled=start.operation_error.operation_state == "canceled")
            cut_causes(failure, limits)
            return Failed(failure)
        case _:
            return Refused(handler_error(HandlerErrorType.INTERNAL, "empty outcome"), retryable=True)
