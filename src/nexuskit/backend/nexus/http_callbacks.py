"""Completion callbacks by HTTP: the end of a run, an update or an activity is told to the URL that asked for it.

The body is the result, or the failure as it is; header fields say how it ended, when it began and ended, and what it
was. Those that came with the callback go along, but never in place of these
(temporalio/temporal: chasm/lib/callback/invocable_outbound.go, common/nexus/nexusrpc/completion.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import nexusrpc
from nexusrpc import HandlerError, OperationError, OperationErrorState
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.history.activity_failures import truncated
from nexuskit.backend.nexus import links, wire_failures
from nexuskit.backend.nexus.completions import header, is_canceled, told_of
from nexuskit.backend.nexus.http_calls import USER_AGENT
from nexuskit.backend.nexus.outward import NoRoomError
from nexuskit.backend.nexus.payloads import to_content
from nexuskit.backend.times import SECOND
from nexuskit.protocol.allow_list import Destination
from nexuskit.protocol.completion import parse_completion_response, write_completion
from nexuskit.protocol.errors import (
    DestinationRefusedError,
    LocalProtocolError,
    ProtocolError,
    ResponseTooLargeError,
)
from nexuskit.protocol.headers import OPERATION_TOKEN, check_callback_headers, check_token, is_reserved
from nexuskit.protocol.values import Callback, Completion

if TYPE_CHECKING:
    from temporalio.api.common.v1 import Callback as CallbackProto

    from nexuskit.backend.nexus.completions import Completion as Ended
    from nexuskit.backend.nexus.outward import Outward
    from nexuskit.backend.settings import Limits
    from nexuskit.protocol.values import HttpRequest


class Undelivered(NamedTuple):
    """A callback that did not come through.

    Attributes:
        failure: why.
        retryable: whether it is tried again.
        sent: whether there was somebody to be asked.
    """

    failure: Failure
    retryable: bool
    sent: bool


def check(outward: Outward, target: CallbackProto.Nexus) -> None:
    """Refuse a callback that could not be delivered, when it is asked for.

    Raises:
        StatusError: INVALID_ARGUMENT: requests cannot or may not go there, or its header fields are none.
    """
    try:
        Destination.of(target.url)
    except DestinationRefusedError as error:
        raise invalid_argument(f"invalid url: {error}") from None
    try:
        outward.check(target.url)
    except DestinationRefusedError as error:
        raise invalid_argument(f"invalid url: url does not match any configured callback address: {error}") from None
    try:
        check_callback_headers(_own(target.header))
        if token := header(target.header, OPERATION_TOKEN):
            check_token(token)
    except LocalProtocolError as error:
        raise invalid_argument(f"invalid header: {error}") from None


async def deliver(
    outward: Outward, target: CallbackProto.Nexus, ended: Ended, closed: int, limits: Limits
) -> Undelivered | None:
    """Tell a URL how an operation ended; None if it has been told.

    Args:
        outward: the way there.
        target: the URL, and what it gets along.
        ended: how it ended.
        closed: when (ns).
        limits: how long it may take, and how much there may be to tell.
    """
    try:
        request = written(target, ended, closed, limits)
        parse_completion_response(await outward.send(request, limits.NEXUS_REQUEST_TIMEOUT))
    except HandlerError as error:
        return _undelivered(f"handler error ({error.raw_error_type}): {error}", retryable=error.retryable)
    except (DestinationRefusedError, LocalProtocolError) as error:
        return _undelivered(str(error), retryable=False, sent=False)
    except NoRoomError as error:
        return _undelivered(str(error), retryable=True, sent=False)
    except ProtocolError as error:
        return _undelivered(str(error), retryable=not isinstance(error, ResponseTooLargeError))
    return None


def written(target: CallbackProto.Nexus, ended: Ended, closed: int, limits: Limits) -> HttpRequest:
    """The request that tells how an operation ended.

    Raises:
        LocalProtocolError: the URL, a header field, the token or the failure cannot be written.
    """
    told = told_of(ended.outcome)
    if not isinstance(told, Failure):
        return _written(target, ended, closed, to_content(told))
    request = _written(target, ended, closed, _error(ended, told))
    if len(request.body) > limits.PAYLOAD_SIZE:
        # As JSON it is longer than it was, and nobody reads more than that.
        request = _written(target, ended, closed, _error(ended, truncated(told, limits.FAILURE_SIZE_LARGE)))
    return request


def _error(ended: Ended, failure: Failure) -> OperationError:
    state = OperationErrorState.CANCELED if is_canceled(ended.outcome) else OperationErrorState.FAILED
    # The failure itself is the body, with nothing around it, as Temporal's server sends it.
    return OperationError(failure.message, state=state, original_failure=wire_failures.to_wire(failure))


def _written(
    target: CallbackProto.Nexus, ended: Ended, closed: int, outcome: nexusrpc.Content | OperationError
) -> HttpRequest:
    completion = Completion(
        outcome=outcome,
        operation_token=ended.operation_token,
        start_time=_moment(ended.began),
        close_time=_moment(closed),
        links=[nexusrpc.Link(url=link.url, type=link.type) for link in links.all_to_nexus(ended.links)],
    )
    return write_completion(Callback(target.url, {"user-agent": USER_AGENT} | _own(target.header)), completion)


def destination(url: str) -> str:
    """Where callbacks to a URL go, in a word: scheme, host and port, whatever comes behind."""
    try:
        return str(Destination.of(url))
    except DestinationRefusedError:
        return url


def _own(given: Mapping[str, str]) -> dict[str, str]:
    """What goes along as it came."""
    lower = {name.lower(): value for name, value in given.items()}
    return {name: value for name, value in lower.items() if not is_reserved(name)}


def _undelivered(message: str, *, retryable: bool, sent: bool = True) -> Undelivered:
    failure = Failure(message=message, application_failure_info=ApplicationFailureInfo(non_retryable=not retryable))
    return Undelivered(failure, retryable, sent)


def _moment(time: int) -> datetime:
    return datetime.fromtimestamp(time // SECOND, UTC).replace(microsecond=time % SECOND // 1000)
