"""The caller's side of a call: writes requests, reads answers.

Specification: Start Operation, Cancel Operation, Predefined Handler Errors.

    http_request = write_start(base_url, StartRequest(...))
    answer = parse_start_response(http_response)      # Succeeded or Started, or raises what the answer says
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from nexusrpc import Content, HandlerError, HandlerErrorType, OperationError, OperationErrorState

from nexuskit.protocol import headers as names
from nexuskit.protocol.errors import LocalProtocolError, RemoteProtocolError, UnexpectedResponseError
from nexuskit.protocol.failures import (
    TYPE_BY_STATUS,
    UNSUCCESSFUL_STATUS,
    error_from_failure,
    failure_from_json,
    status_text,
)
from nexuskit.protocol.headers import (
    CALLBACK_PREFIX,
    check_callback_headers,
    check_header,
    check_headers,
    check_token,
    content_fields,
    is_json,
    read_fields,
)
from nexuskit.protocol.links import link_fields, parse_links
from nexuskit.protocol.paths import cancel_path, is_http_url, operation_path
from nexuskit.protocol.times import format_duration
from nexuskit.protocol.values import CancelRequest, HttpRequest, HttpResponse, Started, StartRequest, Succeeded

if TYPE_CHECKING:
    from nexusrpc import Failure, Link

    from nexuskit.protocol.headers import Fields

__all__ = [
    "parse_cancel_response",
    "parse_start_response",
    "unsuccessful_response",
    "write_cancel",
    "write_start",
]


class _OperationInfo(msgspec.Struct):
    """Specification: OperationInfo."""

    token: str
    state: str


_info = msgspec.json.Decoder(_OperationInfo)


def write_start(base_url: str, request: StartRequest) -> HttpRequest:
    """Writes a request to start an operation.

    Specification: Start Operation.

    Args:
        base_url: the endpoint, a URL prefix (Operation Addressability), such as `https://payments.example/nexus`.
        request: the input, its header fields, and what else the request says. Its `headers` hold the caller's own
            fields only.

    Raises:
        LocalProtocolError: a name, header field, link, timeout or URL cannot be written.
    """
    target = _base(base_url) + operation_path(request.service, request.operation)
    if request.callback_url is not None:
        if not is_http_url(request.callback_url):
            raise LocalProtocolError(f"the callback is no URL with scheme http or https: {request.callback_url!r}")
        target += f"?callback={quote(request.callback_url, safe='')}"
    headers = list(check_headers(request.headers).items())
    headers += content_fields(request.content)
    headers += [
        (CALLBACK_PREFIX + name, value) for name, value in check_callback_headers(request.callback_headers).items()
    ]
    headers += link_fields(request.links)
    if request.request_id:
        check_header(names.REQUEST_ID, request.request_id)
        headers.append((names.REQUEST_ID, request.request_id))
    if request.request_timeout is not None:
        headers.append((names.REQUEST_TIMEOUT, format_duration(request.request_timeout)))
    if request.operation_timeout is not None:
        headers.append((names.OPERATION_TIMEOUT, format_duration(request.operation_timeout)))
    return HttpRequest("POST", target, tuple(headers), request.content.data)


def write_cancel(base_url: str, request: CancelRequest) -> HttpRequest:
    """Writes a request to cancel an operation. The token travels in a header field, so that no log of URLs has it.

    Specification: Cancel Operation.

    Raises:
        LocalProtocolError: a name, header field, timeout, URL or the token cannot be written.
    """
    check_token(request.token)
    headers = [*check_headers(request.headers).items(), (names.OPERATION_TOKEN, request.token)]
    if request.request_timeout is not None:
        headers.append((names.REQUEST_TIMEOUT, format_duration(request.request_timeout)))
    return HttpRequest("POST", _base(base_url) + cancel_path(request.service, request.operation), tuple(headers))


def parse_start_response(response: HttpResponse) -> Succeeded | Started:
    """Reads the answer to a start.

    Specification: Start Operation, response codes.

    Raises:
        OperationError: the operation failed or was cancelled (424).
        HandlerError: the request was not handled; `retryable` says whether it may be sent again.
        UnexpectedResponseError: the answer is none of these, or broken.
    """
    match response.status:
        case 200:
            fields = _fields(response)
            return Succeeded(Content(headers=fields.content, data=response.body), _links(response, fields.links))
        case 201:
            info = _operation_info(response)
            return Started(info.token, _links(response, _fields(response).links))
        case status if status == UNSUCCESSFUL_STATUS:
            raise _operation_error(response)
        case _:
            raise unsuccessful_response(response)


def parse_cancel_response(response: HttpResponse) -> None:
    """Reads the answer to a request to cancel; there is nothing in it if it was accepted.

    Specification: Cancel Operation, 202.

    Raises:
        HandlerError: the request was not handled; `retryable` says whether it may be sent again.
        UnexpectedResponseError: the answer is none of these.
    """
    if response.status != 202:
        raise unsuccessful_response(response)


def unsuccessful_response(response: HttpResponse) -> HandlerError | UnexpectedResponseError:
    """The error that an answer other than the hoped-for ones stands for.

    Specification: Predefined Handler Errors. A failure in the body counts more than the status code. One that is no
    handler error becomes the cause of one, whose type is that of the status code, and whose message is the status in
    words.
    """
    failure = _failure(response)
    error = None if failure is None else error_from_failure(failure)
    if response.status not in TYPE_BY_STATUS:
        told = "" if failure is None else f": {failure.message}"
        if 300 <= response.status < 400:
            told += "; redirects are not followed"
        return UnexpectedResponseError(
            f"expected an answer of the Nexus specification, but got status {response.status}{told}",
            status=response.status,
            failure=failure,
        )
    if not isinstance(error, HandlerError):
        wrapper = HandlerError(
            status_text(response.status),
            type=TYPE_BY_STATUS.get(response.status, HandlerErrorType.UNKNOWN),
            retryable_override=_retryable(response),
        )
        wrapper.__cause__ = error
        return wrapper
    if error.retryable_override is None:
        error.retryable_override = _retryable(response)
    return error


def _operation_error(response: HttpResponse) -> OperationError | UnexpectedResponseError:
    failure = _failure(response)
    if failure is None:
        return UnexpectedResponseError(
            "expected a Failure as JSON in an answer with status 424, but there is none", status=response.status
        )
    error = error_from_failure(failure)
    if isinstance(error, OperationError):
        return error
    # Peers of before the metadata's type say the state in a header field, and the failure is the cause.
    state = _first(response, names.OPERATION_STATE)
    if state not in {"failed", "canceled"}:
        return UnexpectedResponseError(
            "expected state failed or canceled in the details of the Failure or in header field "
            f"{names.OPERATION_STATE}, but got {state[:40]!r}",
            status=response.status,
            failure=failure,
        )
    wrapper = OperationError(failure.message, state=OperationErrorState(state))
    wrapper.__cause__ = error
    return wrapper


def _operation_info(response: HttpResponse) -> _OperationInfo:
    try:
        info = _info.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnexpectedResponseError(f"expected an OperationInfo as JSON, but: {error}", status=201) from None
    if info.state != "running":
        raise UnexpectedResponseError(
            f"expected state running in the OperationInfo, but got {info.state[:40]!r}", status=201
        )
    try:
        check_token(info.token)
    except LocalProtocolError as error:
        raise UnexpectedResponseError(f"OperationInfo: {error}", status=201) from None
    return info


def _failure(response: HttpResponse) -> Failure | None:
    """The failure in an answer's body; None where there is none that can be read, since the status still says much."""
    if not is_json(response.headers):
        return None
    try:
        return failure_from_json(response.body)
    except RemoteProtocolError:
        return None


def _fields(response: HttpResponse) -> Fields:
    try:
        return read_fields(response.headers)
    except RemoteProtocolError as error:
        raise UnexpectedResponseError(str(error), status=response.status) from None


def _links(response: HttpResponse, values: list[str]) -> tuple[Link, ...]:
    try:
        return parse_links(values)
    except RemoteProtocolError as error:
        raise UnexpectedResponseError(f"header field {names.LINK}: {error}", status=response.status) from None


def _retryable(response: HttpResponse) -> bool | None:
    return {"true": True, "false": False}.get(_first(response, names.RETRYABLE).strip().lower())


def _first(response: HttpResponse, name: str) -> str:
    return next((value for given, value in response.headers if given.lower() == name), "")


def _base(url: str) -> str:
    if not is_http_url(url) or "?" in url or "#" in url:
        raise LocalProtocolError(
            f"the endpoint is a URL with scheme http or https, without query and fragment, but this one is {url!r}"
        )
    return url.rstrip("/")
