"""What the ASGI applications of this package share: bodies within limits, answers, callers that went away.

This module does I/O: it is about ASGI messages and the running event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from nexuskit.protocol.handling import bad_request
from nexuskit.protocol.paths import relative_path
from nexuskit.protocol.values import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = [
    "MAX_BODY_BYTES",
    "CallerGoneError",
    "Receive",
    "Scope",
    "Send",
    "Supervision",
    "TookTooLongError",
    "answer_other",
    "http_request",
    "read_body",
    "respond",
    "target",
]

Scope = MutableMapping[str, Any]
"""What ASGI says of a connection."""
Message = MutableMapping[str, Any]
"""One ASGI event."""
Receive = Callable[[], Awaitable[Message]]
"""Waits for the next event from the caller."""
Send = Callable[[Message], Awaitable[None]]
"""Sends an event to the caller."""

MAX_BODY_BYTES = 2 * 1024 * 1024
"""Bytes of a request's body: what a Temporal server lets a payload have."""


HEEDS_S = 0.1
"""How long a handler has to heed its cancellation before its caller is answered without it."""

_USUAL: Final = {
    (name, value): (name.encode(), value.encode())
    for name, value in (
        ("content-type", "application/json"),
        ("content-type", "application/octet-stream"),
        ("nexus-operation-state", "succeeded"),
    )
}
"""Header fields of nearly every answer, as they are sent."""


class CallerGoneError(Exception):
    """The caller closed the connection; there is nobody to answer."""


class TookTooLongError(Exception):
    """The request was not answered in time."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body of a request.

    Raises:
        HandlerError: BAD_REQUEST, if it is longer than the limit; what is beyond it is not kept.
        CallerGoneError: the caller went away before its end.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value[:20]) > limit):
            raise bad_request(
                f"expected a body of at most {limit} bytes, but its content-length is {value[:20].decode('latin-1')!r}"
            )
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise bad_request(f"expected a body of at most {limit} bytes, but got more")
        return body
    chunks: list[bytes] = []
    size = 0
    while message["type"] != "http.disconnect":
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise bad_request(f"expected a body of at most {limit} bytes, but got more")
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise CallerGoneError("the caller closed the connection")


def target(scope: Scope) -> str:
    """The path as it was sent, below where the application is mounted, and the query.

    A server that does not tell the path as it was sent (`raw_path`) has lost the difference between a slash and `%2F`.
    """
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        raw = quote(scope["path"], safe="/").encode("ascii")
    path = relative_path(raw.partition(b"?")[0], scope.get("root_path", ""))
    query: bytes = scope.get("query_string", b"")
    return f"{path}?{query.decode('latin-1')}" if query else path


def http_request(scope: Scope, body: bytes) -> HttpRequest:
    """The request of a connection."""
    headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
    return HttpRequest(scope["method"], target(scope), headers, body)


async def respond(send: Send, response: HttpResponse) -> None:
    """Sends an answer."""
    headers = [
        _USUAL.get(field) or (field[0].encode("latin-1"), field[1].encode("latin-1")) for field in response.headers
    ]
    headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def answer_other(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what is no HTTP request: the start and end of the server, and a WebSocket, which is refused.

    Raises:
        RuntimeError: ASGI knows nothing else today.
    """
    match scope["type"]:
        case "lifespan":
            while True:
                message = await receive()
                if message["type"] == "lifespan.startup":
                    await send({"type": "lifespan.startup.complete"})
                elif message["type"] == "lifespan.shutdown":
                    await send({"type": "lifespan.shutdown.complete"})
                    return
        case "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1002})
        case other:
            raise RuntimeError(f"this application answers http, not {other!r}")


class Supervision:
    """Cancels what runs in a `with` when it takes too long, or when the caller closes the connection.

    A timer and somebody who listens cost more than most handlers, which answer without waiting for anything. So both
    begin only when the event loop turns for the first time.

    Args:
        receive: of the connection.
        seconds: how long it may take.
        told: is told why, for code that runs in a thread and cannot be cancelled.
        give_up: answers in place of what goes on although it took too long and was cancelled.

    Raises:
        CallerGoneError: from the `with`, if the caller went away in it.
        TookTooLongError: from the `with`, if it took too long.
    """

    __slots__ = (
        "_before", "_begun", "_deadline", "_error", "_give_up", "_late", "_listener", "_listens", "_loop", "_owner",
        "_receive", "_soon", "_timer", "_told", "answering",
    )  # fmt: skip

    def __init__(
        self,
        receive: Receive,
        seconds: float,
        told: Callable[[str], None],
        give_up: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        owner = asyncio.current_task()
        if owner is None:
            raise RuntimeError("a request is answered in a task")
        self._owner = owner
        self._loop = owner.get_loop()
        self._receive = receive
        self._told = told
        self._give_up = give_up
        self._late: asyncio.TimerHandle | None = None
        self.answering: asyncio.Task[None] | None = None
        """The answer that is given in place of what goes on; None as long as there is none."""
        self._begun = self._loop.time()
        self._deadline = self._begun + seconds
        self._listens = False
        self._error: CallerGoneError | TookTooLongError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Begins, at the loop's next turn."""
        self._before = self._owner.cancelling()
        self._soon = self._loop.call_soon(self._watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends."""
        self._soon.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
        if self._late is not None:
            self._late.cancel()
        # Somebody else may have cancelled the task, too; then that is what counts, as with `asyncio.timeout`. What came
        # although it was cancelled came too late.
        if self._error is not None and self._owner.uncancel() <= self._before:
            raise self._error from error

    def cancelled(self) -> bool:
        """Whether the task was cancelled since the beginning, by this or by the server."""
        return self._owner.cancelling() > self._before

    def limit(self, seconds: float) -> None:
        """Lets it take no longer than this, from its beginning."""
        self._deadline = min(self._deadline, self._begun + seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._end, TookTooLongError("the request took too long"))

    def listen(self) -> None:
        """Lets it end when the caller goes away. The body must have been read: only one can wait for what comes."""
        self._listens = True
        if self._timer is not None:
            self._listener = self._loop.create_task(self._listen())

    def _watch(self) -> None:
        self._timer = self._loop.call_at(self._deadline, self._end, TookTooLongError("the request took too long"))
        if self._listens:
            self._listener = self._loop.create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # a body that goes on after its end is nobody's
        self._end(CallerGoneError("the caller closed the connection"))

    def _end(self, error: CallerGoneError | TookTooLongError) -> None:
        if self._error is None:
            self._error = error
            self._told(str(error))
            self._owner.cancel()
            if isinstance(error, TookTooLongError):
                self._late = self._loop.call_later(HEEDS_S, self._answer)

    def _answer(self) -> None:
        self.answering = self._loop.create_task(self._give_up())
