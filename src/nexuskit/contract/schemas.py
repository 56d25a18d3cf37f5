"""Whether all that one JSON Schema lets be sent is accepted by another, and if not, where and why.

Containment of schemas is undecidable in general and easy for what describes types: objects with named fields, lists,
alternatives, finite sets, bounds. Schemas are compared field by field; a keyword that is not understood, and is not the
same on both sides, counts as a difference: a contract is rather stopped once too often.

What is looked for are not values but promises: a field that is sent and not read is told, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Any, cast

from nexuskit.contract.adapters import OPAQUE, Schema


class Aspect(Enum):
    """What kind of difference it is. S is what is sent, A what is accepted."""

    MISSING = "missing"
    """A requires a field that S may leave out, or does not know."""
    UNREAD = "unread"
    """S has a field that A does not know."""
    UNSENT = "unsent"
    """A knows a field, and does not require it, that S does not have."""
    UNKNOWN = "unknown"
    """S may have fields that nobody names, which A refuses."""
    TYPE = "type"
    """S may be of a type that A does not take."""
    ENUM = "enum"
    """S may be a value that is not among A's."""
    CONSTRAINT = "constraint"
    """A bound, a length, a pattern or a format of A's that S does not keep."""


@dataclass(frozen=True)
class Difference:
    """One thing that is sent and not accepted, or not read.

    Attributes:
        aspect: what kind it is.
        path: where: names of fields, "[]" for the items of a list, "{}" for the values of a mapping.
        sent: what is sent, in words.
        accepted: what is accepted, in words.
        refused: whether a value is refused for it; otherwise a part of it is not read.
        declared: of a missing field: whether the sender knows it, and only need not send it.
        shape: of a field that one side alone has: what it looks like, to find it again under another name.
    """

    aspect: Aspect
    path: tuple[str, ...]
    sent: str = ""
    accepted: str = ""
    refused: bool = True
    declared: bool = False
    shape: str = ""


ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator"}
    | {"$comment", "$schema", "$defs", "$id", "contentMediaType"}
)
"""Keywords that say nothing about which values there are."""
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
_OF_TYPE: Mapping[str, frozenset[str]] = {
    "number": frozenset({"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format", "contentEncoding"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}),
    "object": frozenset({"properties", "required", "additionalProperties", "minProperties", "maxProperties"}),
}
"""Keywords that are understood, by the type they speak of; `integer` is as `number`."""
_UNDERSTOOD = frozenset[str]().union(*_OF_TYPE.values()) | {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}
_SHOWN = 5
"""Values of a set that are told; the rest is counted."""


def differences(sent: Schema, accepted: Schema, *, as_declared: bool) -> list[Difference]:
    """What is sent by one schema and is not accepted, or not read, by the other.

    Args:
        sent: the schema of what is sent.
        accepted: the schema of what is accepted.
        as_declared: the sender sends no field that `sent` does not name, unless that says so in so many words.
            Otherwise it may send whatever `sent` accepts.
    """
    return _Comparison(_Reader(sent), _Reader(accepted), as_declared).of(sent, accepted)


def same_values(one: Schema, other: Schema) -> bool:
    """Whether both are the same schema, whatever they say for people."""
    return _plain(one, one) == _plain(other, other)


@dataclass(frozen=True)
class _Reader:
    """Follows the references of a schema."""

    root: Schema

    def alternatives(self, node: Any) -> list[Schema]:
        """All the simple schemas of which a value must fit one; each with at most one type, and no reference."""
        if node is False:
            return []
        found: Schema = self._resolved({} if node is True else node)
        for keyword in ("anyOf", "oneOf"):
            if keyword in found:
                rest = {key: value for key, value in found.items() if key != keyword}
                return [
                    simple
                    for each in found[keyword]
                    for simple in self.alternatives(_merged(rest, self._resolved(each)))
                ]
        if "const" in found:
            found = {**{key: value for key, value in found.items() if key != "const"}, "enum": [found["const"]]}
        types = found.get("type")
        if isinstance(types, list):
            return [{**found, "type": each} for each in cast("list[str]", types)]
        return [found]

    def _resolved(self, node: Any) -> Schema:
        if not isinstance(node, dict):
            return {} if node is True else {"enum": []}
        found = cast("Schema", node)
        seen: set[str] = set()
        while "$ref" in found:
            name = cast("str", found["$ref"])
            if name in seen:  # a reference to itself accepts nothing that ends
                return {"enum": []}
            seen.add(name)
            rest = {key: value for key, value in found.items() if key != "$ref"}
            found = _merged(rest, self.target(name))
        for part in cast("list[Any]", found.get("allOf", ())):
            rest = {key: value for key, value in found.items() if key != "allOf"}
            found = _merged(rest, self._resolved(part)) | (
                {"allOf": found["allOf"][1:]} if len(found["allOf"]) > 1 else {}
            )
        return found

    def target(self, name: str) -> Schema:
        """What a reference names."""
        node: Schema = self.root
        for part in name.removeprefix("#").split("/")[1:]:
            found: Any = node.get(part.replace("~1", "/").replace("~0", "~"))
            node = cast("Schema", found) if isinstance(found, dict) else {}
        return node


def _merged(one: Schema, other: Schema) -> Schema:
    """A schema that asks for what both ask for; what is said twice, and differently, under a name of its own."""
    found = dict(one)
    for key, value in other.items():
        if key in ANNOTATIONS:
            found.setdefault(key, value)
        elif key not in found or found[key] == value:
            found[key] = value
        elif key == "properties":
            mine = cast("Schema", found[key])
            both = {name: {"allOf": [mine[name], value[name]]} for name in mine.keys() & value.keys()}
            found[key] = {**mine, **value, **both}
        elif key == "required":
            found[key] = sorted({*found[key], *value})
        elif key in _LOWER:
            found[key] = max(found[key], value)
        elif key in _UPPER:
            found[key] = min(found[key], value)
        else:
            found[f"{key} and {_said(value)}"] = True  # not understood, and so the same or different as a whole
    return found


class _Comparison:
    def __init__(self, sent: _Reader, accepted: _Reader, as_declared: bool) -> None:
        self._sent = sent
        self._accepted = accepted
        self._as_declared = as_declared
        # A type that holds itself is compared once: what is under way is taken to fit. The nodes are kept with their
        # results, so that no other node can get their ids.
        self._known: dict[tuple[int, int], tuple[list[Difference], Any, Any]] = {}

    def of(self, sent: Any, accepted: Any) -> list[Difference]:
        key = (id(sent), id(accepted))
        if key not in self._known:
            self._known[key] = ([], sent, accepted)
            self._known[key] = (self._compared(sent, accepted), sent, accepted)
        return self._known[key][0]

    def _compared(self, sent: Any, accepted: Any) -> list[Difference]:
        taken = self._accepted.alternatives(accepted)
        found: list[Difference] = []
        for each in self._sent.alternatives(sent):
            if each.get("type") == "boolean" and "enum" not in each and any(map(_finite, taken)):
                each = {**each, "enum": [True, False]}
            found += self._values(each, taken) if _finite(each) else self._one(each, taken)
        return list(dict.fromkeys(found))

    def _values(self, sent: Schema, taken: Sequence[Schema]) -> list[Difference]:
        refused = [value for value in _finite(sent) if not any(_accepts(each, value) for each in taken)]
        if not refused:
            return []
        kinds = {_type_of(value) for value in refused}
        near = [each for each in taken if _type(each) in kinds or _finite(each)]
        if any(_finite(each) for each in near):
            aspect, allowed = Aspect.ENUM, [value for each in near for value in _finite(each)]
            return [Difference(aspect, (), _listed(refused), _listed(allowed))]
        aspect = Aspect.CONSTRAINT if near else Aspect.TYPE
        return [Difference(aspect, (), _listed(refused), _either(near or taken))]

    def _one(self, sent: Schema, taken: Sequence[Schema]) -> list[Difference]:
        tried = [self._fit(sent, each) for each in taken if _comparable(sent, each)]
        if not tried:
            return [Difference(Aspect.TYPE, (), _shown(sent), _either(taken))]
        return min(tried, key=lambda found: (sum(each.refused for each in found), len(found)))

    def _fit(self, sent: Schema, taken: Schema) -> list[Difference]:
        if not _judged(taken):
            return []
        if OPAQUE in sent or OPAQUE in taken:
            same = sent.get(OPAQUE) == taken.get(OPAQUE)
            return [] if same else [Difference(Aspect.TYPE, (), _shown(sent), _shown(taken))]
        if _finite(taken):
            return [Difference(Aspect.ENUM, (), _shown(sent), _listed(_finite(taken)))]
        found = self._foreign(sent, taken)
        match _type(taken):
            case "object":
                found += _bounds(sent, taken, "object") + self._object(sent, taken)
            case "array":
                found += _bounds(sent, taken, "array") + self._array(sent, taken)
            case "string":
                found += _bounds(sent, taken, "string") + _texts(sent, taken)
            case "integer" | "number":
                found += _bounds(sent, taken, "number")
            case _:
                pass
        return found

    def _foreign(self, sent: Schema, taken: Schema) -> list[Difference]:
        strange = [
            key
            for key, value in taken.items()
            if key not in _UNDERSTOOD and key not in ANNOTATIONS and not key.startswith("x-") and sent.get(key) != value
        ]
        return [Difference(Aspect.CONSTRAINT, (), _keyword(sent, key), _keyword(taken, key)) for key in strange]

    def _object(self, sent: Schema, taken: Schema) -> list[Difference]:
        mine, theirs = _properties(sent), _properties(taken)
        sure, wanted = {*sent.get("required", ())}, {*taken.get("required", ())}
        rest, others = sent.get("additionalProperties"), taken.get("additionalProperties", True)
        found: list[Difference] = []
        for name in mine:
            if name in theirs:
                found += _below(name, self.of(mine[name], theirs[name]))
            elif isinstance(others, dict):
                found += _below(name, self.of(mine[name], others))
            else:
                shape = _plain(mine[name], self._sent.root)
                found.append(Difference(Aspect.UNREAD, (name,), refused=others is False, shape=shape))
        for name in (*theirs, *sorted(wanted - theirs.keys())):
            shape = _plain(theirs.get(name, {}), self._accepted.root)
            if name in wanted and name not in sure:
                found.append(Difference(Aspect.MISSING, (name,), declared=name in mine, shape=shape))
            elif name not in mine and name in theirs:
                found.append(Difference(Aspect.UNSENT, (name,), refused=False, shape=shape))
        return found + self._unnamed(rest, others)

    def _unnamed(self, rest: Any, others: Any) -> list[Difference]:
        """Fields that no name is given for."""
        if rest is False or (rest is None and self._as_declared):
            return []
        if others is False:
            return [Difference(Aspect.UNKNOWN, (), _rest(rest), "no other fields")]
        if isinstance(rest, dict) and isinstance(others, dict):
            return _below("{}", self.of(rest, cast("Schema", others)))
        if isinstance(others, dict) and _judged(cast("Schema", others)):
            return [Difference(Aspect.UNKNOWN, (), _rest(rest), _rest(others))]
        return []

    def _array(self, sent: Schema, taken: Schema) -> list[Difference]:
        places = max(len(sent.get("prefixItems", ())), len(taken.get("prefixItems", ())))
        most = sent.get("maxItems")
        found: list[Difference] = []
        for at in range(places if most is None else min(places, most)):
            found += _below(f"[{at}]", self.of(_item(sent, at), _item(taken, at)))
        if most is None or most > places:
            found += _below("[]", self.of(sent.get("items", _ANYTHING), taken.get("items", _ANYTHING)))
        if taken.get("uniqueItems") and not sent.get("uniqueItems"):
            found.append(Difference(Aspect.CONSTRAINT, (), "the same item twice", "each item once"))
        return found


_ANYTHING: Schema = {}


def _item(node: Schema, at: int) -> Any:
    first = cast("list[Any]", node.get("prefixItems", []))
    return first[at] if at < len(first) else node.get("items", _ANYTHING)


def _below(name: str, found: Iterable[Difference]) -> list[Difference]:
    return [replace(each, path=(name, *each.path)) for each in found]


def _properties(node: Schema) -> dict[str, Any]:
    return cast("dict[str, Any]", node.get("properties", {}))


# --- scalars


def _bounds(sent: Schema, taken: Schema, kind: str) -> list[Difference]:
    found: list[Difference] = []
    whole = _type(sent) == "integer"
    for low in (True, False):
        for name in ("imum", "Length", "Items", "Properties"):
            key = ("min" if low else "max") + name
            if key not in _OF_TYPE[kind]:
                continue
            limit, mine = _bound(taken, key, whole), _bound(sent, key, whole)
            if limit is not None and (mine is None or (mine < limit if low else mine > limit)):
                found.append(Difference(Aspect.CONSTRAINT, (), _bounded(sent, key), _bounded(taken, key)))
    step = taken.get("multipleOf")
    if kind == "number" and step is not None:
        mine = sent.get("multipleOf", 1 if whole else None)
        if mine is None or Decimal(str(mine)) % Decimal(str(step)):
            found.append(Difference(Aspect.CONSTRAINT, (), _multiple(sent), _multiple(taken)))
    return found


def _bound(node: Schema, key: str, whole: bool) -> tuple[float, int] | None:
    """A bound that can be compared: the number, and how strict it is there."""
    low = key.startswith("min")
    if not key.endswith("imum"):
        return (node.get(key, 0), 0) if low else (node[key], 0) if key in node else None
    found: list[tuple[float, int]] = [(node[key], 0)] if key in node else []
    strict = "exclusive" + key[0].upper() + key[1:]
    if strict in node:
        edge = node[strict]
        if whole and float(edge).is_integer():  # above 0 is from 1, of integers
            found.append((edge + (1 if low else -1), 0))
        else:
            found.append((edge, 1 if low else -1))
    if not found:
        return None
    return max(found) if low else min(found)


def _bounded(node: Schema, key: str) -> str:
    strict = "exclusive" + key[0].upper() + key[1:]
    said = [f"{each} {node[each]}" for each in (key, strict) if each in node]
    return " and ".join(said) or f"without {key}"


def _multiple(node: Schema) -> str:
    return f"multipleOf {node['multipleOf']}" if "multipleOf" in node else "without multipleOf"


def _texts(sent: Schema, taken: Schema) -> list[Difference]:
    return [
        Difference(Aspect.CONSTRAINT, (), _keyword(sent, key), _keyword(taken, key))
        for key in ("pattern", "format", "contentEncoding")
        if key in taken and sent.get(key) != taken[key]
    ]


def _keyword(node: Schema, key: str) -> str:
    return f"{key} {_said(node[key])}" if key in node else f"without {key}"


def _finite(node: Schema) -> list[Any]:
    """All the values, where they are counted."""
    if "enum" in node:
        return cast("list[Any]", node["enum"])
    return [None] if node.get("type") == "null" else []


def _accepts(node: Schema, value: Any) -> bool:
    """Whether a schema takes one value of a set. A keyword that cannot be tried on it takes none."""
    if "enum" in node:
        return any(_type_of(each) == _type_of(value) and each == value for each in node["enum"])
    if not _judged(node):
        return True
    kind = _type_of(value)
    if _type(node) is not None and _type(node) != kind and (_type(node), kind) != ("number", "integer"):
        return False
    only: Schema = {"type": kind, "enum": [value]}
    match value:
        case bool() | None:
            return True
        case int() | float():
            return not _bounds({**only, "minimum": value, "maximum": value, "multipleOf": value or 0}, node, "number")
        case str():
            sized: Schema = {**only, "minLength": len(value), "maxLength": len(value)}
            return not (_bounds(sized, node, "string") or {"format", "contentEncoding"} & node.keys()) and _matches(
                cast("str | None", node.get("pattern")), value
            )
        case _:
            return False


def _matches(pattern: str | None, value: str) -> bool:
    if pattern is None:
        return True
    try:
        return re.search(pattern, value) is not None
    except re.error:  # a pattern of another language's
        return False


def _comparable(sent: Schema, taken: Schema) -> bool:
    """Whether they differ in parts only."""
    kinds = (_type(sent), _type(taken))
    return not _judged(taken) or kinds[1] is None or kinds[0] == kinds[1] or kinds == ("integer", "number")


def _judged(node: Schema) -> bool:
    """Whether it asks for anything."""
    return any(key not in ANNOTATIONS and (not key.startswith("x-") or key == OPAQUE) for key in node)


def _type(node: Schema) -> str | None:
    named = node.get("type")
    if isinstance(named, str):
        return named
    if OPAQUE in node:
        return "opaque"
    # Without a type a keyword speaks of values of its type only, and lets all others pass; nobody who writes
    # `properties` means that.
    return next((kind for kind, keywords in _OF_TYPE.items() if keywords & node.keys()), None)


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


# --- in words


def _shown(node: Schema) -> str:
    if values := _finite(node):
        return _listed(values)
    if OPAQUE in node:
        return f"a {node[OPAQUE]}"
    named = _type(node)
    title = node.get("title")
    if named == "object" and title:
        return f"object {title}"
    return named or "any value"


def _either(nodes: Sequence[Schema]) -> str:
    return " or ".join(dict.fromkeys(map(_shown, nodes))) or "anything"


def _rest(others: Any) -> str:
    return f"other fields, each {_shown(cast('Schema', others))}" if isinstance(others, dict) else "any other fields"


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(_said(each) for each in values[:_SHOWN])
    return f"{shown} and {len(values) - _SHOWN} more" if len(values) > _SHOWN else shown


def _said(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _plain(node: Any, root: Schema) -> str:
    """What a schema asks for as text, to tell whether two are the same; types below it by what they ask for."""
    names: list[str] = []

    def plain(part: Any, *, names_of_fields: bool = False) -> Any:
        if isinstance(part, list):
            return [plain(each) for each in cast("list[Any]", part)]
        if not isinstance(part, dict):
            return part
        found = cast("Schema", part)
        if isinstance(reference := found.get("$ref"), str):
            if reference in names:
                return {"$ref": names.index(reference)}
            names.append(reference)
            found = {**_Reader(root).target(reference), **{key: found[key] for key in found if key != "$ref"}}
        return {
            key: plain(value, names_of_fields=key == "properties" and not names_of_fields)
            for key, value in found.items()
            if names_of_fields or key not in ANNOTATIONS
        }

    return json.dumps(plain(node), sort_keys=True)
