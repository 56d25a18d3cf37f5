"""The server's side of one HTTP/2 connection, without its socket: bytes in, requests out; answers in, bytes out.

Made for calls of one message each way: a request is told when it is there whole, and an answer is given whole. Windows,
settings, header blocks and the states of streams are RFC 9113's; header compression is RFC 7541's. What a peer may make
us hold is bounded (`Bounds`), and so is the work that a byte of a peer's can make: it grows with no number of streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from nexuskit.backend.rpc.decoding import FIELD_OVERHEAD, Decoder
from nexuskit.backend.rpc.events import Ended, Head, Request, Reset
from nexuskit.backend.rpc.fields import Malformed, checked, content_length
from nexuskit.backend.rpc.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    GOAWAY,
    HAS_PRIORITY,
    HEADER_LENGTH,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_MAX,
    WINDOW_UPDATE,
    ConnectionFault,
    ErrorCode,
    Setting,
    StreamFault,
    frame,
    goaway,
    rst_stream,
    settings,
    window_update,
)
from nexuskit.backend.rpc.sending import Sending

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexuskit.backend.rpc.events import Bounds, Event
    from nexuskit.backend.rpc.fields import Fields

STREAM_WINDOW = 1024 * 1024
"""Bytes of one body that may be under way, and half of which we wait for before we make room again."""
CONNECTION_WINDOW = 16 * 1024 * 1024
"""The same of all bodies of a connection."""
LINE_MAX = 4096
"""Bytes of a first line that is not HTTP/2's, in which we look for HTTP/1."""
BLOCK_FRAMES = 64
"""Frames of one header block at most: it may be cut small, but not so small that it never ends."""
DECODED_MAX = 256 * 1024
"""Bytes of header fields beyond which the connection ends, and not only the request: they are read to go on at all."""
CLOSED_KEPT = 1024
"""Streams that are remembered as closed: frames for them may have been under way."""
HEADS_KEPT = 64
"""Heads that are remembered as read: clients send the same few again and again."""
HEAD_KEPT_MAX = 4096
"""Bytes of header fields of such a head: no client says much again and again."""


@dataclass(slots=True)
class _Stream(Generic[Head]):
    head: Head
    length: int | None
    body: bytes | bytearray = b""
    """What of it is there; bytes as they came where one frame had it all."""
    kept: int = 0
    """Bytes of the body, while we or who answers it may hold them."""
    consumed: int = 0
    """Bytes since we last made room."""
    whole: bool = False
    """Whether the peer has sent all of it."""
    oversized: bool = False
    """Whether it is answered already in effect, and what comes is dropped."""


@dataclass(slots=True)
class _Block:
    """A header block of which frames are missing."""

    stream: int
    ends: bool
    parts: list[bytes]
    size: int


class Connection(Generic[Head]):
    """One connection.

    Args:
        bounds: what the peer may make us hold.
        read_head: makes of a request's pseudo-header fields and fields what `Request.head` is.

    Attributes:
        over: whether nothing is read any more.
        greeted: whether the peer has said that it speaks HTTP/2.
    """

    def __init__(self, bounds: Bounds, read_head: Callable[[dict[bytes, bytes], Fields], Head]) -> None:
        self.over = False
        self.greeted = False
        self._bounds = bounds
        self._read_head = read_head
        self._heads: dict[Fields, tuple[Head, int | None]] = {}
        self._block_max = max(bounds.fields, DECODED_MAX)
        self._decoder = Decoder(self._block_max)
        self._streams: dict[int, _Stream[Head]] = {}
        self._seen = 0
        """The highest stream of the peer's."""
        self._last = 0
        """The highest that we took."""
        self._closed: dict[int, bool] = {}
        """Of the last streams that are closed, whether we closed them before the peer had said all."""
        self._refusing = False
        self._consumed = 0
        self._held = 0
        """Bytes of the bodies of requests that are not answered."""
        self._rest = b""
        self._block: _Block | None = None
        self._events: list[Event[Head]] = []
        self._settled = False
        self._sending = Sending()
        self._sending.out.append(
            settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: bounds.streams,
                    Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    Setting.MAX_HEADER_LIST_SIZE: bounds.fields,
                }
            )
            + window_update(0, CONNECTION_WINDOW - WINDOW)
        )
        self._on = {
            DATA: self._data,
            HEADERS: self._headers,
            PRIORITY: self._priority,
            RST_STREAM: self._rst_stream,
            SETTINGS: self._settings,
            PUSH_PROMISE: self._push_promise,
            PING: self._ping,
            GOAWAY: self._goaway,
            WINDOW_UPDATE: self._window_update,
            CONTINUATION: self._continuation,
        }

    @property
    def streams(self) -> int:
        """How many requests are not answered."""
        return len(self._streams)

    @property
    def idle(self) -> bool:
        """Whether every request is answered, and every answer sent."""
        return not self._streams and not self._sending.waiting

    def take(self) -> bytes:
        """What is to be written to the socket now; it is given once."""
        return self._sending.take()

    def receive(self, data: bytes) -> list[Event[Head]]:
        """What these bytes, the next of the socket's, bring."""
        if self.over:
            return []
        try:
            self._read(self._rest + data if self._rest else data)
            self._sending.pump()
            self._forget_answered()
        except ConnectionFault as fault:
            self._end(fault.code, str(fault))
        events, self._events = self._events, []
        return events

    def answer(self, stream: int, head: bytes, body: bytes = b"", trailers: bytes = b"") -> None:
        """Answer a request: a header block, a body and the header block behind it; the last two may be b"".

        An answer to a request that is not there any more goes nowhere. Of a peer that does not take its answers, the
        request is ended without one.
        """
        if stream in self._streams:
            if self._sending.unsent > self._bounds.held:
                self.reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
                return
            self._sending.answer(stream, head, body, trailers)
            self._forget_answered()

    def reset(self, stream: int, code: ErrorCode) -> None:
        """End a request without an answer."""
        if stream in self._streams:
            self._forget(stream, cut=True)
            self._sending.out.append(rst_stream(stream, code))

    def refuse_more(self) -> None:
        """Take no new request; those that are there are answered."""
        if not self._refusing:
            self._refusing = True
            self._sending.out.append(goaway(self._last, ErrorCode.NO_ERROR))

    # --- bytes to frames

    def _read(self, data: bytes) -> None:
        at = 0
        if not self.greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                line, ends, _ = data[:LINE_MAX].partition(b"\n")
                if not ends and line[:1].isalpha() and len(data) < LINE_MAX:
                    self._rest = data  # which may be a request of HTTP/1
                else:
                    self._end(ErrorCode.PROTOCOL_ERROR, "the connection preface is wrong", http1=b"HTTP/1" in line)
                return
            if len(data) < len(PREFACE):
                self._rest = data
                return
            self.greeted = True
            at = len(PREFACE)
        end = len(data)
        while end - at >= HEADER_LENGTH:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > FRAME_SIZE:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            if end - at - HEADER_LENGTH < length:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + HEADER_LENGTH], "big") & WINDOW_MAX
            at += HEADER_LENGTH
            payload = data[at : at + length]
            at += length
            self._frame(kind, flags, stream, payload)
            if self.over:
                return
        self._rest = data[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if not self._settled:
            if kind != SETTINGS or flags & ACK:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS frame")
            self._settled = True
        if self._block is not None and (kind != CONTINUATION or stream != self._block.stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame in the middle of a header block")
        handle = self._on.get(kind)
        if handle is None:
            return  # an extension that we do not know
        try:
            handle(flags, stream, payload)
        except StreamFault as fault:
            self._sending.out.append(rst_stream(fault.stream, fault.code))
            if fault.stream in self._streams:
                self._forget(fault.stream, cut=True)
                self._events.append(Reset(fault.stream))
            else:
                self._remember(fault.stream, cut=True)

    def _end(self, code: ErrorCode, why: str, *, http1: bool = False) -> None:
        self.over = True
        self._rest = b""
        if http1:
            self._sending.out.clear()
        else:
            self._sending.out.append(goaway(self._last, code, why))
        self._events.append(Ended(why, http1))

    # --- streams

    def _forget(self, stream: int, *, cut: bool) -> None:
        self._held -= self._streams.pop(stream).kept
        self._sending.drop(stream)
        self._remember(stream, cut=cut)

    def _forget_answered(self) -> None:
        for stream in self._sending.closed:
            known = self._streams.pop(stream)
            self._held -= known.kept
            if not known.whole:
                # All is said before the peer has said all (section 8.1).
                self._sending.out.append(rst_stream(stream, ErrorCode.NO_ERROR))
            self._remember(stream, cut=not known.whole)
        self._sending.closed.clear()

    def _remember(self, stream: int, *, cut: bool) -> None:
        self._closed[stream] = cut
        if len(self._closed) > CLOSED_KEPT:
            del self._closed[next(iter(self._closed))]

    def _idle(self, stream: int) -> bool:
        """Whether no frame of it was ever seen."""
        return stream > self._seen or stream % 2 == 0

    # --- frames, each by its section of RFC 9113

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:  # 6.2
        if stream % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that is no client's")
        payload = _unpadded(flags, payload)
        if flags & HAS_PRIORITY:
            if len(payload) < 5 or _dependency(payload) == stream:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS with a priority that is none")
            payload = payload[5:]
        self._block = _Block(stream, bool(flags & END_STREAM), [payload], len(payload))
        if flags & END_HEADERS:
            self._block_ended(self._block)

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:  # 6.10
        if self._block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of no header block")
        self._block.parts.append(payload)
        self._block.size += len(payload)
        if len(self._block.parts) > BLOCK_FRAMES or self._block.size > self._block_max:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block that does not end")
        if flags & END_HEADERS:
            self._block_ended(self._block)

    def _block_ended(self, block: _Block) -> None:
        self._block = None
        encoded = block.parts[0] if len(block.parts) == 1 else b"".join(block.parts)
        # In any case: the decoder's table is the connection's.
        fields = self._decoder.decode(encoded)
        known = self._streams.get(block.stream)
        if known is not None:
            self._trailers(block, known, fields)
        elif block.stream > self._seen:
            self._request(block, fields)
        elif block.stream not in self._closed:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a new stream with an old number")
        elif not self._closed[block.stream]:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a stream that is closed")

    def _request(self, block: _Block, fields: Fields) -> None:
        self._seen = block.stream
        if self._refusing or len(self._streams) >= self._bounds.streams:
            raise StreamFault(block.stream, ErrorCode.REFUSED_STREAM, "no more requests")
        self._last = block.stream
        found = self._heads.get(fields)
        size = 0
        if found is None:
            try:
                pseudo, regular = checked(fields)
                found = self._read_head(pseudo, regular), content_length(regular)
            except Malformed as error:
                raise StreamFault(block.stream, ErrorCode.PROTOCOL_ERROR, str(error)) from None
            size = sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields)
            if size <= min(HEAD_KEPT_MAX, self._bounds.fields):
                if len(self._heads) >= HEADS_KEPT:
                    self._heads.clear()
                self._heads[fields] = found
        head, length = found
        stream = self._streams[block.stream] = _Stream(head, length)
        self._sending.open(block.stream)
        if size > self._bounds.fields:
            stream.oversized = True
            self._events.append(Request(block.stream, head, b"", "fields"))
        if block.ends:
            self._request_ended(block.stream, stream)

    def _trailers(self, block: _Block, stream: _Stream[Head], fields: Fields) -> None:
        if stream.whole:
            raise StreamFault(block.stream, ErrorCode.STREAM_CLOSED, "HEADERS behind the end of a request")
        if not block.ends or any(name.startswith(b":") for name, _ in fields):
            raise StreamFault(block.stream, ErrorCode.PROTOCOL_ERROR, "trailers that end no request")
        self._request_ended(block.stream, stream)

    def _request_ended(self, number: int, stream: _Stream[Head]) -> None:
        if stream.oversized:
            stream.whole = True
            return
        if stream.length is not None and stream.length != stream.kept:
            raise StreamFault(number, ErrorCode.PROTOCOL_ERROR, "the body is not as long as content-length says")
        stream.whole = True
        body, stream.body = bytes(stream.body), b""
        self._events.append(Request(number, stream.head, body))

    def _data(self, flags: int, stream: int, payload: bytes) -> None:  # 6.1
        if stream == 0 or self._idle(stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that was never opened")
        # Padding is counted, and so is what comes for a stream that is gone.
        length = len(payload)
        self._consumed += length
        if self._consumed >= CONNECTION_WINDOW // 2:
            self._sending.out.append(window_update(0, self._consumed))
            self._consumed = 0
        payload = _unpadded(flags, payload)
        known = self._streams.get(stream)
        if known is None and self._closed.get(stream):
            return
        if known is None or known.whole:
            raise StreamFault(stream, ErrorCode.STREAM_CLOSED, "DATA on a stream that is closed")
        known.consumed += length
        if known.consumed > STREAM_WINDOW:
            raise StreamFault(stream, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window has room for")
        if payload and not known.oversized:
            self._keep(stream, known, payload)
        if flags & END_STREAM:
            self._request_ended(stream, known)
        elif known.consumed >= STREAM_WINDOW // 2 and not known.oversized:
            self._sending.out.append(window_update(stream, known.consumed))
            known.consumed = 0

    def _keep(self, number: int, stream: _Stream[Head], payload: bytes) -> None:
        if stream.kept + len(payload) > self._bounds.body:
            self._held -= stream.kept
            stream.kept, stream.body, stream.oversized = 0, b"", True
            self._events.append(Request(number, stream.head, b"", "body"))
            return
        if self._held + len(payload) > self._bounds.held and self._held > stream.kept:
            raise StreamFault(number, ErrorCode.REFUSED_STREAM, "there is no room for more bodies")
        self._held += len(payload)
        stream.kept += len(payload)
        if not stream.body:
            stream.body = payload
        else:
            # Not a list of what came: a peer may send it in pieces smaller than what each would cost us.
            if isinstance(stream.body, bytes):
                stream.body = bytearray(stream.body)
            stream.body += payload

    def _priority(self, _: int, stream: int, payload: bytes) -> None:  # 6.3
        if stream == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:
            raise StreamFault(stream, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has 5 bytes")
        if _dependency(payload) == stream:
            raise StreamFault(stream, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")

    def _rst_stream(self, _: int, stream: int, payload: bytes) -> None:  # 6.4
        if stream == 0 or self._idle(stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of a stream that was never opened")
        _check_length("RST_STREAM", payload, 4)
        if stream in self._streams:
            self._forget(stream, cut=False)
            self._events.append(Reset(stream))

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:  # 6.5
        if stream != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & ACK:
            _check_length("SETTINGS with ACK", payload, 0)
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a setting has 6 bytes")
        for at in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            self._sending.set_peer(key, value)
        self._sending.out.append(frame(SETTINGS, ACK, 0))

    def _push_promise(self, _flags: int, _stream: int, _payload: bytes) -> None:  # 6.6
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:  # 6.7
        if stream != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        _check_length("PING", payload, 8)
        if not flags & ACK:
            self._sending.out.append(frame(PING, ACK, 0, payload))

    def _goaway(self, _: int, stream: int, payload: bytes) -> None:  # 6.8
        if stream != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has at least 8 bytes")

    def _window_update(self, _: int, stream: int, payload: bytes) -> None:  # 6.9
        _check_length("WINDOW_UPDATE", payload, 4)
        if stream != 0 and self._idle(stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that was never opened")
        self._sending.more_room(stream, int.from_bytes(payload, "big") & WINDOW_MAX)


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def _dependency(priority: bytes) -> int:
    return int.from_bytes(priority[:4], "big") & WINDOW_MAX


def _check_length(what: str, payload: bytes, length: int) -> None:
    if len(payload) != length:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{what} has {length} bytes, not {len(payload)}")
