"""gRPC's own client at the door: calls, deadlines, cancellations, the end of a connection and of the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import DATA, END_STREAM, GOAWAY, HEADERS, frame
from nexuskit.backend.rpc.messages import Answer, Head, answered, refused
from tests.backend.rpc.door import MIB, Door, door, echo, request
from tests.backend.rpc.peer import CALL, cut

METHOD = "/a.Service/Method"
UNBOUNDED = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
]


@contextlib.asynccontextmanager
async def client(of: Door) -> AsyncIterator[grpc.aio.UnaryUnaryMultiCallable]:
    async with grpc.aio.insecure_channel(of.address, UNBOUNDED) as channel:
        yield channel.unary_unary(METHOD)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


class Waits:
    """A handler that waits, and says how that ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, head: Head, message: bytes, peer: str) -> Answer:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended.set_result("cancelled")
            raise
        self.ended.set_result("answered")
        return answered(message)


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_536, 4 * MIB])
async def test_a_message_comes_back(size: int) -> None:
    message = os.urandom(size)
    async with door() as here, client(here) as call:
        assert await call(message) == message
        assert await asyncio.gather(*(call(message) for _ in range(5))) == [message] * 5


async def test_an_answer_may_be_larger_than_a_request() -> None:
    async def multiply(_head: Head, message: bytes, _peer: str) -> Answer:
        return answered(message * 10)

    message = os.urandom(4 * MIB)
    async with door(multiply) as here, client(here) as call:
        assert await call(message) == message * 10


async def test_a_message_that_is_too_large_is_refused_and_the_next_is_not() -> None:
    async with door() as here, client(here) as call:
        error = await failure(call(b"x" * (4 * MIB + 1)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(4 * MIB) in (error.details() or "")
        assert await call(b"x") == b"x"


async def test_too_much_metadata_is_refused_and_the_next_call_is_not() -> None:
    async with door() as here, client(here) as call:
        # What the server announces, this client keeps to by itself; so a raw one.
        async with here.client() as raw:
            much = block([*CALL, *((b"x-own-%d" % number, b"v" * 1000) for number in range(70))])
            raw.send(cut(1, much, [16_384] * 4))
            assert b"grpc-status\x018" in (await raw.until(HEADERS, 1)).payload
            raw.send(request(3))
            assert await raw.answer(3) == b"hello"
        assert await call(b"x") == b"x"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_message_is_read(compression: grpc.Compression) -> None:
    async with door() as here, client(here) as call:
        assert await call(b"x" * 100_000, compression=compression) == b"x" * 100_000


async def test_metadata_goes_both_ways() -> None:
    seen: list[Head] = []

    async def tell(head: Head, _message: bytes, peer: str) -> Answer:
        seen.append(head)
        return refused(9, f"said by {peer} — 100 % \n", [("x-answer-bin", b"\0\1\2,")])

    async with door(tell) as here, client(here) as call:
        error = await failure(call(b"", metadata=(("x-own", "a b"), ("x-own-bin", b"\0\xff"), ("x-own-bin", b"\1"))))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (error.details() or "").startswith("said by ipv4:127.0.0.1:")
        assert (error.details() or "").endswith(" — 100 % \n")
        assert dict(error.trailing_metadata() or ())["x-answer-bin"] == b"\0\1\2,"
    [head] = seen
    assert head.path == METHOD
    own = [pair for pair in head.pairs if pair[0].startswith("x-own")]
    assert own == [("x-own", "a b"), ("x-own-bin", b"\0\xff"), ("x-own-bin", b"\1")]


async def test_it_serves_ipv6() -> None:
    try:
        async with door(host="::1") as here, client(here) as call:
            assert await call(b"x") == b"x"
    except OSError as error:
        pytest.skip(f"there is no IPv6 here: {error}")


async def test_a_call_whose_time_is_up_is_answered_and_its_handler_cancelled() -> None:
    waits = Waits()
    async with door(waits) as here:
        async with here.client() as raw:
            # By hand, because gRPC's client would say so by itself.
            raw.send(request(1, b"a", (b"grpc-timeout", b"10m")))
            assert b"grpc-status\x014" in (await raw.until(HEADERS, 1)).payload
            assert await waits.ended == "cancelled"
            raw.send(request(3, b"a", (b"grpc-timeout", b"1n")))
            assert b"grpc-status\x014" in (await raw.until(HEADERS, 3)).payload
        waits.ended = asyncio.get_running_loop().create_future()
        async with client(here) as call:
            assert (await failure(call(b"", timeout=0.05))).code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await waits.ended == "cancelled"


async def test_a_deadline_that_is_far_away_is_none() -> None:
    async with door() as here, here.client() as raw:
        for stream, timeout in ((1, b"99999999H"), (3, b"277778H"), (5, b"20000000S")):
            raw.send(request(stream, b"a", (b"grpc-timeout", timeout)))
            assert await raw.answer(stream) == b"a"


async def test_a_call_that_is_cancelled_ends_its_handler() -> None:
    waits = Waits()
    async with door(waits) as here, client(here) as call:
        calling = call(b"")
        await waits.begun.wait()
        calling.cancel()
        assert await waits.ended == "cancelled"


@pytest.mark.parametrize("how", ["closed", "aborted", "wrong"])
async def test_a_connection_that_is_lost_ends_its_handlers(how: str) -> None:
    waits = Waits()
    async with door(waits) as here, here.client() as raw:
        raw.send(request(1))
        await waits.begun.wait()
        match how:
            case "closed":
                raw.writer.close()
            case "aborted":
                raw.writer.transport.abort()
            case _:
                raw.send(frame(DATA, 0, 0))
                assert await raw.ending() is not None
        assert await waits.ended == "cancelled"
        async with client(here) as call:
            waits.go.set()
            waits.ended = asyncio.get_running_loop().create_future()
            assert await call(b"x") == b"x"


async def test_a_handler_that_fails_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_head: Head, _message: bytes, _peer: str) -> Answer:
        raise ValueError("something of its own")

    async with door(fail) as here, client(here) as call:
        error = await failure(call(b""))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "something of its own" not in (error.details() or "")
    assert "something of its own" in caplog.text


async def test_a_handler_that_is_cancelled_from_elsewhere_is_answered() -> None:
    async def cancelled(_head: Head, _message: bytes, _peer: str) -> Answer:
        raise asyncio.CancelledError

    async with door(cancelled) as here, client(here) as call:
        assert (await failure(call(b""))).code() is grpc.StatusCode.CANCELLED


async def test_a_handler_that_takes_no_cancellation_is_not_heard() -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def stubborn(_head: Head, message: bytes, _peer: str) -> Answer:
        if message == b"hello":
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            done.set()
        return answered(message)

    async with door(stubborn) as here, here.client() as raw:
        raw.send(request(1))
        await begun.wait()
        raw.send(frame(3, 0, 1, b"\0\0\0\x08"))
        await done.wait()
        raw.send(request(3, b"x"))
        while (found := await raw.next()) is not None and found.stream != 3:
            assert found.stream != 1
        assert found is not None


async def test_who_speaks_http1_is_told_so() -> None:
    async with door() as here, here.client(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n") as raw:
        answer = await raw.reader.read()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"gRPC" in answer


# --- the end of the server


async def test_when_it_stops_calls_get_their_time() -> None:
    waits = Waits()
    async with door(waits) as here, client(here) as call, here.client() as raw:
        calling = asyncio.ensure_future(call(b"x"))
        await waits.begun.wait()
        # The rest of this one comes when it is stopping already.
        late = request(1, b"late")
        raw.send(late[:-3])
        await raw.until(4)
        stopping = asyncio.create_task(here.server.stop(20))
        await raw.until(GOAWAY)
        raw.send(late[-3:] + request(3, b"refused"))
        assert (await raw.until(3, 3)).payload == b"\0\0\0\x07"
        waits.go.set()
        waits.ended = asyncio.get_running_loop().create_future()
        assert await calling == b"x"
        await stopping
        assert (await failure(call(b"y"))).code() is grpc.StatusCode.UNAVAILABLE


async def test_when_it_stops_calls_that_take_too_long_are_unavailable() -> None:
    waits = Waits()
    async with door(waits) as here, client(here) as call:
        calling = asyncio.ensure_future(call(b"x"))
        await waits.begun.wait()
        await here.server.stop(0.01)
        assert (await failure(calling)).code() is grpc.StatusCode.UNAVAILABLE
        assert await waits.ended == "cancelled"
        assert not here.server.connections


async def test_it_stops_though_half_a_request_is_there() -> None:
    async with door() as here, here.client() as raw:
        raw.send(request(1)[:-1])
        await raw.until(4)
        await here.server.stop(20)
        assert not here.server.connections
        assert await raw.ending() is not None


async def test_a_connection_that_comes_while_it_stops_is_closed() -> None:
    async with door(echo) as here:
        here.server.stopping = True
        async with here.client() as raw:
            assert await raw.next() is None


async def test_frames_of_every_size_carry_a_message() -> None:
    message = os.urandom(3000)
    async with door() as here, here.client() as raw:
        for stream, size in ((1, 1), (3, 7), (5, 1000), (7, 16_384)):
            raw.send(request(stream, message, size=size))
            assert await raw.answer(stream) == message
        raw.send(request(9, message)[:-1])
        raw.send(request(9, message)[-1:] + frame(DATA, END_STREAM, 9))
        assert (await raw.until(3, 9)).payload == b"\0\0\0\x05"
