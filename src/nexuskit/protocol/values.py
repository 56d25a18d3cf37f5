"""The messages of the protocol as plain values.

`HttpRequest` and `HttpResponse` are what goes over a connection; the others are what it means. Nothing here does
anything: `handling` and `completion` read requests and write responses, `calling` writes requests and reads responses.

Header fields are pairs of text with names in lower case, in the order in which they came, since a field may come more
than once. In the mappings of the other values each field has one value, as the specification's header fields do.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from nexusrpc import Content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from nexusrpc import Link, OperationError
    from nexusrpc.handler import StartOperationContext

__all__ = [
    "Callback",
    "CancelRequest",
    "Completion",
    "Headers",
    "HttpRequest",
    "HttpResponse",
    "OperationState",
    "StartRequest",
    "Started",
    "Succeeded",
]

Headers = tuple[tuple[str, str], ...]
"""Header fields: name in lower case and value, in order."""

NO_CONTENT = Content(headers=MappingProxyType({}), data=b"")
"""An empty body that says nothing of its type: how a null travels. Specification: Content Types."""


class OperationState(Enum):
    """The state of an operation. Specification: OperationInfo."""

    RUNNING = "running"
    """It was started and has not completed."""
    SUCCEEDED = "succeeded"
    """It completed with a result."""
    FAILED = "failed"
    """It completed with a failure."""
    CANCELED = "canceled"
    """It completed by being cancelled."""


class HttpRequest(msgspec.Struct, frozen=True):
    """A request on a connection."""

    method: str
    """In upper case."""
    target: str
    """Where it goes, percent-encoded: the whole URL in what a caller writes; path and query in what a handler reads."""
    headers: Headers = ()
    """Without those that the transport adds: host, content-length, connection."""
    body: bytes = b""


class HttpResponse(msgspec.Struct, frozen=True):
    """An answer on a connection."""

    status: int
    """The status code."""
    headers: Headers = ()
    """Without those that the transport adds."""
    body: bytes = b""


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to start an operation. Specification: Start Operation."""

    service: str
    """The service's name, decoded; any characters, at least one."""
    operation: str
    """The operation's name, decoded; any characters, at least one."""
    content: Content = NO_CONTENT
    """The input: its body, and its `content-*` header fields with their whole names."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """All other header fields: the caller's own, and `request-timeout` and the like as they came."""
    request_id: str = ""
    """The same for every attempt of one start; empty if the caller sent none. Header field: Nexus-Request-Id."""
    callback_url: str | None = None
    """Where the completion of an asynchronous operation goes. Query parameter: callback."""
    callback_headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """What the completion carries: the fields `Nexus-Callback-*`, without the prefix."""
    links: Sequence[Link] = ()
    """Where the caller's side of the call can be seen. Header field: Nexus-Link."""
    request_timeout: timedelta | None = None
    """How long the caller waits for the answer to this request. Header field: Request-Timeout."""
    operation_timeout: timedelta | None = None
    """How long the caller waits for the operation to complete. Header field: Operation-Timeout."""


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to cancel an operation. Specification: Cancel Operation."""

    service: str
    """The service's name, decoded."""
    operation: str
    """The operation's name, decoded."""
    token: str
    """The operation token, as the start was answered with it."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """The other header fields."""
    request_timeout: timedelta | None = None
    """How long the caller waits for the answer to this request. Header field: Request-Timeout."""


class Succeeded(msgspec.Struct, frozen=True):
    """The answer of an operation that completed at once. Specification: Start Operation, 200."""

    content: Content = NO_CONTENT
    """The result."""
    links: Sequence[Link] = ()
    """Where the handler's side of the call can be seen."""


class Started(msgspec.Struct, frozen=True):
    """The answer of an operation that completes later. Specification: Start Operation, 201."""

    token: str
    """The operation token: names the operation at its handler, and says nothing to anybody else."""
    links: Sequence[Link] = ()
    """Where the handler's side of the call can be seen."""


class Callback(msgspec.Struct, frozen=True):
    """Where the completion of an operation goes, and what it carries. Specification: Callback URLs."""

    url: str
    """The caller's URL. It is the caller's word: only an allow-list says where requests may go."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """The caller's header fields, without the prefix `Nexus-Callback-`."""

    @classmethod
    def of(cls, context: StartOperationContext) -> Callback | None:
        """The callback of the start that a handler handles; None if the caller gave none."""
        return cls(context.callback_url, dict(context.callback_headers)) if context.callback_url else None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an asynchronous operation, as it is sent to a callback. Specification: Callback URLs."""

    outcome: Content | OperationError
    """The result, or the error of an operation that failed or was cancelled."""
    operation_token: str = ""
    """The operation token, so that a completion that arrives before the answer to the start has a name."""
    start_time: datetime | None = None
    """When the operation was started, in UTC, in whole seconds; in what is read it is never None."""
    close_time: datetime | None = None
    """When the operation completed, in UTC."""
    links: Sequence[Link] = ()
    """Where the handler's side of the call can be seen."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """The caller's own header fields, as given with the callback, among all others that came."""

    @property
    def state(self) -> OperationState:
        """How the operation ended."""
        return (
            OperationState.SUCCEEDED if isinstance(self.outcome, Content) else OperationState(self.outcome.state.value)
        )
