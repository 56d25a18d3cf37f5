"""What a client asks is told once and whole, however its bytes come; what it must not do ends a stream or all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.backend.rpc.connection import (
    BLOCK_FRAMES,
    CLOSED_KEPT,
    DECODED_MAX,
    STREAM_WINDOW,
)
from nexuskit.backend.rpc.events import Bounds, Ended, Event, Request, Reset
from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_MAX,
    WINDOW_UPDATE,
    ErrorCode,
    Setting,
    frame,
    goaway,
    rst_stream,
    settings,
    window_update,
)
from tests.backend.rpc.peer import (
    BLOCK,
    BOUNDS,
    CALL,
    HELLO,
    Pair,
    connection,
    cut,
    ended,
    frames,
    goaway_in,
    greeted,
    headers,
    pieces,
    resets_in,
)

NO_END = END_HEADERS

TRAFFIC = b"".join(
    [
        HELLO,
        headers(1),
        headers(3, flags=NO_END),
        frame(PING, 0, 0, b"12345678"),
        frame(DATA, 0, 3, b"some "),
        cut(5, BLOCK, [1, 0, 20]),
        window_update(0, 10),
        frame(DATA, PADDED | END_STREAM, 3, b"\x03body\0\0\0"),
        frame(0x77, 0xFF, 99, b"unknown"),
        headers(7, flags=NO_END),
        frame(DATA, 0, 7, b"x" * 300),
        rst_stream(7, ErrorCode.CANCEL),
        frame(SETTINGS, ACK, 0),
        frame(PRIORITY, 0, 9, b"\0\0\0\x01\x10"),
        frame(HEADERS, END_HEADERS | HAS_PRIORITY | PADDED, 11, b"\x02" + b"\0\0\0\x01\x10" + BLOCK + b"\0\0"),
        frame(DATA, 0, 11, b"all"),
        headers(11, block([(b"x-trailer", b"1")])),
        frame(HEADERS, END_STREAM, 13, BLOCK),
        frame(PING, 0, 0, b"in between"),
    ]
)
TOLD = [(1, b""), (5, b""), (3, b"some body"), (7, None), (11, b"all"), "a frame in the middle of a header block"]


def short(events: list[Event]) -> list[object]:
    said: list[object] = []
    for event in events:
        match event:
            case Request(stream, _, body, oversized):
                said.append((stream, oversized or body))
            case Reset(stream):
                said.append((stream, None))
            case Ended(why):
                said.append(why)
    return said


@given(st.lists(st.integers(1, 200)))
def test_any_cutting_of_the_bytes_tells_the_same(sizes: list[int]) -> None:
    made = connection()
    told = [event for piece in pieces(TRAFFIC, sizes) for event in made.receive(piece)]
    assert short(told) == TOLD


def test_bytes_one_by_one_tell_the_same() -> None:
    made = connection()
    assert short([event for each in TRAFFIC for event in made.receive(bytes([each]))]) == TOLD


def test_a_request_says_what_h2_said() -> None:
    pair = Pair()
    pair.call(b"body")
    [request] = pair.told
    assert isinstance(request, Request)
    assert request.head == (*CALL[4:],)


def test_a_ping_is_answered_and_an_answer_is_not() -> None:
    made = greeted()
    made.receive(frame(PING, ACK, 0, b"12345678") + frame(PING, 0, 0, b"abcdefgh"))
    assert made.take() == frame(PING, ACK, 0, b"abcdefgh")


# --- what is wrong with a connection

ENDINGS = {
    "DATA of no stream": (frame(DATA, 0, 0), ErrorCode.PROTOCOL_ERROR),
    "DATA of an idle stream": (frame(DATA, 0, 5), ErrorCode.PROTOCOL_ERROR),
    "more padding than DATA": (headers(1, flags=NO_END) + frame(DATA, PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    "padding of nothing": (headers(1, flags=NO_END) + frame(DATA, PADDED, 1), ErrorCode.PROTOCOL_ERROR),
    "HEADERS of no stream": (headers(0), ErrorCode.PROTOCOL_ERROR),
    "HEADERS of a server's stream": (headers(2), ErrorCode.PROTOCOL_ERROR),
    "HEADERS of an old stream": (headers(5) + headers(3), ErrorCode.PROTOCOL_ERROR),
    "a priority of itself": (
        frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"\0\0\0\x01\0" + BLOCK),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a block that is none": (headers(1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
    "a trailing block that is none": (headers(1, flags=NO_END) + headers(1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, BLOCK), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 3),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "an unknown frame in a block": (frame(HEADERS, 0, 1, BLOCK) + frame(0x77, 0, 0), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION without end": (cut(1, b"", [0] * (BLOCK_FRAMES + 1)), ErrorCode.ENHANCE_YOUR_CALM),
    "a block too long to be read": (
        cut(1, BLOCK + b"\0" * DECODED_MAX, [FRAME_SIZE] * (DECODED_MAX // FRAME_SIZE)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a block with too much in it": (headers(1, b"\x84" * 10_000), ErrorCode.ENHANCE_YOUR_CALM),
    "PRIORITY of no stream": (frame(PRIORITY, 0, 0, b"12345"), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of an idle stream": (rst_stream(1, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of another length": (headers(1) + frame(RST_STREAM, 0, 1, b"123"), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS of a stream": (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS of another length": (frame(SETTINGS, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS with ACK that say something": (frame(SETTINGS, ACK, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR),
    "a push of 2": (settings({Setting.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
    "a window too large": (settings({Setting.INITIAL_WINDOW_SIZE: WINDOW_MAX + 1}), ErrorCode.FLOW_CONTROL_ERROR),
    "frames too small": (settings({Setting.MAX_FRAME_SIZE: FRAME_SIZE - 1}), ErrorCode.PROTOCOL_ERROR),
    "frames too large": (settings({Setting.MAX_FRAME_SIZE: 1 << 24}), ErrorCode.PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + BLOCK), ErrorCode.PROTOCOL_ERROR),
    "PING of a stream": (frame(PING, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "PING of another length": (frame(PING, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY of a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), ErrorCode.PROTOCOL_ERROR),
    "GOAWAY of another length": (frame(GOAWAY, 0, 0, b"\0" * 7), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of an idle stream": (window_update(1, 1), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE of another length": (frame(WINDOW_UPDATE, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of nothing": (window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "too large a window": (window_update(0, WINDOW_MAX), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame too large": (frame(DATA, 0, 1, b"x" * (FRAME_SIZE + 1)), ErrorCode.FRAME_SIZE_ERROR),
    "a stream's window too large by a setting": (
        headers(1) + window_update(1, WINDOW_MAX - 65_535) + settings({Setting.INITIAL_WINDOW_SIZE: 65_536}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize(("data", "code"), ENDINGS.values(), ids=ENDINGS)
def test_what_breaks_a_connection_ends_it(data: bytes, code: ErrorCode) -> None:
    made = greeted()
    assert ended(made.receive(data)) is not None
    assert made.over
    said = goaway_in(made.take())
    assert said is not None
    assert said[1] is code
    assert made.receive(headers(101)) == []
    assert made.take() == b""


@pytest.mark.parametrize(
    "data", [headers(1), frame(PING, 0, 0, b"12345678"), frame(SETTINGS, ACK, 0)], ids=["HEADERS", "PING", "ACK"]
)
def test_a_client_says_its_settings_first(data: bytes) -> None:
    made = connection()
    assert ended(made.receive(PREFACE + data)) is not None
    assert goaway_in(made.take()) == (0, ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\n"])
def test_a_client_of_http1_is_told_nothing_in_frames(data: bytes) -> None:
    for size in (1, len(data)):
        made = connection()
        told = [event for at in range(0, len(data), size) for event in made.receive(data[at : at + size])]
        assert told == [Ended("the connection preface is wrong", http1=True)]
        assert made.take() == b""


@pytest.mark.parametrize("data", [b"HELO\r\n", b"x" * 5_000, b"PRI * HTTP/2.0\r\n\r\nXX"])
def test_what_speaks_something_else_is_let_go(data: bytes) -> None:
    for size in (1, len(data)):
        made = connection()
        told = [event for at in range(0, len(data), size) for event in made.receive(data[at : at + size])]
        assert told == [Ended("the connection preface is wrong")]


def test_what_is_no_http_at_all_is_told_in_frames() -> None:
    made = connection()
    end = ended(made.receive(b"\x16\x03\x01\x02\x00"))
    assert end is not None
    assert not end.http1
    assert goaway_in(made.take()) == (0, ErrorCode.PROTOCOL_ERROR)


# --- what is wrong with a stream

HALF = headers(1, flags=NO_END)
RESETS = {
    "content-length that is too small": (
        headers(1, block([*CALL, (b"content-length", b"2")]), NO_END) + frame(DATA, END_STREAM, 1, b"abc"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "content-length that is too large": (
        headers(1, block([*CALL, (b"content-length", b"2")])),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "content-length that is no number": (
        headers(1, block([*CALL, (b"content-length", b"+2")])),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "content-length that is two": (
        headers(1, block([*CALL, (b"content-length", b"0"), (b"content-length", b"00")])),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "trailers that are no end": (HALF + headers(1, flags=NO_END), ErrorCode.PROTOCOL_ERROR),
    "trailers that ask again": (HALF + headers(1), ErrorCode.PROTOCOL_ERROR),
    "trailers behind the end": (headers(1) + headers(1, block([(b"a", b"b")])), ErrorCode.STREAM_CLOSED),
    "DATA behind the end": (headers(1) + frame(DATA, 0, 1, b"a"), ErrorCode.STREAM_CLOSED),
    "a window update of nothing": (headers(1) + window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
    "too large a window": (headers(1) + window_update(1, WINDOW_MAX), ErrorCode.FLOW_CONTROL_ERROR),
    "a priority of itself": (HALF + frame(PRIORITY, 0, 1, b"\0\0\0\x01\0"), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY of another length": (HALF + frame(PRIORITY, 0, 1, b"1234"), ErrorCode.FRAME_SIZE_ERROR),
    "no path": (headers(1, block(CALL[:2] + CALL[3:])), ErrorCode.PROTOCOL_ERROR),
    "an empty path": (headers(1, block([*CALL[:2], (b":path", b""), *CALL[3:]])), ErrorCode.PROTOCOL_ERROR),
    "two paths": (headers(1, block([CALL[2], *CALL])), ErrorCode.PROTOCOL_ERROR),
    "a path behind a field": (headers(1, block([*CALL[:2], *CALL[3:], CALL[2]])), ErrorCode.PROTOCOL_ERROR),
    "an answer's field": (headers(1, block([(b":status", b"200"), *CALL])), ErrorCode.PROTOCOL_ERROR),
    "a field in capitals": (headers(1, block([*CALL, (b"X-Own", b"1")])), ErrorCode.PROTOCOL_ERROR),
    "a field without a name": (headers(1, block([*CALL, (b"", b"1")])), ErrorCode.PROTOCOL_ERROR),
    "a field with a line end": (headers(1, block([*CALL, (b"x-own", b"1\r\n2")])), ErrorCode.PROTOCOL_ERROR),
    "a field with a space at its end": (headers(1, block([*CALL, (b"x-own", b"1 ")])), ErrorCode.PROTOCOL_ERROR),
    "a field of HTTP/1.1": (headers(1, block([*CALL, (b"connection", b"close")])), ErrorCode.PROTOCOL_ERROR),
    "te that is more than trailers": (headers(1, block([*CALL, (b"te", b"gzip")])), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("data", "code"), RESETS.values(), ids=RESETS)
def test_what_breaks_a_stream_ends_it_alone(data: bytes, code: ErrorCode) -> None:
    made = greeted()
    told = short(made.receive(data + headers(101)))
    assert resets_in(made.take()) == {1: code}
    assert told[-1] == (101, b"")
    # Nobody is left to work on what was told of it.
    assert [each for each in told if each[0] == 1 and each[1] is not None] == [] or (1, None) in told
    made.answer(1, b"\x88")
    assert made.take() == b""
    made.answer(101, b"\x88")
    assert made.idle


def test_more_than_the_window_ends_the_stream() -> None:
    made = greeted(Bounds(body=10_000, fields=2_000, streams=10))
    told = made.receive(HALF + frame(DATA, 0, 1, b"x" * 10_000) * (STREAM_WINDOW // 10_000))
    assert short(told) == [(1, "body")]
    assert resets_in(made.take()) == {}
    assert short(made.receive(frame(DATA, 0, 1, b"x" * 10_000))) == [(1, None)]
    assert resets_in(made.take()) == {1: ErrorCode.FLOW_CONTROL_ERROR}


# --- streams that are no more


def test_frames_for_a_stream_that_we_ended_may_have_been_under_way() -> None:
    made = greeted()
    made.receive(HALF)
    made.reset(1, ErrorCode.CANCEL)
    made.take()
    behind = frame(DATA, 0, 1, b"a") + window_update(1, 1) + headers(1, block([(b"a", b"b")])) + rst_stream(1, 8)
    assert made.receive(behind + headers(3)) == [Request(3, (*CALL[4:],), b"")]
    assert made.take() == b""


def test_frames_for_a_stream_that_the_client_ended_break_a_rule() -> None:
    made = greeted()
    made.receive(headers(1))
    made.answer(1, b"\x88")
    made.take()
    assert short(made.receive(window_update(1, 1) + rst_stream(1, 8) + frame(PRIORITY, 0, 1, b"12345"))) == []
    made.receive(frame(DATA, 0, 1, b"a"))
    assert resets_in(made.take()) == {1: ErrorCode.STREAM_CLOSED}
    made.receive(headers(3) + rst_stream(3, 8))
    made.receive(headers(3))
    assert goaway_in(made.take()) == (3, ErrorCode.STREAM_CLOSED)


def test_few_of_the_streams_that_are_no_more_are_remembered() -> None:
    made = greeted()
    for stream in range(1, 2 * (CLOSED_KEPT + 10), 2):
        made.receive(headers(stream, flags=NO_END) + rst_stream(stream, 8))
    made.take()
    made.receive(frame(DATA, 0, 1, b"a"))
    assert resets_in(made.take()) == {1: ErrorCode.STREAM_CLOSED}
    made.receive(headers(3))
    assert goaway_in(made.take()) is not None


# --- what is too much


def test_a_request_beyond_the_limit_is_refused_and_can_be_tried_again() -> None:
    pair = Pair(Bounds(body=100, fields=2_000, streams=2))
    assert pair.client.remote_settings.max_concurrent_streams == 2
    made = greeted(Bounds(body=100, fields=2_000, streams=2))
    assert short(
        made.receive(headers(1) + headers(3) + headers(5, flags=NO_END) + frame(DATA, END_STREAM, 5, b"a"))
    ) == [
        (1, b""),
        (3, b""),
    ]
    assert resets_in(made.take()) == {5: ErrorCode.REFUSED_STREAM}
    assert made.streams == 2
    made.answer(1, b"\x88")
    assert short(made.receive(headers(7))) == [(7, b"")]


def test_a_body_may_be_as_long_as_its_bound_and_no_longer() -> None:
    pair = Pair(Bounds(body=50_000, fields=2_000, streams=2))
    pair.call(b"x" * 50_000)
    stream = pair.open(ends=False)
    pair.send(stream, b"x" * 50_001, ends=False)
    assert short(pair.told)[-1] == (stream, "body")
    pair.server.answer(stream, b"\x88")
    pair.run()
    assert (pair.got[stream].ended, pair.got[stream].reset) == (True, ErrorCode.NO_ERROR)
    assert pair.server.streams == 1


def test_fields_may_be_as_many_as_their_bound_and_no_more() -> None:
    used = sum(len(name) + len(value) + 32 for name, value in CALL)
    made = greeted(Bounds(body=100, fields=used + 100, streams=2))
    assert short(made.receive(headers(1, block([*CALL, (b"x-own", b"v" * 63)])))) == [(1, b"")]
    for _ in range(2):
        stream = made._seen + 2
        assert short(made.receive(headers(stream, block([*CALL, (b"x-own", b"v" * 64)])))) == [(stream, "fields")]
        made.answer(stream, b"\x88")
    assert resets_in(made.take()) == {}


def test_bodies_together_may_be_as_long_as_their_bound() -> None:
    made = greeted(Bounds(body=1_000, fields=2_000, streams=10, held=2_500))
    for stream in (1, 3, 5):
        made.receive(headers(stream, flags=NO_END) + frame(DATA, 0, stream, b"x" * 800))
    assert resets_in(made.take()) == {}
    assert short(made.receive(frame(DATA, END_STREAM, 5, b"x" * 101))) == [(5, None)]
    assert resets_in(made.take()) == {5: ErrorCode.REFUSED_STREAM}
    made.receive(frame(DATA, END_STREAM, 1) + frame(DATA, END_STREAM, 3))
    # They count until they are answered, because somebody works on them.
    made.receive(headers(7, flags=NO_END) + frame(DATA, END_STREAM, 7, b"x" * 901))
    assert resets_in(made.take()) == {7: ErrorCode.REFUSED_STREAM}
    made.answer(1, b"\x88")
    assert short(made.receive(headers(9, flags=NO_END) + frame(DATA, END_STREAM, 9, b"x" * 1_000))) == [
        (9, b"x" * 1_000)
    ]


def test_room_is_made_for_bodies_larger_than_the_windows() -> None:
    size = 40 * 1024 * 1024
    pair = Pair(Bounds(body=size, fields=2_000, streams=2))
    body = bytes(range(256)) * (size // 256)
    assert pair.call(body) == 1


def test_what_is_dropped_is_counted_to_the_connection_s_window() -> None:
    # Else a client that was refused much could send nothing more at last.
    pair = Pair(Bounds(body=10, fields=2_000, streams=2))
    for _ in range(300):
        stream = pair.open(ends=False)
        pair.send(stream, b"x" * 60_000, ends=False)
        pair.server.answer(stream, b"\x88")
        pair.run()
    assert pair.server.idle


# --- the end


def test_when_it_stops_what_is_there_is_answered_and_nothing_more_is_taken() -> None:
    pair = Pair()
    first, half = pair.open(), pair.open(ends=False)
    pair.run()
    pair.server.refuse_more()
    pair.server.refuse_more()
    data = pair.server.take()
    assert goaway_in(data) == (half, ErrorCode.NO_ERROR)
    assert len(frames(data)) == 1
    late = headers(half + 2)
    assert pair.server.receive(late) == []
    assert resets_in(pair.server.take()) == {half + 2: ErrorCode.REFUSED_STREAM}
    assert short(pair.server.receive(frame(DATA, END_STREAM, half, b"rest"))) == [(half, b"rest")]
    for stream in (first, half):
        pair.server.answer(stream, b"\x88")
    assert pair.server.idle
    assert not pair.server.over


def test_a_client_s_goaway_leaves_its_requests() -> None:
    made = greeted()
    made.receive(headers(1) + goaway(0, ErrorCode.NO_ERROR, "bye"))
    made.answer(1, b"\x88")
    assert made.take() == headers(1, b"\x88")


def test_an_answer_after_the_end_goes_nowhere() -> None:
    made = greeted()
    made.receive(headers(1) + frame(DATA, 0, 0))
    made.take()
    made.answer(1, b"\x88")
    assert made.receive(b"more") == []


def test_nothing_is_announced_that_is_not_kept() -> None:
    pair = Pair()
    said = pair.client.remote_settings
    assert said.max_concurrent_streams == BOUNDS.streams
    assert said.max_header_list_size == BOUNDS.fields
    assert said.initial_window_size == STREAM_WINDOW
    assert said.max_frame_size == FRAME_SIZE
