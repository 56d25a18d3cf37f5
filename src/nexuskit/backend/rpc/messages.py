"""How a call of one message each way travels in an HTTP/2 request (grpc/grpc: doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from nexuskit.backend.rpc.fields import Malformed, block

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nexuskit.backend.rpc.fields import Fields

PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""
IDENTITY = "identity"
ENCODINGS: Mapping[str, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Compressions that are read, and zlib's name for each. Nothing that is sent is compressed."""
UNITS: Mapping[str, int] = {
    "H": 3_600_000_000_000,
    "M": 60_000_000_000,
    "S": 1_000_000_000,
    "m": 1_000_000,
    "u": 1_000,
    "n": 1,
}
"""Of `grpc-timeout`, in nanoseconds."""
OWN = frozenset({b"te", b"content-type", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"content-length"})
"""Fields that are gRPC's or HTTP's, and nobody's metadata."""

_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto|;.*|\Z)", re.IGNORECASE)
_PLAIN = bytes(code for code in range(0x20, 0x7F) if code != ord("%"))
"""What stands for itself in `grpc-message`."""

_BEGIN = ((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"gzip,deflate"))
_PLAIN_TEXT = (b"content-type", b"text/plain")
HEAD = block(_BEGIN)
"""The header block before an answer that is a message."""
OK = block([(b"grpc-status", b"0")])
"""The header block behind it."""


RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 8, 12, 13
"""gRPC's numbers of what is wrong with a message (grpc/grpc: doc/statuscodes.md)."""

Answer = tuple[bytes, bytes, bytes]
"""A header block, a body and the header block behind it; or a header block alone."""


class Unreadable(Exception):
    """A body that holds no one message.

    Attributes:
        code: gRPC's number of the status that says so.
    """

    def __init__(self, why: str, code: int = INTERNAL) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Head:
    """What a call says of itself.

    Attributes:
        path: "/package.Service/Method".
        pairs: its metadata; names that end in "-bin" have bytes for values.
        timeout: what the caller waits (ns), 0 for ever.
        encoding: the compression of messages that are compressed.
        refusal: what to answer at once, where this is no call of gRPC's.
    """

    path: str
    pairs: tuple[tuple[str, str | bytes], ...]
    timeout: int
    encoding: str
    refusal: Answer | None = None


def read_head(pseudo: Mapping[bytes, bytes], fields: Fields) -> Head:
    """What the fields of a request say.

    Raises:
        Malformed: a path or a value is no text, or binary metadata is not base64.
    """
    own = {name: value for name, value in fields if name in OWN}
    refusal = None
    if pseudo[b":method"] != b"POST":
        refusal = block([(b":status", b"405"), (b"allow", b"POST"), _PLAIN_TEXT]), b"A call of gRPC is a POST.\n", b""
    elif not _CONTENT_TYPE.match(own.get(b"content-type", b"")):
        refusal = block([(b":status", b"415"), _PLAIN_TEXT]), b"A call of gRPC has the type application/grpc.\n", b""
    try:
        path = pseudo[b":path"].decode("ascii")
        pairs = tuple(pair for name, value in fields if name not in OWN for pair in _pairs(name, value))
        said = own.get(b"grpc-timeout", b"").decode("ascii")
        encoding = own.get(b"grpc-encoding", IDENTITY.encode()).decode("ascii")
    except (UnicodeDecodeError, binascii.Error) as error:
        raise Malformed(f"a field cannot be read: {error}") from None
    timeout = _timeout(said)
    if timeout is None:
        refusal = refusal or refused(INTERNAL, f"malformed grpc-timeout: {said!r} is no number with a unit")
    return Head(path, pairs, timeout or 0, encoding, refusal)


def read_message(body: bytes, encoding: str, size: int) -> bytes:
    """The one message in a request's body.

    Args:
        body: the body.
        encoding: the compression that the head names.
        size: how many bytes a message may have, compressed or not.

    Raises:
        Unreadable: there is none, or more than one, or it is too large or wrongly compressed.
    """
    if len(body) < PREFIX:
        raise Unreadable("a request holds one message, not none")
    length = int.from_bytes(body[1:PREFIX], "big")
    if length > size:
        raise Unreadable(f"received message larger than max ({length} vs. {size})", RESOURCE_EXHAUSTED)
    if length != len(body) - PREFIX:
        raise Unreadable(f"a request holds one message of {length} bytes, and {len(body) - PREFIX} came")
    message = body[PREFIX:]
    if body[0] == 0:
        return message
    if body[0] != 1:
        raise Unreadable(f"a message is compressed or not (1 or 0), not {body[0]}")
    return _decompressed(message, encoding, size)


def _decompressed(message: bytes, encoding: str, size: int) -> bytes:
    if encoding not in ENCODINGS:
        wanted = ", ".join(ENCODINGS)
        raise Unreadable(f"a message is compressed by one of {wanted}, not by {encoding!r}", UNIMPLEMENTED)
    stream = zlib.decompressobj(ENCODINGS[encoding])
    try:
        found = stream.decompress(message, size + 1)
    except zlib.error as error:
        raise Unreadable(f"a message is not in {encoding} as its head says: {error}") from None
    if len(found) > size:
        raise Unreadable(f"received message after decompression larger than max {size}", RESOURCE_EXHAUSTED)
    if not stream.eof:
        raise Unreadable(f"a message in {encoding} ends before its end")
    if stream.unused_data:
        raise Unreadable(f"a message in {encoding} has something behind its end")
    return found


def answered(content: bytes) -> Answer:
    """The answer that is a message."""
    return HEAD, b"\0" + len(content).to_bytes(4, "big") + content, OK


def refused(code: int, why: str, metadata: Iterable[tuple[str, bytes]] = ()) -> Answer:
    """The answer that is a status and nothing else.

    Args:
        code: gRPC's number of the status.
        why: its message.
        metadata: binary metadata, by names that end in "-bin".
    """
    binary = [(name.encode(), base64.b64encode(value).rstrip(b"=")) for name, value in metadata]
    return block([*_BEGIN, (b"grpc-status", str(code).encode()), (b"grpc-message", _said(why)), *binary]), b"", b""


def _said(why: str) -> bytes:
    said = quote_from_bytes(why.encode("utf-8", "replace"), safe=_PLAIN)
    # No field's value begins or ends with a space (RFC 9113, section 8.2.1).
    if said[:1] == " ":
        said = "%20" + said[1:]
    if said[-1:] == " ":
        said = said[:-1] + "%20"
    return said.encode()


def _pairs(name: bytes, value: bytes) -> Iterable[tuple[str, str | bytes]]:
    if not name.endswith(b"-bin"):
        return [(name.decode("ascii"), value.decode("latin-1"))]
    # Values of one name may come as one, with commas between.
    return [(name.decode("ascii"), _unpadded(each.strip())) for each in value.split(b",")]


def _unpadded(value: bytes) -> bytes:
    return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)


def _timeout(said: str) -> int | None:
    """In nanoseconds, 0 for none; None where it is no time."""
    if not said:
        return 0
    found = _TIMEOUT.fullmatch(said)
    return max(int(found[1]) * UNITS[found[2]], 1) if found else None
