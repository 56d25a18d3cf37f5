"""Conditions of a filter, checked against what can be listed, and written as SQL.

A checked condition knows its attribute and holds values as the store has them. It becomes SQL with the meaning that
it has in SQL: a comparison with what is not there is neither true nor false, so `A != 'x'` leaves out executions
without `A`. Lists and texts are sets of words instead, as in the real server's full-text tables: `L = 'x'` is true
when `x` is among them, `L != 'x'` when it is not, or when there are none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from nexuskit.backend import limits
from nexuskit.backend.errors import StatusError
from nexuskit.backend.times import DAY, HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND
from nexuskit.backend.visibility import grammar, search_attributes
from nexuskit.backend.visibility.grammar import refused
from nexuskit.backend.visibility.search_attributes import (
    BOOL,
    DATETIME,
    DIVISION,
    DOUBLE,
    INT,
    INT_RANGE,
    KEYWORD,
    KEYWORD_LIST,
    NAMES,
    TEXT,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexuskit.backend.visibility.subjects import Attribute, Subject

Value = str | int | float

_UNSUPPORTED = "operation is not supported"
_INVALID = "invalid expression"


class All(NamedTuple):
    parts: tuple[Condition, ...]


class Either(NamedTuple):
    parts: tuple[Condition, ...]


class Negated(NamedTuple):
    part: Condition


class Compared(NamedTuple):
    """`operator` is one of = != < > <= >=."""

    attribute: Attribute
    operator: str
    value: Value


class Prefixed(NamedTuple):
    attribute: Attribute
    prefix: str
    negated: bool


class Among(NamedTuple):
    attribute: Attribute
    values: tuple[Value, ...]
    negated: bool


class Between(NamedTuple):
    attribute: Attribute
    low: Value
    high: Value
    negated: bool


class IsNull(NamedTuple):
    attribute: Attribute
    negated: bool


class Holds(NamedTuple):
    """Of a list or a text: one of these words is in it."""

    attribute: Attribute
    words: tuple[str, ...]
    negated: bool


Condition = All | Either | Negated | Compared | Prefixed | Among | Between | IsNull | Holds


class Checked(NamedTuple):
    """A filter that can be answered.

    Attributes:
        where: its condition, None for everything.
        order_by: an attribute and whether it descends; None for the order of lists.
        grouped: whether a count is to be grouped by status.
        any_division: whether it looks beyond the executions that a list shows by itself.
    """

    where: Condition | None
    order_by: tuple[Attribute, bool] | None
    grouped: bool
    any_division: bool


def check(query: grammar.Query, subject: Subject, custom: Mapping[str, int]) -> Checked:
    """A filter against what can be listed.

    Args:
        query: the filter.
        subject: the kind of execution.
        custom: name → type of the namespace's custom search attributes.

    Raises:
        StatusError: INVALID_ARGUMENT, for what it names or compares wrongly.
    """
    if query.limit:
        raise refused(f"{_UNSUPPORTED}: 'LIMIT' clause")
    checker = _Checker(subject, custom)
    where = checker.condition(query.where, 0) if query.where is not None else None
    if len(query.group_by) > 1:
        raise refused(f"{_UNSUPPORTED}: 'GROUP BY' clause supports only a single field")
    for each in query.group_by:
        if not checker.attribute(each).status:
            shown = each.text if isinstance(each, grammar.Name) else each
            raise refused(f"{_UNSUPPORTED}: 'GROUP BY' clause is not supported for search attribute {shown}")
    if len(query.order_by) > 1:
        raise refused(f"{_UNSUPPORTED}: 'ORDER BY' clause supports only a single field")
    order_by = None
    for order in query.order_by:
        attribute = checker.attribute(order.operand)
        if attribute.kind in (TEXT, KEYWORD_LIST):
            raise refused(f"{_UNSUPPORTED}: unable to sort by search attribute type {NAMES[attribute.kind]}")
        order_by = (attribute, order.descending)
    return Checked(where, order_by, bool(query.group_by), checker.any_division)


class _Checker:
    """Walks through a filter."""

    def __init__(self, subject: Subject, custom: Mapping[str, int]) -> None:
        self._subject = subject
        self._custom = custom
        self._conditions = 0
        self._values = 0
        self.any_division = False

    def condition(self, found: grammar.Condition, depth: int) -> Condition:
        if depth > limits.FILTER_DEPTH:
            raise refused(f"{_UNSUPPORTED}: more than {limits.FILTER_DEPTH} conditions within each other")
        match found:
            case grammar.All(parts):
                return All(tuple(self.condition(part, depth + 1) for part in parts))
            case grammar.Either(parts):
                return Either(tuple(self.condition(part, depth + 1) for part in parts))
            case grammar.Negated(part):
                return Negated(self.condition(part, depth + 1))
            case _:
                return self._single(found)

    def _single(self, found: grammar.Condition) -> Condition:
        self._conditions += 1
        if self._conditions > limits.FILTER_CONDITIONS:
            raise refused(f"{_UNSUPPORTED}: more than {limits.FILTER_CONDITIONS} conditions")
        match found:
            case grammar.Compared(operator, left, right):
                return self._compared(operator, left, right)
            case grammar.Among(left, values, negated):
                attribute = self.attribute(left)
                if attribute.kind == TEXT:
                    raise self._operator("NOT IN" if negated else "IN", left, attribute)
                taken = tuple(self.value(each, left, attribute) for each in values)
                if attribute.kind == KEYWORD_LIST:
                    return Holds(attribute, tuple(str(each) for each in taken), negated)
                return Among(attribute, taken, negated)
            case grammar.Between(left, low, high, negated):
                attribute = self.attribute(left)
                if attribute.kind not in (DATETIME, DOUBLE, INT, KEYWORD):
                    raise refused(
                        f"{_INVALID}: cannot do range condition on search attribute '{_shown(left)}' of type"
                        f" {NAMES[attribute.kind]}"
                    )
                ends = self.value(low, left, attribute), self.value(high, left, attribute)
                return Between(attribute, *ends, negated)
            case grammar.IsNull(left, negated):
                return IsNull(self.attribute(left), negated)
            case grammar.Incomplete(grammar.Function()):
                raise refused(f"{_UNSUPPORTED}: function expression")
            case _:
                raise refused(f"{_INVALID}: incomplete expression")

    def _compared(self, operator: str, left: grammar.Operand, right: grammar.Operand) -> Condition:
        attribute = self.attribute(left)
        prefix = operator.endswith("STARTS_WITH")
        if prefix and (attribute.kind != KEYWORD or attribute.status):
            raise self._operator(operator, left, attribute)
        if prefix and not isinstance(right, str):
            raise refused(f"{_INVALID}: right-hand side of '{operator.lower()}' must be a literal string")
        if attribute.kind in (TEXT, KEYWORD_LIST) and operator not in ("=", "!="):
            raise self._operator(operator, left, attribute)
        value = self.value(right, left, attribute)
        if attribute.kind == TEXT:
            words = search_attributes.words(str(value))
            if not words:
                raise refused(f"{_INVALID}: unexpected value for Text type search attribute (no tokens found in '')")
            return Holds(attribute, words, operator == "!=")
        if attribute.kind == KEYWORD_LIST:
            return Holds(attribute, (str(value),), operator == "!=")
        if prefix:
            return Prefixed(attribute, str(value), operator.startswith("NOT"))
        return Compared(attribute, operator, value)

    @staticmethod
    def _operator(operator: str, left: grammar.Operand, attribute: Attribute) -> StatusError:
        return refused(
            f"{_UNSUPPORTED}: operator '{operator}' not supported for {NAMES[attribute.kind]} type search attribute"
            f" '{_shown(left)}'"
        )

    def attribute(self, operand: grammar.Operand) -> Attribute:
        """The attribute that is named."""
        if not isinstance(operand, grammar.Name):
            raise refused(f"{_INVALID}: must be a column name but was {_shown(operand)}")
        found = self._subject.find(operand.text, self._custom)
        if found is None:
            raise refused(f"invalid search attribute: {operand.text[:200]}")
        if operand.text == DIVISION:
            self.any_division = True
        return found

    def value(self, operand: grammar.Operand, left: grammar.Operand, attribute: Attribute) -> Value:
        """A value that the attribute can be compared with, as the store has it."""
        self._values += 1
        if self._values > limits.FILTER_VALUES:
            raise refused(f"{_UNSUPPORTED}: more than {limits.FILTER_VALUES} values")
        match operand:
            case grammar.Name(text):
                raise refused(
                    f"{_UNSUPPORTED}: column name on the right side of comparison expression"
                    f' (did you forget to quote "{text[:200]}"?)'
                )
            case grammar.Function():
                raise refused(f"{_UNSUPPORTED}: nested func")
            case None:
                raise refused(f"{_INVALID}: unexpected value type NULL (IS NULL and IS NOT NULL ask for that)")
            case _:
                pass
        if attribute.status:
            return self._status(operand)
        if attribute.span and isinstance(operand, str):
            return _span(operand, _shown(left))
        return _value(operand, attribute.kind, _shown(left))

    def _status(self, operand: str | float) -> int:
        if isinstance(operand, str):
            found = self._subject.statuses.get(operand)
            if found is not None:
                return found
            raise refused(f"{_INVALID}: invalid ExecutionStatus value '{operand[:200]}'")
        if isinstance(operand, bool) or not isinstance(operand, int):
            raise refused(f"{_INVALID}: unexpected value type for search attribute ExecutionStatus: {operand}")
        if operand and operand not in self._subject.statuses.values():
            raise refused(f"{_INVALID}: invalid ExecutionStatus value {operand}")
        return operand


def _value(operand: str | float, kind: int, name: str) -> Value:
    if kind in (KEYWORD, KEYWORD_LIST, TEXT):
        if isinstance(operand, str):
            return operand
    elif kind == BOOL:
        if isinstance(operand, bool):
            return int(operand)
    elif kind == DATETIME:
        if isinstance(operand, str):
            try:
                return search_attributes.moment(operand)
            except (ValueError, OverflowError):
                raise refused(f"{_INVALID}: unable to parse datetime '{operand[:200]}'") from None
        if isinstance(operand, int) and not isinstance(operand, bool) and operand in INT_RANGE:
            return operand
    elif isinstance(operand, float) or (not isinstance(operand, bool | str) and operand in INT_RANGE):
        return operand  # Int or Double
    raise refused(f"{_INVALID}: invalid value type for search attribute {name} of type {NAMES[kind]}: {operand!r}")


_UNITS = {
    "ns": 1,
    "us": MICROSECOND,
    "µs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
    "d": DAY,
}
_PARTS = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h|d)")
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d)")


def _span(text: str, name: str) -> int:
    """A span: a number of ns, `1h30m`, or `hh:mm:ss`."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest.isdecimal():
        total = float(rest)
    elif clock := _CLOCK.fullmatch(rest):
        hours, minutes, seconds = (int(part) for part in clock.groups())
        total = hours * HOUR + minutes * MINUTE + seconds * SECOND
    elif rest and _PARTS.sub("", rest) == "":
        total = sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(rest))
    else:
        raise refused(f"invalid value for search attribute {name}: {text[:200]} (invalid duration)")
    return sign * round(min(total, float(2**62)))


def _shown(operand: grammar.Operand) -> str:
    return operand.text[:200] if isinstance(operand, grammar.Name | grammar.Function) else repr(operand)[:200]


# --- as SQL


def sort_key(attribute: Attribute) -> Sql:
    """An attribute as an expression to sort by; NULL where there is none."""
    return _expression(attribute, lambda expression: expression)


class Sql(NamedTuple):
    """An expression, and the values of its parameters in their order."""

    text: str
    parameters: tuple[Value, ...] = ()


def to_sql(condition: Condition, place: Callable[[str], str] = lambda expression: expression) -> Sql:
    """A condition as an expression over a row called `e`.

    Args:
        condition: the condition.
        place: where an attribute's expression is to be read instead, for an index that has it too.
    """
    match condition:
        case All(parts):
            return _joined(" AND ", [to_sql(part, place) for part in parts])
        case Either(parts):
            return _joined(" OR ", [to_sql(part, place) for part in parts])
        case Negated(part):
            inner = to_sql(part, place)
            return Sql(f"NOT ({inner.text})", inner.parameters)
        case Holds(attribute, words, negated):
            test = "NOT EXISTS" if negated else "EXISTS"
            inner = _each_value(f"each.value IN ({_marks(words)})")
            return Sql(f"{test} ({inner})", (attribute.key, *words))
        case IsNull(attribute, negated):
            test = "IS NOT NULL" if negated else "IS NULL"
            one = _expression(attribute, place)
            return Sql(f"{one.text} {test}", one.parameters)
        case Prefixed(attribute, prefix, negated):
            one = _expression(attribute, place)
            end = after_prefix(prefix)
            text = f"{one.text} >= ?" + (f" AND {one.text} < ?" if end else "")
            parameters = (*one.parameters, prefix, *((*one.parameters, end) if end else ()))
            return Sql(f"{'NOT ' if negated else ''}({text})", parameters)
        case Compared(attribute, operator, value):
            one = _expression(attribute, place)
            return Sql(f"{one.text} {operator} ?", (*one.parameters, value))
        case Among(attribute, values, negated):
            one = _expression(attribute, place)
            test = "NOT IN" if negated else "IN"
            return Sql(f"{one.text} {test} ({_marks(values)})", (*one.parameters, *values))
        case Between(attribute, low, high, negated):
            one = _expression(attribute, place)
            test = "NOT BETWEEN" if negated else "BETWEEN"
            return Sql(f"({one.text} {test} ? AND ?)", (*one.parameters, low, high))


def _joined(word: str, parts: list[Sql]) -> Sql:
    """Halves of halves: SQLite counts how deep an expression goes, and a long row of ANDs is one of great depth."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    left, right = _joined(word, parts[:middle]), _joined(word, parts[middle:])
    return Sql(f"({left.text}{word}{right.text})", left.parameters + right.parameters)


def _each_value(condition: str) -> str:
    return (
        "SELECT 1 FROM json_each(e.attributes) AS named, json_each(named.value) AS each"
        f" WHERE named.key = ? AND {condition}"
    )


def _expression(attribute: Attribute, place: Callable[[str], str]) -> Sql:
    if attribute.key:
        # Of a list: its first value, which is there if any is.
        return Sql("json_extract(e.attributes, ?)", (f'$."{attribute.key}"[0]',))
    return Sql(place(attribute.sql))


def _marks(values: tuple[Value, ...]) -> str:
    return ", ".join("?" * len(values))


def after_prefix(prefix: str) -> str:
    """The first text after all that begin with a prefix, in the order of code points; empty if there is none."""
    for place in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[place])
        if code < 0x10FFFF:
            following = 0xE000 if code == 0xD7FF else code + 1
            return prefix[:place] + chr(following)
    return ""
