"""The configuration file: limits other than the defaults, in TOML.

    [limits]
    history_events = 10_000          # a number: events
    payload_size = "4 MiB"           # a size: bytes, or a text with KiB or MiB
    long_poll = "30 s"               # a time: a text with ms, s, min, h or d

A limit is called by the name of its constant in `limits`, in lower case. Whether it is a size, a time or a number is
seen from its name and its default; what a limit is for stands beside its constant.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from nexuskit.backend import limits, times
from nexuskit.backend.errors import StartError
from nexuskit.backend.settings import DEFAULTS, Limits
from nexuskit.backend.times import DAY, HOUR, MILLISECOND, MINUTE, SECOND, SPAN_MAX

_WORK = "it bounds the work of one filter, whatever the machine"
FIXED: Mapping[str, str] = MappingProxyType(
    {
        "BATCH_SIZE": "pages of history depend on it",
        "DEADLINE_MAX_S": "gRPC's way to say never",
        "DISCARDED_EVENTS": "workers depend on it",
        "FILTER_CONDITIONS": _WORK,
        "FILTER_DEPTH": _WORK,
        "FILTER_LENGTH": _WORK,
        "FILTER_STREAMS": _WORK,
        "FILTER_VALUES": _WORK,
        "LIST_PAGE_BYTES": "a page must fit into one gRPC message",
        "LIST_WORK_FIRST": _WORK,
        "MESSAGE_LENGTH": "gRPC's own limit on headers",
        "SPECULATIVE_TASK_WAITS": "what waits says by itself until when",
    }
)
"""Limit that cannot be set → why."""

SPANS: Mapping[str, int] = MappingProxyType({"ms": MILLISECOND, "s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY})
SIZES: Mapping[str, int] = MappingProxyType({"B": 1, "KiB": 1024, "MiB": 1024 * 1024})
GREATEST = 1 << 53
"""What a limit is at most, in its unit: beyond that nothing is limited, and times overflow."""
GREATEST_FOR_GRPC = (1 << 31) - 1
"""What those limits are at most that gRPC keeps to."""

_MEASURE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType({"UNKNOWN_ENDPOINT": ("fail_operation", "fail_task")})
"""What stands before [limits], and what it may be."""
COUNTS = frozenset({"ENDPOINT_PAGE_SIZE", "ENDPOINT_PAGE_SIZE_MAX", "NAMESPACE_PAGE_SIZE", "WORKER_PAGE_SIZE"})
"""Called sizes, and no bytes."""
LARGE_NUMBERS = frozenset({"GRPC_CALLS_WAITING", "LIST_WORK", "LIST_WORK_FIRST"})
"""As large and as round as times are, and none."""
ORDERED = (
    ("ENDPOINT_PAGE_SIZE", "ENDPOINT_PAGE_SIZE_MAX"),
    ("NEXUS_REQUEST_TIMEOUT_MIN", "NEXUS_REQUEST_TIMEOUT"),
    ("NEXUS_RETRY_INTERVAL", "NEXUS_RETRY_INTERVAL_MAX"),
    ("RETENTION_MIN", "RETENTION_DEFAULT"),
    ("WORKFLOW_TASK_TIMEOUT", "WORKFLOW_TASK_TIMEOUT_MAX"),
)
"""Of each two the first is no more than the second."""


class Kind(Enum):
    """What a limit measures."""

    TIME = "time"
    SIZE = "bytes"
    NUMBER = "number"
    FACTOR = "factor"


_TIMES = frozenset(
    name
    for name, value in vars(limits).items()
    if name.isupper() and isinstance(value, int) and value >= MILLISECOND and value % MILLISECOND == 0
) - LARGE_NUMBERS  # fmt: skip
"""Times are nanoseconds, and hardly any number is as large as the shortest of them and as round."""


def kind(name: str) -> Kind:
    """What a limit measures, by the name of its constant."""
    if isinstance(getattr(limits, name), float):
        return Kind.FACTOR
    if ("_SIZE" in name or name.endswith("_LENGTH")) and name not in COUNTS:
        return Kind.SIZE
    return Kind.TIME if name in _TIMES else Kind.NUMBER


def settable() -> list[str]:
    """The names of all limits that can be set, as in `limits`."""
    other = {*FIXED, *CHOICES, *vars(times)}
    return [name for name in vars(limits) if name.isupper() and name not in other]


def configured(source: str | os.PathLike[str] | Mapping[str, Any] | None) -> Limits:
    """The limits of a backend.

    Args:
        source: a TOML file, or what would be in it; None for the defaults.

    Raises:
        StartError: it cannot be read, names what is not there, or sets a value that makes no sense.
    """
    if source is None:
        return DEFAULTS
    if isinstance(source, Mapping):
        return _checked("The configuration", source)
    path = Path(source)
    where = f"The configuration {path}"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartError(f"{where} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartError(f"{where} is no TOML: {error}.") from error
    return _checked(where, document)


def _checked(where: str, document: Mapping[str, Any]) -> Limits:
    changed: dict[str, Any] = {}
    choices = {name.lower(): name for name in CHOICES}
    for key, value in document.items():
        if key in choices:
            allowed = CHOICES[choices[key]]
            if value not in allowed:
                raise StartError(f"{where}: {key} must be {' or '.join(map(repr, allowed))}, not {value!r}.")
            changed[choices[key]] = value
        elif key != "limits":
            near = difflib.get_close_matches(key, [*choices, "limits"], n=1)
            hint = f"did you mean {near[0]!r}?" if near else "limits stand in [limits]."
            raise StartError(f"{where} has an unknown key {key!r}; {hint}")
    section = document.get("limits", {})
    if not isinstance(section, Mapping):
        raise StartError(f"{where}: 'limits' must be a table, [limits].")
    names = {name.lower(): name for name in settable()}
    for key, value in cast("Mapping[str, Any]", section).items():
        if key not in names:
            raise StartError(f"{where}: {_unknown(key, list(names))}")
        try:
            changed[names[key]] = _value(names[key], value)
        except ValueError as error:
            raise StartError(f"{where}: limits.{key} {error}.") from None
    made = Limits(changed)
    for less, more in ORDERED:
        if getattr(made, less) > getattr(made, more):
            raise StartError(f"{where}: limits.{less.lower()} must not be more than limits.{more.lower()}.")
    return made


def _unknown(key: str, names: list[str]) -> str:
    reason = FIXED.get(key.upper())
    if reason is not None:
        return f"limits.{key} cannot be set: {reason}."
    near = difflib.get_close_matches(key, names, n=1)
    return f"there is no limit {key!r}" + (
        f"; did you mean {near[0]!r}?" if near else "; docs/configuration.md lists them."
    )


def _value(name: str, value: object) -> int | float:
    match kind(name):
        case Kind.TIME:
            found = _measured(value, SPANS, "a time such as '30 s'")
        case Kind.SIZE:
            found = value if isinstance(value, int) else _measured(value, SIZES, "bytes, such as 4096 or '4 MiB'")
        case Kind.NUMBER:
            found = value
        case Kind.FACTOR:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"must be a number, not {value!r}")
            if not (math.isfinite(value) and value >= 1):
                raise ValueError(f"must be at least 1, not {value!r}")
            return float(value)
    if isinstance(found, bool) or not isinstance(found, int):
        raise ValueError(f"must be a whole number, not {value!r}")
    greatest = GREATEST_FOR_GRPC if name.startswith("GRPC_") else GREATEST
    if not 0 < found <= (SPAN_MAX if kind(name) is Kind.TIME else greatest):
        raise ValueError(f"must be more than nothing, and no more than anybody has, not {value!r}")
    return found


def _measured(value: object, units: Mapping[str, int], wanted: str) -> int:
    found = _MEASURE.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in units:
        raise ValueError(f"must be {wanted} ({', '.join(units)}), not {value!r}")
    return round(float(found[1]) * units[found[2]])
