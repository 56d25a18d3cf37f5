"""Nexus tasks: requests on their way to a worker, held in memory only, for as long as their caller waits.

What a request carries is never written: the caller's own record is what survives, and it is asked again from there. So
a worker that answers after the caller has given up, or after a restart, is told that there is no such task.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from nexusrpc import HandlerErrorType

from nexuskit.backend.errors import invalid_argument, not_found
from nexuskit.backend.history.state import Destination
from nexuskit.backend.nexus.failures import handler_error
from nexuskit.backend.nexus.headers import milliseconds
from nexuskit.backend.times import MILLISECOND
from nexuskit.protocol.errors import RemoteProtocolError
from nexuskit.protocol.headers import OPERATION_TIMEOUT, REQUEST_TIMEOUT
from nexuskit.protocol.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from temporalio.api.failure.v1 import Failure
    from temporalio.api.nexus.v1 import Request, Response

    from nexuskit.backend.clock import Clock
    from nexuskit.backend.history.transaction import Draw
    from nexuskit.backend.matching.queues import Matching


class NexusTask(NamedTuple):
    """A request that waits for a worker's answer.

    Attributes:
        number: names it, in its token.
        namespace_id: of the worker that may have it.
        request: what the worker is given.
        asked: when it was put here (ns).
        until: when the caller gives up (ns).
        answer: where the worker's answer goes.
        wanted: whether it may still be given to a worker.
        taken: called when it is.
    """

    number: str
    namespace_id: str
    request: Request
    asked: int
    until: int
    answer: asyncio.Future[Response | Failure | None]
    wanted: Callable[[], bool]
    taken: Callable[[], None]


def _always() -> bool:
    return True


def _nobody_asks() -> None:
    pass


class NexusTasks:
    """Requests for workers' task queues."""

    def __init__(self, matching: Matching[object], clock: Clock, draw: Draw) -> None:
        self._matching = matching
        self._clock = clock
        self._draw = draw
        self._waiting: dict[str, NexusTask] = {}

    async def ask(
        self,
        namespace_id: str,
        queue: str,
        request: Request,
        until: int,
        *,
        wanted: Callable[[], bool] = _always,
        taken: Callable[[], None] = _nobody_asks,
    ) -> Response | Failure | None:
        """Send a request to a task queue, and wait for a worker's answer until the moment `until` (ns).

        Args:
            namespace_id: of the queue.
            queue: its name.
            request: what the worker is given.
            until: when to give up.
            wanted: asked before a worker gets it: whether it still should.
            taken: called when a worker gets it.

        Returns:
            What the worker answered: a response, or a handler error; None if nobody did in time.
        """
        destination = Destination("nexus", namespace_id, queue)
        answer: asyncio.Future[Response | Failure | None] = asyncio.get_running_loop().create_future()
        task = NexusTask(self._draw.uuid(), namespace_id, request, self._clock.now(), until, answer, wanted, taken)
        self._waiting[task.number] = task
        alarm = self._clock.at(until, lambda: _give_up(answer))
        self._matching.offer(destination, task.number, task)
        try:
            return await answer
        finally:
            alarm.cancel()
            self._waiting.pop(task.number, None)
            self._matching.withdraw(destination, task.number)

    def waits(self, task: NexusTask) -> bool:
        """Whether somebody still waits for the answer. Who no longer wants it is told so."""
        if task.number not in self._waiting or task.answer.done():
            return False
        if not task.wanted():
            task.answer.set_result(handler_error(HandlerErrorType.UPSTREAM_TIMEOUT, "nobody wants the answer any more"))
            return False
        return True

    def give(self, task: NexusTask) -> Request:
        """What a worker is given: the request, with the time that is left of its timeouts."""
        task.taken()
        now, header = self._clock.now(), task.request.header
        header[REQUEST_TIMEOUT] = milliseconds(task.until - now)
        if operation_timeout := header.get(OPERATION_TIMEOUT, ""):
            with contextlib.suppress(RemoteProtocolError):  # what a caller set as he likes is left as it is
                whole = int(parse_duration(operation_timeout) / timedelta(milliseconds=1)) * MILLISECOND
                header[OPERATION_TIMEOUT] = milliseconds(whole - (now - task.asked))
        return task.request

    def polled(self, namespace_id: str, queue: str, within: int) -> bool:
        """Whether a worker polls that queue, or did within that span (ns)."""
        return self._matching.polled(Destination("nexus", namespace_id, queue), within)

    def settle(self, number: str, namespace_id: str, answer: Response | Failure) -> None:
        """A worker's answer.

        Raises:
            StatusError: NOT_FOUND, if nobody waits for it; INVALID_ARGUMENT, if it is a task of another namespace.
        """
        task = self._waiting.get(number)
        if task is not None and task.namespace_id != namespace_id:
            raise invalid_argument("Operation requested with a token from a different namespace.")
        if task is None or task.answer.done():
            raise not_found("Nexus task not found or already expired: its caller has been answered, or has given up.")
        task.answer.set_result(answer)


def _give_up(answer: asyncio.Future[Response | Failure | None]) -> None:
    if not answer.done():
        answer.set_result(None)
