"""Calls of endpoints whose target is a URL: a request goes out by HTTP, and its answer comes back as a worker's would.

What comes of it (temporalio/temporal: components/nexusoperations/executors.go):

    200, 201, 202, 424                  the answer: a result, a token, that the handler was told, a failed operation
    any that says a handler error       that error, asked again or not as it says, else as its type does
    any other status, or no Nexus       a CallError, asked again
    no answer, or none in time          a CallError, asked again
    an answer or a token too long       a CallError, not asked again
    may not go there                    UNAUTHORIZED, not asked again, nothing was sent
    cannot be written                   BAD_REQUEST, not asked again, nothing was sent
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import nexusrpc
from nexusrpc import HandlerError, HandlerErrorType, OperationError, OperationErrorState
from temporalio.api.enums.v1 import NexusHandlerErrorRetryBehavior as RetryBehavior
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import CancelOperationResponse, Request, Response, StartOperationResponse
from temporalio.api.nexus.v1 import Link as NexusLink

import nexuskit
from nexuskit.backend.nexus import wire_failures
from nexuskit.backend.nexus.calls import Handler, Reply
from nexuskit.backend.nexus.failures import call_error, handler_error, set_state
from nexuskit.backend.nexus.outward import NoRoomError
from nexuskit.backend.nexus.payloads import from_content, to_content
from nexuskit.protocol import headers as names
from nexuskit.protocol.calling import parse_cancel_response, parse_start_response, write_cancel, write_start
from nexuskit.protocol.errors import (
    DestinationRefusedError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    RequestTimedOutError,
    ResponseTooLargeError,
)
from nexuskit.protocol.failures import failure_from_error
from nexuskit.protocol.times import parse_duration
from nexuskit.protocol.values import CancelRequest, Started, StartRequest, Succeeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nexuskit.backend.clock import Clock
    from nexuskit.backend.nexus.outward import Outward
    from nexuskit.backend.settings import Limits
    from nexuskit.protocol.values import HttpRequest, HttpResponse

USER_AGENT = f"nexuskit/{nexuskit.__version__}"
"""What requests say of who sends them, where the caller does not say it."""
TOO_LARGE = "http: response body too large"
"""What Temporal calls an answer beyond the limit for payloads."""


class HttpCalls:
    """Asks handlers behind URLs."""

    def __init__(self, outward: Outward, clock: Clock, limits: Limits) -> None:
        self._outward = outward
        self._clock = clock
        self._limits = limits

    async def ask(self, url: str, request: Request, until: int) -> Reply:
        """Send a request to the handler at that URL, and wait for its answer until the moment `until` (ns).

        Args:
            url: of the endpoint.
            request: what a worker would be given.
            until: when to give up.
        """
        timeout = max(until - self._clock.now(), 0)
        try:
            sent = written(url, request, timedelta(microseconds=timeout // 1000))
            answer = await self._outward.send(sent, timeout)
        except RequestTimedOutError as error:
            return Reply(failure_of(error), Handler.TOO_SLOW)
        except NoRoomError as error:
            return Reply(failure_of(error), Handler.BUSY)
        except ProtocolError as error:
            asked = not isinstance(error, DestinationRefusedError | LocalProtocolError)
            return Reply(failure_of(error), Handler.ANSWERED if asked else Handler.UNASKED)
        return Reply(read(request, answer, self._limits), Handler.ANSWERED)


def written(url: str, request: Request, timeout: timedelta) -> HttpRequest:
    """A request for a handler, as it goes by HTTP.

    Raises:
        LocalProtocolError: a name, a header field or the URL cannot be written.
    """
    headers = _callers_own(request.header)
    if request.HasField("cancel_operation"):
        stop = request.cancel_operation
        return write_cancel(
            url,
            CancelRequest(
                service=stop.service,
                operation=stop.operation,
                token=stop.operation_token,
                headers=headers,
                request_timeout=timeout,
            ),
        )
    start = request.start_operation
    return write_start(
        url,
        StartRequest(
            service=start.service,
            operation=start.operation,
            content=to_content(start.payload if start.HasField("payload") else None),
            headers=headers,
            request_id=start.request_id,
            callback_url=start.callback,
            callback_headers=start.callback_header,
            links=[nexusrpc.Link(url=link.url, type=link.type) for link in start.links],
            request_timeout=timeout,
            operation_timeout=_operation_timeout(request.header),
        ),
    )


def read(request: Request, answer: HttpResponse, limits: Limits) -> Response | Failure:
    """What a handler answered by HTTP, as a worker would have."""
    try:
        if request.HasField("cancel_operation"):
            parse_cancel_response(answer)
            return Response(cancel_operation=CancelOperationResponse())
        started = parse_start_response(answer)
        return _succeeded(started, limits) if isinstance(started, Succeeded) else _accepted(started, limits)
    except OperationError as error:
        try:
            failure = wire_failures.from_wire(wire_failures.unwrapped(_said(error)))
        except RecursionError:
            return call_error("the answer holds a failure that is nested too deep", retryable=False)
        set_state(failure, canceled=error.state == OperationErrorState.CANCELED)
        return Response(start_operation=StartOperationResponse(failure=failure))
    except (HandlerError, ProtocolError) as error:
        try:
            return failure_of(error)
        except RecursionError:
            return call_error("the answer holds a failure that is nested too deep")


def failure_of(error: HandlerError | ProtocolError) -> Failure:
    """What a call without an outcome comes to. What may be asked again says so; see `failures.retryable`."""
    match error:
        case HandlerError():
            return _handler_error(error)
        case DestinationRefusedError():
            return handler_error(HandlerErrorType.UNAUTHORIZED, str(error))
        case LocalProtocolError():
            return handler_error(HandlerErrorType.BAD_REQUEST, str(error))
        case ResponseTooLargeError():
            return call_error(f"{TOO_LARGE}: {error}", retryable=False)
        case RequestTimedOutError():
            return call_error(f"request timed out: {error}")
        case _:
            return call_error(str(error))


def _succeeded(answer: Succeeded, limits: Limits) -> Response | Failure:
    encoding = answer.content.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        return call_error(f"expected an answer without content-encoding, but it is {encoding[:40]!r}", retryable=False)
    payload = from_content(answer.content)
    if (size := payload.ByteSize()) > limits.PAYLOAD_SIZE:
        return call_error(f"{TOO_LARGE}: a result of {size} bytes, at most {limits.PAYLOAD_SIZE}", retryable=False)
    success = StartOperationResponse.Sync(payload=payload, links=_links(answer.links))
    return Response(start_operation=StartOperationResponse(sync_success=success))


def _accepted(answer: Started, limits: Limits) -> Response | Failure:
    size = len(answer.token.encode())
    if size > limits.NEXUS_TOKEN_SIZE:
        message = f"invalid operation token: length exceeds allowed limit ({size}/{limits.NEXUS_TOKEN_SIZE})"
        return call_error(message, retryable=False)
    accepted = StartOperationResponse.Async(
        operation_id=answer.token, operation_token=answer.token, links=_links(answer.links)
    )
    return Response(start_operation=StartOperationResponse(async_success=accepted))


def _handler_error(error: HandlerError) -> Failure:
    failure = wire_failures.from_wire(failure_from_error(error))
    info = failure.nexus_handler_failure_info
    # A header field may have said it, beside a failure that does not.
    if error.retryable_override is not None:
        info.retry_behavior = (
            RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE
            if error.retryable_override
            else RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE
        )
    return failure


def _said(error: OperationError) -> nexusrpc.Failure:
    """The failure of an operation error: as it came, where peers of before the metadata's type send the cause alone."""
    cause = error.__cause__
    if error.original_failure is None and cause is not None:
        return failure_from_error(cause)
    return failure_from_error(error)


def _callers_own(header: Mapping[str, str]) -> dict[str, str]:
    """What of a request's header goes as it is; with the caller's namespace, which is this backend's word there."""
    own = {
        name: value
        for name, value in header.items()
        if not names.is_reserved(name) and not name.startswith(names.CALLBACK_PREFIX)
    }
    return {"user-agent": USER_AGENT} | own | {"temporal-nexus-failure-support": "true"}


def _operation_timeout(header: Mapping[str, str]) -> timedelta | None:
    try:
        return parse_duration(header.get(names.OPERATION_TIMEOUT, ""))
    except RemoteProtocolError:
        return None


def _links(links: Iterable[nexusrpc.Link]) -> list[NexusLink]:
    return [NexusLink(url=link.url, type=link.type) for link in links]
