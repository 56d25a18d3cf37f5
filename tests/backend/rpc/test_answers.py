"""Answers arrive whole, whatever the client's windows and frames are; `h2` checks that none of them is overrun."""

from __future__ import annotations

import pytest
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from nexuskit.backend.rpc.events import Bounds
from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    WINDOW_MAX,
    ErrorCode,
    Setting,
    rst_stream,
    window_update,
)
from nexuskit.backend.rpc.frames import settings as settings_frame
from tests.backend.rpc.peer import BOUNDS, Pair, frames, greeted, headers, resets_in

HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]
END = [(b"grpc-status", b"0")]
BODY = bytes(range(251)) * 1000


def answer(pair: Pair, stream: int, body: bytes = BODY) -> None:
    pair.server.answer(stream, block(HEAD), body, block(END))


def has_whole(pair: Pair, stream: int, body: bytes = BODY) -> bool:
    got = pair.got[stream]
    return got.ended and got.head == HEAD and got.trailers == END and got.body == body


@pytest.mark.parametrize("window", [1000, 65_535, 1_000_000])
@pytest.mark.parametrize("frame_size", [16_384, 100_000, 2**24 - 1])
@pytest.mark.parametrize("body", [b"", b"a", BODY, BODY * 20], ids=["empty", "small", "large", "larger"])
def test_an_answer_arrives_whole(window: int, frame_size: int, body: bytes) -> None:
    pair = Pair(own={SettingCodes.INITIAL_WINDOW_SIZE: window})
    pair.client.update_settings({SettingCodes.MAX_FRAME_SIZE: frame_size})
    stream = pair.call()
    answer(pair, stream, body)
    pair.run()
    assert has_whole(pair, stream, body)
    assert pair.server.idle


@pytest.mark.parametrize(
    ("body", "trailers"), [(b"", b""), (b"text", b""), (b"", block(END))], ids=["head", "no trailers", "no body"]
)
def test_an_answer_may_lack_its_parts(body: bytes, trailers: bytes) -> None:
    pair = Pair(own={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream = pair.call()
    pair.server.answer(stream, block(HEAD), body, trailers)
    pair.run()
    got = pair.got[stream]
    # Windows are for bodies alone.
    assert got.ended is not bool(body)
    if body:
        pair.client.increment_flow_control_window(10, stream)
        pair.run()
    assert (got.ended, got.head, got.body, bool(got.trailers)) == (True, HEAD, body, bool(trailers))
    assert pair.server.idle


def test_what_has_no_body_waits_for_no_window() -> None:
    pair = Pair(own={SettingCodes.INITIAL_WINDOW_SIZE: 10}, reads=False)
    one = pair.call()
    answer(pair, one, b"x" * 100)
    pair.run()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    two = pair.call()
    answer(pair, two, b"")
    pair.run()
    assert has_whole(pair, two, b"")


def test_a_header_block_larger_than_a_frame_goes_over_several() -> None:
    made = greeted()
    made.receive(headers(1))
    fields = [*HEAD, (b"x-long", b"v" * 40_000)]
    made.answer(1, block(fields), b"body", block(END))
    said = [(each.kind, each.flags) for each in frames(made.take())]
    assert said == [
        (HEADERS, 0),
        (CONTINUATION, 0),
        (CONTINUATION, END_HEADERS),
        (DATA, 0),
        (HEADERS, END_HEADERS | END_STREAM),
    ]


def test_a_refusal_larger_than_a_frame_ends_its_stream() -> None:
    pair = Pair()
    stream = pair.call()
    pair.server.answer(stream, block([*HEAD, (b"x-long", b"v" * 40_000)]))
    pair.run()
    assert pair.got[stream].ended


def test_answers_that_wait_go_as_there_is_room_for_each() -> None:
    pair = Pair(own={SettingCodes.INITIAL_WINDOW_SIZE: 0}, reads=False)
    streams = [pair.call() for _ in range(4)]
    for stream in streams:
        answer(pair, stream, b"x" * 100)
    pair.run()
    assert not any(pair.got[stream].body for stream in streams)
    # The last can go, though others came before it.
    pair.client.increment_flow_control_window(100, streams[3])
    pair.run()
    assert has_whole(pair, streams[3], b"x" * 100)
    pair.client.increment_flow_control_window(40, streams[1])
    pair.run()
    assert [len(pair.got[stream].body) for stream in streams] == [0, 40, 0, 100]
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 60})
    pair.run()
    assert [len(pair.got[stream].body) for stream in streams] == [60, 100, 60, 100]
    pair.client.reset_stream(streams[0])
    pair.client.increment_flow_control_window(1000, streams[2])
    pair.run()
    assert has_whole(pair, streams[2], b"x" * 100)
    assert pair.server.idle


def test_the_connection_s_window_is_shared() -> None:
    pair = Pair(own={SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000}, reads=False)
    streams = [pair.call() for _ in range(3)]
    for stream in streams:
        answer(pair, stream, b"x" * 30_000)
    pair.run()
    assert [len(pair.got[stream].body) for stream in streams] == [30_000, 30_000, 5_535]
    pair.client.increment_flow_control_window(24_000)
    pair.run()
    assert len(pair.got[streams[2]].body) == 29_535
    # A stream that goes leaves its turn to the others.
    four = pair.call()
    answer(pair, four, b"y" * 10)
    pair.client.reset_stream(streams[2])
    pair.client.increment_flow_control_window(10)
    pair.run()
    assert has_whole(pair, four, b"y" * 10)
    assert pair.server.idle


def test_a_window_below_nothing_is_waited_out() -> None:
    pair = Pair(own={SettingCodes.INITIAL_WINDOW_SIZE: 500}, reads=False)
    stream = pair.call()
    answer(pair, stream, b"x" * 1000)
    pair.run()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    pair.run()
    # The window is at -400 now.
    made = pair.server
    made.receive(window_update(stream, 400))
    assert made.take() == b""
    made.receive(window_update(stream, 1))
    assert [(each.kind, each.payload) for each in frames(made.take())] == [(DATA, b"x")]
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 99}) + window_update(stream, 1))
    assert [each.kind for each in frames(made.take())] == [4]
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 5000}))
    assert sum(len(each.payload) for each in frames(made.take()) if each.kind == DATA) == 499
    assert made.idle


def test_the_largest_windows_are_taken() -> None:
    made = greeted()
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 0}) + headers(1) + headers(3))
    made.receive(window_update(1, WINDOW_MAX) + window_update(0, WINDOW_MAX - 65_535))
    assert not made.over
    made.answer(1, block(HEAD), b"x" * 10, block(END))
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: WINDOW_MAX}))
    # What stream 1 had is gone with it.
    assert not made.over
    assert made.streams == 1


def test_a_smaller_header_table_is_acknowledged_in_the_next_block() -> None:
    pair = Pair()
    for size in (100, 0, 4096, 65_536):
        pair.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
        for _ in range(2):
            stream = pair.call()
            answer(pair, stream, b"body")
            pair.run()
            assert has_whole(pair, stream, b"body")


def test_an_answer_before_the_end_of_a_request_stops_its_body() -> None:
    pair = Pair()
    stream = pair.open(ends=False)
    pair.run()
    answer(pair, stream)
    pair.run()
    assert has_whole(pair, stream)
    assert pair.got[stream].reset == ErrorCode.NO_ERROR
    assert pair.server.idle


def test_an_answer_that_waits_is_dropped_with_its_stream() -> None:
    pair = Pair(own={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    for _ in range(3):
        stream = pair.call()
        answer(pair, stream)
        pair.run()
        assert not pair.server.idle
        pair.client.reset_stream(stream)
        pair.run()
        assert pair.server.idle


def test_of_a_client_that_takes_nothing_answers_are_held_up_to_a_bound() -> None:
    made = greeted(Bounds(body=100, fields=2_000, streams=1_000, held=10_000))
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 0}))
    made.take()
    for stream in range(1, 201, 2):
        made.receive(headers(stream))
        made.answer(stream, block(HEAD), b"x" * 1_000, block(END))
    refused = resets_in(made.take())
    assert set(refused.values()) == {ErrorCode.ENHANCE_YOUR_CALM}
    assert made.streams == 10
    # What is held arrives, and then there is room again.
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 1_000}))
    assert sum(len(each.payload) for each in frames(made.take()) if each.kind == DATA) == 10_000
    assert made.idle
    made.receive(headers(201))
    made.answer(201, block(HEAD), b"x" * 1_000, block(END))
    assert resets_in(made.take()) == {}


def test_what_is_not_taken_counts_as_held() -> None:
    made = greeted(Bounds(body=100, fields=2_000, streams=1_000, held=10_000))
    for stream in range(1, 201, 2):
        made.receive(headers(stream))
        made.answer(stream, block(HEAD), b"x" * 100)
    assert 10_000 < len(made.take()) < 15_000


def test_what_is_dropped_is_not_held() -> None:
    made = greeted(Bounds(body=100, fields=2_000, streams=1_000, held=10_000))
    made.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 0}))
    made.take()
    for stream in range(1, 201, 2):
        made.receive(headers(stream))
        made.answer(stream, block(HEAD), b"x" * 9_000, block(END))
        assert resets_in(made.take()) == {}
        made.receive(rst_stream(stream, ErrorCode.CANCEL))
    assert made.idle


SIZES = st.integers(0, 40_000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), SIZES),
        st.tuples(st.just("stream"), st.integers(1, 20_000)),
        st.tuples(st.just("connection"), st.integers(1, 20_000)),
        st.tuples(st.just("initial"), st.integers(0, 30_000)),
        st.tuples(st.just("frame"), st.integers(16_384, 40_000)),
        st.tuples(st.just("reset"), st.just(0)),
    ),
    max_size=30,
)


@given(st.integers(0, 30_000), STEPS)
@settings(max_examples=150)
def test_windows_that_change_in_the_middle_lose_nothing(initial: int, steps: list[tuple[str, int]]) -> None:
    pair = Pair(Bounds(BOUNDS.body, BOUNDS.fields, 50), own={SettingCodes.INITIAL_WINDOW_SIZE: initial}, reads=False)
    bodies: dict[int, bytes] = {}
    for number, (what, size) in enumerate(steps):
        waiting = [stream for stream in bodies if not pair.got[stream].ended]
        match what:
            case "answer":
                stream = pair.call()
                bodies[stream] = bytes([number]) * size
                answer(pair, stream, bodies[stream])
            case "connection":
                pair.client.increment_flow_control_window(size)
            case "initial":
                pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
            case "frame":
                pair.client.update_settings({SettingCodes.MAX_FRAME_SIZE: size})
            case "stream" if waiting:
                pair.client.increment_flow_control_window(size, waiting[size % len(waiting)])
            case "reset" if waiting:
                pair.client.reset_stream(waiting[0])
                del bodies[waiting[0]]
            case _:
                pass
        pair.run()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10_000_000})
    pair.client.increment_flow_control_window(10_000_000)
    pair.run()
    assert all(has_whole(pair, stream, body) for stream, body in bodies.items())
    assert pair.server.idle
