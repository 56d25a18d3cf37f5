"""The grammar of the list filter: what may stand in a query, as a tree of conditions.

Temporal's server takes the filter for the part of an SQL statement after `select * from table1 where`, so it may hold
GROUP BY, ORDER BY and LIMIT, and an error says at which place of that statement it is. Strings stand in single or
double quotes, names stand bare or in backquotes; comments are those of SQL.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput

from nexuskit.backend import limits
from nexuskit.backend.errors import StatusError, invalid_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_GRAMMAR = r"""
query: [condition] [group_by] [order_by] [limit]
group_by: GROUP BY operand ("," operand)*
order_by: ORDER BY order ("," order)*
order: operand [DIRECTION]
limit: LIMIT NUMBER

?condition: conjunction (OR conjunction)*      -> either
?conjunction: negation (AND negation)*         -> all_of
?negation: NOT negation                        -> negated
    | "(" condition ")"
    | predicate
?predicate: operand COMPARED operand           -> compared
    | operand [NOT] STARTS_WITH operand        -> starts_with
    | operand [NOT] IN "(" operand ("," operand)* ")"  -> among
    | operand [NOT] BETWEEN operand AND operand        -> between
    | operand IS [NOT] NULL                    -> is_null
    | operand                                  -> incomplete

?operand: NAME                                 -> name
    | QUOTED_NAME                              -> quoted_name
    | STRING                                   -> string
    | NUMBER                                   -> number
    | TRUE                                     -> true
    | FALSE                                    -> false
    | NULL                                     -> null
    | NAME "(" [operand ("," operand)*] ")"    -> function

COMPARED: "!=" | "<>" | "<=" | ">=" | "=" | "<" | ">"
AND.2: /and\b|&&/i
OR.2: /or\b|\|\|/i
NOT.2: /not\b/i
IN.2: /in\b/i
IS.2: /is\b/i
NULL.2: /null\b/i
TRUE.2: /true\b/i
FALSE.2: /false\b/i
BETWEEN.2: /between\b/i
STARTS_WITH.2: /starts_with\b/i
GROUP.2: /group\b/i
ORDER.2: /order\b/i
BY.2: /by\b/i
LIMIT.2: /limit\b/i
DIRECTION.2: /(asc|desc)\b/i
NAME: /[A-Za-z_@][A-Za-z0-9_@$.]*/
QUOTED_NAME: /`[^`]+`/
STRING: /'([^'\\]|\\.|'')*'/s | /"([^"\\]|\\.|"")*"/s
NUMBER: /[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?/
%ignore /\s+/
%ignore /(--|#|\/\/)[^\n]*/
%ignore /\/\*(.|\n)*?\*\//
"""

_BEFORE = len("select * from table1 where ")
"""What stands before the filter in the statement that the real server counts positions in."""


class Name(NamedTuple):
    """An attribute's name."""

    text: str


class Function(NamedTuple):
    """A call of a function, which no filter may hold."""

    text: str


Operand = Name | Function | str | int | float | bool | None
"""A name, or a value as it was written."""


class All(NamedTuple):
    parts: tuple[Condition, ...]


class Either(NamedTuple):
    parts: tuple[Condition, ...]


class Negated(NamedTuple):
    part: Condition


class Compared(NamedTuple):
    """`operator` is one of = != < > <= >= STARTS_WITH, NOT STARTS_WITH."""

    operator: str
    left: Operand
    right: Operand


class Among(NamedTuple):
    left: Operand
    values: tuple[Operand, ...]
    negated: bool


class Between(NamedTuple):
    left: Operand
    low: Operand
    high: Operand
    negated: bool


class IsNull(NamedTuple):
    left: Operand
    negated: bool


class Incomplete(NamedTuple):
    """An operand where a condition should be."""

    operand: Operand


Condition = All | Either | Negated | Compared | Among | Between | IsNull | Incomplete


class Order(NamedTuple):
    operand: Operand
    descending: bool


class Query(NamedTuple):
    """A whole filter. `where` is None for one that takes everything."""

    where: Condition | None = None
    group_by: tuple[Operand, ...] = ()
    order_by: tuple[Order, ...] = ()
    limit: bool = False


def refused(message: str) -> StatusError:
    """The filter is wrong, in the real server's words."""
    return invalid_argument(f"invalid query: {message}")


class MalformedError(ValueError):
    """A text that is no filter; the message says where."""


def parse(text: str) -> Query:
    """The tree of a filter.

    Raises:
        StatusError: INVALID_ARGUMENT, if it is not well formed or larger than anybody needs.
    """
    if len(text) > limits.FILTER_LENGTH:
        raise refused(f"malformed SQL query: {len(text)} characters, at most {limits.FILTER_LENGTH}")
    try:
        return tree(text)
    except MalformedError as error:
        raise refused(f"malformed SQL query: {error}") from None


def tree(text: str) -> Query:
    """The tree of a filter of any length.

    Raises:
        MalformedError: it is not well formed.
    """
    if not text.strip():
        return Query()
    try:
        return _parser()(text)
    except UnexpectedInput as error:
        raise MalformedError(_syntax_error(text, error)) from None


def _syntax_error(text: str, error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedCharacters):
        place = cast("int", error.pos_in_stream)
        return f"syntax error at position {_BEFORE + place + 1} near '{text[place : place + 20]}'"
    token = cast("Token | None", getattr(error, "token", None))
    if token is None or token.type == "$END":
        return f"syntax error at position {_BEFORE + len(text) + 1}"
    return f"syntax error at position {_BEFORE + (token.end_pos or 0) + 1} near '{str(token)[:100].strip('`')}'"


@lru_cache(maxsize=1)
def _parser() -> Callable[[str], Query]:
    """Made when it is first needed: that takes some milliseconds."""
    parser = Lark(_GRAMMAR, start="query", parser="lalr", transformer=_Tree(), maybe_placeholders=True)
    return cast("Callable[[str], Query]", parser.parse)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "0": "\0", "Z": "\x1a"}


def _unquoted(written: str) -> str:
    quote, inner = written[0], written[1:-1]
    if "\\" not in inner:
        return inner.replace(quote * 2, quote)
    pieces: list[str] = []
    place = 0
    while place < len(inner):
        char = inner[place]
        if char == "\\":
            place += 1
            pieces.append(_ESCAPES.get(inner[place], inner[place]))
        else:
            pieces.append(char)
            if char == quote:
                place += 1
        place += 1
    return "".join(pieces)


class _Tree(Transformer[Token, Any]):
    """Builds the tree while it is parsed, so that nothing recurses, however deep the filter nests."""

    def __init__(self) -> None:
        super().__init__(visit_tokens=False)

    def query(self, parts: Sequence[Any]) -> Query:
        where, group_by, order_by, limit = parts
        return Query(where, group_by or (), order_by or (), limit is not None)

    def group_by(self, parts: Sequence[Any]) -> tuple[Operand, ...]:
        return tuple(parts[2:])

    def order_by(self, parts: Sequence[Any]) -> tuple[Order, ...]:
        return tuple(parts[2:])

    def order(self, parts: Sequence[Any]) -> Order:
        return Order(parts[0], parts[1] is not None and parts[1].lower() == "desc")

    def limit(self, parts: Sequence[Any]) -> bool:
        return True

    def either(self, parts: Sequence[Any]) -> Condition:
        return parts[0] if len(parts) == 1 else Either(tuple(parts[::2]))

    def all_of(self, parts: Sequence[Any]) -> Condition:
        return parts[0] if len(parts) == 1 else All(tuple(parts[::2]))

    def negated(self, parts: Sequence[Any]) -> Condition:
        return Negated(parts[1])

    def compared(self, parts: Sequence[Any]) -> Condition:
        left, operator, right = parts
        return Compared("!=" if operator == "<>" else str(operator), left, right)

    def starts_with(self, parts: Sequence[Any]) -> Condition:
        left, negation, _, right = parts
        return Compared("NOT STARTS_WITH" if negation is not None else "STARTS_WITH", left, right)

    def among(self, parts: Sequence[Any]) -> Condition:
        left, negation, _, *values = parts
        return Among(left, tuple(values), negation is not None)

    def between(self, parts: Sequence[Any]) -> Condition:
        left, negation, _, low, _, high = parts
        return Between(left, low, high, negation is not None)

    def is_null(self, parts: Sequence[Any]) -> Condition:
        left, _, negation, _ = parts
        return IsNull(left, negation is not None)

    def incomplete(self, parts: Sequence[Any]) -> Condition:
        return Incomplete(parts[0])

    def name(self, parts: Sequence[Any]) -> Operand:
        return Name(str(parts[0]))

    def quoted_name(self, parts: Sequence[Any]) -> Operand:
        return Name(str(parts[0])[1:-1])

    def string(self, parts: Sequence[Any]) -> Operand:
        return _unquoted(str(parts[0]))

    def number(self, parts: Sequence[Any]) -> Operand:
        written = str(parts[0])
        try:
            return int(written)
        except ValueError:
            return float(written)

    def true(self, parts: Sequence[Any]) -> Operand:
        return True

    def false(self, parts: Sequence[Any]) -> Operand:
        return False

    def null(self, parts: Sequence[Any]) -> Operand:
        return None

    def function(self, parts: Sequence[Any]) -> Operand:
        return Function(str(parts[0]))
