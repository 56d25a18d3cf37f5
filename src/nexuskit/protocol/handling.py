"""The handler's side of a call: reads requests, writes answers.

Specification: Start Operation, Cancel Operation, Predefined Failure Types.

    request = parse_request(http_request)         # a StartRequest or a CancelRequest, or a HandlerError to answer with
    write_succeeded(...) | write_started(...) | write_cancel_accepted() | write_error(...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec
from nexusrpc import Content, HandlerError, HandlerErrorType, OperationError

from nexuskit.protocol import headers as names
from nexuskit.protocol.errors import LocalProtocolError, RemoteProtocolError
from nexuskit.protocol.failures import STATUS_BY_TYPE, UNSUCCESSFUL_STATUS, failure_from_error, failure_to_json
from nexuskit.protocol.headers import check_callback_headers, check_token, content_fields, read_fields
from nexuskit.protocol.links import link_fields, parse_links
from nexuskit.protocol.paths import is_http_url, parse_path
from nexuskit.protocol.times import parse_duration
from nexuskit.protocol.values import NO_CONTENT, CancelRequest, HttpRequest, HttpResponse, OperationState, StartRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from nexusrpc import Link

    from nexuskit.protocol.values import Headers

__all__ = [
    "bad_request",
    "parse_request",
    "write_cancel_accepted",
    "write_error",
    "write_started",
    "write_succeeded",
]

MAX_URL = 4096
"""Characters of a callback URL; what fits into the request line of a server with usual limits."""

MAX_QUERY_FIELDS = 100
"""Parameters in a query. The specification knows one for each request."""

_JSON: Headers = (("content-type", "application/json"),)
_SUCCEEDED = (names.OPERATION_STATE, "succeeded")
_info = msgspec.json.Encoder()
_INTERNAL = STATUS_BY_TYPE[HandlerErrorType.INTERNAL]


def bad_request(message: str) -> HandlerError:
    """The error to answer with when a request is wrong in itself. Specification: Predefined Handler Errors."""
    return HandlerError(message, type=HandlerErrorType.BAD_REQUEST)


def parse_request(request: HttpRequest) -> StartRequest | CancelRequest:
    """Reads a request to start or to cancel an operation.

    Specification: Start Operation, Cancel Operation, General Purpose Headers.

    Args:
        request: its target is the path below where the services are served, as it was sent, and the query if there is
            one.

    Raises:
        HandlerError: BAD_REQUEST or NOT_FOUND, to be answered with `write_error`. The message says which part of the
            request is wrong, what was expected there, and what came.
    """
    raw_path, _, query = request.target.partition("?")
    if request.method != "POST":
        raise bad_request(f"expected method POST, but got {request.method[:20]!r}")
    try:
        path = parse_path(raw_path)
    except RemoteProtocolError as error:
        raise bad_request(f"path: {error}") from error
    if path is None:
        raise HandlerError(
            "expected a path of the form /{service}/{operation} or /{service}/{operation}/cancel, with a / in a name "
            "written as %2F",
            type=HandlerErrorType.NOT_FOUND,
        )
    try:
        fields = read_fields(request.headers)
    except RemoteProtocolError as error:
        raise bad_request(str(error)) from error
    parameters = _parameters(query) if query else {}
    others = fields.others
    if path.cancel:
        token = others.pop(names.OPERATION_TOKEN, "") or parameters.get("token", "")
        if not token:
            raise bad_request(
                f"expected the operation token in header field {names.OPERATION_TOKEN} or parameter token"
            )
        return CancelRequest(
            service=path.service,
            operation=path.operation,
            token=token,
            headers=others,
            request_timeout=_timeout(others, names.REQUEST_TIMEOUT),
        )
    return StartRequest(
        service=path.service,
        operation=path.operation,
        content=Content(headers=fields.content, data=request.body),
        headers=others,
        request_id=others.get(names.REQUEST_ID, ""),
        callback_url=_callback_url(parameters.get("callback")) if parameters else None,
        callback_headers=_callback_headers(fields.callback) if fields.callback else fields.callback,
        links=_links(fields.links) if fields.links else (),
        request_timeout=_timeout(others, names.REQUEST_TIMEOUT),
        operation_timeout=_timeout(others, names.OPERATION_TIMEOUT),
    )


def write_succeeded(content: Content = NO_CONTENT, links: Iterable[Link] = ()) -> HttpResponse:
    """The answer of an operation that completed at once.

    Specification: Start Operation, 200.

    Raises:
        LocalProtocolError: a link or a header field of the content cannot be written.
    """
    headers = [_SUCCEEDED, *content_fields(content), *link_fields(links)]
    return HttpResponse(200, tuple(headers), content.data)


def write_started(token: str, links: Iterable[Link] = ()) -> HttpResponse:
    """The answer of an operation that completes later.

    Specification: Start Operation, 201; OperationInfo; Operation Addressability (of the token).

    Raises:
        LocalProtocolError: the token is empty or has characters that no header field may have; a link cannot be
            written.
    """
    check_token(token)
    return HttpResponse(
        201, (*_JSON, *link_fields(links)), _info.encode({"token": token, "state": OperationState.RUNNING.value})
    )


def write_cancel_accepted() -> HttpResponse:
    """The answer to a request to cancel, whether or not the operation had been asked before.

    Specification: Cancel Operation, 202.
    """
    return HttpResponse(202)


def write_error(error: HandlerError | OperationError, links: Iterable[Link] = ()) -> HttpResponse:
    """The answer of an operation that failed or was cancelled, or of a request that was not handled.

    Specification: Start Operation, 424; Predefined Handler Errors; Nexus-Request-Retryable. The deprecated header
    fields are written, too, for peers that know nothing else. A handler error of a type that the specification does not
    know gets the status code of INTERNAL, and keeps its type in the failure.

    Raises:
        LocalProtocolError: the details of the failure cannot be written as JSON; a link cannot be written.
    """
    body = failure_to_json(failure_from_error(error))
    headers = [*_JSON, *link_fields(links)]
    if isinstance(error, OperationError):
        headers.append((names.OPERATION_STATE, error.state.value))
        return HttpResponse(UNSUCCESSFUL_STATUS, tuple(headers), body)
    if error.retryable_override is not None:
        headers.append((names.RETRYABLE, "true" if error.retryable_override else "false"))
    return HttpResponse(STATUS_BY_TYPE.get(error.type, _INTERNAL), tuple(headers), body)


def _timeout(fields: Mapping[str, str], name: str) -> timedelta | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        return parse_duration(value)
    except RemoteProtocolError as error:
        raise bad_request(f"header field {name}: {error}") from error


def _links(values: list[str]) -> tuple[Link, ...]:
    try:
        return parse_links(values)
    except RemoteProtocolError as error:
        raise bad_request(f"header field {names.LINK}: {error}") from error


def _parameters(query: str) -> dict[str, str]:
    """The parameters of a query, decoded; the first of each name, as the reference implementation takes it."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict")
    except ValueError as error:  # more fields than that, or not UTF-8
        raise bad_request(
            f"expected at most {MAX_QUERY_FIELDS} parameters in the query, percent-encoded in UTF-8"
        ) from error
    parameters: dict[str, str] = {}
    for name, value in pairs:
        parameters.setdefault(name, value)
    return parameters


def _callback_url(url: str | None) -> str | None:
    if not url:
        return None
    if len(url) > MAX_URL:
        raise bad_request(f"expected at most {MAX_URL} characters in parameter callback, but got {len(url)}")
    if not is_http_url(url):
        raise bad_request("expected parameter callback to be a URL that begins with http:// or https:// and has a host")
    return url


def _callback_headers(fields: dict[str, str]) -> dict[str, str]:
    try:
        return check_callback_headers(fields)
    except LocalProtocolError as error:  # local to whoever will send the completion, which is this side
        raise bad_request(f"header fields {names.CALLBACK_PREFIX}*: {error}") from error
