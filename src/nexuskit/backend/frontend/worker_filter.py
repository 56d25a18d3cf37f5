"""The filter of ListWorkers, such as `TaskQueue = 'orders' AND (SdkName = 'x' OR StartTime > '2026-01-01T00:00:00Z')`.

Fields and operators are those of the real server: texts take =, !=, STARTS_WITH, NOT STARTS_WITH; times take =, !=, <,
<=, >, >= and BETWEEN; both take IS NULL and IS NOT NULL. Names of fields are written as here, keywords as one likes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import WorkerStatus

from nexuskit.backend.errors import StatusError, invalid_argument
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import SECOND, moment

if TYPE_CHECKING:
    from temporalio.api.worker.v1 import WorkerHeartbeat

Filter = Callable[["WorkerHeartbeat"], bool]

TEXTS: Mapping[str, Callable[[WorkerHeartbeat], str]] = MappingProxyType(
    {
        "WorkerInstanceKey": lambda worker: worker.worker_instance_key,
        "WorkerIdentity": lambda worker: worker.worker_identity,
        "HostName": lambda worker: worker.host_info.host_name,
        "TaskQueue": lambda worker: worker.task_queue,
        "DeploymentName": lambda worker: worker.deployment_version.deployment_name,
        "BuildId": lambda worker: worker.deployment_version.build_id,
        "SdkName": lambda worker: worker.sdk_name,
        "SdkVersion": lambda worker: worker.sdk_version,
        "WorkerStatus": lambda worker: _status(worker),
        "Status": lambda worker: _status(worker),
        "status": lambda worker: _status(worker),
    }
)
TIMES: Mapping[str, Callable[[WorkerHeartbeat], int]] = MappingProxyType(
    {
        "StartTime": lambda worker: moment(worker.start_time),
        "HeartbeatTime": lambda worker: moment(worker.heartbeat_time),
    }
)
COMPARE: Mapping[str, Callable[[int, int], bool]] = MappingProxyType(
    {
        "=": lambda left, right: left == right,
        "!=": lambda left, right: left != right,
        "<": lambda left, right: left < right,
        "<=": lambda left, right: left <= right,
        ">": lambda left, right: left > right,
        ">=": lambda left, right: left >= right,
    }
)
DEPTH = 50
"""Brackets in brackets: more than anybody writes, and far from Python's own limit."""

_TOKEN = re.compile(
    r"""\s*(?:(<=|>=|!=|=|<|>|\(|\))|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.|'')*')|(`?[A-Za-z_]\w*`?)|(\S))"""
)


def parse(query: str, limits: Limits) -> Filter:
    """What a worker must be like.

    Raises:
        StatusError: INVALID_ARGUMENT; the message says what was expected where.
    """
    if not query.strip():
        return lambda _: True
    if len(query.encode()) > limits.WORKER_QUERY_SIZE:
        raise invalid_argument(f"malformed query: longer than {limits.WORKER_QUERY_SIZE} bytes")
    return _Parser(query).whole()


class _Parser:
    def __init__(self, query: str) -> None:
        self._tokens = [match.group().strip() for match in _TOKEN.finditer(query) if match.group().strip()]
        self._next = 0

    def whole(self) -> Filter:
        found = self._any_of(0)
        if self._next < len(self._tokens):
            raise self._wrong("AND, OR or the end")
        return found

    def _any_of(self, depth: int) -> Filter:
        parts = [self._all_of(depth)]
        while self._word("OR"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else lambda worker: any(part(worker) for part in parts)

    def _all_of(self, depth: int) -> Filter:
        parts = [self._one(depth)]
        while self._word("AND"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else lambda worker: all(part(worker) for part in parts)

    def _one(self, depth: int) -> Filter:
        if self._word("("):
            if depth >= DEPTH:
                raise invalid_argument(f"malformed query: more than {DEPTH} brackets within brackets")
            found = self._any_of(depth + 1)
            if not self._word(")"):
                raise self._wrong("')'")
            return found
        name = self._peek().strip("`")
        if name not in TEXTS and name not in TIMES:
            if re.fullmatch(r"\w+", name) and name.upper() != "NOT":
                raise invalid_argument(f"unknown or unsupported worker heartbeat search field: {name[:100]}")
            raise self._wrong("a field's name")
        self._next += 1
        if self._word("IS"):
            filled = self._word("NOT")
            if not self._word("NULL"):
                raise self._wrong("NULL")
            value = TEXTS.get(name) or TIMES[name]
            return lambda worker: bool(value(worker)) == filled
        return self._text(name) if name in TEXTS else self._time(name)

    def _text(self, name: str) -> Filter:
        read = TEXTS[name]
        negated = self._word("NOT")
        if self._word("STARTS_WITH"):
            start = self._value(name)
            return lambda worker: read(worker).startswith(start) != negated
        if negated or self._peek() not in ("=", "!="):
            raise self._wrong(f"=, !=, STARTS_WITH or NOT STARTS_WITH after {name}")
        equal = self._peek() == "="
        self._next += 1
        wanted = self._value(name)
        return lambda worker: (read(worker) == wanted) == equal

    def _time(self, name: str) -> Filter:
        read = TIMES[name]
        negated = self._word("NOT")
        if self._word("BETWEEN"):
            first = self._moment(name)
            if not self._word("AND"):
                raise self._wrong("AND")
            last = self._moment(name)
            return lambda worker: read(worker) != 0 and (first <= read(worker) <= last) != negated
        compare = COMPARE.get(self._peek())
        if negated or compare is None:
            raise self._wrong(f"=, !=, <, <=, >, >= or BETWEEN after {name}")
        self._next += 1
        wanted = self._moment(name)
        return lambda worker: compare(read(worker), wanted)

    def _value(self, name: str) -> str:
        token = self._peek()
        if token[:1] not in ("'", '"'):
            raise self._wrong(f"a text in quotes for {name}")
        self._next += 1
        text = re.sub(r"\\(.)|''", lambda match: match.group(1) or "'", token[1:-1])
        if not text:
            raise invalid_argument(f"{name} cannot be empty")
        return text

    def _moment(self, name: str) -> int:
        text = self._value(name)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise invalid_argument(
                f"invalid value for {name}: {text[:100]!r} is no time such as '2026-01-31T10:30:00Z'"
            ) from None
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return int(found.timestamp()) * SECOND + found.microsecond * 1000

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _word(self, word: str) -> bool:
        if self._peek().upper() != word:
            return False
        self._next += 1
        return True

    def _wrong(self, expected: str) -> StatusError:
        there = repr(self._peek()[:100]) if self._peek() else "the end"
        return invalid_argument(f"malformed query: expected {expected}, found {there}")


def _status(worker: WorkerHeartbeat) -> str:
    """As the real server compares it: `Running`."""
    name = WorkerStatus.Name(worker.status) if worker.status in WorkerStatus.values() else ""
    return "".join(part.title() for part in name.removeprefix("WORKER_STATUS_").split("_"))
