"""How a list is read: which index is walked, in which order.

Lists are in one order: open executions first, then by close time, start time and number, newest first. An index of
(listing, attribute, status, listed, start_time) has this order for one value and one status. So a filter that asks for
one value of an indexed attribute is answered by walking a few places of its index side by side, one for each status,
and stopping when the page is full: what else the filter says is looked at on the way.

A range of values has no such order. It is tried in the order of the list first, which is quick when many executions
match, and when that takes too long, the range is read as a whole and sorted, which is quick when few do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nexuskit.backend import limits
from nexuskit.backend.visibility import conditions
from nexuskit.backend.visibility.conditions import Checked, Condition, Sql, Value, to_sql
from nexuskit.backend.visibility.grammar import parse, refused
from nexuskit.backend.visibility.search_attributes import KEYWORD_LIST, TEXT
from nexuskit.backend.visibility.subjects import OPEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nexuskit.backend.visibility.subjects import Attribute, Subject

_IN_ATTRIBUTES = {
    **{f"e.{column}": f"a.{column}" for column in ("status", "listed", "start_time", "id")},
    f"nullif(e.listed, {OPEN})": f"nullif(a.listed, {OPEN})",
}
"""What a row of `attributes` knows of its execution by itself."""


class Stream(NamedTuple):
    """One walk through an index.

    Attributes:
        source: what stands after FROM.
        where: the condition.
        row: `a` or `e`: whose columns say where an execution is in the list.
    """

    source: str
    where: Sql
    row: str


class Plan(NamedTuple):
    """How a filter is answered.

    Attributes:
        subject: what is listed.
        streams: walks that are in the order of the list already, to be merged; empty if there are none such.
        whole: everything that matches, in no order.
        by_number: the one stream is in the order of the executions' numbers, which is that of the list.
        retries: `whole` is worth reading when the streams take too long.
        order: the expression to sort by, and whether it descends; None for the order of lists.
        repeats: an execution may be in `whole` more than once.
        grouped: whether a count is by status.
    """

    subject: Subject
    streams: tuple[Stream, ...]
    whole: Stream
    by_number: bool
    retries: bool
    order: tuple[Sql, bool] | None
    repeats: bool
    grouped: bool


def plan(text: str, subject: Subject, listing: str, custom: Mapping[str, int], *, count: bool = False) -> Plan:
    """How a filter is to be answered.

    Args:
        text: the filter.
        subject: what is listed.
        listing: whose list: the namespace's id, for workflows.
        custom: name → type of the namespace's custom search attributes.
        count: the matches are to be counted, not listed.

    Raises:
        StatusError: INVALID_ARGUMENT, if the filter is wrong.
    """
    checked = conditions.check(parse(text), subject, custom)
    if checked.grouped and not count:
        raise refused("operation is not supported: 'GROUP BY' clause")
    return _Planner(subject, listing, checked).plan()


class _Planner:
    def __init__(self, subject: Subject, listing: str, checked: Checked) -> None:
        self._subject = subject
        self._listing = listing
        self._checked = checked
        self._parts = list(_conjuncts(checked.where))

    def plan(self) -> Plan:
        subject, checked = self._subject, self._checked
        order = None
        if checked.order_by is not None:
            attribute, descending = checked.order_by
            order = (conditions.sort_key(attribute), descending)
        if checked.any_division:
            return self._made((), self._beyond(), order)
        exact = min(filter(None, map(_exactness, self._parts)), default=None, key=lambda found: found[0])
        if exact is not None:
            _, part, attribute, values = exact
            rest = [each for each in self._parts if each is not part]
            whole = self._source(attribute, values, rest, None)
            repeats = len(values) > 1 and attribute.kind in (KEYWORD_LIST, TEXT)
            if attribute.unique:
                return self._made((whole,) if len(values) == 1 else (), whole, order, by_number=len(values) == 1)
            if attribute.otherwise:
                # Two places to look, not one: what matches is read from both.
                other = subject.attributes[attribute.otherwise]
                own = self._source(other, values, self._parts, None)
                ids = f"SELECT e.id FROM {own.source} WHERE {own.where.text} UNION SELECT e.id FROM {whole.source}"
                where = Sql(f"e.id IN ({ids} WHERE {whole.where.text})", own.where.parameters + whole.where.parameters)
                return self._made((), Stream(f"{subject.table} AS e", where, "e"), order)
            statuses = self._statuses()
            streams: list[Stream] = []
            if len(values) * len(statuses) <= limits.FILTER_STREAMS:
                streams = [self._source(attribute, (value,), rest, each) for value in values for each in statuses]
            return self._made(tuple(streams), whole, order, repeats=repeats)
        by_status = f"{subject.table} AS e INDEXED BY {subject.by_status}"
        everywhere = [self._stream(by_status, "e", ["e.listing = ?"], [self._listing], self._parts, None)]
        streams = [
            self._stream(by_status, "e", ["e.listing = ?"], [self._listing], self._parts, status)
            for status in self._statuses()
        ]
        ranged = next((part for part in self._parts if _ranged(part)), None)
        if ranged is not None:
            return self._made(tuple(streams), self._range(ranged), order, retries=True)
        return self._made(tuple(streams), everywhere[0], order)

    def _made(
        self,
        streams: tuple[Stream, ...],
        whole: Stream,
        order: tuple[Sql, bool] | None,
        *,
        by_number: bool = False,
        retries: bool = False,
        repeats: bool = False,
    ) -> Plan:
        if order is not None:
            streams = ()
        return Plan(self._subject, streams, whole, by_number, retries, order, repeats, self._checked.grouped)

    def _statuses(self) -> list[int]:
        """The statuses that the filter leaves."""
        left = sorted(set(self._subject.statuses.values()))
        for part in self._parts:
            match part:
                case conditions.Compared(attribute, "=", value) if attribute.status:
                    left = [each for each in left if each == value]
                case conditions.Compared(attribute, "!=", value) if attribute.status:
                    left = [each for each in left if each != value]
                case conditions.Among(attribute, values, negated) if attribute.status:
                    left = [each for each in left if (each in values) != negated]
                case _:
                    pass
        return left

    def _source(
        self, attribute: Attribute, values: Sequence[Value], rest: Sequence[Condition], status: int | None
    ) -> Stream:
        """Where the executions are that have one of these values."""
        test = "= ?" if len(values) == 1 else f"IN ({', '.join('?' * len(values))})"
        return self._indexed(attribute, test, values, rest, status)

    def _range(self, part: Condition) -> Stream:
        """Where the executions are whose values are in a range."""
        rest = [each for each in self._parts if each is not part]
        match part:
            case conditions.Compared(attribute, operator, value):
                return self._indexed(attribute, f"{operator} ?", [value], rest, None)
            case conditions.Between(attribute, low, high, _):
                return self._indexed(attribute, "BETWEEN ? AND ?", [low, high], rest, None)
            case conditions.Prefixed(attribute, prefix, _):
                end = conditions.after_prefix(prefix)
                ends = [prefix, end] if end else [prefix]
                return self._indexed(attribute, ">= ?" + " AND {} < ?" * bool(end), ends, rest, None)
            case conditions.IsNull(attribute, _):
                return self._indexed(attribute, "IS NOT NULL", [], rest, None)
            case _:
                raise TypeError(f"{part!r} is no range")

    def _indexed(
        self,
        attribute: Attribute,
        test: str,
        values: Sequence[Value],
        rest: Sequence[Condition],
        status: int | None,
    ) -> Stream:
        if attribute.key:
            test = f"a.value {test}".format("a.value")
            first = ["a.listing = ?", "a.name = ?", test]
            return self._stream("", "a", first, [self._listing, attribute.key, *values], rest, status)
        column = f"e.{attribute.column}"
        test = f"{column} {test}".format(column)
        source = f"{self._subject.table} AS e INDEXED BY {attribute.index}"
        if attribute.unique and attribute.column != "run_id":
            first = ["e.namespace = ?", "e.listing = ?", test]
            return self._stream(source, "e", first, [self._listing, self._listing, *values], rest, status)
        return self._stream(source, "e", ["e.listing = ?", test], [self._listing, *values], rest, status)

    def _stream(
        self,
        source: str,
        row: str,
        first: list[str],
        parameters: Sequence[Value],
        rest: Sequence[Condition],
        status: int | None,
    ) -> Stream:
        if status is not None:
            first = [*first, f"{row}.status = ?"]
            parameters = [*parameters, status]
        for part in rest:
            bounds = _bounds(part)
            first = [*first, *(f"{row}.listed {test}" for test, _ in bounds)]
            parameters = [*parameters, *(value for _, value in bounds)]
        places = _IN_ATTRIBUTES if row == "a" else {}
        others = [to_sql(part, lambda expression: places.get(expression, expression)) for part in rest]
        text = " AND ".join([*first, *(f"({each.text})" for each in others)])
        where = Sql(text, (*parameters, *(value for each in others for value in each.parameters)))
        if row == "a":
            join = f" CROSS JOIN {self._subject.table} AS e ON e.id = a.id" if "e." in text else ""
            source = f"attributes AS a{join}"
        return Stream(source, where, row)

    def _beyond(self) -> Stream:
        """Every division of the listing (its name follows a `|`, see `search_attributes.listing`), in no order."""
        first = ["(e.listing = ? OR (e.listing > ? AND e.listing < ?))"]
        listing = self._listing
        return self._stream(
            f"{self._subject.table} AS e", "e", first, [listing, f"{listing}|", f"{listing}}}"], self._parts, None
        )


def _conjuncts(condition: Condition | None) -> list[Condition]:
    """The conditions that must all hold."""
    if condition is None:
        return []
    if isinstance(condition, conditions.All):
        return [each for part in condition.parts for each in _conjuncts(part)]
    return [condition]


def _bounds(part: Condition) -> list[tuple[str, Value]]:
    """What a condition on the close time says of the place in the list, which an index can start and stop at."""
    match part:
        case conditions.Compared(attribute, operator, value) if attribute.listed and operator != "!=":
            return [(f"{operator} ?", value), *([("< ?", OPEN)] if ">" in operator else [])]
        case conditions.Between(attribute, low, high, False) if attribute.listed:
            return [(">= ?", low), ("<= ?", high), ("< ?", OPEN)]
        case conditions.IsNull(attribute, negated) if attribute.listed:
            return [("< ?" if negated else "= ?", OPEN)]
        case _:
            return []


def _exactness(part: Condition) -> tuple[int, Condition, Attribute, tuple[Value, ...]] | None:
    """How few executions a condition leaves, as a guess (less is better), with its attribute and values.

    None for one that names no values of an indexed attribute.
    """
    match part:
        case conditions.Compared(attribute, "=", value):
            values: tuple[Value, ...] = (value,)
        case conditions.Among(attribute, values, False):
            pass
        case conditions.Holds(attribute, values, False):
            pass
        case _:
            return None
    if not attribute.index and not attribute.key:
        return None
    rank = 0 if attribute.unique else 1 if attribute.key else 3 if attribute.column in ("task_queue",) else 2
    return (rank, part, attribute, tuple(dict.fromkeys(values)))


def _ranged(part: Condition) -> bool:
    """Whether a condition asks for a range of an indexed attribute."""
    match part:
        case conditions.Compared(attribute, operator, _) if operator != "!=":
            pass
        case conditions.Between(attribute, _, _, False) | conditions.Prefixed(attribute, _, False):
            pass
        case conditions.IsNull(attribute, True):
            if not attribute.key or attribute.kind in (KEYWORD_LIST, TEXT):
                return False
        case _:
            return False
    return bool(attribute.index or attribute.key) and not attribute.otherwise
