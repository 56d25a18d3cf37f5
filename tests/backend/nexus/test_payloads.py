"""Which header fields a payload becomes, and which payload a body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import Content
from temporalio.api.common.v1 import Payload

from nexuskit.backend.nexus.payloads import from_content, to_content
from nexuskit.protocol.errors import SerializerError
from nexuskit.protocol.headers import content_fields, read_fields

BOTH_WAYS = {
    "json": ({"encoding": b"json/plain"}, b'{"a": 1}', {"content-type": "application/json"}),
    "bytes": ({"encoding": b"binary/plain"}, b"\0\xff", {"content-type": "application/octet-stream"}),
    "no bytes": ({"encoding": b"binary/plain"}, b"", {"content-type": "application/octet-stream"}),
    "null": ({"encoding": b"binary/null"}, b"", {}),
    "a message as JSON": (
        {"encoding": b"json/protobuf", "messageType": b"shop.v1.Payment"},
        b"{}",
        {"content-type": 'application/json; format=protobuf; message-type="shop.v1.Payment"'},
    ),
    "a message": (
        {"encoding": b"binary/protobuf", "messageType": b"shop.v1.Payment"},
        b"\x08\x01",
        {"content-type": 'application/x-protobuf; message-type="shop.v1.Payment"'},
    ),
    "content that nobody knows": (
        {"encoding": b"unknown/nexus-content", "type": b"image/png", "language": b"en"},
        b"png",
        {"content-type": "image/png", "content-language": "en"},
    ),
}


@pytest.mark.parametrize("case", BOTH_WAYS)
def test_what_both_sides_know(case: str) -> None:
    metadata, data, headers = BOTH_WAYS[case]
    payload = Payload(metadata=metadata, data=data)
    content = to_content(payload)
    assert (dict(content.headers), content.data) == (headers, data)
    assert from_content(content) == payload


def test_no_payload_is_a_null() -> None:
    content = to_content(None)
    assert (dict(content.headers), content.data) == ({}, b"")


WHOLE = {
    "no metadata": Payload(data=b"x"),
    "more than the encoding": Payload(metadata={"encoding": b"json/plain", "key": b"1"}, data=b"1"),
    "an encoding of somebody's own": Payload(metadata={"encoding": b"binary/encrypted"}, data=b"1"),
    "a message without its type": Payload(metadata={"encoding": b"json/protobuf"}, data=b"{}"),
    "a message's type that is none": Payload(metadata={"encoding": b"json/protobuf", "messageType": b'a"b'}),
    "a null with data": Payload(metadata={"encoding": b"binary/null"}, data=b"1"),
    "a field that is none": Payload(metadata={"encoding": b"unknown/nexus-content", "a b": b"1"}),
    "a value that is none": Payload(metadata={"encoding": b"unknown/nexus-content", "a": b"1\r\nx: y"}),
    "the length of something else": Payload(metadata={"encoding": b"unknown/nexus-content", "length": b"7"}),
    "kept elsewhere": Payload(
        metadata={"encoding": b"json/plain"}, external_payloads=[Payload.ExternalPayloadDetails(size_bytes=1)]
    ),
}


@pytest.mark.parametrize("case", WHOLE)
def test_whatever_else_travels_whole(case: str) -> None:
    content = to_content(WHOLE[case])
    assert dict(content.headers) == {"content-type": "application/x-temporal-payload"}
    assert from_content(content) == WHOLE[case]


UNKNOWN = [
    "text/plain",
    "application/json; charset=utf-8",
    "application/json; format=protobuf",
    'application/json; format=protobuf; message-type=""',
    "application/json; format=protobuf; message-type=a; x=y",
    "application/x-protobuf",
    "application/octet-stream; x=y",
    "application/json; a=1; a=2",
    "application/json; a",
    "application/json x",
    "json",
    "",
]


@pytest.mark.parametrize("content_type", UNKNOWN)
def test_other_types_become_metadata(content_type: str) -> None:
    payload = from_content(Content(headers={"content-type": content_type}, data=b"1"))
    assert dict(payload.metadata) == {"encoding": b"unknown/nexus-content", "type": content_type.encode()}


KNOWN = {
    "Application/JSON": {"encoding": b"json/plain"},
    "application/json;": {"encoding": b"json/plain"},
    "application/octet-stream ; ": {"encoding": b"binary/plain"},
    "application/x-protobuf;Message-Type=a.B": {"encoding": b"binary/protobuf", "messageType": b"a.B"},
    'application/json; message-type="a.\\"B"; format="protobuf"': {
        "encoding": b"json/protobuf",
        "messageType": b'a."B',
    },
}


@pytest.mark.parametrize("content_type", KNOWN)
def test_known_types_however_they_are_written(content_type: str) -> None:
    payload = from_content(Content(headers={"content-type": content_type}, data=b"1"))
    assert dict(payload.metadata) == KNOWN[content_type]


def test_length_and_encoding_of_the_body_are_no_metadata() -> None:
    headers = {"content-type": "application/json", "content-length": "1", "content-encoding": "identity"}
    assert dict(from_content(Content(headers=headers, data=b"1")).metadata) == {"encoding": b"json/plain"}


def test_a_body_without_a_type_is_no_null() -> None:
    assert dict(from_content(Content(headers={}, data=b"1")).metadata) == {"encoding": b"unknown/nexus-content"}


def test_a_whole_payload_that_is_none_is_refused() -> None:
    with pytest.raises(SerializerError, match="x-temporal-payload"):
        from_content(Content(headers={"content-type": "application/x-temporal-payload"}, data=b"\xff"))


names = st.sampled_from(["encoding", "messageType", "type", "language", "length", "a b", "Type"])
values = st.sampled_from(
    [b"json/plain", b"json/protobuf", b"binary/protobuf", b"binary/plain", b"binary/null", b"unknown/nexus-content"]
) | st.binary(max_size=8)
payloads = st.builds(
    lambda metadata, data: Payload(metadata=metadata, data=data),
    st.dictionaries(names, values, max_size=4),
    st.binary(max_size=8),
)


@given(payloads)
def test_every_payload_comes_through_as_it_was(payload: Payload) -> None:
    content = to_content(payload)
    fields = read_fields(content_fields(content))
    assert from_content(Content(headers=fields.content, data=content.data)) in (payload, _typed_again(payload))


def _typed_again(payload: Payload) -> Payload:
    """Unknown content that somebody here does know is known again."""
    return from_content(to_content(payload))


@given(
    st.dictionaries(
        st.sampled_from(["content-type", "content-language", "content-length", "content-x"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)
        | st.from_regex(r'(application/(json|x-protobuf)(; ?(format|message-type)=("a|b|"c"))*)', fullmatch=True),
        max_size=3,
    ),
    st.binary(max_size=8),
)
def test_any_content_is_some_payload(headers: dict[str, str], data: bytes) -> None:
    assert isinstance(from_content(Content(headers=headers, data=data)), Payload)
