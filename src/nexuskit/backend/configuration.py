"""The configuration file: limits other than the defaults, and where requests may go, in TOML.

    [outbound]
    allow = ["payments.example.com:443"]

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
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from nexuskit.backend import limits, times
from nexuskit.backend.errors import StartError
from nexuskit.backend.settings import DEFAULTS, Limits
from nexuskit.backend.times import DAY, HOUR, MILLISECOND, MINUTE, SECOND, SPAN_MAX
from nexuskit.protocol.allow_list import AllowList
from nexuskit.protocol.paths import is_http_url

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
OUTBOUND: Mapping[str, str] = MappingProxyType(
    {
        "allow": (
            "Where calls of endpoints with a URL, and completion callbacks by HTTP, may go: a list of patterns."
            ' `"payments.example.com:443"` is one name at one port by https, `"*.example.com:443"` every name below,'
            ' `"http://hooks.example.com:8080"` plain http, `"10.1.0.0/16:8443"` and `"[fd00::/8]:*"` addresses, `*`'
            " any port. A name that resolves to an address that is not public goes through only if that address is"
            " listed, too; `localhost`, listed, goes to this machine's own addresses. An IPv6 address that leads to an"
            " IPv4 one (6to4, ISATAP, NAT64) is listed as the IPv6 address that it is."
        ),
        "public_url": (
            "Where the handlers of such endpoints reach this backend's HTTP address, with the path below which it is"
            " mounted, if any: they send completions to `/nexus/callback` there. To be set where they are on other"
            " machines."
        ),
        "ca_file": "A PEM file with authorities whose certificates are believed, beside the usual ones.",
    }
)
"""What stands in [outbound], and what it is."""
SECTIONS = ("limits", "outbound")
COUNTS = frozenset({"ENDPOINT_PAGE_SIZE", "ENDPOINT_PAGE_SIZE_MAX", "NAMESPACE_PAGE_SIZE", "WORKER_PAGE_SIZE"})
"""Called sizes, and no bytes."""
LARGE_NUMBERS = frozenset({"LIST_WORK", "LIST_WORK_FIRST"})
"""As large and as round as times are, and none."""
ORDERED = (
    ("ENDPOINT_PAGE_SIZE", "ENDPOINT_PAGE_SIZE_MAX"),
    ("NEXUS_REQUEST_TIMEOUT_MIN", "NEXUS_REQUEST_TIMEOUT"),
    ("NEXUS_RETRY_INTERVAL", "NEXUS_RETRY_INTERVAL_MAX"),
    ("RETENTION_MIN", "RETENTION_DEFAULT"),
    ("WORKFLOW_TASK_TIMEOUT", "WORKFLOW_TASK_TIMEOUT_MAX"),
)
"""Of each two the first is no more than the second."""


@dataclass(frozen=True)
class Outbound:
    """Requests that leave this process: calls of endpoints with a URL, and completion callbacks by HTTP.

    Attributes:
        allow: where they may go; by default nowhere.
        public_url: where others reach this backend's HTTP address, without a path of Nexus; "" for that address itself.
        ca_file: a PEM file of authorities whose certificates are believed, beside the usual ones; "" for none.
    """

    allow: AllowList = field(default_factory=AllowList)
    public_url: str = ""
    ca_file: str = ""


@dataclass(frozen=True)
class Configuration:
    """All that can be set of a backend."""

    limits: Limits = DEFAULTS
    outbound: Outbound = field(default_factory=Outbound)


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


def configured(source: str | os.PathLike[str] | Mapping[str, Any] | None) -> Configuration:
    """What is set of a backend.

    Args:
        source: a TOML file, or what would be in it; None for the defaults.

    Raises:
        StartError: it cannot be read, names what is not there, or sets a value that makes no sense.
    """
    if source is None:
        return Configuration()
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


def _checked(where: str, document: Mapping[str, Any]) -> Configuration:
    changed: dict[str, Any] = {}
    choices = {name.lower(): name for name in CHOICES}
    for key, value in document.items():
        if key in choices:
            allowed = CHOICES[choices[key]]
            if value not in allowed:
                raise StartError(f"{where}: {key} must be {' or '.join(map(repr, allowed))}, not {value!r}.")
            changed[choices[key]] = value
        elif key not in SECTIONS:
            near = difflib.get_close_matches(key, [*choices, *SECTIONS], n=1)
            hint = f"did you mean {near[0]!r}?" if near else "limits stand in [limits]."
            raise StartError(f"{where} has an unknown key {key!r}; {hint}")
    outbound = _outbound(where, _section(where, document, "outbound"))
    return Configuration(_limits(where, _section(where, document, "limits"), changed), outbound)


def _section(where: str, document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = document.get(name, {})
    if not isinstance(section, Mapping):
        raise StartError(f"{where}: {name!r} must be a table, [{name}].")
    return cast("Mapping[str, Any]", section)


def _limits(where: str, section: Mapping[str, Any], changed: dict[str, Any]) -> Limits:
    names = {name.lower(): name for name in settable()}
    for key, value in section.items():
        if key not in names:
            raise StartError(f"{where}: {_unknown(key, list(names))}")
        try:
            changed[names[key]] = _value(names[key], value)
        except ValueError as error:
            raise StartError(f"{where}: limits.{key} {error}.") from None
    if not changed:
        return DEFAULTS
    made = Limits(changed)
    for less, more in ORDERED:
        if getattr(made, less) > getattr(made, more):
            raise StartError(f"{where}: limits.{less.lower()} must not be more than limits.{more.lower()}.")
    return made


def _outbound(where: str, section: Mapping[str, Any]) -> Outbound:
    for key in section:
        if key not in OUTBOUND:
            near = difflib.get_close_matches(key, OUTBOUND, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(OUTBOUND)}."
            raise StartError(f"{where}: [outbound] has an unknown key {key!r}; {hint}")
    patterns: object = section.get("allow", [])
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in cast("list[object]", patterns)):
        raise StartError(f"{where}: outbound.allow must be a list of texts, not {patterns!r}.")
    try:
        allow = AllowList(cast("list[str]", patterns))
    except ValueError as error:
        raise StartError(f"{where}: outbound.allow: {error}.") from None
    public_url = section.get("public_url", "")
    usable = isinstance(public_url, str) and is_http_url(public_url) and not set(public_url) & set("?#@")
    if public_url != "" and not usable:
        raise StartError(
            f"{where}: outbound.public_url must be a URL with scheme http or https, without user, query and fragment,"
            f" not {public_url!r}."
        )
    ca_file = section.get("ca_file", "")
    if not isinstance(ca_file, str):
        raise StartError(f"{where}: outbound.ca_file must be a path, not {ca_file!r}.")
    return Outbound(allow, public_url.rstrip("/"), ca_file)


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
