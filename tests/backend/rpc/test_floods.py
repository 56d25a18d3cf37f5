"""Clients that send too much, too little or read nothing: others are served, the loop turns, and little is held."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from nexuskit.backend.rpc import server as server_module
from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Setting,
    frame,
    rst_stream,
    settings,
    window_update,
)
from nexuskit.backend.rpc.messages import Answer, Head, answered
from tests.backend.rpc.door import WIDE, Door, Raw, door, on_loop, request, until
from tests.backend.rpc.peer import BLOCK, CALL, HELLO
from tests.support.loop_guard import LoopGuard

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
if sys.platform != "win32":
    import uvloop

    LOOPS.append(uvloop.new_event_loop)

either_loop = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"][: len(LOOPS)])


@contextlib.asynccontextmanager
async def still_serving(here: Door) -> AsyncIterator[None]:
    """Another client calls for as long as the context lasts, and once more behind it."""
    async with here.client() as other:
        over = asyncio.Event()

        async def calls() -> None:
            stream = 1
            while not over.is_set() or stream == 1:
                other.send(request(stream))
                assert await other.answer(stream) == b"hello"
                stream += 2

        calling = asyncio.create_task(calls())
        yield
        over.set()
        await calling
    async with here.client() as new:
        new.send(request(1))
        assert await new.answer(1) == b"hello"


SMALL = 65_536
TINY = frame(HEADERS, END_HEADERS, 1, b"\x83\x86\x84")
MINIMAL = block(CALL[:3] + CALL[-1:])


def each(*parts: Callable[[int], bytes], times: int) -> bytes:
    return b"".join(part(stream) for stream in range(1, 2 * times, 2) for part in parts)


FLOODS = {
    "calls": each(lambda stream: request(stream, b""), times=4_000),
    "requests that are none": each(lambda s: frame(HEADERS, 5, s, b"\x83\x86\x84"), times=10_000),
    "requests without end": each(lambda s: frame(HEADERS, 4, s, b"\x83\x86\x84"), times=10_000),
    "rapid resets": each(lambda s: frame(HEADERS, 4, s, MINIMAL), lambda s: rst_stream(s, 8), times=5_000),
    "rapid resets of calls": each(lambda s: request(s, b""), lambda s: rst_stream(s, 8), times=3_000),
    "resets by us": each(lambda s: frame(HEADERS, 5, s, BLOCK), lambda s: window_update(s, 0), times=3_000),
    "pings": frame(PING, 0, 0, b"12345678") * 15_000,
    "settings": settings({Setting.INITIAL_WINDOW_SIZE: 1}) * 15_000,
    "many settings": frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\1\0\x04\0\0\0\0" * 1_300) * 16,
    "window updates": window_update(0, 1) * 20_000,
    "frames of no known type": frame(0x77, 0, 0) * 30_000,
    "empty DATA": TINY + frame(DATA, 0, 1) * 30_000,
    "padding": TINY + frame(DATA, 8, 1, b"\xff" + b"\0" * 255) * 1_000,
    "CONTINUATION": frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1) * 30_000,
    "CONTINUATION with something in it": frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, b"\0" * 16_384) * 64,
    "fields by index": each(lambda s: frame(HEADERS, 4, s, b"\x84" * 6_000), times=20),
    "fields by name": each(lambda s: frame(HEADERS, 4, s, b"\x04\x00" * 6_000), times=20),
    "Huffman's code": each(lambda s: frame(HEADERS, 4, s, b"\x04\xff\x81\x7d" + b"\0" * 16_000), times=16),
    "nothing sensible": b"\0\0\x01" * 100_000,
}


@either_loop
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_leaves_the_others_their_turn(flood: bytes, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario() -> None:
        async with door(streams=5_000) as here, still_serving(here), here.client() as raw, LoopGuard() as guard:
            raw.send(flood + frame(PING, 0, 0, b"that was"))
            # Until it is all worked off, or the connection has ended. Not frame by frame: that keeps the loop, too.
            said = b""
            with contextlib.suppress(ConnectionError):
                while b"that was" not in said and (data := await raw.reader.read(100_000)):
                    said = said[-8:] + data
        assert not guard.faults

    on_loop(loop, scenario())


@either_loop
@pytest.mark.parametrize("windows", ["wide", "narrow"])
def test_of_who_reads_nothing_little_is_held(windows: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    size, calls, held = 100_000, 500, 3_000_000

    async def large(_head: Head, message: bytes, _peer: str) -> Answer:
        return answered(message if message == b"hello" else message * size)

    async def scenario() -> None:
        async with door(large, held=held, buffers=SMALL) as here, still_serving(here), here.client() as raw:
            raw.writer.transport.pause_reading()
            raw.send(WIDE if windows == "wide" else b"")
            for stream in range(1, 2 * calls, 2):
                raw.send(request(stream, b"x"))
            await until(lambda: len(here.server.connections) == 2)
            [served] = [each for each in here.server.connections if each._peer.endswith(f":{own_port(raw)}")]
            most = 0

            def at_rest() -> bool:
                nonlocal most
                assert served._transport is not None
                most = max(most, served._http2._sending.unsent + served._transport.get_write_buffer_size())
                all_read = served._unwritten or served._http2._seen > 2 * calls - 2
                return all_read and not served._unread and not served.calls()

            await until(at_rest)
            assert most <= held + size + 100 + 2 * server_module.WRITTEN_AHEAD
            # What was not refused arrives, whole.
            raw.writer.transport.resume_reading()
            if windows == "narrow":
                raw.send(WIDE)
            raw.send(request(2 * calls + 1))
            got: dict[int, int] = {}
            ended: set[int] = set()
            while 2 * calls + 1 not in ended:
                found = await raw.next()
                assert found is not None
                if found.kind == RST_STREAM:
                    assert found.payload == b"\0\0\0\x0b"
                    ended.add(found.stream)
                    got.pop(found.stream, None)
                elif found.kind == DATA:
                    got[found.stream] = got.get(found.stream, 0) + len(found.payload)
                elif found.kind == HEADERS and found.flags & END_STREAM:
                    ended.add(found.stream)
                    assert got[found.stream] in {size + 5, 10}

    on_loop(loop, scenario())


@either_loop
def test_who_reads_nothing_is_read_no_further(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "WRITTEN_AHEAD", 100_000)

    async def scenario() -> None:
        async with door(buffers=SMALL) as here, still_serving(here), here.client() as raw:
            raw.writer.transport.pause_reading()
            # More than sockets hold: writing comes to a stop only when nobody reads.
            raw.writer.transport.set_write_buffer_limits(high=0)
            pings = frame(PING, 0, 0, b"12345678") * 1_000
            drained = asyncio.create_task(raw.writer.drain())
            sent = 0
            while sent < 100_000_000:
                raw.send(pings)
                sent += len(pings)
                for _ in range(20):
                    await asyncio.sleep(0)
                if raw.writer.transport.get_write_buffer_size() > 500_000:
                    break
            assert sent < 100_000_000
            assert all(
                each._transport.get_write_buffer_size() < 1_000_000
                and sum(map(len, each._http2._sending.out)) < 1_000_000
                for each in here.server.connections
                if each._transport is not None
            )
            raw.writer.transport.resume_reading()
            await drained
            left = sent
            while left > 0:
                data = await raw.reader.read(1_000_000)
                assert data
                left -= len(data)

    on_loop(loop, scenario())


@either_loop
def test_it_stops_though_a_client_reads_nothing(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CLOSING_S", 0.05)

    async def large(_head: Head, message: bytes, _peer: str) -> Answer:
        return answered(message * 10_000_000)

    async def scenario() -> None:
        async with door(large, buffers=SMALL) as here, here.client(HELLO + WIDE + request(1, b"x")) as raw:
            raw.writer.transport.pause_reading()
            await until(lambda: any(each._unwritten for each in here.server.connections))
            await here.server.stop(0)
            assert not here.server.connections

    on_loop(loop, scenario())


@either_loop
def test_who_breaks_a_rule_and_reads_nothing_is_gone(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CLOSING_S", 0.05)
    monkeypatch.setattr(server_module, "WRITTEN_AHEAD", 100_000_000)

    async def large(_head: Head, message: bytes, _peer: str) -> Answer:
        return answered(message * 10_000_000)

    async def scenario() -> None:
        async with door(large, buffers=SMALL) as here, here.client(HELLO + WIDE + request(1, b"x")) as raw:
            raw.writer.transport.pause_reading()
            await until(
                lambda: any(
                    each._transport is not None and each._transport.get_write_buffer_size()
                    for each in here.server.connections
                )
            )
            raw.send(frame(DATA, 0, 0))
            await until(lambda: not here.server.connections)

    on_loop(loop, scenario())


@pytest.mark.parametrize("said", [b"", PREFACE[:-1], b"GET / HTTP/1.1\r\n"])
async def test_who_says_nothing_is_let_go(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GREETING_S", 0.05)
    async with door() as here, here.client(said) as raw:
        await raw.reader.read()
        await until(lambda: not here.server.connections)


async def test_who_has_greeted_may_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GREETING_S", 0.01)
    async with door() as here, here.client(PREFACE) as raw:
        await raw.next()
        await asyncio.sleep(0.05)
        raw.send(settings({}) + request(1))
        assert await raw.answer(1) == b"hello"


async def test_a_request_may_come_byte_by_byte() -> None:
    async with door() as here, here.client(b"") as raw:
        for byte in HELLO + request(1):
            raw.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await raw.answer(1) == b"hello"


async def test_many_connections_are_served() -> None:
    async with door() as here, contextlib.AsyncExitStack() as stack:
        clients: list[Raw] = [await stack.enter_async_context(here.client()) for _ in range(200)]
        for client in clients:
            client.send(request(1))
        assert [await client.answer(1) for client in clients] == [b"hello"] * 200


async def test_another_client_has_its_turn_before_a_flood_is_worked_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "TURN_S", 0)
    async with door() as here, here.client() as flooding, here.client() as other:
        for client in (flooding, other):
            client.send(request(1))
            await client.answer(1)
        [flooded] = [each for each in here.server.connections if each._peer.endswith(f":{own_port(flooding)}")]
        calls = range(3, 8_001, 2)
        # As the loop does with what it reads: however much of it there is, it is one call.
        flooded.data_received(b"".join(request(stream) for stream in calls))
        assert 0 < len(flooded.calls()) < 100
        other.send(request(3))
        assert await other.answer(3) == b"hello"
        assert flooded._unread
        assert [await flooding.answer(stream) for stream in calls] == [b"hello"] * len(calls)


def own_port(client: Raw) -> int:
    return client.writer.get_extra_info("sockname")[1]


async def test_what_came_in_one_piece_is_answered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    # The loop turns after each slice.
    monkeypatch.setattr(server_module, "TURN_S", 0)
    async with door() as here, here.client() as raw:
        raw.send(b"".join(request(stream) for stream in range(1, 4_001, 2)))
        assert [await raw.answer(stream) for stream in range(1, 4_001, 2)] == [b"hello"] * 2_000
