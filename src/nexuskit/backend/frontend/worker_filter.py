"""The filter of ListWorkers, such as `TaskQueue = 'orders' AND (SdkName = 'x' OR StartTime > '2026-01-01T00:00:00Z')`.

Its grammar is that of every list's filter. Fields and operators are those of the real server (temporalio/temporal:
service/matching/workers/worker_query_engine.go): texts take =, !=, STARTS_WITH and NOT STARTS_WITH; times take =, !=,
<, <=, >, >=, BETWEEN and NOT BETWEEN; both take IS NULL and IS NOT NULL.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from temporalio.api.enums.v1 import WorkerStatus

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.limits import FILTER_DEPTH
from nexuskit.backend.times import SECOND, moment
from nexuskit.backend.visibility import grammar
from nexuskit.backend.visibility.subjects import written

if TYPE_CHECKING:
    from temporalio.api.worker.v1 import WorkerHeartbeat

    from nexuskit.backend.settings import Limits

Filter = Callable[["WorkerHeartbeat"], bool]

_STATUSES = MappingProxyType({int(number): written(name, "WORKER_STATUS_") for name, number in WorkerStatus.items()})


def _status(worker: WorkerHeartbeat) -> str:
    return _STATUSES.get(worker.status, "")


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
        "WorkerStatus": _status,
        "Status": _status,
        "status": _status,
    }
)
TIMES: Mapping[str, Callable[[WorkerHeartbeat], int]] = MappingProxyType(
    {
        "StartTime": lambda worker: moment(worker.start_time),
        "HeartbeatTime": lambda worker: moment(worker.heartbeat_time),
    }
)
_FOR_TEXTS: Mapping[str, Callable[[str, str], bool]] = MappingProxyType(
    {
        "=": operator.eq,
        "!=": operator.ne,
        "STARTS_WITH": lambda text, start: text.startswith(start),
        "NOT STARTS_WITH": lambda text, start: not text.startswith(start),
    }
)
_FOR_TIMES: Mapping[str, Callable[[int, int], bool]] = MappingProxyType(
    {
        "=": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
)


def parse(query: str, limits: Limits) -> Filter:
    """What a worker must be like.

    Raises:
        StatusError: INVALID_ARGUMENT; the message says what was expected where.
    """
    if len(query.encode()) > limits.WORKER_QUERY_SIZE:
        raise invalid_argument(f"malformed query: longer than {limits.WORKER_QUERY_SIZE} bytes")
    try:
        found = grammar.tree(query)
    except grammar.MalformedError as error:
        raise invalid_argument(f"malformed query: {error}") from None
    if found.group_by or found.order_by or found.limit:
        raise invalid_argument("malformed query: GROUP BY, ORDER BY and LIMIT are not supported in a filter of workers")
    return _filter(found.where, 0) if found.where is not None else lambda _: True


def _filter(condition: grammar.Condition, depth: int) -> Filter:
    if depth > FILTER_DEPTH:
        raise invalid_argument(f"malformed query: more than {FILTER_DEPTH} conditions within each other")
    match condition:
        case grammar.All(parts):
            every = [_filter(part, depth + 1) for part in parts]
            return lambda worker: all(part(worker) for part in every)
        case grammar.Either(parts):
            some = [_filter(part, depth + 1) for part in parts]
            return lambda worker: any(part(worker) for part in some)
        case grammar.Compared(sign, left, right):
            return _compared(_name(left), sign, right)
        case grammar.Between(left, low, high, negated):
            return _between(_name(left), low, high, negated=negated)
        case grammar.IsNull(left, negated):
            name = _name(left)
            value = TEXTS.get(name) or TIMES[name]
            return lambda worker: bool(value(worker)) == negated
        case grammar.Among(left):
            raise _unsupported(_name(left), "IN")
        case grammar.Negated():
            raise invalid_argument("malformed query: NOT before a condition is not supported in a filter of workers")
        case grammar.Incomplete(operand):
            raise invalid_argument(f"malformed query: {_shown(operand)} is not compared with anything")


def _name(operand: grammar.Operand) -> str:
    if not isinstance(operand, grammar.Name):
        raise invalid_argument(f"malformed query: expected the name of a field, found {_shown(operand)}")
    if operand.text not in TEXTS and operand.text not in TIMES:
        raise invalid_argument(f"unknown or unsupported worker heartbeat search field: {operand.text[:100]}")
    return operand.text


def _compared(name: str, sign: str, value: grammar.Operand) -> Filter:
    if name in TEXTS:
        read, holds = TEXTS[name], _FOR_TEXTS.get(sign)
        if holds is None:
            raise _unsupported(name, sign)
        wanted = _text(name, value)
        return lambda worker: holds(read(worker), wanted)
    when, compares = TIMES[name], _FOR_TIMES.get(sign)
    if compares is None:
        raise _unsupported(name, sign)
    time = _moment(name, value)
    return lambda worker: compares(when(worker), time)


def _between(name: str, low: grammar.Operand, high: grammar.Operand, *, negated: bool) -> Filter:
    if name not in TIMES:
        raise _unsupported(name, "NOT BETWEEN" if negated else "BETWEEN")
    when, first, last = TIMES[name], _moment(name, low), _moment(name, high)
    return lambda worker: (first <= when(worker) <= last) != negated


def _text(name: str, value: grammar.Operand) -> str:
    if not isinstance(value, str):
        raise invalid_argument(f"malformed query: expected a text in quotes for {name}, found {_shown(value)}")
    if not value:
        raise invalid_argument(f"{name} cannot be empty")
    return value


def _moment(name: str, value: grammar.Operand) -> int:
    text = _text(name, value)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise invalid_argument(
            f"invalid value for {name}: {text[:100]!r} is no time such as '2026-01-31T10:30:00Z'"
        ) from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return int(found.timestamp()) * SECOND + found.microsecond * 1000


def _unsupported(name: str, sign: str) -> Exception:
    known = _FOR_TEXTS if name in TEXTS else [*_FOR_TIMES, "BETWEEN", "NOT BETWEEN"]
    return invalid_argument(
        f"unsupported operator {sign} for {name}: expected {', '.join([*known, 'IS NULL', 'IS NOT NULL'])}"
    )


def _shown(operand: Any) -> str:
    shown = operand.text if isinstance(operand, grammar.Name | grammar.Function) else repr(operand)
    return shown[:100]
