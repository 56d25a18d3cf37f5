"""Random walks of a client and a server on one connection, with `h2` as the client: at the end nothing is left."""

from __future__ import annotations

from collections import Counter

from h2.settings import SettingCodes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from nexuskit.backend.rpc.events import Bounds, Ended, Request, Reset
from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import ErrorCode
from tests.backend.rpc.peer import Pair

BOUNDS = Bounds(body=50_000, fields=2_000, streams=6)
HEAD = [(b":status", b"200")]
END = [(b"grpc-status", b"0")]
EXAMPLES = 50


class Walks(RuleBasedStateMachine):
    @initialize(window=st.sampled_from([0, 1, 100, 65_535, 1_000_000]))
    def begin(self, window: int) -> None:
        self.pair = Pair(BOUNDS, own={SettingCodes.INITIAL_WINDOW_SIZE: window}, reads=False)
        self.open: dict[int, bytes] = {}
        """Requests that are not whole, and what of their bodies is sent."""
        self.whole: dict[int, bytes] = {}
        """Requests that are whole and not answered."""
        self.answers: dict[int, bytes] = {}
        self.dropped: set[int] = set()
        """Streams that somebody reset."""
        self.stopping = False

    def run_(self) -> None:
        for event in self.pair.run():
            match event:
                case Request(stream, _, body, oversized):
                    if oversized:
                        assert len(self.open[stream]) > BOUNDS.body
                    else:
                        assert body == self.whole[stream]
                case Reset(stream):
                    assert stream in self.dropped
                case Ended(why):
                    raise AssertionError(why)
        for stream, got in self.pair.got.items():
            if got.reset is not None and stream not in self.answers:
                self.dropped.add(stream)
                self.open.pop(stream, None)
                self.whole.pop(stream, None)

    def some(self, of: dict[int, bytes], number: int) -> int:
        return sorted(of)[number % len(of)]

    @precondition(lambda self: self.pair.client.open_outbound_streams < BOUNDS.streams and not self.stopping)
    @rule(ends=st.booleans(), table=st.sampled_from([b"", b"a", b"b" * 300]))
    def ask(self, ends: bool, table: bytes) -> None:
        stream = self.pair.open(ends=ends, more=[(b"x-own", table)] if table else [])
        (self.whole if ends else self.open)[stream] = b""
        self.run_()

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 100), size=st.sampled_from([0, 1, 2_000, 16_384, 40_000]), ends=st.booleans())
    def send(self, number: int, size: int, ends: bool) -> None:
        stream = self.some(self.open, number)
        body = bytes([number % 251]) * size
        sent = self.open[stream] = self.open[stream] + body
        self.pair.send(stream, body, ends=False)
        self.run_()
        if ends and stream in self.open:
            self.pair.client.end_stream(stream)
            del self.open[stream]
            if len(sent) <= BOUNDS.body:
                self.whole[stream] = sent
            self.run_()

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 100))
    def end_by_trailers(self, number: int) -> None:
        stream = self.some(self.open, number)
        sent = self.open.pop(stream)
        if len(sent) <= BOUNDS.body:
            self.whole[stream] = sent
        self.pair.client.send_headers(stream, [(b"x-trailer", b"1")], end_stream=True)
        self.run_()

    @precondition(lambda self: self.whole)
    @rule(number=st.integers(0, 100), size=st.sampled_from([0, 1, 5, 1_000, 20_000, 70_000]))
    def answer(self, number: int, size: int) -> None:
        stream = self.some(self.whole, number)
        self.whole.pop(stream)
        self.answers[stream] = bytes([stream % 251]) * size
        self.pair.server.answer(stream, block(HEAD), self.answers[stream], block(END))
        self.run_()

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 100))
    def answer_too_early(self, number: int) -> None:
        stream = self.some(self.open, number)
        self.open.pop(stream)
        self.answers[stream] = b""
        self.pair.server.answer(stream, block([*HEAD, *END]))
        self.run_()

    @precondition(lambda self: self.open or self.whole)
    @rule(number=st.integers(0, 100), by_server=st.booleans())
    def reset(self, number: int, by_server: bool) -> None:
        stream = self.some({**self.open, **self.whole}, number)
        self.open.pop(stream, None)
        self.whole.pop(stream, None)
        self.dropped.add(stream)
        if by_server:
            self.pair.server.reset(stream, ErrorCode.CANCEL)
        else:
            self.pair.client.reset_stream(stream)
        self.run_()

    @precondition(lambda self: any(not self.pair.got[stream].ended for stream in self.answers))
    @rule(number=st.integers(0, 100), size=st.integers(1, 30_000))
    def make_room(self, number: int, size: int) -> None:
        waiting = {s: b for s, b in self.answers.items() if not self.pair.got[s].ended}
        self.pair.client.increment_flow_control_window(size, self.some(waiting, number))
        self.run_()

    @precondition(lambda self: any(not self.pair.got[stream].ended for stream in self.answers))
    @rule(number=st.integers(0, 100))
    def give_up_an_answer(self, number: int) -> None:
        stream = self.some({s: b for s, b in self.answers.items() if not self.pair.got[s].ended}, number)
        del self.answers[stream]
        self.dropped.add(stream)
        self.pair.client.reset_stream(stream)
        self.run_()

    @rule(size=st.integers(1, 30_000))
    def make_room_for_all(self, size: int) -> None:
        self.pair.client.increment_flow_control_window(size)
        self.run_()

    @rule(
        change=st.sampled_from(
            [
                {SettingCodes.INITIAL_WINDOW_SIZE: 0},
                {SettingCodes.INITIAL_WINDOW_SIZE: 10},
                {SettingCodes.INITIAL_WINDOW_SIZE: 20_000},
                {SettingCodes.MAX_FRAME_SIZE: 16_384},
                {SettingCodes.MAX_FRAME_SIZE: 60_000},
                {SettingCodes.HEADER_TABLE_SIZE: 0},
                {SettingCodes.HEADER_TABLE_SIZE: 4_096},
            ]
        )
    )
    def set_something(self, change: dict[SettingCodes, int]) -> None:
        self.pair.client.update_settings(change)
        self.run_()

    @rule()
    def ping(self) -> None:
        self.pair.client.ping(b"12345678")
        self.run_()

    @rule()
    def stop(self) -> None:
        self.stopping = True
        self.pair.server.refuse_more()
        # Not to the client: `h2` takes nothing more behind it.
        self.pair.server.take()

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        for stream in list(self.open):
            self.pair.client.end_stream(stream)
            sent = self.open.pop(stream)
            if len(sent) <= BOUNDS.body:
                self.whole[stream] = sent
        self.run_()
        told = Counter(each.stream for each in self.pair.told if isinstance(each, Request))
        assert set(told.values()) <= {1}
        for stream in self.pair.got:
            if stream in self.whole or self.answers.get(stream):
                assert told[stream] == 1
            assert told[stream] == 1 or stream in self.dropped or stream in self.answers
            if not (stream in self.answers or stream in self.dropped):
                self.answers[stream] = b"late"
                self.pair.server.answer(stream, block(HEAD), b"late", block(END))
        self.pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
        self.pair.client.increment_flow_control_window(10_000_000)
        self.run_()
        for stream, body in self.answers.items():
            got = self.pair.got[stream]
            assert (got.ended, bytes(got.body)) == (True, body)
        assert self.pair.server.idle
        assert self.pair.server.streams == 0
        assert self.pair.server._sending.unsent == 0
        assert self.pair.server._held == 0


Walks.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestWalks = Walks.TestCase
