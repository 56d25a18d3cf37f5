"""A contract's pages for people: Markdown, and HTML that stands alone; no scripts, and every word of it escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from jinja2 import Environment, PackageLoader, StrictUndefined

from nexuskit.contract.adapters import Schema
from nexuskit.contract.document import ContractDocument, OperationDocument
from nexuskit.contract.type_names import type_name

Form = Literal["markdown", "html"]

_DEPTH = 6
"""Levels of fields within fields that are shown: deeper ones are types that hold themselves, mostly."""
_BOUNDS = (
    *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "pattern", "format"),
)


@dataclass(frozen=True)
class FieldPage:
    """A field: where it is, its type's name, and what else is asked or said of it."""

    path: str
    type: str
    about: str


@dataclass(frozen=True)
class SidePage:
    """An input, an output or an error: which one, its type's name and docs, and its fields."""

    what: str
    name: str
    doc: str
    fields: tuple[FieldPage, ...]


@dataclass(frozen=True)
class OperationPage:
    """An operation: its name and docs, its deadline and labels in words, and its sides."""

    name: str
    doc: str
    deadline: str
    labels: str
    input: SidePage
    output: SidePage
    sides: tuple[SidePage, ...]


@dataclass(frozen=True)
class ServicePage:
    """A service: its name, version and docs, and its operations."""

    name: str
    version: str
    doc: str
    operations: tuple[OperationPage, ...]


def page(document: ContractDocument, form: Form) -> str:
    """The page of a contract."""
    # Markdown is read as HTML where it is shown, so both escape what has a meaning in HTML.
    environment = Environment(
        loader=PackageLoader("nexuskit.contract"),
        autoescape=form == "html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"words": _words, "cell": _cell}
    services = tuple(
        ServicePage(each.name, each.version, each.doc, tuple(map(_operation, each.operations)))
        for each in document.services
    )
    template = environment.get_template("contract.html.j2" if form == "html" else "contract.md.j2")
    return re.sub(r"\n{3,}", "\n\n", template.render(services=services)).strip() + "\n"


def _operation(operation: OperationDocument) -> OperationPage:
    input_ = _side("input", operation.input)
    output = _side("output", operation.output)
    errors = tuple(
        SidePage("error", each.name + (", retried" if each.retryable else ""), each.doc, tuple(_fields(each.fields)))
        for each in operation.errors
    )
    return OperationPage(
        name=operation.name,
        doc=operation.doc,
        deadline=str(operation.deadline or ""),
        labels=", ".join([*([operation.kind] if operation.kind else []), *operation.tags]),
        input=input_,
        output=output,
        sides=(input_, output, *errors),
    )


def _side(what: str, schema: Schema) -> SidePage:
    return SidePage(what, type_name(schema), _followed(schema, schema).get("description", ""), tuple(_fields(schema)))


def _fields(root: Schema) -> Iterable[FieldPage]:
    return _below(root, root, "", ())


def _below(node: Schema, root: Schema, path: str, inside: tuple[str, ...]) -> Iterable[FieldPage]:
    """The fields of a schema, and those within them; a type that holds itself is gone through once."""
    if len(inside) > _DEPTH or node.get("$ref") in inside:
        return
    inside = (*inside, node.get("$ref", path))
    found = _followed(node, root)
    required = {*found.get("required", ())}
    for name, each in cast("Schema", found.get("properties", {})).items():
        member = cast("Schema", each) if isinstance(each, dict) else {}
        where = f"{path}.{name}" if path else name
        shown = type_name({key: value for key, value in member.items() if key != "title"})
        yield FieldPage(where, shown, _about(_followed(member, root), member, name in required))
        yield from _below(member, root, where, inside)
    for each in (*found.get("anyOf", ()), *found.get("oneOf", ())):
        yield from _below(each, root, path, inside)
    for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(found.get(keyword), dict):
            yield from _below(found[keyword], root, f"{path}{mark}", inside)


def _about(found: Schema, member: Schema, required: bool) -> str:
    values = found.get("enum") or ([found["const"]] if "const" in found else [])
    parts = [
        *([] if required else ["may be missing"]),
        *([f"default {member['default']!r}"] if member.get("default") is not None else []),
        *([f"one of {', '.join(map(str, values))}"] if values else []),
        *(f"{key} {found[key]}" for key in _BOUNDS if key in found),
        *(["deprecated"] if member.get("deprecated") else []),
        *([member["description"]] if member.get("description") else []),
    ]
    return "; ".join(parts)


def _followed(schema: Schema, root: Schema) -> Schema:
    found = schema
    while isinstance(reference := found.get("$ref"), str):
        found = cast("Schema", root.get("$defs", {}).get(reference.rsplit("/", 1)[-1], {}))
    return found


def _words(text: str) -> str:
    """Text in Markdown: nothing of it is HTML, a link, or a mark at the beginning of a line."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = re.sub(r"([\\`*_\[\]!|])", r"\\\1", escaped)
    escaped = re.sub(r"^(\s*)([#+=~-])", r"\1\\\2", escaped, flags=re.MULTILINE)
    return re.sub(r"^(\s*\d+)([.)])(?=\s)", r"\1\\\2", escaped, flags=re.MULTILINE)


def _cell(text: str) -> str:
    return " ".join(_words(text).split())
