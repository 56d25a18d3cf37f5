"""Calls Nexus services over HTTP.

    async with NexusClient("https://payments.example.com/nexus", PaymentService) as payments:
        receipt = await payments.execute_operation(PaymentService.process, payment)

The type checker knows from the service definition what goes in and what comes out. An operation that completes later
needs a `CallbackReceiver`, which is where its result arrives.

Specification: Start Operation, Cancel Operation. This module does I/O.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import httpx
import nexusrpc
from msgspec.structs import replace
from nexusrpc import Content, HandlerError, Operation

from nexuskit.protocol.calling import parse_cancel_response, parse_start_response, write_cancel, write_start
from nexuskit.protocol.content import JsonSerializer, RawValue, deserialize, serialize
from nexuskit.protocol.errors import (
    LocalProtocolError,
    OperationTimedOutError,
    RequestTimedOutError,
    TransportError,
)
from nexuskit.protocol.outbound import MAX_RESPONSE_BYTES, exchange
from nexuskit.protocol.receiver import LIFETIME
from nexuskit.protocol.retries import RetryPolicy
from nexuskit.protocol.values import CancelRequest, Started, StartRequest, Succeeded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from nexusrpc import Link, Serializer

    from nexuskit.protocol.receiver import CallbackReceiver, WaitingCall
    from nexuskit.protocol.values import Completion, HttpRequest, HttpResponse

__all__ = ["NexusClient", "OperationHandle"]

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")

REQUEST_TIMEOUT = timedelta(seconds=10)
"""How long one attempt may take, as a Temporal server has it."""


class NexusClient:
    """Calls the operations of one service at one endpoint.

    Use it as `async with`, or close it with `aclose`.

    Args:
        url: the endpoint, a URL prefix. Specification: Operation Addressability.
        service: the service: a class decorated with `@nexusrpc.service`, or its name.
        receiver: takes the results of operations that complete later.
        serializer: writes inputs and reads results; JSON by pydantic if left out.
        headers: header fields of every request, such as `authorization`.
        retry: how often and how fast a request is sent again; only what the specification calls retryable is.
        request_timeout: for each attempt; the handler is told.
        max_response_bytes: of an answer; more is not read.
        http: an httpx client to send requests with, which stays open; one of its own if left out.

    Raises:
        TypeError: the service is no service definition.
    """

    def __init__(
        self,
        url: str,
        service: type[Any] | str,
        *,
        receiver: CallbackReceiver | None = None,
        serializer: Serializer | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        request_timeout: timedelta = REQUEST_TIMEOUT,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.url = url
        self.service = service if isinstance(service, str) else _service_name(service)
        self._receiver = receiver
        self._serializer = serializer or JsonSerializer()
        self._headers = dict(headers or {})
        self._retry = retry or RetryPolicy()
        self._request_timeout = request_timeout
        self._max_response_bytes = max_response_bytes
        self._http = http or httpx.AsyncClient()
        self._owns_http = http is None

    async def __aenter__(self) -> NexusClient:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the client."""
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections, unless the httpx client is somebody else's."""
        if self._owns_http:
            await self._http.aclose()

    @overload
    async def start_operation(
        self,
        operation: Operation[InputT, OutputT],
        input: InputT | RawValue,
        *,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        links: Sequence[Link] = (),
        request_timeout: timedelta | None = None,
        operation_timeout: timedelta | None = None,
        callback_url: str | None = None,
        callback_headers: Mapping[str, str] | None = None,
    ) -> OperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: str,
        input: Any,
        *,
        output_type: type[OutputT],
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        links: Sequence[Link] = (),
        request_timeout: timedelta | None = None,
        operation_timeout: timedelta | None = None,
        callback_url: str | None = None,
        callback_headers: Mapping[str, str] | None = None,
    ) -> OperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: str,
        input: Any,
        *,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        links: Sequence[Link] = (),
        request_timeout: timedelta | None = None,
        operation_timeout: timedelta | None = None,
        callback_url: str | None = None,
        callback_headers: Mapping[str, str] | None = None,
    ) -> OperationHandle[Any]: ...

    async def start_operation(
        self,
        operation: Operation[Any, Any] | str,
        input: Any,
        *,
        output_type: Any = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        links: Sequence[Link] = (),
        request_timeout: timedelta | None = None,
        operation_timeout: timedelta | None = None,
        callback_url: str | None = None,
        callback_headers: Mapping[str, str] | None = None,
    ) -> OperationHandle[Any]:
        """Starts an operation. It may have completed when this returns, or complete later.

        Specification: Start Operation.

        Args:
            operation: of the service definition, or a name.
            input: of the operation's input type; a `RawValue` goes as it is.
            output_type: what the result is read as, for an operation that is given by name.
            headers: header fields of this request, beside those of the client.
            request_id: the same id is the same start, however often it is sent; made up if left out.
            links: where this side of the call can be seen.
            request_timeout: for each attempt, instead of the client's.
            operation_timeout: how long the operation may take until it completes; the handler is told, and `result`
                waits no longer than that.
            callback_url: where the completion goes, instead of to the client's receiver.
            callback_headers: what the completion carries to `callback_url`.

        Raises:
            OperationError: the operation failed or was cancelled at once.
            HandlerError: the request was not handled; not retryable, or so each time.
            TransportError: there was no answer, each time.
            OperationTimedOutError: there was none within the operation timeout.
            UnexpectedResponseError: the server does not speak Nexus.
            LocalProtocolError: a name, header field, link or timeout cannot be written.
            SerializerError: the serializer cannot write the input.
        """
        name, result_type = _named(operation, output_type)
        waiting: WaitingCall | None = None
        if callback_url is None and self._receiver is not None:
            waiting = self._receiver.expect(operation_timeout or LIFETIME)
            callback_url, callback_headers = waiting.callback.url, waiting.callback.headers
        begun = _now()
        request = StartRequest(
            service=self.service,
            operation=name,
            content=await serialize(self._serializer, input),
            headers={**self._headers, **(headers or {})},
            request_id=request_id or str(uuid.uuid4()),
            callback_url=callback_url,
            callback_headers=callback_headers or {},
            links=links,
        )
        ends = None if operation_timeout is None else begun + operation_timeout.total_seconds()
        try:
            answer = await self._started(request, request_timeout or self._request_timeout, operation_timeout, ends)
        except (HandlerError, TransportError) as error:
            # The handler may have completed it before its answer was lost: then the outcome is here, or comes just now.
            await asyncio.sleep(0)
            if waiting is not None and waiting.completion.done():
                answer = Started(waiting.completion.result().operation_token)
            elif isinstance(error, RequestTimedOutError) and ends is not None and _now() >= ends:
                raise _timed_out(name) from error
            else:
                raise
        return OperationHandle(self, name, result_type, answer, waiting, ends)

    async def _started(
        self, request: StartRequest, request_timeout: timedelta, left: timedelta | None, ends: float | None
    ) -> Succeeded | Started:
        """The answer to a start, which is sent until there is one or the operation's time is over."""
        answer: Succeeded | Started | None = None
        async for attempt in self._retry.retrying(within=left):
            with attempt:
                timeout = request_timeout
                if ends is not None:
                    left = timedelta(seconds=max(ends - _now(), 0.001))
                    timeout = min(timeout, left)
                sent = write_start(self.url, replace(request, request_timeout=timeout, operation_timeout=left))
                answer = parse_start_response(await self._exchange(sent, timeout))
        if answer is None:
            raise RequestTimedOutError("no attempt was made")
        return answer

    @overload
    async def execute_operation(
        self,
        operation: Operation[InputT, OutputT],
        input: InputT | RawValue,
        *,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        links: Sequence[Link] = (),
        request_timeout: timedelta | None = None,
        operation_timeout: timedelta | None = None,
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: str,
        input: Any,
        *,
        output_type: type[OutputT],
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        links: Sequence[Link] = (),
        request_timeout: timedelta | None = None,
        operation_timeout: timedelta | None = None,
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: str,
        input: Any,
        *,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        links: Sequence[Link] = (),
        request_timeout: timedelta | None = None,
        operation_timeout: timedelta | None = None,
    ) -> Any: ...

    async def execute_operation(
        self,
        operation: Operation[Any, Any] | str,
        input: Any,
        *,
        output_type: Any = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        links: Sequence[Link] = (),
        request_timeout: timedelta | None = None,
        operation_timeout: timedelta | None = None,
    ) -> Any:
        """Starts an operation and waits for its result.

        Specification: Start Operation, Callback URLs.

        The arguments are those of `start_operation`, and so are the errors, with these of `OperationHandle.result`:

        Raises:
            OperationError: the operation failed or was cancelled, at once or later.
            OperationTimedOutError: it did not complete within its operation timeout.
            LocalProtocolError: it completes later, and the client has no receiver to learn of it.
            SerializerError: the result is none of the operation's output type.
        """
        handle: OperationHandle[Any] = await self.start_operation(
            operation if isinstance(operation, str) else operation.name,
            input,
            output_type=_named(operation, output_type)[1],
            headers=headers,
            request_id=request_id,
            links=links,
            request_timeout=request_timeout,
            operation_timeout=operation_timeout,
        )
        return await handle.result()

    @overload
    def operation_handle(self, operation: Operation[Any, OutputT], token: str) -> OperationHandle[OutputT]: ...

    @overload
    def operation_handle(self, operation: str, token: str) -> OperationHandle[Any]: ...

    def operation_handle(self, operation: Operation[Any, Any] | str, token: str) -> OperationHandle[Any]:
        """A handle for an operation that was started before, by its token. It can cancel; it has no result.

        Specification: Cancel Operation.
        """
        name, result_type = _named(operation, None)
        return OperationHandle(self, name, result_type, Started(token), None, None)

    async def cancel_operation(
        self,
        operation: Operation[Any, Any] | str,
        token: str,
        *,
        headers: Mapping[str, str] | None = None,
        request_timeout: timedelta | None = None,
    ) -> None:
        """Asks the handler to cancel an operation. It may still complete in any way.

        Specification: Cancel Operation.

        Args:
            operation: of the service definition, or a name.
            token: the operation token.
            headers: header fields of this request, beside those of the client.
            request_timeout: for each attempt, instead of the client's.

        Raises:
            HandlerError: the request was not handled; not retryable, or so each time.
            TransportError: there was no answer, each time.
            UnexpectedResponseError: the server does not speak Nexus.
            LocalProtocolError: a name, header field, timeout or the token cannot be written.
        """
        timeout = request_timeout or self._request_timeout
        request = CancelRequest(
            service=self.service,
            operation=_named(operation, None)[0],
            token=token,
            headers={**self._headers, **(headers or {})},
            request_timeout=timeout,
        )
        sent = write_cancel(self.url, request)
        async for attempt in self._retry.retrying():
            with attempt:
                parse_cancel_response(await self._exchange(sent, timeout))

    async def _exchange(self, request: HttpRequest, timeout: timedelta) -> HttpResponse:
        return await exchange(self._http, request, timeout=timeout, max_response_bytes=self._max_response_bytes)

    async def read_result(self, content: Content, output_type: Any) -> Any:
        """Reads a result with the client's serializer.

        Raises:
            SerializerError: the content is no value of the type.
        """
        return await deserialize(self._serializer, content, output_type)


class OperationHandle(Generic[OutputT]):
    """An operation that was started.

    Attributes:
        operation: its name.
        token: the operation token; None if the operation completed at once.
        links: where the handler's side of the call can be seen.
    """

    def __init__(
        self,
        client: NexusClient,
        operation: str,
        output_type: Any,
        answer: Succeeded | Started,
        waiting: WaitingCall | None,
        ends: float | None,
    ) -> None:
        self.operation = operation
        self.token = answer.token if isinstance(answer, Started) else None
        self.links = tuple(answer.links)
        self._client = client
        self._output_type = output_type
        self._result = answer.content if isinstance(answer, Succeeded) else None
        self._waiting = waiting
        self._ends = ends

    async def result(self) -> OutputT:
        """The operation's result, as soon as there is one. Asked again, it is the same.

        Specification: Start Operation, 200; Callback URLs.

        Raises:
            OperationError: the operation failed or was cancelled.
            OperationTimedOutError: it did not complete within its operation timeout.
            LocalProtocolError: it completes later, and its completion does not come to a receiver of this client.
            SerializerError: the result is none of the operation's output type.
        """
        if self._result is None:
            outcome = (await self._completion()).outcome
            if not isinstance(outcome, Content):
                raise outcome
            self._result = outcome
        return await self._client.read_result(self._result, self._output_type)

    async def cancel(
        self, *, headers: Mapping[str, str] | None = None, request_timeout: timedelta | None = None
    ) -> None:
        """Asks the handler to cancel the operation. It may still complete in any way; `result` tells.

        Specification: Cancel Operation. The arguments and errors are those of `NexusClient.cancel_operation`.

        Raises:
            LocalProtocolError: the operation completed at once; there is nothing to cancel.
        """
        if self.token is None:
            raise LocalProtocolError(f"operation {self.operation!r} completed at once; there is nothing to cancel")
        await self._client.cancel_operation(
            self.operation, self.token, headers=headers, request_timeout=request_timeout
        )

    async def _completion(self) -> Completion:
        if self._waiting is None:
            raise LocalProtocolError(
                f"operation {self.operation!r} completes later, and its completion does not come here: give the client "
                "a CallbackReceiver"
            )
        # Shielded: one who stops waiting does not take the result from the others.
        completion = asyncio.shield(self._waiting.completion)
        if self._ends is None:
            return await completion
        try:
            async with asyncio.timeout(self._ends - _now()):
                return await completion
        except TimeoutError:
            raise _timed_out(self.operation) from None


def _timed_out(operation: str) -> OperationTimedOutError:
    return OperationTimedOutError(f"operation {operation!r} did not complete within its operation timeout")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _named(operation: Operation[Any, Any] | str, output_type: Any) -> tuple[str, Any]:
    return (operation, output_type) if isinstance(operation, str) else (operation.name, operation.output_type)


def _service_name(service: type[Any]) -> str:
    definition = nexusrpc.get_service_definition(service)
    if definition is None:
        raise TypeError(f"{service.__name__} is no service definition: decorate it with @nexusrpc.service")
    return definition.name
