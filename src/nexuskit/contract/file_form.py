"""The `nexusrpc: "1.0.0"` file form, which temporalio/nexgen makes Go, Java, Python and TypeScript from.

Its schemas are a strict subset of JSON Schema: inputs and outputs are objects or nothing, a union's alternatives can be
told apart, and types have names. What of a contract does not fit is refused, all of it at once. What the form has no
place for (version, deadline, kind, tags, errors) stands under `x-nexuskit`, which generators of other languages pass
over.

A type stands there as whoever receives it accepts it, so that it is one type wherever it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from nexuskit.contract.adapters import OPAQUE, Schema
from nexuskit.contract.document import DIALECT, ContractDocument, DocumentError, OperationDocument, from_value
from nexuskit.contract.schemas import same_values

VERSION = "1.0.0"
"""The only version that there is."""
KEY = "nexusrpc"
"""The member that tells such a file."""

FORMATS = frozenset({"uuid", "ipv4", "ipv6", "uri", "uri-reference", "hostname", "email"}) | frozenset(
    {"date", "date-time", "time", "duration"}
)
"""Formats that the form knows. Others say nothing about which values there are, and are left out."""
_KEPT = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "minProperties",
        "maxProperties",
        "enum",
        "const",
        "items",
    }
    | {"minItems", "maxItems", "uniqueItems", "minLength", "maxLength", "pattern", "contentEncoding", "multipleOf"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "description", "deprecated", "$ref"}
)
_LEFT = frozenset({"title", "discriminator", "readOnly", "writeOnly", "examples", "$comment", "$schema", "$defs"})
_OTHER = "x-nexuskit"
_NULL: Schema = {"type": "null"}
_REFERENCE = "#/$defs/"


class FileFormError(ValueError):
    """A contract that the file form cannot say.

    Attributes:
        faults: all that does not fit, each with its place.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("the nexusrpc file form cannot say this:" + "".join(f"\n  - {each}" for each in faults))


def to_file(document: ContractDocument) -> dict[str, Any]:
    """The file form of a contract.

    Raises:
        FileFormError: it does not fit.
    """
    return _Writer().whole(document)


def from_file(value: Mapping[str, Any]) -> ContractDocument:
    """The contract that a file says.

    Raises:
        DocumentError: it is no such file, or refers to other files.
    """
    return _Reader(value).document()


def is_file_form(value: object) -> bool:
    """Whether a value that was read is of this form."""
    return isinstance(value, dict) and KEY in value


class _Writer:
    def __init__(self) -> None:
        self._types: dict[str, Schema] = {}
        self._sources: dict[str, Schema] = {}
        self._faults: list[str] = []

    def whole(self, document: ContractDocument) -> dict[str, Any]:
        services: dict[str, Any] = {}
        for service in document.services:
            operations: dict[str, Any] = {}
            for operation in service.operations:
                where = f"{service.name}.{operation.name}"
                operations[self._key(operation.name, operations, where, upper=False)] = self._operation(
                    operation, where
                )
            key = self._key(service.name, services, service.name, upper=True)
            services[key] = {
                "fqn": service.name,
                **_said("description", service.doc),
                **_said(_OTHER, _said("version", service.version)),
                "operations": operations,
            }
        if self._faults:
            raise FileFormError(self._faults)
        return {KEY: VERSION, "$schema": DIALECT, "services": services, "$defs": dict(sorted(self._types.items()))}

    def _key(self, name: str, taken: Mapping[str, Any], where: str, *, upper: bool) -> str:
        words = re.findall(r"[A-Za-z\d]+", name)
        key = "".join(each[0].upper() + each[1:] for each in words)
        key = key if upper else key[:1].lower() + key[1:]
        if not re.fullmatch(r"[A-Za-z][A-Za-z\d]+", key) or key in taken:
            self._faults.append(f"{where}: no name of two or more letters and digits, its own, can be made of it")
        return key

    def _operation(self, operation: OperationDocument, where: str) -> dict[str, Any]:
        name = "".join(each[0].upper() + each[1:] for each in re.findall(r"[A-Za-z\d]+", operation.name))
        more = {
            **_said("kind", operation.kind),
            **_said("deadline_s", operation.deadline_s),
            **_said("tags", [*operation.tags]),
            **_said("errors", [
                {
                    "name": each.name,
                    **_said("doc", each.doc),
                    **_said("retryable", each.retryable),
                    "fields": self._named(each.accepted, f"{where}, error {each.name}", each.name),
                }
                for each in operation.errors
            ]),
        }  # fmt: skip
        return {
            "fqn": operation.name,
            **_said("description", operation.doc),
            **self._side("input", operation.input, where, name),
            **self._side("output", operation.accepted, where, name),
            **_said(_OTHER, more),
        }

    def _side(self, side: str, schema: Schema, where: str, name: str) -> dict[str, Any]:
        found = _followed(schema, schema)
        if found == _NULL or found.get("type") == "null":
            return {}
        if found.get("type") != "object":
            self._faults.append(f"{where}, {side}: is no object, which alone can get more fields. Use a model")
            return {}
        return {side: self._named(schema, f"{where}, {side}", f"{name}{side.capitalize()}")}

    def _named(self, schema: Schema, where: str, otherwise: str) -> Schema:
        """A reference to the type of a schema that stands for itself."""
        found = _followed(schema, schema)
        name = schema.get("$ref", "").removeprefix(_REFERENCE) or found.get("title") or otherwise
        return self._type(name, found, schema, where)

    def _type(self, name: str, schema: Schema, root: Schema, where: str) -> Schema:
        name = "".join(each[0].upper() + each[1:] for each in re.findall(r"[A-Za-z\d]+", name))
        whole = {**schema, "$defs": root.get("$defs", {})}
        if name not in self._sources:
            self._sources[name] = whole
            self._types[name] = self._schema(schema, root, where)
        elif not same_values(self._sources[name], whole):
            self._faults.append(f"{where}: there is another type of the name {name}. Name one of them otherwise")
        return {"$ref": f"{_REFERENCE}{name}"}

    def _schema(self, schema: Any, root: Schema, where: str) -> Schema:
        """A schema in the subset."""
        if not isinstance(schema, dict) or not {*schema} - _LEFT - {"description", "default"}:
            self._faults.append(f"{where}: may be anything, and a type is needed")
            return {}
        node = cast("Schema", schema)
        if OPAQUE in node:
            self._faults.append(f"{where}: is a {node[OPAQUE]}, which is no JSON")
            return {}
        if "$ref" in node:
            found = _followed(node, root)
            if found.get("type") == "object" or "properties" in found:
                return self._type(node["$ref"].removeprefix(_REFERENCE), found, root, where)
            node = {**found, **{key: value for key, value in node.items() if key != "$ref"}}
        alternatives = node.get("anyOf") or node.get("oneOf")
        if alternatives:
            return self._union(cast("list[Any]", alternatives), node, root, where)
        return self._simple(node, root, where)

    def _union(self, alternatives: list[Any], node: Schema, root: Schema, where: str) -> Schema:
        found = [self._schema(each, root, where) for each in alternatives]
        return {"oneOf": found, **{key: node[key] for key in ("description", "deprecated") if key in node}}

    def _simple(self, node: Schema, root: Schema, where: str) -> Schema:
        strange = {*node} - _KEPT - _LEFT - {"format", "default"}
        if strange:
            self._faults.append(f"{where}: {', '.join(sorted(strange))} is not known there")
        found = {key: value for key, value in node.items() if key in _KEPT}
        if node.get("format") in FORMATS:
            found["format"] = node["format"]
        values = found.get("enum") or ([found["const"]] if "const" in found else [])
        if "type" not in found and values:
            kinds = {_kind(each) for each in values}
            if len(kinds) > 1:
                self._faults.append(f"{where}: its values are of several types")
            found["type"] = kinds.pop()
        if "properties" in node:
            found["properties"] = {
                key: self._member(each, root, f"{where}.{key}", required=key in node.get("required", ()))
                for key, each in cast("Schema", node["properties"]).items()
            }
            if not found["properties"]:
                found.pop("properties")
                found.setdefault("additionalProperties", True)
        if not found.get("required", True):
            found.pop("required")
        if isinstance(rest := node.get("additionalProperties"), dict):
            found["additionalProperties"] = self._schema(rest, root, f"{where}.{{}}") if rest else True
        if found.get("type") == "object" and not {"properties", "additionalProperties"} & found.keys():
            found["additionalProperties"] = True
        if "items" in node:
            found["items"] = self._schema(node["items"], root, f"{where}.[]")
        elif found.get("type") == "array":
            self._faults.append(f"{where}: the type of its items is needed")
        return found

    def _member(self, schema: Any, root: Schema, where: str, *, required: bool) -> Schema:
        found = self._schema(schema, root, where)
        default = cast("Schema", schema).get("default") if isinstance(schema, dict) else None
        if not required and isinstance(default, str | int | float) and "$ref" not in found and "oneOf" not in found:
            found = {**found, "default": default}
        return found


def _followed(schema: Schema, root: Schema) -> Schema:
    """What a schema refers to."""
    found = schema
    while isinstance(reference := found.get("$ref"), str):
        found = cast("Schema", root.get("$defs", {}).get(reference.removeprefix(_REFERENCE), {}))
    return found


def _said(key: str, value: Any) -> dict[str, Any]:
    return {key: value} if value else {}


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case _:
            return "string"


class _Reader:
    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value
        self._types: Schema = value.get("$defs") or {}

    def document(self) -> ContractDocument:
        if self._value.get(KEY) != VERSION:
            raise DocumentError(f"{KEY} is {self._value.get(KEY)!r}: only {VERSION!r} can be read")
        try:
            named = cast("dict[str, Schema]", self._value.get("services", {}))
            services = [self._service(key, each) for key, each in named.items()]
        except (AttributeError, KeyError, TypeError) as error:
            raise DocumentError(f"it is no {KEY} file: {error}") from None
        return from_value({"services": services})

    def _service(self, key: str, service: Schema) -> dict[str, Any]:
        return {
            "name": service.get("fqn") or key,
            "doc": service.get("description") or "",
            **(service.get(_OTHER) or {}),
            "operations": [self._operation(name, each or {}) for name, each in service["operations"].items()],
        }

    def _operation(self, key: str, operation: Schema) -> dict[str, Any]:
        more = dict(operation.get(_OTHER) or {})
        name = key[:1].upper() + key[1:]
        if errors := more.get("errors"):
            more["errors"] = [{**each, "fields": self._schema(each["fields"], each["name"])} for each in errors]
        return {
            "name": operation.get("fqn") or name,
            "doc": operation.get("description") or "",
            "input": self._schema(operation.get("input"), f"{name}Input"),
            "output": self._schema(operation.get("output"), f"{name}Output"),
            **more,
        }

    def _schema(self, schema: Schema | None, name: str) -> Schema:
        """A schema with the definitions that it needs, and no others."""
        if schema is None:
            return dict(_NULL)
        needed: dict[str, Any] = {}
        self._collect(schema, needed)
        found = {**schema, "$defs": needed} if needed else dict(schema)
        return found if "$ref" in found or "title" in found else {"title": name, **found}

    def _collect(self, node: Any, needed: dict[str, Any]) -> None:
        if isinstance(node, list):
            for each in cast("list[Any]", node):
                self._collect(each, needed)
        elif isinstance(node, dict):
            found = cast("Schema", node)
            reference = found.get("$ref")
            if isinstance(reference, str):
                name = reference.removeprefix(_REFERENCE)
                if not reference.startswith(_REFERENCE) or name not in self._types:
                    raise DocumentError(f"{reference!r} is not among its $defs, and other files are not read")
                if name not in needed:
                    needed[name] = self._types[name]
                    self._collect(self._types[name], needed)
            for each in found.values():
                self._collect(each, needed)
