"""What a connection has to send: answers, cut into frames, as far as the peer's windows allow (RFC 9113: 5.2, 6.9)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from nexuskit.backend.rpc.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    FRAME_SIZE_MAX,
    HEADERS,
    WINDOW,
    WINDOW_MAX,
    ConnectionFault,
    ErrorCode,
    Setting,
    StreamFault,
    frame,
)

EMPTY_TABLE = b"\x20"
"""A header block's first byte that sets the dynamic table's size to 0 (RFC 7541, section 6.3)."""


@dataclass(slots=True)
class _Answer:
    """A body of which not all has gone.

    Attributes:
        stream: its stream.
        rest: what is left of it.
        trailers: the header block behind it.
    """

    stream: int
    rest: memoryview
    trailers: bytes


class Sending:
    """The sending side of one connection.

    What a peer says of its windows costs the same however many answers wait: streams are noted, and looked at when all
    that came is read (`pump`).

    Attributes:
        out: frames that are to be written.
        closed: streams whose answers have gone out whole, for the one who opened them to take.
    """

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.closed: list[int] = []
        self._window = WINDOW
        self._initial = WINDOW
        self._frame_size = FRAME_SIZE
        self._gained: dict[int, int] = {}
        """What the window of each open stream has beyond the initial one; below 0 where more was sent than came."""
        self._most_gained = 0
        """No open stream's is more."""
        self._waiting: dict[int, _Answer] = {}
        self._ready: OrderedDict[int, _Answer] = OrderedDict()
        """Those that wait and whose own windows have, or may have, room."""
        self._widened = False
        """Whether the initial window has grown, and so every stream's."""
        self._update_table = False
        self._kept = 0
        self._written = 0

    @property
    def waiting(self) -> bool:
        """Whether an answer waits for the peer to make room."""
        return bool(self._waiting)

    @property
    def unsent(self) -> int:
        """Bytes of answers that are not taken."""
        return self._kept + self._written

    def take(self) -> bytes:
        """What is to be written now; it is given once."""
        data = b"".join(self.out)
        self.out.clear()
        self._written = 0
        return data

    def open(self, stream: int) -> None:
        """A stream is there, and can be answered."""
        self._gained[stream] = 0

    def drop(self, stream: int) -> None:
        """A stream is gone, and what was to be sent on it too."""
        self._gained.pop(stream, None)
        self._ready.pop(stream, None)
        if (answer := self._waiting.pop(stream, None)) is not None:
            self._kept -= len(answer.rest)

    def answer(self, stream: int, head: bytes, body: bytes, trailers: bytes) -> None:
        """Send an answer: the header block, the body, and the header block behind it; the last two may be b"".

        The stream must be open and not answered before.
        """
        size = len(body)
        self._written += len(head) + len(trailers)
        if not size and not trailers:
            self._send_block(stream, head, END_STREAM)
            self._finished(stream)
            return
        self._send_block(stream, head, 0)
        if not size or size <= min(self._frame_size, self._window, self._initial + self._gained[stream]):
            self._written += size
            self._window -= size
            self._gained[stream] -= size
            self.out.append(frame(DATA, 0, stream, body))
            self._end(stream, trailers)
        else:
            self._kept += size
            self._waiting[stream] = self._ready[stream] = _Answer(stream, memoryview(body), trailers)
            self._send_ready()

    def more_room(self, stream: int, increment: int) -> None:
        """The peer takes so many bytes more, on a stream, or on the connection (stream 0).

        Raises:
            ConnectionFault, StreamFault: that is nothing, or more than a window can be.
        """
        if stream == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window update of nothing")
            if self._window + increment > WINDOW_MAX:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
            self._window += increment
        elif stream in self._gained:
            if increment == 0:
                raise StreamFault(stream, ErrorCode.PROTOCOL_ERROR, "a window update of nothing")
            gained = self._gained[stream] + increment
            if self._initial + gained > WINDOW_MAX:
                raise StreamFault(stream, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is too large")
            self._gained[stream] = gained
            self._most_gained = max(self._most_gained, gained)
            if stream in self._waiting:
                self._ready[stream] = self._waiting[stream]

    def set_peer(self, key: int, value: int) -> None:
        """What the peer said of itself; unknown settings mean nothing.

        Raises:
            ConnectionFault: a value that the setting cannot have.
        """
        if key == Setting.HEADER_TABLE_SIZE:
            # Ours is always empty. A peer that makes it smaller waits to be told so (RFC 7541, section 4.2).
            self._update_table = True
        elif key == Setting.ENABLE_PUSH:
            if value not in (0, 1):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is 0 or 1")
        elif key == Setting.INITIAL_WINDOW_SIZE:
            if value > WINDOW_MAX:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
            if value + self._most_gained > WINDOW_MAX:
                self._most_gained = max(self._gained.values(), default=0)
                if value + self._most_gained > WINDOW_MAX:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window of a stream is too large")
            self._widened = self._widened or value > self._initial
            self._initial = value
        elif key == Setting.MAX_FRAME_SIZE:
            if not FRAME_SIZE <= value <= FRAME_SIZE_MAX:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of its range")
            self._frame_size = value

    def pump(self) -> None:
        """Send what the windows have room for now."""
        if self._widened:
            self._widened = False
            for stream, answer in self._waiting.items():
                if self._initial + self._gained[stream] > 0:
                    self._ready[stream] = answer
        if self._ready:
            self._send_ready()

    def _send_ready(self) -> None:
        while self._ready and self._window > 0:
            stream, answer = next(iter(self._ready.items()))
            self._send_part(answer)
            if not answer.rest:
                del self._waiting[stream], self._ready[stream]
                self._end(stream, answer.trailers)
            elif self._initial + self._gained[stream] <= 0:
                del self._ready[stream]

    def _send_part(self, answer: _Answer) -> None:
        stream = answer.stream
        while answer.rest:
            room = min(self._window, self._initial + self._gained[stream], self._frame_size)
            if room <= 0:
                return
            part = answer.rest[:room]
            answer.rest = answer.rest[room:]
            size = len(part)
            self._window -= size
            self._gained[stream] -= size
            self._kept -= size
            self._written += size
            self.out.append(frame(DATA, 0, stream, part))

    def _end(self, stream: int, trailers: bytes) -> None:
        if trailers:
            self._send_block(stream, trailers, END_STREAM)
        else:
            self.out.append(frame(DATA, END_STREAM, stream))
        self._finished(stream)

    def _send_block(self, stream: int, fields: bytes, flags: int) -> None:
        if self._update_table:
            self._update_table = False
            fields = EMPTY_TABLE + fields
        kind, size = HEADERS, self._frame_size
        while len(fields) > size:
            self.out.append(frame(kind, flags, stream, fields[:size]))
            kind, flags, fields = CONTINUATION, 0, fields[size:]
        self.out.append(frame(kind, flags | END_HEADERS, stream, fields))

    def _finished(self, stream: int) -> None:
        del self._gained[stream]
        self.closed.append(stream)
