"""Completions: how the outcome of an asynchronous operation reaches its caller.

Specification: Callback URLs.

The handler's side writes a request to the callback's URL and reads the answer; the caller's side reads the request and
answers 200 with an empty body, or a handler error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nexusrpc import Content, Failure, OperationError, OperationErrorState

from nexuskit.protocol import headers as names
from nexuskit.protocol.calling import unsuccessful_response
from nexuskit.protocol.errors import LocalProtocolError, RemoteProtocolError
from nexuskit.protocol.failures import error_from_failure, failure_from_error, failure_from_json, failure_to_json
from nexuskit.protocol.handling import bad_request
from nexuskit.protocol.headers import check_callback_headers, check_token, content_fields, is_json, read_fields
from nexuskit.protocol.links import link_fields, parse_links
from nexuskit.protocol.paths import is_http_url
from nexuskit.protocol.times import format_close_time, format_start_time, parse_close_time, parse_start_time
from nexuskit.protocol.values import Callback, Completion, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

__all__ = ["parse_completion", "parse_completion_response", "write_completion", "write_completion_accepted"]

Given = TypeVar("Given")
Read = TypeVar("Read")

_STATES = ("succeeded", "failed", "canceled")


def write_completion(callback: Callback, completion: Completion) -> HttpRequest:
    """Writes the request that tells the outcome of an operation.

    Specification: Callback URLs.

    Args:
        callback: the URL and the header fields that came with the start.
        completion: the outcome. Its own `headers` are not written; those of the callback are.

    Raises:
        LocalProtocolError: the URL, a header field, a link, a time or the failure cannot be written.
    """
    if not is_http_url(callback.url):
        raise LocalProtocolError(f"the callback is no URL with scheme http or https: {callback.url!r}")
    headers = list(check_callback_headers(callback.headers).items())
    headers.append((names.OPERATION_STATE, completion.state.value))
    if completion.operation_token:
        check_token(completion.operation_token)
        headers.append((names.OPERATION_TOKEN, completion.operation_token))
    if completion.start_time is not None:
        headers.append((names.START_TIME, format_start_time(completion.start_time)))
    if completion.close_time is not None:
        headers.append((names.CLOSE_TIME, format_close_time(completion.close_time)))
    headers += link_fields(completion.links)
    if isinstance(completion.outcome, Content):
        headers += content_fields(completion.outcome)
        return HttpRequest("POST", callback.url, tuple(headers), completion.outcome.data)
    headers.append(("content-type", "application/json"))
    body = failure_to_json(failure_from_error(completion.outcome))
    return HttpRequest("POST", callback.url, tuple(headers), body)


def parse_completion(request: HttpRequest, *, received: datetime) -> Completion:
    """Reads a request that tells the outcome of an operation.

    Specification: Callback URLs.

    Args:
        request: what came; its target does not matter here.
        received: when it came, in UTC: the start time of an operation whose completion says none.

    Raises:
        HandlerError: BAD_REQUEST, to be answered with `handling.write_error`. The message says what is wrong.
    """
    if request.method != "POST":
        raise bad_request(f"expected method POST, but got {request.method[:20]!r}")
    try:
        fields = read_fields(request.headers)
    except RemoteProtocolError as error:
        raise bad_request(str(error)) from error
    others = fields.others
    state = others.get(names.OPERATION_STATE, "")
    if state not in _STATES:
        raise bad_request(
            f"header field {names.OPERATION_STATE}: expected {', '.join(_STATES)}, but got {state[:40]!r}"
        )
    outcome: Content | OperationError
    if state == "succeeded":
        outcome = Content(headers=fields.content, data=request.body)
    else:
        outcome = _error(request, state)
    return Completion(
        outcome=outcome,
        operation_token=others.get(names.OPERATION_TOKEN, ""),
        start_time=_read(others, names.START_TIME, parse_start_time) or received,
        close_time=_read(others, names.CLOSE_TIME, parse_close_time),
        links=_checked(names.LINK, parse_links, fields.links),
        headers=others,
    )


def write_completion_accepted() -> HttpResponse:
    """The answer to a completion that was taken. Specification: Callback URLs, 200 with an empty body."""
    return HttpResponse(200)


def parse_completion_response(response: HttpResponse) -> None:
    """Reads the answer to a completion; any 2xx says that it was taken, as the reference implementation has it.

    Specification: Callback URLs.

    Raises:
        HandlerError: the completion was not taken; `retryable` says whether it may be sent again.
        UnexpectedResponseError: the answer is none of these.
    """
    if not 200 <= response.status < 300:
        raise unsuccessful_response(response)


def _error(request: HttpRequest, state: str) -> OperationError:
    if not is_json(request.headers):
        raise bad_request(f"header field content-type: expected application/json with state {state}")
    failure: Failure = _checked("the body", failure_from_json, request.body)
    error = error_from_failure(failure)
    if not isinstance(error, OperationError):
        # Peers of before the metadata's type send the cause alone.
        wrapper = OperationError(failure.message, state=OperationErrorState(state))
        wrapper.__cause__ = error
        return wrapper
    if error.state.value != state:
        raise bad_request(
            f"header field {names.OPERATION_STATE} says {state}, but the details of the Failure say {error.state.value}"
        )
    return error


def _read(fields: Mapping[str, str], name: str, parse: Callable[[str], Read]) -> Read | None:
    value = fields.get(name)
    return None if value is None else _checked(f"header field {name}", parse, value)


def _checked(what: str, parse: Callable[[Given], Read], given: Given) -> Read:
    try:
        return parse(given)
    except RemoteProtocolError as error:
        raise bad_request(f"{what}: {error}") from error
