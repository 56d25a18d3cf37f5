"""Payloads over HTTP: which `content-*` header fields a payload becomes, and which payload a body becomes.

    metadata of the payload                                    content-type
    encoding json/plain                                        application/json
    encoding json/protobuf, messageType M                      application/json; format=protobuf; message-type="M"
    encoding binary/protobuf, messageType M                    application/x-protobuf; message-type="M"
    encoding binary/plain                                      application/octet-stream
    encoding binary/null, no data                              none, and no body
    encoding unknown/nexus-content                             the other metadata, each as content-<name>
    any other, or anything beside these                        application/x-temporal-payload: the whole message

and the same from right to left; content that none of these lines is for becomes unknown/nexus-content, with its header
fields as metadata. So what somebody sends through Temporal arrives as it was, whichever way it is read in between
(temporalio/temporal: common/nexus/payload_serializer.go). Failures: see `wire_failures`. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from nexusrpc import Content
from temporalio.api.common.v1 import Payload

from nexuskit.protocol.errors import LocalProtocolError, SerializerError
from nexuskit.protocol.headers import CONTENT_PREFIX, check_header

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["from_content", "to_content"]

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
OCTET_STREAM = "application/octet-stream"
TEMPORAL_PAYLOAD = "application/x-temporal-payload"

NULL = b"binary/null"
UNKNOWN = b"unknown/nexus-content"
"""Encoding of a payload whose other metadata are the header fields of content that nobody here knows."""

_TYPE = "content-type"
_NOT_METADATA = frozenset({"content-length", "content-encoding"})
"""The body has its length, and who carries it has undone its encoding."""

_SIMPLE = {b"json/plain": JSON, b"binary/plain": OCTET_STREAM}
_ENCODINGS = {kind: encoding for encoding, kind in _SIMPLE.items()}
_MESSAGES = {b"json/protobuf": f"{JSON}; format=protobuf", b"binary/protobuf": PROTOBUF}
_MESSAGE_TYPE = re.compile(rb"[\w.$-]+", re.ASCII)

_TOKEN = r"[!#$%&'*+\-.^_`{|}~0-9A-Za-z]+"
_MEDIA_TYPE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*")
_PARAMETER = re.compile(rf'\s*;\s*({_TOKEN})\s*=\s*(?:({_TOKEN})|"((?:[^"\\\r\n]|\\.)*)")')
_END = re.compile(r"\s*;?\s*")
_ESCAPED = re.compile(r"\\([()<>@,;:\\\"/\[\]?=])")


def to_content(payload: Payload | None) -> Content:
    """A payload as a body and its header fields. No payload is a null."""
    if payload is None:
        return Content(headers={}, data=b"")
    metadata = payload.metadata
    if payload.external_payloads:
        return _whole(payload)
    encoding = metadata.get("encoding", b"")
    if encoding == UNKNOWN:
        fields = _fields(metadata)
        return _whole(payload) if fields is None else Content(headers=fields, data=payload.data)
    if len(metadata) == 1:
        if encoding == NULL:
            return _whole(payload) if payload.data else Content(headers={}, data=b"")
        if encoding in _SIMPLE:
            return Content(headers={_TYPE: _SIMPLE[encoding]}, data=payload.data)
    elif len(metadata) == 2 and encoding in _MESSAGES:
        name = metadata.get("messageType", b"")
        if _MESSAGE_TYPE.fullmatch(name):
            return Content(headers={_TYPE: f'{_MESSAGES[encoding]}; message-type="{name.decode()}"'}, data=payload.data)
    return _whole(payload)


def from_content(content: Content) -> Payload:
    """A body and its header fields as a payload.

    Raises:
        SerializerError: it says that it is a whole payload, and is none.
    """
    headers = {name: value for name, value in content.headers.items() if name not in _NOT_METADATA}
    if not headers and not content.data:
        return Payload(metadata={"encoding": NULL})
    metadata = _metadata(headers) if len(headers) == 1 else None
    if metadata is None:
        metadata = {name.removeprefix(CONTENT_PREFIX): value.encode("latin-1") for name, value in headers.items()}
        metadata["encoding"] = UNKNOWN
    elif not metadata:
        try:
            return Payload.FromString(content.data)
        except DecodeError:
            raise SerializerError(f"expected a Payload, as content-type {TEMPORAL_PAYLOAD} says") from None
    return Payload(metadata=metadata, data=content.data)


def _whole(payload: Payload) -> Content:
    return Content(headers={_TYPE: TEMPORAL_PAYLOAD}, data=payload.SerializeToString(deterministic=True))


def _fields(metadata: Mapping[str, bytes]) -> dict[str, str] | None:
    """Metadata as header fields; None if they could not travel as such."""
    fields: dict[str, str] = {}
    for name, raw in metadata.items():
        if name == "encoding":
            continue
        field, value = CONTENT_PREFIX + name, raw.decode("latin-1")
        if name != name.lower() or field in _NOT_METADATA:
            return None
        try:
            check_header(field, value)
        except LocalProtocolError:
            return None
        fields[field] = value
    return fields


def _metadata(headers: Mapping[str, str]) -> dict[str, bytes] | None:
    """What content is by its one header field: empty for a whole payload, None if nobody here knows."""
    kind, parameters = _media_type(headers.get(_TYPE, "")) or ("", {})
    if kind == TEMPORAL_PAYLOAD:
        return {}
    if not parameters:
        encoding = _ENCODINGS.get(kind)
        return {"encoding": encoding} if encoding else None
    name = parameters.pop("message-type", "").encode("latin-1")
    if name and kind == JSON and parameters == {"format": "protobuf"}:
        return {"encoding": b"json/protobuf", "messageType": name}
    if name and kind == PROTOBUF and not parameters:
        return {"encoding": b"binary/protobuf", "messageType": name}
    return None


def _media_type(value: str) -> tuple[str, dict[str, str]] | None:
    """A media type in lower case, and its parameters (RFC 2045 section 5.1); None if it is none."""
    found = _MEDIA_TYPE.match(value)
    if found is None:
        return None
    kind, at = found[1].lower(), found.end()
    parameters: dict[str, str] = {}
    while (parameter := _PARAMETER.match(value, at)) is not None:
        name = parameter[1].lower()
        text = parameter[2] if parameter[2] is not None else _ESCAPED.sub(r"\1", parameter[3])
        if parameters.setdefault(name, text) != text:
            return None
        at = parameter.end()
    return (kind, parameters) if _END.fullmatch(value, at) else None
