"""The other side of a connection in memory: `h2` as a client, and frames by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
from h2.settings import SettingCodes

from nexuskit.backend.rpc.connection import Connection
from nexuskit.backend.rpc.events import Bounds, Ended, Event, Request
from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_LENGTH,
    HEADERS,
    PREFACE,
    RST_STREAM,
    ErrorCode,
    frame,
    settings,
)

Field = tuple[bytes, bytes]
Head = tuple[Field, ...]
"""What the tests keep of a request's head: all its fields but the pseudo-header fields."""

CALL: list[Field] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.Service/Method"),
    (b":authority", b"here"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
BLOCK = block(CALL)
BOUNDS = Bounds(body=100_000, fields=2_000, streams=10)
HELLO = PREFACE + settings({})


def read_head(pseudo: dict[bytes, bytes], fields: Head) -> Head:
    return fields


def connection(bounds: Bounds = BOUNDS) -> Connection[Head]:
    """One whose client has said nothing yet, and that has nothing left to say."""
    made = Connection(bounds, read_head)
    made.take()
    return made


def greeted(bounds: Bounds = BOUNDS) -> Connection[Head]:
    """One whose client has greeted it."""
    made = connection(bounds)
    assert made.receive(HELLO) == []
    made.take()
    return made


def headers(stream: int, encoded: bytes = BLOCK, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """A HEADERS frame, by default of a whole request."""
    return frame(HEADERS, flags, stream, encoded)


def cut(stream: int, encoded: bytes, sizes: Iterable[int], flags: int = END_STREAM) -> bytes:
    """A header block over a HEADERS frame and CONTINUATION frames of these sizes, the last of which ends it."""
    at, frames, kind = 0, [], HEADERS
    for size in sizes:
        frames.append(frame(kind, flags, stream, encoded[at : at + size]))
        at, kind, flags = at + size, CONTINUATION, 0
    return b"".join([*frames, frame(kind, flags | END_HEADERS, stream, encoded[at:])])


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


def frames(data: bytes) -> list[Frame]:
    """What bytes that are whole frames say."""
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "big")
        body = data[at + HEADER_LENGTH : at + HEADER_LENGTH + length]
        assert len(body) == length
        found.append(Frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), body))
        at += HEADER_LENGTH + length
    return found


def goaway_in(data: bytes) -> tuple[int, ErrorCode] | None:
    """Of the last GOAWAY frame: the last stream that was looked at, and why the connection ends."""
    said = [each.payload for each in frames(data) if each.kind == GOAWAY]
    return (int.from_bytes(said[-1][:4], "big"), ErrorCode(int.from_bytes(said[-1][4:8], "big"))) if said else None


def resets_in(data: bytes) -> dict[int, ErrorCode]:
    """The streams that are reset, and why."""
    return {
        each.stream: ErrorCode(int.from_bytes(each.payload, "big")) for each in frames(data) if each.kind == RST_STREAM
    }


@dataclass
class Got:
    """What the client has got for one of its requests."""

    head: list[Field] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[Field] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None


class Pair:
    """A connection, and `h2` as its client, which checks all that it gets.

    Args:
        bounds: the connection's.
        own: settings of the client.
        reads: whether the client makes room for what it got, as clients that read do.
    """

    def __init__(
        self, bounds: Bounds = BOUNDS, own: dict[SettingCodes, int] | None = None, *, reads: bool = True
    ) -> None:
        self.server = Connection(bounds, read_head)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.client.local_settings = h2.settings.Settings(
            client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, **(own or {})}
        )
        self.reads = reads
        self.told: list[Event[Head]] = []
        """Everything that the server was told."""
        self.got: dict[int, Got] = {}
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.client.initiate_connection()
        self.run()

    def run(self) -> list[Event[Head]]:
        """Carries bytes to and fro until there are none; answers with what the server was told by them."""
        told: list[Event[Head]] = []
        while True:
            there, back = self.client.data_to_send(), self.server.take()
            if not there and not back:
                self.told += told
                return told
            if there:
                told += self.server.receive(there)
            if back:
                self._receive(back)

    def open(self, *, ends: bool = True, more: Sequence[Field] = ()) -> int:
        """Begins a request."""
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, [*CALL, *more], end_stream=ends)
        self.got[stream] = Got()
        return stream

    def send(self, stream: int, body: bytes, *, ends: bool = True) -> None:
        """Sends a body, as the windows allow it."""
        at = 0
        while at < len(body):
            room = min(self.client.local_flow_control_window(stream), self.client.max_outbound_frame_size)
            assert room > 0, "the server makes no room"
            self.client.send_data(stream, body[at : at + room])
            at += room
            self.run()
        if ends:
            self.client.end_stream(stream)

    def call(self, body: bytes = b"") -> int:
        """A whole request, of which the server is told."""
        stream = self.open(ends=False)
        self.send(stream, body)
        told = self.run()
        assert [(each.stream, each.body) for each in told if isinstance(each, Request)][-1:] == [(stream, body)]
        return stream

    def _receive(self, data: bytes) -> None:
        for event in self.client.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self.got[event.stream_id].head = list(event.headers)
                case h2.events.DataReceived():
                    self.got[event.stream_id].body += event.data
                    if self.reads and event.flow_controlled_length:
                        self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.TrailersReceived():
                    self.got[event.stream_id].trailers = list(event.headers)
                case h2.events.StreamEnded():
                    self.got[event.stream_id].ended = True
                case h2.events.StreamReset():
                    self.got[event.stream_id].reset = event.error_code
                case h2.events.ConnectionTerminated():
                    self.goaway = event
                case _:
                    pass


def ended(events: Iterable[Event[Head]]) -> Ended | None:
    """The end among what the server was told."""
    return next((each for each in events if isinstance(each, Ended)), None)


def pieces(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """The data in pieces of these sizes, and the rest."""
    ends = [0, *itertools.accumulate(sizes)]
    return [data[begin:end] for begin, end in itertools.pairwise(ends)] + [data[ends[-1] :]]
