"""What a connection has to send: answers, cut into frames, as far as the peer's windows allow (RFC 9113: 5.2, 6.9)."""

from __future__ import annotations

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
        self._windows: dict[int, int] = {}
        self._waiting: dict[int, _Answer] = {}
        self._update_table = False

    @property
    def waiting(self) -> bool:
        """Whether an answer waits for the peer to make room."""
        return bool(self._waiting)

    def take(self) -> bytes:
        """What is to be written now; it is given once."""
        data = b"".join(self.out)
        self.out.clear()
        return data

    def open(self, stream: int) -> None:
        """A stream is there, and can be answered."""
        self._windows[stream] = self._initial

    def drop(self, stream: int) -> None:
        """A stream is gone, and what was to be sent on it too."""
        self._windows.pop(stream, None)
        self._waiting.pop(stream, None)

    def answer(self, stream: int, head: bytes, body: bytes, trailers: bytes) -> None:
        """Send an answer: the header block, the body, and the header block behind it; the last two may be b"".

        The stream must be open and not answered before.
        """
        if not body and not trailers:
            self._send_block(stream, head, END_STREAM)
            self._finished(stream)
            return
        self._send_block(stream, head, 0)
        if len(body) <= self._frame_size and len(body) <= self._windows[stream] and len(body) <= self._window:
            self._window -= len(body)
            self._windows[stream] -= len(body)
            self.out.append(frame(DATA, 0, stream, body))
            self._end(stream, trailers)
        else:
            self._waiting[stream] = _Answer(stream, memoryview(body), trailers)
            self._pump()

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
        elif stream in self._windows:
            if increment == 0:
                raise StreamFault(stream, ErrorCode.PROTOCOL_ERROR, "a window update of nothing")
            if self._windows[stream] + increment > WINDOW_MAX:
                raise StreamFault(stream, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is too large")
            self._windows[stream] += increment
        self._pump()

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
            change = value - self._initial
            self._initial = value
            for stream in self._windows:
                self._windows[stream] += change
                if self._windows[stream] > WINDOW_MAX:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window of a stream is too large")
            self._pump()
        elif key == Setting.MAX_FRAME_SIZE:
            if not FRAME_SIZE <= value <= FRAME_SIZE_MAX:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of its range")
            self._frame_size = value

    def _pump(self) -> None:
        for answer in list(self._waiting.values()):
            if not self._send_rest(answer):
                continue
            del self._waiting[answer.stream]
            self._end(answer.stream, answer.trailers)

    def _send_rest(self, answer: _Answer) -> bool:
        """Whether all of it went."""
        while answer.rest:
            room = min(self._window, self._windows[answer.stream], self._frame_size)
            if room <= 0:
                return False
            part = answer.rest[:room]
            answer.rest = answer.rest[room:]
            self._window -= len(part)
            self._windows[answer.stream] -= len(part)
            self.out.append(frame(DATA, 0, answer.stream, part))
        return True

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
        del self._windows[stream]
        self.closed.append(stream)
