"""The sockets and the tasks of the gRPC door: each call is a task on the event loop that read it.

gRPC's own server hands every event from threads of its own to the loop and back; at eight calls for one operation that
was half of what the operation took (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from nexuskit.backend.rpc.connection import Connection
from nexuskit.backend.rpc.events import Bounds, Ended, Request, Reset
from nexuskit.backend.rpc.messages import (
    INTERNAL,
    PREFIX,
    RESOURCE_EXHAUSTED,
    Head,
    Unreadable,
    read_head,
    read_message,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nexuskit.backend.rpc.messages import Answer

    Serve = Callable[[Head, bytes, str], Awaitable[Answer]]

log = logging.getLogger("nexuskit.backend.rpc")

CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE = 1, 4, 14
NANOSECONDS = 1e9
LONGEST_S = 1e9
"""Seconds to a deadline that is watched; beyond, nobody waits."""
GREETING_S = 20.0
"""Seconds in which a connection has to say that it speaks HTTP/2."""
BACKLOG = 1024
"""Connections that wait to be taken."""
CLOSING_S = 0.5
"""Seconds in which a peer has to take what is written when we close."""
WRITTEN_AHEAD = 1024 * 1024
"""Bytes that a peer has not taken, beyond which we read nothing more of what it sends."""
READ_AT_ONCE = 4096
"""Bytes that are worked off before we look at the time: some three hundred small frames."""
TURN_S = 0.005
"""Seconds of the loop that one connection gets before the others have their turn."""

_NOT_HTTP2 = b"This port speaks gRPC, which is HTTP/2. HTTP has a port of its own.\n"
_HTTP1_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_NOT_HTTP2), _NOT_HTTP2)
)


class Server:
    """Serves calls on one listening socket until it is stopped.

    Args:
        serve: answers a call, given its head, its message and the peer's address. It is cancelled when nobody waits.
        message_size: bytes of a message at most, compressed or not.
        fields_size: bytes of a call's header fields at most.
        streams: calls at a time on one connection.
    """

    def __init__(self, serve: Serve, *, message_size: int, fields_size: int, streams: int) -> None:
        self.serve = serve
        self.message_size = message_size
        self.bounds = Bounds(body=message_size + PREFIX, fields=fields_size, streams=streams)
        self.connections: set[_Connection] = set()
        self.stopping = False
        self._listening: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Take connections of a socket that listens."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: _Connection(self, loop), sock=listener, backlog=BACKLOG)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, give those under way so long, and close."""
        self.stopping = True
        if self._listening is not None:
            self._listening.close()
        connections = list(self.connections)
        for connection in connections:
            connection.refuse_more()
        until = time.monotonic() + grace_s
        # Again and again, because the rest of a request may come yet.
        while calls := [call for connection in connections for call in connection.calls()]:
            if (left := until - time.monotonic()) <= 0:
                break
            await asyncio.wait(calls, timeout=left)
        for connection in connections:
            connection.close()
        if connections:
            await asyncio.wait([connection.lost for connection in connections], timeout=CLOSING_S)
        for connection in list(self.connections):
            connection.abort()


@dataclass(slots=True)
class _Call:
    task: asyncio.Task[None]
    alarm: asyncio.TimerHandle | None


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.lost: asyncio.Future[None] = loop.create_future()
        self._server = server
        self._loop = loop
        self._http2 = Connection(server.bounds, read_head)
        self._calls: dict[int, _Call] = {}
        self._peer = "unknown"
        self._transport: asyncio.Transport | None = None
        self._alarm: asyncio.TimerHandle | None = None
        """Until the peer has greeted, and from when we close: what ends a connection that would not end."""
        self._unread = memoryview(b"")
        """What came and is not worked off."""
        self._unwritten = False
        """Whether the peer has to take something before we go on."""
        self._paused = False
        """Whether we have told asyncio to read nothing."""

    # --- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._server.stopping:
            self._transport.abort()
        self._transport.set_write_buffer_limits(high=WRITTEN_AHEAD)
        self._peer = _address(transport.get_extra_info("peername"))
        if (connected := transport.get_extra_info("socket")) is not None:
            # Else calls of a machine that is gone without a word would wait as long as they like.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._alarm = self._loop.call_later(GREETING_S, self.abort)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            log.debug("connection of %s is lost: %s", self._peer, exc)
        self._server.connections.discard(self)
        self._transport = None
        self._disarm()
        for stream in list(self._calls):
            self._give_up(stream)
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._unread = memoryview(bytes(self._unread) + data)
        elif len(data) > READ_AT_ONCE:
            self._unread = memoryview(data)
            self._read_on()
        elif self._read(data):
            self._flush()

    def pause_writing(self) -> None:
        self._unwritten = True
        self._read_or_wait()

    def resume_writing(self) -> None:
        self._unwritten = False
        self._flush()
        self._read_or_wait()

    # --- reading

    def _read_on(self) -> None:
        """Work off what came; if that takes long, the loop turns between."""
        until = time.monotonic() + TURN_S
        while self._unread and self._open():
            part, self._unread = bytes(self._unread[:READ_AT_ONCE]), self._unread[READ_AT_ONCE:]
            if not self._read(part):
                return
            if self._unread and time.monotonic() > until:
                self._loop.call_soon(self._read_on)
                break
        self._flush()
        self._read_or_wait()

    def _read(self, data: bytes) -> bool:
        """Whether the connection goes on."""
        for event in self._http2.receive(data):
            match event:
                case Request():
                    self._begin(event)
                case Reset(stream):
                    self._give_up(stream)
                case Ended():
                    self._end(event)
                    return False
        if self._alarm is not None and self._http2.greeted:
            self._disarm()
        return True

    def _read_or_wait(self) -> None:
        wait = self._unwritten or bool(self._unread)
        if wait is self._paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = wait
        if wait:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # --- calls

    def _begin(self, request: Request[Head]) -> None:
        head, stream = request.head, request.stream
        if head.refusal is not None:
            self._http2.answer(stream, *head.refusal)
            return
        size = self._server.message_size
        if request.oversized:
            why = {
                "body": f"received message larger than max (more than {size} vs. {size})",
                "fields": f"received more than {self._server.bounds.fields} bytes of metadata",
            }
            self._http2.answer(stream, *refused(RESOURCE_EXHAUSTED, why[request.oversized]))
            return
        try:
            message = read_message(request.body, head.encoding, size)
        except Unreadable as error:
            self._http2.answer(stream, *refused(error.code, f"{head.path}: {error}"))
            return
        alarm = None
        if head.timeout and (seconds := head.timeout / NANOSECONDS) < LONGEST_S:
            alarm = self._loop.call_later(seconds, self._too_late, stream)
        self._calls[stream] = _Call(self._loop.create_task(self._answer(stream, head, message)), alarm)

    async def _answer(self, stream: int, head: Head, message: bytes) -> None:
        try:
            answer = await self._server.serve(head, message, self._peer)
        except asyncio.CancelledError:
            # By somebody else, if the call is still there; else nobody waits.
            self._say(stream, refused(CANCELLED, f"{head.path} was cancelled"))
            raise
        except Exception:
            log.exception("%s failed", head.path)
            answer = refused(INTERNAL, f"{head.path} failed; the server's log says more")
        self._say(stream, answer)

    def _say(self, stream: int, answer: Answer) -> None:
        if stream in self._calls:
            self._forget(stream)
            self._http2.answer(stream, *answer)
            self._flush()

    def _too_late(self, stream: int) -> None:
        self._give_up(stream)
        self._http2.answer(stream, *refused(DEADLINE_EXCEEDED, "context deadline exceeded"))
        self._flush()

    def _give_up(self, stream: int) -> None:
        """Nobody waits for this answer."""
        if stream in self._calls:
            self._forget(stream).task.cancel()

    def _forget(self, stream: int) -> _Call:
        call = self._calls.pop(stream)
        if call.alarm is not None:
            call.alarm.cancel()
        return call

    # --- the connection

    def calls(self) -> list[asyncio.Task[None]]:
        """The tasks of calls that are not answered."""
        return [call.task for call in self._calls.values()]

    def refuse_more(self) -> None:
        """Tell the peer to go elsewhere with what it has not sent."""
        self._http2.refuse_more()
        self._flush()

    def close(self) -> None:
        """Answer what is not answered with UNAVAILABLE, and close when all is written, or soon if it cannot be."""
        for stream in list(self._calls):
            self._give_up(stream)
            self._http2.answer(stream, *refused(UNAVAILABLE, "the server is stopping"))
        self._close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, ended: Ended) -> None:
        log.debug("connection of %s ended: %s", self._peer, ended.why)
        for stream in list(self._calls):
            self._give_up(stream)
        if ended.http1 and self._transport is not None:
            self._transport.write(_HTTP1_ANSWER)
        self._close()

    def _close(self) -> None:
        self._unread = memoryview(b"")
        self._disarm()
        if self._transport is not None and not self._transport.is_closing():
            self._unwritten = False
            self._flush()
            self._transport.close()
            self._alarm = self._loop.call_later(CLOSING_S, self.abort)

    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _flush(self) -> None:
        # Of what a peer does not take, what is not written is known to be there, and bounded.
        if self._unwritten:
            return
        data = self._http2.take()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _address(peername: object) -> str:
    """A peer's address in gRPC's way."""
    match peername:
        case (str(host), int(port)):
            return f"ipv4:{host}:{port}"
        case (str(host), int(port), int(), int()):
            return f"ipv6:[{host}]:{port}"
        case _:
            return "unknown"
