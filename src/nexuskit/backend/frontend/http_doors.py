"""Nexus by HTTP, as an ASGI application: which door a path leads to, and what all of them share.

A request is read within limits and answered within a time; what is wrong with it is answered as the Nexus specification
says, with a Failure. The log has no more of a request than its method, its path and the status of the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

from nexusrpc import HandlerError, HandlerErrorType

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.frontend.http_guards import (
    check_asked_once,
    check_encoding,
    check_no_page,
    check_said_once,
    framed_twice,
)
from nexuskit.backend.frontend.http_paths import JSON_API, ToCallback, read_path
from nexuskit.backend.frontend.nexus_callbacks_http import NexusCompletion
from nexuskit.backend.frontend.nexus_http import NexusCall
from nexuskit.backend.times import SECOND
from nexuskit.protocol.errors import RemoteProtocolError
from nexuskit.protocol.handling import bad_request, write_error
from nexuskit.protocol.serving import (
    CallerGoneError,
    Supervision,
    TookTooLongError,
    http_request,
    read_body,
    respond,
    target,
)
from nexuskit.protocol.values import HttpResponse

if TYPE_CHECKING:
    from nexuskit.backend.services import Services
    from nexuskit.protocol.serving import Receive, Scope, Send
    from nexuskit.protocol.values import HttpRequest

log = logging.getLogger("nexuskit.backend.frontend")
access = logging.getLogger("nexuskit.backend.access")

PATH_SHOWN = 300
"""Characters of a path that the log has."""

_TYPES = {
    Code.INVALID_ARGUMENT: HandlerErrorType.BAD_REQUEST,
    Code.ALREADY_EXISTS: HandlerErrorType.BAD_REQUEST,
    Code.FAILED_PRECONDITION: HandlerErrorType.BAD_REQUEST,
    Code.OUT_OF_RANGE: HandlerErrorType.BAD_REQUEST,
    Code.NOT_FOUND: HandlerErrorType.NOT_FOUND,
    Code.PERMISSION_DENIED: HandlerErrorType.UNAUTHORIZED,
    Code.UNAUTHENTICATED: HandlerErrorType.UNAUTHENTICATED,
    Code.RESOURCE_EXHAUSTED: HandlerErrorType.RESOURCE_EXHAUSTED,
    Code.UNIMPLEMENTED: HandlerErrorType.NOT_IMPLEMENTED,
    Code.DEADLINE_EXCEEDED: HandlerErrorType.UPSTREAM_TIMEOUT,
    Code.ABORTED: HandlerErrorType.UNAVAILABLE,
    Code.UNAVAILABLE: HandlerErrorType.UNAVAILABLE,
}
"""What a refusal is over HTTP (temporalio/temporal: common/nexus/failure.go); any other is INTERNAL."""


class Door(Protocol):
    """A request whose path and header fields are in order, and whose body has not been read yet."""

    size: int
    waits: bool

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The answer to the whole request."""
        ...


class HttpDoors:
    """Answers every request that is about Nexus."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._under_way = 0
        self._held = 0
        """Bytes of the bodies of requests under way, at most."""
        self._waiting: set[asyncio.Task[Any]] = set()
        """Requests whose callers may be told to come again, when the backend stops."""
        self._stopping = False

    def stop(self) -> None:
        """Whoever waits for a worker, or comes to do so, is told to come again. Completions are still carried out."""
        self._stopping = True
        for task in self._waiting:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks for it."""
        began = time.perf_counter()
        status = 0
        self._under_way += 1
        try:
            response = await self._answer(scope, receive, send)
            if response is not None:
                status = response.status
                await respond(send, response)
        except CallerGoneError:
            pass
        finally:
            self._under_way -= 1
            if access.isEnabledFor(logging.DEBUG):
                path = target(scope).partition("?")[0][:PATH_SHOWN]
                shown = status or "no answer"
                access.debug("%s %s %s %.1f ms", scope["method"], path, shown, (time.perf_counter() - began) * 1e3)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> HttpResponse | None:
        """The answer; None if it was given already."""
        if framed_twice(scope):
            return _framed_twice()

        async def give_up() -> None:
            await respond(send, _too_late())

        supervision = Supervision(receive, self._services.limits.HTTP_REQUEST_TIME / SECOND, _nobody, give_up)
        try:
            with supervision:
                door = self._door(scope)
                with self._room_for(_length(scope, door.size)):
                    body = await read_body(scope, receive, door.size)
                    if not door.waits:
                        return await door.answer(http_request(scope, body))
                    supervision.listen()
                    with self._interruptible():
                        return await door.answer(http_request(scope, body))
        except TookTooLongError:
            if supervision.answering is not None:
                await supervision.answering
                return None
            return _too_late()
        except HandlerError as error:
            return write_error(error)
        except StatusError as error:
            return write_error(HandlerError(error.message, type=_TYPES.get(error.code, HandlerErrorType.INTERNAL)))
        except (CallerGoneError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("a request by HTTP failed")
            message = f"internal error: {type(error).__name__}; the backend's log says more"
            return write_error(HandlerError(message, type=HandlerErrorType.INTERNAL))

    @contextlib.contextmanager
    def _room_for(self, size: int) -> Generator[None]:
        """A body of that size may be held in memory meanwhile.

        Raises:
            HandlerError: RESOURCE_EXHAUSTED, if there is no room beside the others.
        """
        limit = self._services.limits.HTTP_BODIES_SIZE
        if self._held and self._held + size > limit:
            message = f"the bodies of requests under way have {self._held} bytes, and {size} more would exceed {limit}"
            raise HandlerError(message, type=HandlerErrorType.RESOURCE_EXHAUSTED)
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    @contextlib.contextmanager
    def _interruptible(self) -> Generator[None]:
        """What is done in it ends when the backend stops."""
        task = asyncio.current_task()
        if task is None or self._stopping:
            raise _stopping()
        self._waiting.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self._stopping and not task.uncancel():
                raise _stopping() from None
            raise
        finally:
            self._waiting.discard(task)

    def _door(self, scope: Scope) -> Door:
        if self._under_way > self._services.limits.HTTP_REQUESTS:
            raise HandlerError("too many requests are under way", type=HandlerErrorType.RESOURCE_EXHAUSTED)
        path = target(scope).partition("?")[0]
        try:
            route = read_path(path)
        except RemoteProtocolError as error:
            raise bad_request(f"path: {error}") from error
        if route is None:
            raise _nowhere(path)
        if scope["method"] != "POST":
            raise bad_request(f"expected method POST, but got {scope['method'][:20]!r}")
        check_no_page(scope)
        check_encoding(scope)
        check_said_once(scope)
        if isinstance(route, ToCallback):
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            return NexusCompletion(self._services, route, headers)
        check_asked_once(scope)
        client = scope.get("client")
        return NexusCall(self._services, route, client[0] if client else "")


def _nowhere(path: str) -> HandlerError:
    if path.startswith(JSON_API):
        return HandlerError(
            "Temporal's HTTP API (/api/...) is not served by this backend: use its gRPC address, with any Temporal SDK",
            type=HandlerErrorType.NOT_IMPLEMENTED,
        )
    return HandlerError(
        "expected a path below /nexus/endpoints/{endpoint}/services or"
        " /namespaces/{namespace}/task-queues/{queue}/nexus-services, or /nexus/callback",
        type=HandlerErrorType.NOT_FOUND,
    )


def _stopping() -> HandlerError:
    return HandlerError("the backend is stopping", type=HandlerErrorType.UNAVAILABLE)


def _length(scope: Scope, most: int) -> int:
    """How long the body is, as its sender says; as long as it may be, if he does not."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return min(int(value[:20]), most)
    chunked = any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"])
    return most if chunked else 0


def _framed_twice() -> HttpResponse:
    error = bad_request("expected content-length or transfer-encoding, but got both")
    refused = write_error(error)
    return HttpResponse(refused.status, (*refused.headers, ("connection", "close")), refused.body)


def _too_late() -> HttpResponse:
    return write_error(HandlerError("the request was not answered in time", type=HandlerErrorType.REQUEST_TIMEOUT))


def _nobody(_: str) -> None:
    """Nobody here works in a thread and must be told that the caller is gone."""
