"""Nexus over HTTP: the messages of the protocol as values, and pure functions that read and write them.

No sockets, no event loop, no framework, as h11 is for HTTP/1.1. Bring your own transport, or take one of the adapters:

    nexuskit.protocol.asgi       serves handlers as an ASGI application
    nexuskit.protocol.client     calls them, by httpx
    nexuskit.protocol.receiver   takes completions, as an ASGI application
    nexuskit.protocol.callbacks  sends completions
    nexuskit.protocol.outbound   goes only where an allow-list says

`content` (values to bodies and back) and `openapi` in here are pure, too; they need pydantic.

The specification is SPEC.md of https://github.com/nexus-rpc/api; each docstring names the section that it implements.
The types that a program shares with every other Nexus library (`HandlerError`, `OperationError`, `Failure`, `Link`,
`Content`, `Serializer`) are those of the package `nexusrpc`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nexuskit.protocol.allow_list import AllowList, Destination
from nexuskit.protocol.callback_tokens import CallbackSigner, InvalidTokenError
from nexuskit.protocol.calling import (
    parse_cancel_response,
    parse_start_response,
    unsuccessful_response,
    write_cancel,
    write_start,
)
from nexuskit.protocol.completion import (
    parse_completion,
    parse_completion_response,
    write_completion,
    write_completion_accepted,
)
from nexuskit.protocol.errors import (
    DestinationRefusedError,
    FailureError,
    LocalProtocolError,
    OperationTimedOutError,
    ProtocolError,
    RemoteProtocolError,
    RequestTimedOutError,
    ResponseTooLargeError,
    SerializerError,
    TransportError,
    UnexpectedResponseError,
)
from nexuskit.protocol.failures import (
    STATUS_BY_TYPE,
    TYPE_BY_STATUS,
    UNSUCCESSFUL_STATUS,
    error_from_failure,
    failure_from_error,
    failure_from_json,
    failure_to_json,
    status_text,
)
from nexuskit.protocol.handling import parse_request, write_cancel_accepted, write_error, write_started, write_succeeded
from nexuskit.protocol.links import format_link, parse_links
from nexuskit.protocol.paths import cancel_path, operation_path, parse_path
from nexuskit.protocol.times import (
    format_close_time,
    format_duration,
    format_start_time,
    parse_close_time,
    parse_duration,
    parse_start_time,
)
from nexuskit.protocol.values import (
    Callback,
    CancelRequest,
    Completion,
    Headers,
    HttpRequest,
    HttpResponse,
    OperationState,
    Started,
    StartRequest,
    Succeeded,
)

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "STATUS_BY_TYPE",
    "TYPE_BY_STATUS",
    "UNSUCCESSFUL_STATUS",
    "AllowList",
    "Callback",
    "CallbackSigner",
    "CancelRequest",
    "Completion",
    "Destination",
    "DestinationRefusedError",
    "FailureError",
    "Headers",
    "HttpRequest",
    "HttpResponse",
    "InvalidTokenError",
    "LocalProtocolError",
    "OperationState",
    "OperationTimedOutError",
    "ProtocolError",
    "RemoteProtocolError",
    "RequestTimedOutError",
    "ResponseTooLargeError",
    "SerializerError",
    "StartRequest",
    "Started",
    "Succeeded",
    "TransportError",
    "UnexpectedResponseError",
    "cancel_path",
    "error_from_failure",
    "failure_from_error",
    "failure_from_json",
    "failure_to_json",
    "format_close_time",
    "format_duration",
    "format_link",
    "format_start_time",
    "operation_path",
    "parse_cancel_response",
    "parse_close_time",
    "parse_completion",
    "parse_completion_response",
    "parse_duration",
    "parse_links",
    "parse_path",
    "parse_request",
    "parse_start_response",
    "parse_start_time",
    "status_text",
    "unsuccessful_response",
    "write_cancel",
    "write_cancel_accepted",
    "write_completion",
    "write_completion_accepted",
    "write_error",
    "write_start",
    "write_started",
    "write_succeeded",
]

_ADAPTERS = frozenset({"asgi", "callbacks", "client", "content", "openapi", "outbound", "receiver"})


def __getattr__(name: str) -> ModuleType:
    # Imported on first use, so that whoever needs the messages alone does not pay for httpx and pydantic.
    if name in _ADAPTERS:
        return import_module(f"nexuskit.protocol.{name}")
    raise AttributeError(f"module 'nexuskit.protocol' has no attribute {name!r}")
