"""Whatever a peer sends: nothing is raised, little is held, little is worked, and what breaks a rule is ended."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexuskit.backend.rpc.connection import BLOCK_FRAMES, CLOSED_KEPT, HEADS_KEPT, Connection
from nexuskit.backend.rpc.events import Bounds, Ended, Request
from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    ErrorCode,
    Setting,
    frame,
    rst_stream,
    window_update,
)
from nexuskit.backend.rpc.frames import settings as settings_frame
from nexuskit.backend.rpc.messages import answered, read_head
from tests.backend.rpc.peer import BLOCK, CALL, HELLO, cut, ended, frames, greeted, headers
from tests.backend.rpc.test_requests import TRAFFIC

BOUNDS = Bounds(body=500, fields=500, streams=5, held=1_000)


def survives(data: list[bytes]) -> Connection[Any]:
    """The connection, after all that was asked on it is answered."""
    made = Connection(BOUNDS, read_head)
    made.take()
    over = False
    for piece in data:
        told = made.receive(piece)
        assert not (over and told)
        for each in told:
            if isinstance(each, Request):
                made.answer(each.stream, *answered(each.body))
        over = over or ended(told) is not None
        assert made.over is over
        frames(made.take())
        assert made.streams <= BOUNDS.streams
        assert sum(len(stream.body) for stream in made._streams.values()) <= BOUNDS.held
        assert len(made._rest) < 16_384 + 9
    return made


@given(st.lists(st.binary(max_size=100)))
def test_any_bytes_are_taken(data: list[bytes]) -> None:
    survives(data)


@given(st.lists(st.binary(max_size=100)))
def test_any_bytes_behind_a_greeting_are_taken(data: list[bytes]) -> None:
    survives([HELLO, *data])


FRAMES = st.builds(
    frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x25, 0x2D]) | st.integers(0, 255),
    st.integers(0, 9),
    st.binary(max_size=20)
    | st.sampled_from(
        [BLOCK, b"\x82\x86\x84", b"\0" * 4, b"\0\0\0\x01", b"\x7f\xff\xff\xff", b"\0" * 5, b"\0" * 8, b"x" * 400]
    ),
)


@given(st.lists(FRAMES, max_size=40))
@settings(max_examples=100)
def test_any_frames_are_taken(data: list[bytes]) -> None:
    survives([HELLO, *data])


@given(
    st.lists(st.tuples(st.integers(len(PREFACE), len(TRAFFIC) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(1, 400),
)
@settings(max_examples=100)
def test_traffic_with_wrong_bytes_in_it_is_taken(changes: list[tuple[int, int]], size: int) -> None:
    data = bytearray(TRAFFIC)
    for at, byte in changes:
        data[at] = byte
    survives([bytes(data[at : at + size]) for at in range(0, len(data), size)])


@given(st.integers(0, len(TRAFFIC)), st.integers(0, len(TRAFFIC)))
@example(0, len(TRAFFIC))
def test_traffic_with_a_piece_missing_is_taken(begin: int, end: int) -> None:
    survives([TRAFFIC[:begin] + TRAFFIC[end:]])


@pytest.mark.parametrize("seed", range(5))
def test_many_streams_of_random_ends_leave_nothing(seed: int) -> None:
    chance = random.Random(seed)
    made = greeted(Bounds(body=500, fields=500, streams=50))
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 0}))
    said: set[int] = set()
    for stream in range(1, 4_000, 2):
        made.receive(headers(stream, flags=END_HEADERS) + frame(DATA, chance.choice([0, END_STREAM]), stream, b"abc"))
        for other in chance.sample(range(1, stream + 1, 2), min(3, stream // 2)):
            match chance.randrange(3):
                case 0 if other not in said:
                    said.add(other)
                    made.answer(other, b"\x88", b"body", b"\x88")
                case 1:
                    made.receive(rst_stream(other, ErrorCode.CANCEL))
                case _:
                    made.receive(window_update(other, 10))
        made.take()
    assert made.streams > 0
    for stream in range(1, 4_000, 2):
        made.receive(rst_stream(stream, ErrorCode.CANCEL))
    assert made.idle
    sending = made._sending
    left = (made._streams, sending._waiting, sending._ready, sending._gained, made._held, sending._kept)
    assert not any(left)
    assert len(made._closed) == CLOSED_KEPT


def test_many_heads_are_not_all_remembered() -> None:
    made = greeted(Bounds(body=500, fields=100_000, streams=5))
    for number in range(300):
        stream = 1 + 2 * number
        value = str(number).encode() * (1 if number % 2 else 2_000)
        assert made.receive(headers(stream, block([*CALL, (b"x-own", value)])))
        made.answer(stream, b"\x88")
    assert len(made._heads) <= HEADS_KEPT
    assert sum(len(value) for fields in made._heads for _, value in fields) < HEADS_KEPT * 100


# --- work


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """How many lines of our code are run: work, whatever the machine has else to do."""
    lines = 0

    def count(_frame: FrameType, what: str, _arg: object) -> Any:
        nonlocal lines
        lines += what == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield lambda: lines
    finally:
        sys.settrace(before)


def work(made: Connection[Any], data: bytes) -> int:
    with counted() as lines:
        made.receive(data)
        return lines()


def busy(streams: int) -> Connection[Any]:
    """A connection on which so many answers wait for the peer."""
    made = greeted(Bounds(body=500, fields=500, streams=streams))
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 0}))
    for stream in range(1, 2 * streams, 2):
        made.receive(headers(stream))
        made.answer(stream, b"\x88", b"some body", b"\x88")
    made.take()
    assert made.streams == streams
    return made


@pytest.mark.parametrize(
    "flood",
    [
        window_update(0, 1),
        window_update(1, 1),
        settings_frame({Setting.INITIAL_WINDOW_SIZE: 0}),
        settings_frame({Setting.MAX_FRAME_SIZE: 20_000}),
        settings_frame({Setting.HEADER_TABLE_SIZE: 0}),
        frame(PING, 0, 0, b"12345678"),
        frame(PING, 1, 0, b"12345678"),
        frame(DATA, 0, 1, b"x"),
    ],
    ids=[
        "the connection's window",
        "a stream's window",
        "the initial window",
        "the frames' size",
        "the table's size",
        "pings",
        "answers to pings",
        "DATA of a closed stream",
    ],
)
def test_a_flood_costs_the_same_however_many_answers_wait(flood: bytes) -> None:
    few, many = work(busy(2), flood * 100), work(busy(2_000), flood * 100)
    assert many <= few + 200


def test_an_initial_window_that_changes_to_and_fro_is_looked_at_once() -> None:
    changes = settings_frame({Setting.INITIAL_WINDOW_SIZE: 1}) + settings_frame({Setting.INITIAL_WINDOW_SIZE: 0})
    once, often = work(busy(1_000), changes), work(busy(1_000), changes * 100)
    assert often - once < 100 * (once / 10)


def test_bytes_one_by_one_cost_in_proportion_to_their_number() -> None:
    made, size = greeted(), 2_000
    data = frame(DATA, 0, 1, b"x" * size)
    made.receive(headers(1, flags=END_HEADERS))
    with counted() as lines:
        for each in data:
            made.receive(bytes([each]))
        assert lines() < 60 * size


def test_a_body_in_single_bytes_is_held_as_one() -> None:
    made = greeted(Bounds(body=50_000, fields=2_000, streams=2))
    made.receive(headers(1, flags=END_HEADERS) + frame(DATA, 0, 1, b"ab") * 20_000)
    [stream] = made._streams.values()
    assert sys.getsizeof(stream.body) < 60_000


def test_an_endless_header_block_is_given_up_early() -> None:
    made = greeted()
    data = cut(1, b"", [0] * 100_000)
    at = 0
    while not made.over:
        made.receive(data[at : at + 9])
        at += 9
    assert at <= 9 * (BLOCK_FRAMES + 2)


def test_rapid_resets_are_told_and_leave_nothing() -> None:
    # CVE-2023-44487. What they cost the one who answers is the server's to bound.
    made = greeted()
    told = made.receive(
        b"".join(frame(HEADERS, END_HEADERS | END_STREAM, s, BLOCK) + rst_stream(s, 8) for s in range(1, 20_001, 2))
    )
    assert len(told) == 20_000
    assert not any(isinstance(each, Ended) for each in told)
    assert made.idle
    assert made.take() == b""
