"""Tokens that clients carry for the backend: of tasks, of pages, of callbacks. Opaque to everybody else.

A task token or page token proves nothing: it is checked against the execution each time. A callback token travels
through handlers and comes back from anywhere, so it is signed with a key that lives in the database.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Annotated, TypeVar

import msgspec

from nexuskit.backend.errors import invalid_argument

S = TypeVar("S", bound=msgspec.Struct)

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What the store can look up: a forged token may hold any number."""


class TaskToken(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Names one attempt of a workflow task or an activity that a worker has.

    Attributes:
        run_id: the run; `execution` is its number.
        key: the scheduled event's id.
        attempt, started_time: which attempt; a completion of another one is refused.
    """

    execution: Number
    namespace_id: str
    run_id: str
    key: Number
    attempt: Number
    started_time: Number


class WorkflowTaskToken(TaskToken, frozen=True, array_like=True, tag=True):
    """Of a workflow task."""


class ActivityTaskToken(TaskToken, frozen=True, array_like=True, tag=True):
    """Of an activity's attempt."""


class QueryTaskToken(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Names a query that a worker has."""

    execution: Number
    namespace_id: str
    run_id: str
    query_id: str


class HistoryPage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Where to go on reading a history.

    Attributes:
        next_id: the next event wanted.
        last_id: the last one wanted; 0: whatever is there by then.
        transient: the scheduled event's id of the transient workflow task whose events end the page; 0 for none.
    """

    execution: Number
    namespace_id: str
    run_id: str
    next_id: Number
    last_id: Number
    transient: Number = 0


class ActivityState(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What its holder has seen of an activity that stands alone: the run, after so many transitions."""

    execution: Number
    run_id: str
    transitions: Number


class OperationState(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The same of a Nexus operation that stands alone."""

    execution: Number
    run_id: str
    transitions: Number


class NamePage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Where to go on listing: after this name."""

    after: str


class ListPage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Where to go on in a list of executions: after this one.

    Attributes:
        listed, start_time, number: where it stands in the order of lists.
        value: what it has of the attribute that the list is sorted by, if it is.
    """

    listed: Number
    start_time: Number
    number: Number
    value: str | int | float | None = None


class CallbackToken(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Names the operation that a completion is for."""

    execution: Number
    namespace_id: str
    run_id: str
    key: Number
    request_id: str


def write(token: msgspec.Struct) -> bytes:
    """A token as bytes."""
    return msgspec.msgpack.encode(token)


def read(kind: type[S], raw: bytes, what: str) -> S:
    """A token from bytes.

    Args:
        kind: the kind of token that is wanted.
        raw: the bytes.
        what: what the message calls it, such as "task token".

    Raises:
        StatusError: INVALID_ARGUMENT, if these are not the bytes of such a token.
    """
    if not raw:
        raise invalid_argument(f"{what} is not set on request.")
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid_argument(f"Error deserializing {what}: it was not given out by this backend for that.") from None


def sign(token: CallbackToken, key: bytes) -> str:
    """A callback token as text that nobody without the key can make (HMAC-SHA256)."""
    body = write(token)
    return _text(hmac.digest(key, body, hashlib.sha256) + body)


def verify(text: str, key: bytes) -> CallbackToken:
    """A callback token from text.

    Raises:
        StatusError: INVALID_ARGUMENT, if it was not signed with this key.
    """
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raw = b""
    if _text(raw) != text:
        raw = b""  # other texts that mean the same bytes are not what was given out
    mark, body = raw[:32], raw[32:]
    if not hmac.compare_digest(mark, hmac.digest(key, body, hashlib.sha256)):
        raise invalid_argument("The callback token is not one that this backend gave out.")
    return read(CallbackToken, body, "callback token")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
