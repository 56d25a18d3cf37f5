"""Search attributes: typed values that a run is given to be found by.

A namespace knows its custom attributes by name and type; the predefined ones are the same everywhere. A value is a
JSON payload, with its type in the metadata. A list of values is taken for every type, as by the real server, and
found by its first value where the type is not a list; null, or an empty list, takes the attribute away.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from temporalio.api.common.v1 import Payload, SearchAttributes
from temporalio.api.enums.v1 import IndexedValueType

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexuskit.backend.history.state import Info

TEXT = int(IndexedValueType.INDEXED_VALUE_TYPE_TEXT)
KEYWORD = int(IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD)
INT = int(IndexedValueType.INDEXED_VALUE_TYPE_INT)
DOUBLE = int(IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE)
BOOL = int(IndexedValueType.INDEXED_VALUE_TYPE_BOOL)
DATETIME = int(IndexedValueType.INDEXED_VALUE_TYPE_DATETIME)
KEYWORD_LIST = int(IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST)

NAMES: Mapping[int, str] = MappingProxyType(
    {
        TEXT: "Text",
        KEYWORD: "Keyword",
        INT: "Int",
        DOUBLE: "Double",
        BOOL: "Bool",
        DATETIME: "Datetime",
        KEYWORD_LIST: "KeywordList",
    }
)
"""Type → its name, as payloads carry it and messages show it."""

_TYPES = {name: kind for kind, name in NAMES.items()}

SYSTEM: Mapping[str, int] = MappingProxyType(
    {
        "WorkflowId": KEYWORD,
        "RunId": KEYWORD,
        "WorkflowType": KEYWORD,
        "StartTime": DATETIME,
        "ExecutionTime": DATETIME,
        "CloseTime": DATETIME,
        "ExecutionStatus": KEYWORD,
        "TaskQueue": KEYWORD,
        "HistoryLength": INT,
        "ExecutionDuration": INT,
        "StateTransitionCount": INT,
        "HistorySizeBytes": INT,
        "ParentWorkflowId": KEYWORD,
        "ParentRunId": KEYWORD,
        "RootWorkflowId": KEYWORD,
        "RootRunId": KEYWORD,
    }
)
"""What is known of every run; a filter may name it, and nobody can set it."""

PREDEFINED: Mapping[str, int] = MappingProxyType(
    {
        "TemporalChangeVersion": KEYWORD_LIST,
        "BinaryChecksums": KEYWORD_LIST,
        "BuildIds": KEYWORD_LIST,
        "BatcherNamespace": KEYWORD,
        "BatcherUser": KEYWORD,
        "TemporalScheduledStartTime": DATETIME,
        "TemporalScheduledById": KEYWORD,
        "TemporalSchedulePaused": BOOL,
        "TemporalNamespaceDivision": KEYWORD,
        "TemporalPauseInfo": KEYWORD_LIST,
        "TemporalReportedProblems": KEYWORD_LIST,
    }
)
"""There in every namespace, and set like custom ones: by SDKs, mostly."""

INTERNAL: Mapping[str, int] = MappingProxyType(
    {
        "TemporalWorkerDeploymentVersion": KEYWORD,
        "TemporalWorkflowVersioningBehavior": KEYWORD,
        "TemporalWorkerDeployment": KEYWORD,
        "TemporalUsedWorkerDeploymentVersions": KEYWORD_LIST,
        "TemporalExternalPayloadCount": INT,
        "TemporalExternalPayloadSizeBytes": INT,
    }
)
"""A filter may name these, and nobody can set them."""

RESERVED = frozenset({"NamespaceId", "MemoEncoding", "Memo", "VisibilityTaskKey"})
"""Not attributes, and no custom one may be called so."""

DIVISION = "TemporalNamespaceDivision"
"""Runs with this one are in a list of their own: a filter sees them only if it names the attribute."""

INT_RANGE = range(-(2**63), 2**63)


def is_reserved(name: str) -> bool:
    """Whether no custom attribute may be called that."""
    return name in SYSTEM or name in RESERVED or name in PREDEFINED or name.startswith("Temporal")


def check(given: SearchAttributes, custom: Mapping[str, int], namespace: str, limits: Limits) -> None:
    """Attributes may be set: they are there, their values fit, and they are not too many. Gives each its type.

    Args:
        given: the attributes, changed in place.
        custom: name → type of the namespace's custom ones.
        namespace: its name, for the message.
        limits: how many there may be.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    fields = given.indexed_fields
    for name in fields:
        if name not in SYSTEM and name not in PREDEFINED and name not in INTERNAL and name not in custom:
            raise invalid_argument(f"Namespace {namespace} has no mapping defined for search attribute {name[:200]}")
    if len(fields) > limits.SEARCH_ATTRIBUTES:
        raise invalid_argument(f"number of search attributes {len(fields)} exceeds limit {limits.SEARCH_ATTRIBUTES}")
    for name, payload in fields.items():
        if name in SYSTEM or name in INTERNAL:
            raise invalid_argument(f"{name} attribute can't be set in SearchAttributes")
        kind = PREDEFINED.get(name) or custom[name]
        try:
            _check_shape(payload, kind)
            values(payload, kind)
        except ValueError:
            shown = payload.data[:100].decode(errors="replace")
            raise invalid_argument(
                f"invalid value for search attribute {name} of type {NAMES[kind]}: {shown}"
            ) from None
        payload.metadata["type"] = NAMES[kind].encode()


def check_size(merged: SearchAttributes, limits: Limits) -> None:
    """All attributes of a run are within their limits.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    for name, payload in merged.indexed_fields.items():
        if len(payload.data) > limits.SEARCH_ATTRIBUTE_SIZE:
            raise invalid_argument(
                f"search attribute {name} value size {len(payload.data)} exceeds size limit"
                f" {limits.SEARCH_ATTRIBUTE_SIZE}"
            )
    size = merged.ByteSize()
    if size > limits.SEARCH_ATTRIBUTES_SIZE:
        raise invalid_argument(
            f"total size of search attributes {size} exceeds size limit {limits.SEARCH_ATTRIBUTES_SIZE}"
        )


def merge(before: bytes, given: SearchAttributes) -> SearchAttributes:
    """A run's attributes with some set anew; those set to null are gone.

    Args:
        before: those it has, serialised.
        given: those to be set.
    """
    merged = SearchAttributes.FromString(before)
    for name, payload in given.indexed_fields.items():
        if is_null(payload):
            merged.indexed_fields.pop(name, None)
        else:
            merged.indexed_fields[name].CopyFrom(payload)
    return merged


def is_null(payload: Payload) -> bool:
    """Whether a payload says that there is no value."""
    return payload.metadata["encoding"] == b"binary/null" or payload.data in (b"null", b"[]")


def _check_shape(payload: Payload, kind: int) -> None:
    """What is newly set has the shape that the real server reads; what is in older files may have others.

    Raises:
        ValueError: not encoded as JSON; a list where one value is due, or the other way round; a number with a
            fraction, even of nought, for Int; a date without a time.
    """
    encoding = payload.metadata["encoding"]
    if encoding == b"binary/null":
        return
    if encoding != b"json/plain":
        raise ValueError(f"{encoding!r} is not json/plain")
    found: object = json.loads(payload.data.decode(errors="replace"))
    if found is None or found == []:
        return
    if kind == KEYWORD_LIST:
        if not isinstance(found, list):
            raise ValueError("a single value is no list")
        return
    if isinstance(found, list):
        several = cast("list[object]", found)
        if len(several) != 1:
            raise ValueError("a list of several is no single value")
        found = several[0]
    if kind == INT and isinstance(found, float):
        raise ValueError(f"{found!r} is no whole number")
    if kind == DATETIME and isinstance(found, str):
        moment(found)


def values(payload: Payload, kind: int) -> list[str | int | float]:
    """The values in a payload, as the store keeps them: times in ns, truth as 0 or 1, texts as their words.

    Raises:
        ValueError: it holds something of another type.
    """
    if is_null(payload):
        return []
    found = json.loads(payload.data.decode(errors="replace"))
    every: list[Any] = found if isinstance(found, list) else [found]  # pyright: ignore[reportUnknownVariableType]
    if kind == KEYWORD_LIST and not isinstance(found, list):
        every = [found]
    return [stored for each in every if each is not None for stored in _stored(each, kind)]


def _stored(value: object, kind: int) -> list[str | int | float]:
    match value:
        case bool() if kind == BOOL:
            return [int(value)]
        case bool():
            pass
        case str() if kind in (KEYWORD, KEYWORD_LIST):
            return [_text(value)]
        case str() if kind == TEXT:
            return [*words(_text(value))]
        case str() if kind == DATETIME:
            return [moment(value, dates=True)]
        case int() if kind == INT and value in INT_RANGE:
            return [value]
        case int() | float() if kind == DOUBLE and math.isfinite(value):
            return [float(value)]
        case float() if kind == INT and value.is_integer() and int(value) in INT_RANGE:
            return [int(value)]
        case _:
            pass
    raise ValueError(f"{value!r} is no {NAMES[kind]}")


def _text(value: str) -> str:
    """With U+FFFD for halves of surrogate pairs, which are no text, as the real server reads them."""
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def words(text: str) -> tuple[str, ...]:
    """The words of a text, as it is searched: letters and digits, in lower case."""
    folded = "".join(char if char.isalnum() else " " for char in text.casefold())
    return tuple(dict.fromkeys(folded.split()))


def moment(text: str, *, dates: bool = False) -> int:
    """A time as RFC 3339 writes it, in ns; cut to what fits into 64 bits. With `dates` a date alone is one, too.

    Raises:
        ValueError: it is none.
    """
    if "T" not in text.upper() and not (dates and len(text) == len("2006-01-02")):
        raise ValueError(f"{text!r} is no time")
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    parsed = datetime.fromisoformat((whole + rest[len(digits) :]) if dot else text)
    if parsed.tzinfo is None:
        if "T" in text.upper():
            raise ValueError(f"{text!r} has no time zone")
        parsed = parsed.replace(tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    since = parsed - epoch
    nanos = (since.days * 86_400 + since.seconds) * SECOND + int((digits + "0" * 9)[:9])
    return max(INT_RANGE.start, min(nanos, INT_RANGE.stop - 1))


def key(name: str, kind: int) -> str:
    """Under what name the store keeps an attribute: one that was removed and made anew with another type is another."""
    return f"{kind}:{name}"


def own_key(name: str) -> str:
    """The same for what is known of a kind of execution by itself, which is no search attribute of anybody's."""
    return f"own:{name}"


def column(info: Info) -> str | None:
    """A run's attributes as the store keeps them: a JSON object of lists; None for a run without."""
    if not info.search_attributes and not info.keywords:
        return None
    found: dict[str, list[str | int | float]] = {own_key(name): [value] for name, value in info.keywords.items()}
    for name, payload in SearchAttributes.FromString(info.search_attributes).indexed_fields.items():
        kind = _TYPES.get(payload.metadata["type"].decode(), 0)
        stored = values(payload, kind) if kind else []
        if stored:
            found[key(name, kind)] = stored if kind in (KEYWORD_LIST, TEXT) else stored[:1]
    return json.dumps(found, ensure_ascii=False) if found else None


def listing(info: Info) -> str:
    """Whose list a run is in: its namespace's, or that of a division of it."""
    if not info.search_attributes:
        return info.space
    fields = SearchAttributes.FromString(info.search_attributes).indexed_fields
    if DIVISION not in fields:
        return info.space
    division = values(fields[DIVISION], KEYWORD)
    return f"{info.space}|{division[0]}" if division else info.space
