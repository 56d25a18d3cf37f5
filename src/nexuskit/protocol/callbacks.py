"""Sends completions: tells a caller's callback how its operation ended.

    await complete_operation(callback, receipt, allow=AllowList(["*.example.com:443"]))
    await complete_operation(callback, OperationError("declined", state=OperationErrorState.FAILED), allow=...)

The URL is the caller's word, so an allow-list says where completions may go; see `allow_list` and `outbound`.

Specification: Callback URLs. This module does I/O.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nexusrpc import OperationError

from nexuskit.protocol.completion import parse_completion_response, write_completion
from nexuskit.protocol.content import JsonSerializer, serialize
from nexuskit.protocol.outbound import exchange, guarded_client, resolve
from nexuskit.protocol.retries import RetryPolicy
from nexuskit.protocol.values import Callback, Completion

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from nexusrpc import Link, Serializer

    from nexuskit.protocol.allow_list import AllowList
    from nexuskit.protocol.outbound import Resolver

__all__ = ["complete_operation"]

REQUEST_TIMEOUT = timedelta(seconds=10)
"""How long one attempt may take, as a Temporal server has it."""


async def complete_operation(
    callback: Callback,
    outcome: Any,
    *,
    allow: AllowList,
    operation_token: str = "",
    start_time: datetime | None = None,
    close_time: datetime | None = None,
    links: Sequence[Link] = (),
    serializer: Serializer | None = None,
    retry: RetryPolicy | None = None,
    request_timeout: timedelta = REQUEST_TIMEOUT,
    resolver: Resolver = resolve,
    verify: ssl.SSLContext | bool = True,
) -> None:
    """Sends the outcome of an operation to its callback, again and again as the retry policy says.

    Specification: Callback URLs.

    Args:
        callback: where it goes and what it carries: `Callback.of(context)` in the handler that started the operation.
        outcome: the result; or an `OperationError` if the operation failed or was cancelled.
        allow: where completions may go.
        operation_token: the token that the start was answered with; callers need it if this comes before that answer.
        start_time: when the operation was started, with a time zone.
        close_time: when it ended, with a time zone; now, if left out.
        links: where the handler's side of the call can be seen.
        serializer: writes the result; JSON by pydantic if left out.
        retry: how often and how fast.
        request_timeout: for each attempt.
        resolver: looks the URL's host up; the system's by default.
        verify: how certificates are checked; the system's way by default.

    Raises:
        HandlerError: the caller's side refused it for good, or each time. NOT_FOUND: nobody waits for it any more.
        DestinationRefusedError: the allow-list does not let it go there.
        TransportError: there was no answer, each time.
        UnexpectedResponseError: the URL's server does not speak Nexus.
        LocalProtocolError: the callback or the outcome cannot be written.
        SerializerError: the serializer cannot write the result.
    """
    if isinstance(outcome, OperationError):
        told: Any = outcome
    else:
        told = await serialize(serializer or JsonSerializer(), outcome)
    completion = Completion(
        outcome=told,
        operation_token=operation_token,
        start_time=start_time,
        close_time=close_time or datetime.now(UTC),
        links=links,
    )
    request = write_completion(callback, completion)
    async with guarded_client(allow, resolver=resolver, verify=verify) as client:
        async for attempt in (retry or RetryPolicy()).retrying():
            with attempt:
                parse_completion_response(await exchange(client, request, timeout=request_timeout))
