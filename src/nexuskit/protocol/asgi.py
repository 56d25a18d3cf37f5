"""Serves Nexus services as an ASGI application.

    app.mount("/nexus", NexusApp([PaymentsHandler()]))

It mounts in any Starlette or FastAPI application, or runs by itself in any ASGI server. Every request is read within
limits and answered within a time; when its caller goes away, its handler is cancelled. A handler's own errors
(`HandlerError`, `OperationError`) are answered as they are; of any other exception the caller learns nothing but an id,
under which the log has it.

`GET openapi.json`, below where it is mounted, describes the services as OpenAPI 3.1.

This module does I/O; it needs no more than ASGI of the framework around it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import msgspec
from nexusrpc import Failure, HandlerError, HandlerErrorType, OperationError
from nexusrpc.handler import (
    CancelOperationContext,
    Handler,
    OperationTaskCancellation,
    StartOperationContext,
    StartOperationResultAsync,
    StartOperationResultSync,
)

from nexuskit.protocol.content import InputValue, JsonSerializer, serialize
from nexuskit.protocol.errors import LocalProtocolError
from nexuskit.protocol.failures import HANDLER_ERROR
from nexuskit.protocol.handling import (
    parse_request,
    write_cancel_accepted,
    write_error,
    write_started,
    write_succeeded,
)
from nexuskit.protocol.openapi import openapi_document
from nexuskit.protocol.serving import (
    MAX_BODY_BYTES,
    CallerGoneError,
    Supervision,
    TookTooLongError,
    answer_other,
    http_request,
    read_body,
    respond,
    target,
)
from nexuskit.protocol.values import CancelRequest, HttpResponse, StartRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Executor

    from nexusrpc import Serializer
    from nexusrpc.handler import OperationHandler, OperationHandlerMiddleware

    from nexuskit.protocol.serving import Receive, Scope, Send

__all__ = ["NexusApp"]

log = logging.getLogger("nexuskit.protocol.asgi")

MAX_REQUEST_TIME = timedelta(seconds=60)
"""How long a request may take, if the caller does not want its answer sooner: long enough for a slow handler, and short
enough that a hung one gives its place back."""


class NexusApp:
    """An ASGI application that serves Nexus services.

    Specification: Start Operation, Cancel Operation.

    Args:
        handlers: instances of classes decorated with `@nexusrpc.handler.service_handler`; or a
            `nexusrpc.handler.Handler` that was made elsewhere, with its own middleware and executor.
        middleware: wraps every operation, the first outermost, for starts and cancels alike.
        executor: runs operations that are not `async def`; without one they are refused here and now.
        serializer: reads inputs and writes results; JSON by pydantic if it is left out.
        max_body_bytes: of a request's body; a longer one is answered with BAD_REQUEST.
        max_request_time: from the first byte of a request to its answer. The handler is cancelled after it, or after
            the caller's request timeout or operation timeout if one of these is shorter, and the answer is
            REQUEST_TIMEOUT. One that goes on although it was cancelled is waited for no longer.
        title: of the OpenAPI document.
        version: of the OpenAPI document.

    Raises:
        TypeError: a handler is a class and not an instance, or middleware or an executor came with a `Handler`.
        RuntimeError: from nexusrpc; a handler has no service definition, two serve the same service, or an operation is
            not `async def` and there is no executor.
    """

    def __init__(
        self,
        handlers: Handler | Iterable[Any],
        *,
        middleware: Sequence[OperationHandlerMiddleware] = (),
        executor: Executor | None = None,
        serializer: Serializer | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_request_time: timedelta = MAX_REQUEST_TIME,
        title: str = "Nexus services",
        version: str = "1",
    ) -> None:
        if isinstance(handlers, Handler):
            if middleware or executor is not None:
                raise TypeError("a Handler has middleware and an executor of its own; give them to it")
            self._handler = handlers
        else:
            self._handler = Handler(list(handlers), executor=executor, middleware=list(middleware))
        self._serializer = serializer or JsonSerializer()
        self._max_body_bytes = max_body_bytes
        self._max_request_s = max_request_time.total_seconds()
        self._title = title
        self._version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one connection, as ASGI asks for it."""
        if scope["type"] != "http":
            await answer_other(scope, receive, send)
            return
        try:
            response = await self._answer(scope, receive, send)
        except CallerGoneError:
            log.debug("a caller went away before its request was answered")
            return
        if response is not None:
            await respond(send, response)

    def openapi(self, server: str = "/") -> dict[str, Any]:
        """The OpenAPI 3.1 document of the services.

        Args:
            server: the URL prefix of all paths.
        """
        return self._document | {"servers": [{"url": server}]}

    @cached_property
    def _document(self) -> dict[str, Any]:
        services = self._handler.service_handlers.values()
        descriptions = {
            (service.service.name, name): _description(operation)
            for service in services
            for name, operation in service.operation_handlers.items()
        }
        return openapi_document(
            [service.service for service in services],
            title=self._title,
            version=self._version,
            descriptions=descriptions,
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> HttpResponse | None:
        """The answer; None if it was given already, because the handler did not heed its cancellation."""
        if scope["method"] == "GET" and target(scope).partition("?")[0] == "/openapi.json":
            document = self.openapi(quote(scope.get("root_path", "")) or "/")
            return HttpResponse(200, (("content-type", "application/json"),), msgspec.json.encode(document))
        cancellation = _Cancellation()

        async def give_up() -> None:
            log.warning("the handler of %s goes on after its time, and is waited for no longer", target(scope)[:200])
            await respond(send, _too_late())

        supervision = Supervision(receive, self._max_request_s, cancellation.cancel, give_up)
        try:
            with supervision:
                body = await read_body(scope, receive, self._max_body_bytes)
                request = parse_request(http_request(scope, body))
                remaining = self._remaining(request)
                if remaining < self._max_request_s:
                    supervision.limit(remaining)
                supervision.listen()
                return await self._handled(request, cancellation, remaining, supervision)
        except TookTooLongError:
            if supervision.answering is not None:
                await supervision.answering
                return None
            return _too_late()
        except HandlerError as error:  # of a request that did not come as far as its handler
            return write_error(error)

    def _remaining(self, request: StartRequest | CancelRequest) -> float:
        """Seconds that a request may take: what the caller says, at most what this application allows."""
        seconds = self._max_request_s
        if request.request_timeout is not None:
            seconds = min(seconds, request.request_timeout.total_seconds())
        if isinstance(request, StartRequest) and request.operation_timeout is not None:
            seconds = min(seconds, request.operation_timeout.total_seconds())
        return seconds

    async def _handled(
        self,
        request: StartRequest | CancelRequest,
        cancellation: _Cancellation,
        remaining: float,
        supervision: Supervision,
    ) -> HttpResponse:
        """The handler's answer; whatever it raises is one, too."""
        deadline = datetime.fromtimestamp(time.time() + remaining, UTC)
        try:
            if isinstance(request, StartRequest):
                return await self._start(request, cancellation, deadline)
            return await self._cancel(request, cancellation, deadline)
        except (HandlerError, OperationError) as error:
            try:
                return write_error(error)
            except LocalProtocolError as fault:
                return _unexpected(request, fault)
        except BaseException as error:
            if _passes(error) or (isinstance(error, asyncio.CancelledError) and supervision.cancelled()):
                raise
            # Logged, and answered with an id; so is what the handler cancelled itself and then waited for.
            return _unexpected(request, error)

    async def _start(self, request: StartRequest, cancellation: _Cancellation, deadline: datetime) -> HttpResponse:
        context = StartOperationContext(
            service=request.service,
            operation=request.operation,
            headers=request.headers,
            task_cancellation=cancellation,
            request_deadline=deadline,
            request_id=request.request_id,
            callback_url=request.callback_url,
            callback_headers=request.callback_headers,
            inbound_links=request.links,
        )
        result = await self._handler.start_operation(context, InputValue(self._serializer, request.content))
        if isinstance(result, StartOperationResultSync):
            service = self._handler.service_handlers[request.service].service
            as_type = service.operation_definitions[request.operation].output_type
            return write_succeeded(await serialize(self._serializer, result.value, as_type), context.outbound_links)
        if isinstance(result, StartOperationResultAsync):  # pyright: ignore[reportUnnecessaryIsInstance]
            return write_started(result.token, context.outbound_links)
        # A handler may be written without a type checker.
        raise TypeError(f"expected a result or an operation token from the handler, but got {type(result).__name__}")

    async def _cancel(self, request: CancelRequest, cancellation: _Cancellation, deadline: datetime) -> HttpResponse:
        context = CancelOperationContext(
            service=request.service,
            operation=request.operation,
            headers=request.headers,
            task_cancellation=cancellation,
            request_deadline=deadline,
        )
        try:
            await self._handler.cancel_operation(context, request.token)
        except NotImplementedError as error:  # what nexusrpc raises for an operation that answers at once
            raise HandlerError(
                f"operation {request.operation!r} of service {request.service!r} cannot be cancelled",
                type=HandlerErrorType.NOT_IMPLEMENTED,
            ) from error
        return write_cancel_accepted()


def _too_late() -> HttpResponse:
    return write_error(HandlerError("the request was not answered in time", type=HandlerErrorType.REQUEST_TIMEOUT))


def _passes(error: BaseException) -> bool:
    """Whether an exception ends more than a request."""
    if isinstance(error, BaseExceptionGroup):
        return any(_passes(inner) for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions)
    return isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)


def _description(operation: OperationHandler[Any, Any]) -> str:
    """The docstring of what starts an operation."""
    # nexusrpc gives that of a plain operation's method to all of them, but leaves the function alone that it wraps.
    start = getattr(operation, "_start", None) or operation.start
    return inspect.cleandoc(start.__doc__ or "")


def _unexpected(request: StartRequest | CancelRequest, error: BaseException) -> HttpResponse:
    """The answer to a request whose handler is at fault: an id for the caller, everything else for the log."""
    correlation_id = uuid.uuid4().hex
    log.error(
        "unexpected error in operation %r of service %r, correlation id %s",
        request.operation,
        request.service,
        correlation_id,
        exc_info=error,
    )
    message = f"internal error; the handler's log has it under correlation id {correlation_id}"
    failure = Failure(
        message,
        metadata={"type": HANDLER_ERROR},
        details={"type": HandlerErrorType.INTERNAL.value, "correlationId": correlation_id},
    )
    return write_error(HandlerError(message, type=HandlerErrorType.INTERNAL, original_failure=failure))


class _Cancellation(OperationTaskCancellation):
    """Tells a handler that nobody waits for its answer any more. What runs in a thread learns of it in no other way."""

    __slots__ = ("_done", "_reason", "_waiting")

    _lock = threading.Lock()  # of all of them: it is held for an instant, and by threads that wait alone

    def __init__(self) -> None:
        self._reason: str | None = None
        self._waiting: list[threading.Event] | None = None
        self._done: asyncio.Event | None = None

    def cancel(self, reason: str) -> None:
        """Says so, from the event loop."""
        with self._lock:
            self._reason = reason
            waiting = self._waiting or ()
        for event in waiting:
            event.set()
        if self._done is not None:
            self._done.set()

    def is_cancelled(self) -> bool:
        return self._reason is not None

    def cancellation_reason(self) -> str | None:
        return self._reason

    def wait_until_cancelled_sync(self, timeout: float | None = None) -> bool:
        event = threading.Event()
        with self._lock:
            if self._reason is not None:
                return True
            self._waiting = [*(self._waiting or ()), event]
        return event.wait(timeout)

    async def wait_until_cancelled(self) -> None:
        self._done = self._done or asyncio.Event()
        if self._reason is not None:
            self._done.set()
        await self._done.wait()
