"""Types and values for property tests: models of any shape, and values that a schema describes.

A shape is a small description of a type; a type is made from it, so that a change of the shape is a change of the type.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Annotated, Any, Literal

from hypothesis import Phase, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model

from nexuskit.contract.adapters import Schema

QUICKLY = settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""Without shrinking: each try makes classes, and what is found is small enough to read."""


@dataclass(frozen=True)
class Integer:
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class Number:
    low: float | None = None


@dataclass(frozen=True)
class Text:
    longest: int | None = None


@dataclass(frozen=True)
class Truth:
    pass


@dataclass(frozen=True)
class Choice:
    values: tuple[str, ...] = ("red", "blue")


@dataclass(frozen=True)
class Maybe:
    of: Shape


@dataclass(frozen=True)
class Many:
    of: Shape
    least: int = 0


@dataclass(frozen=True)
class Keyed:
    of: Shape


@dataclass(frozen=True)
class Member:
    shape: Shape
    required: bool = True


@dataclass(frozen=True)
class Record:
    members: tuple[tuple[str, Member], ...] = ()
    closed: bool = False


Shape = Integer | Number | Text | Truth | Choice | Maybe | Many | Keyed | Record

NAMES = [f"{letter}{more}" for letter in "abcdefg" for more in ("lpha", "eta")]

LETTERS = "aZ09 /%é日\U0001f600\n"

PLAIN: dict[type, Any] = {Integer: 0, Number: 0.0, Text: "", Truth: False, Maybe: None, Many: [], Keyed: {}}


@cache
def scalars() -> st.SearchStrategy[Shape]:
    return st.one_of(
        st.just(Truth()),
        st.builds(Integer, low=st.none() | st.integers(-5, 0), high=st.none() | st.integers(1, 9)),
        st.builds(Number, low=st.none() | st.sampled_from([-2.5, 0.0])),
        st.builds(Text, longest=st.none() | st.integers(1, 6)),
        st.builds(Choice, st.sampled_from([("red",), ("red", "blue"), ("x", "y", "z")])),
    )


def records(below: st.SearchStrategy[Shape] | None = None) -> st.SearchStrategy[Record]:
    members = st.builds(Member, below if below is not None else scalars(), st.booleans())
    named = st.dictionaries(st.sampled_from(NAMES), members, min_size=1, max_size=4)
    return st.builds(Record, named.map(lambda found: tuple(found.items())), st.booleans())


@cache
def shapes() -> st.SearchStrategy[Shape]:
    return st.recursive(
        scalars(),
        lambda below: st.one_of(
            st.builds(Maybe, below.filter(lambda each: not isinstance(each, Maybe))),
            st.builds(Many, below, st.integers(0, 2)),
            st.builds(Keyed, below),
            records(below),
        ),
        max_leaves=6,
    )


@cache
def models() -> st.SearchStrategy[Record]:
    """A model with members of any shape: what an operation takes and gives."""
    return records(shapes())


def type_of(shape: Shape) -> Any:
    """The type that a shape describes."""
    match shape:
        case Integer(low, high):
            return Annotated[int, Field(ge=low, le=high)]
        case Number(low):
            return Annotated[float, Field(ge=low, allow_inf_nan=False)]
        case Text(longest):
            return Annotated[str, Field(max_length=longest)]
        case Truth():
            return bool
        case Choice(values):
            return Literal[values]  # type: ignore[valid-type]
        case Maybe(of):
            return type_of(of) | None
        case Many(of, least):
            return Annotated[list[type_of(of)], Field(min_length=least)]  # type: ignore[misc]
        case Keyed(of):
            return dict[str, type_of(of)]  # type: ignore[misc]
        case Record():
            return model_of(shape)


@cache
def model_of(record: Record, name: str = "Thing") -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (type_of(each.shape), ...) if each.required else (type_of(each.shape), default_of(each.shape))
        for name, each in record.members
    }
    return create_model(name, __config__=ConfigDict(extra="forbid" if record.closed else "ignore"), **fields)


def default_of(shape: Shape) -> Any:
    match shape:
        case Choice(values):
            return values[0]
        case Many(of, least):
            return [default_of(of)] * least
        case Record():
            return model_of(shape)(**{name: default_of(each.shape) for name, each in shape.members})
        case _:
            return PLAIN[type(shape)]


def value(schema: Schema, random: Random, *, as_declared: bool = False) -> Any:
    """A value that a schema describes; also with fields that it does not name, unless it is taken as declared.

    Drawn from a seed, and near the edges: a strategy for each schema is a hundred times slower.
    """
    return _Values(schema, random, as_declared).of(schema)


@dataclass(frozen=True)
class _Values:
    root: Schema
    random: Random
    as_declared: bool

    def of(self, node: Any, depth: int = 0) -> Any:
        node = {} if node is True else node
        if "$ref" in node:
            return self.of(self.root["$defs"][node["$ref"].rsplit("/", 1)[1]], depth)
        for keyword in ("anyOf", "oneOf"):
            if keyword in node:
                return self.of(self.random.choice(node[keyword][depth > 5 :]), depth)
        if "const" in node:
            return node["const"]
        if "enum" in node:
            return self.random.choice(node["enum"])
        match node.get("type"):
            case "null":
                return None
            case "boolean":
                return self.random.random() < 0.5
            case "integer" | "number":
                return self._number(node)
            case "string":
                length = self._between(node.get("minLength", 0), node.get("maxLength"))
                return "".join(self.random.choice(LETTERS) for _ in range(length))
            case "array":
                length = self._between(node.get("minItems", 0), node.get("maxItems"))
                return [self.of(node.get("items", {}), depth + 1) for _ in range(length)]
            case "object":
                return self._object(node, depth)
            case _:
                return self.random.choice([None, True, 7, "x", [], {"x": 1}])

    def _between(self, low: int, high: int | None) -> int:
        return self.random.randint(low, low + self.random.choice((3, 9)) if high is None else min(high, low + 12))

    def _number(self, node: Schema) -> int | float:
        whole = node["type"] == "integer"
        least = 1 if whole else 0.5
        low, high = node.get("minimum"), node.get("maximum")
        if "exclusiveMinimum" in node:
            low = node["exclusiveMinimum"] + least
        if "exclusiveMaximum" in node:
            high = node["exclusiveMaximum"] - least
        edges = [each for each in (low, high) if each is not None]
        if edges and self.random.random() < 0.5:
            return self.random.choice(edges)
        low = (-1000 if high is None else min(-1000, high - 1000)) if low is None else low
        high = max(1000, low + 1000) if high is None else high
        return self.random.randint(low, high) if whole else self.random.uniform(low, high)

    def _object(self, node: Schema, depth: int) -> dict[str, Any]:
        known, sure = node.get("properties", {}), {*node.get("required", ())}
        often = 0.5 if depth < 5 else 0
        found = {
            name: self.of(each, depth + 1)
            for name, each in known.items()
            if name in sure or self.random.random() < often
        }
        rest = node.get("additionalProperties", not self.as_declared)
        if rest is not False and self.random.random() < often:
            found[self.random.choice(["X", "YY", ""])] = self.of(rest, depth + 1)
        return found
