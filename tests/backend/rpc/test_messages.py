"""gRPC's forms: what a head says, what a body holds, and how a status is told."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from nexuskit.backend.rpc.fields import Malformed
from nexuskit.backend.rpc.messages import (
    INTERNAL,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    Answer,
    Head,
    Unreadable,
    answered,
    read_head,
    read_message,
    refused,
)

SIZE = 1000
POST = {b":method": b"POST", b":scheme": b"http", b":path": b"/a.Service/Method"}
TYPE = (b"content-type", b"application/grpc")


def head(*fields: tuple[bytes, bytes], **pseudo: bytes) -> Head:
    return read_head(POST | {b":" + name.encode(): value for name, value in pseudo.items()}, (TYPE, *fields))


def fields_of(encoded: bytes) -> dict[str, str]:
    return {str(name): str(value) for name, value in Decoder().decode(encoded)}


def refusal(answer: Answer | None) -> dict[str, str]:
    assert answer is not None
    return fields_of(answer[0])


def body(message: bytes, flag: int = 0, length: int | None = None) -> bytes:
    return bytes([flag]) + (len(message) if length is None else length).to_bytes(4, "big") + message


def unreadable(content: bytes, encoding: str = "identity") -> Unreadable:
    with pytest.raises(Unreadable) as raised:
        read_message(content, encoding, SIZE)
    return raised.value


# --- heads


def test_a_head_says_its_path_and_metadata() -> None:
    found = head((b"te", b"trailers"), (b"x-own", b"1"), (b"x-own", b"\xe9"), (b"user-agent", b"me"))
    assert found == Head("/a.Service/Method", (("x-own", "1"), ("x-own", "é"), ("user-agent", "me")), 0, "identity")


@pytest.mark.parametrize(
    ("sent", "values"),
    [
        (b"", [b""]),
        (b"AA==", [b"\0"]),
        (b"AA", [b"\0"]),
        (b"AAE=", [b"\0\1"]),
        (b"AAE", [b"\0\1"]),
        (b"AAEC", [b"\0\1\2"]),
        (b"+/+/", [b"\xfb\xff\xbf"]),
        (b"AA==,AAE", [b"\0", b"\0\1"]),
        (b"AA, AAE ,AAEC", [b"\0", b"\0\1", b"\0\1\2"]),
    ],
)
def test_binary_metadata_is_read_with_padding_and_without(sent: bytes, values: list[bytes]) -> None:
    assert head((b"x-own-bin", sent)).pairs == tuple(("x-own-bin", value) for value in values)


@pytest.mark.parametrize("sent", [b"A", b"A===", b"-_-_", b"AA==AA==", b"\xff", b"AA=A", b"A A="])
def test_metadata_that_is_not_base64_is_refused(sent: bytes) -> None:
    with pytest.raises(Malformed):
        head((b"x-own-bin", sent))


@given(st.binary(max_size=100))
def test_binary_metadata_comes_back_as_it_was_told(value: bytes) -> None:
    told = refusal(refused(1, "why", [("x-own-bin", value)]))["x-own-bin"]
    assert head((b"x-own-bin", told.encode())).pairs == (("x-own-bin", value),)


@pytest.mark.parametrize(
    ("said", "nanoseconds"),
    [
        (b"1H", 3_600_000_000_000),
        (b"2M", 120_000_000_000),
        (b"3S", 3_000_000_000),
        (b"4m", 4_000_000),
        (b"5u", 5_000),
        (b"6n", 6),
        (b"0S", 1),
        (b"00000007n", 7),
        (b"99999999H", 99_999_999 * 3_600_000_000_000),
    ],
)
def test_a_timeout_is_a_number_with_a_unit(said: bytes, nanoseconds: int) -> None:
    found = head((b"grpc-timeout", said))
    assert (found.timeout, found.refusal) == (nanoseconds, None)


@pytest.mark.parametrize("said", [b"1", b"S", b"1s", b"123456789n", b"-1S", b"1.5S", b"1S1S", b" 1S", b"1S\n", b"1 S"])
def test_a_timeout_of_another_form_is_refused(said: bytes) -> None:
    told = refusal(head((b"grpc-timeout", said)).refusal)
    assert (told[":status"], told["grpc-status"]) == ("200", str(INTERNAL))
    assert "grpc-timeout" in unquote_to_bytes(told["grpc-message"]).decode()


@pytest.mark.parametrize("said", [b"\xff", "١S".encode()])
def test_a_timeout_that_is_no_text_is_refused(said: bytes) -> None:
    with pytest.raises(Malformed):
        head((b"grpc-timeout", said))


@pytest.mark.parametrize(
    "said",
    [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8", b"Application/GRPC"],
)
def test_these_types_are_grpc_s(said: bytes) -> None:
    assert read_head(POST, ((b"content-type", said),)).refusal is None


@pytest.mark.parametrize(
    "said", [b"application/json", b"application/grpc-web", b"application/grpc+json", b"text/plain", b""]
)
def test_other_types_are_refused(said: bytes) -> None:
    told = read_head(POST, ((b"content-type", said),)).refusal
    assert refusal(told) == {":status": "415", "content-type": "text/plain"}
    assert told is not None
    assert b"application/grpc" in told[1]


def test_a_request_without_a_type_is_refused() -> None:
    assert refusal(read_head(POST, ()).refusal)[":status"] == "415"


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"post"])
def test_other_methods_are_refused(method: bytes) -> None:
    assert refusal(head(method=method).refusal) == {":status": "405", "allow": "POST", "content-type": "text/plain"}


@pytest.mark.parametrize("wrong", [{"path": b"/\xff"}])
def test_a_path_is_text(wrong: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        head(**wrong)


# --- messages


def compressed(encoding: str, message: bytes) -> bytes:
    return gzip.compress(message) if encoding == "gzip" else zlib.compress(message)


@given(st.binary(max_size=SIZE))
def test_a_message_is_read_as_it_was_written(message: bytes) -> None:
    assert read_message(answered(message)[1], "identity", SIZE) == message
    # A message may be left uncompressed, whatever the head names.
    assert read_message(body(message), "br", SIZE) == message
    for encoding in ("gzip", "deflate"):
        assert read_message(body(compressed(encoding, message), 1), encoding, SIZE) == message


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0\0\0"])
def test_no_message_is_refused(content: bytes) -> None:
    assert unreadable(content).code == INTERNAL


@pytest.mark.parametrize(
    "content",
    [body(b"ab", length=1), body(b"ab", length=3), body(b"a") + body(b"b"), body(b"a") + b"\0"],
    ids=["too long", "too short", "two", "more"],
)
def test_a_body_holds_one_message(content: bytes) -> None:
    assert unreadable(content).code == INTERNAL


def test_a_message_may_be_as_long_as_its_bound_and_no_longer() -> None:
    assert read_message(body(b"x" * SIZE), "identity", SIZE) == b"x" * SIZE
    assert unreadable(body(b"x" * (SIZE + 1))).code == RESOURCE_EXHAUSTED
    assert unreadable(body(b"", length=2**32 - 1)).code == RESOURCE_EXHAUSTED


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_message_may_unpack_to_its_bound_and_no_further(encoding: str) -> None:
    assert read_message(body(compressed(encoding, b"\0" * SIZE), 1), encoding, SIZE) == b"\0" * SIZE
    assert unreadable(body(compressed(encoding, b"\0" * (SIZE + 1)), 1), encoding).code == RESOURCE_EXHAUSTED
    bomb = compressed(encoding, b"\0" * 800_000)
    assert len(bomb) < SIZE
    assert unreadable(body(bomb, 1), encoding).code == RESOURCE_EXHAUSTED


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("end", [0, 1, 5, -1, -4])
def test_a_packed_message_that_is_cut_off_is_refused(encoding: str, end: int) -> None:
    assert unreadable(body(compressed(encoding, b"some message" * 10)[:end], 1), encoding).code == INTERNAL


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_message_is_one(encoding: str) -> None:
    packed = compressed(encoding, b"some message")
    for more in (b"\0", packed):
        assert unreadable(body(packed + more, 1), encoding).code == INTERNAL
    assert unreadable(body(b"\xff" * 20, 1), encoding).code == INTERNAL
    wrong = packed[:-3] + bytes([packed[-3] ^ 1]) + packed[-2:]
    assert unreadable(body(wrong, 1), encoding).code == INTERNAL


@pytest.mark.parametrize("encoding", ["identity", "br", "snappy", ""])
def test_another_compression_is_refused_by_name(encoding: str) -> None:
    error = unreadable(body(b"a", 1), encoding)
    assert error.code == UNIMPLEMENTED
    assert repr(encoding) in str(error)


@pytest.mark.parametrize("flag", [2, 0x80, 0xFF])
def test_a_message_is_compressed_or_not(flag: int) -> None:
    assert unreadable(body(b"a", flag)).code == INTERNAL


@given(st.binary(max_size=60), st.sampled_from(["identity", "gzip", "deflate", "br"]))
@settings(max_examples=300)
def test_any_body_is_a_message_or_is_refused(content: bytes, encoding: str) -> None:
    with contextlib.suppress(Unreadable):
        assert len(read_message(content, encoding, 40)) <= 40


# --- answers


@given(st.text(max_size=60) | st.sampled_from([" ", "  ", " a ", "a\r\nb", "100 %", "%41", "äöü €", "\0", "\ud800"]))
def test_any_text_is_told_and_comes_back(why: str) -> None:
    told = refusal(refused(5, why))
    said = told["grpc-message"]
    assert told["grpc-status"] == "5"
    assert all(" " <= each <= "~" for each in said)
    assert said == said.strip()
    assert unquote_to_bytes(said) == why.encode("utf-8", "replace")


def test_readable_text_is_told_as_it_is() -> None:
    assert refusal(refused(5, "no workflow 'a/b' (yet): 50%"))["grpc-message"] == "no workflow 'a/b' (yet): 50%25"


def test_an_answer_is_a_head_a_message_and_a_status() -> None:
    begin, content, end = answered(b"message")
    assert fields_of(begin) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "gzip,deflate",
    }
    assert content == b"\0\0\0\0\x07message"
    assert fields_of(end) == {"grpc-status": "0"}
