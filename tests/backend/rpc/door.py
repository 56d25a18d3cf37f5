"""A door of its own for a test: a server on a free port, a raw client, and a loop of either kind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_LENGTH,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Setting,
    frame,
    settings,
    window_update,
)
from nexuskit.backend.rpc.messages import Answer, Head, answered
from nexuskit.backend.rpc.server import Server
from tests.backend.rpc.peer import CALL, HELLO, Frame

MIB = 1024 * 1024
Handler = Callable[[Head, bytes, str], Awaitable[Answer]]


async def echo(_head: Head, message: bytes, _peer: str) -> Answer:
    return answered(message)


@dataclass
class Door:
    """A server that runs."""

    server: Server
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @contextlib.asynccontextmanager
    async def client(self, greeting: bytes = HELLO) -> AsyncIterator[Raw]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(greeting)
        try:
            yield Raw(reader, writer)
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def door(
    serve: Handler = echo,
    *,
    host: str = "127.0.0.1",
    message_size: int = 4 * MIB,
    streams: int = 100_000,
    held: int | None = None,
    buffers: int | None = None,
) -> AsyncIterator[Door]:
    """A server that answers with this, for as long as the context lasts.

    Args:
        serve: answers.
        host: where it listens.
        message_size: as the server has it.
        streams: as the server has it.
        held: bytes of answers that it holds for one client, and of requests.
        buffers: bytes that the operating system holds of a connection; small, a client that reads nothing shows soon.
    """
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    if buffers is not None:
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            listener.setsockopt(socket.SOL_SOCKET, buffer, buffers)  # connections inherit it
    server = Server(serve, message_size=message_size, fields_size=64 * 1024, streams=streams)
    if held is not None:
        server.bounds = replace(server.bounds, held=held)
    await server.start(listener)
    try:
        yield Door(server, host, listener.getsockname()[1])
    finally:
        await server.stop(0)


def request(stream: int, message: bytes = b"hello", *more: tuple[bytes, bytes], size: int = 16_384) -> bytes:
    """A call, in frames of that size."""
    body = b"\0" + len(message).to_bytes(4, "big") + message
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(
        [
            frame(HEADERS, END_HEADERS, stream, block([*CALL, *more])),
            *(frame(DATA, 0, stream, part) for part in parts[:-1]),
            frame(DATA, END_STREAM, stream, parts[-1]),
        ]
    )


WIDE = settings({Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}) + window_update(0, 2**31 - 1 - 65_535)
"""So much room that no window keeps an answer back."""


@dataclass
class Raw:
    """A client that sends what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def next(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        try:
            begin = await self.reader.readexactly(HEADER_LENGTH)
            payload = await self.reader.readexactly(int.from_bytes(begin[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Frame(begin[3], begin[4], int.from_bytes(begin[5:], "big"), payload)

    async def until(self, kind: int, stream: int = 0) -> Frame:
        """The next frame of that kind on that stream."""
        while True:
            found = await self.next()
            assert found is not None, "the connection has ended"
            if (found.kind, found.stream) == (kind, stream) and not (kind in {SETTINGS, PING} and not found.flags):
                return found

    async def answer(self, stream: int) -> bytes:
        """The whole body that comes on a stream; its reset is an error."""
        body = b""
        while True:
            found = await self.next()
            assert found is not None, "the connection has ended"
            if found.stream == stream:
                assert found.kind != RST_STREAM
                body += found.payload if found.kind == DATA else b""
                if found.flags & END_STREAM:
                    return body[5:]

    async def ending(self) -> Frame | None:
        """The last GOAWAY before the end of the connection."""
        last = None
        while (found := await self.next()) is not None:
            last = found if found.kind == GOAWAY else last
        return last


async def until(holds: Callable[[], object]) -> None:
    """Waits for something that nobody tells."""
    while not holds():  # noqa: ASYNC110 - it is the other side's affair
        await asyncio.sleep(0.001)


def on_loop(factory: Callable[[], asyncio.AbstractEventLoop], scenario: Coroutine[Any, Any, None]) -> None:
    """Runs something on a loop of that kind, in a thread of its own."""

    def run() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(scenario, 30))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()
