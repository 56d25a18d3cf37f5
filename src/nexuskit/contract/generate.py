"""Python from a contract's document: pydantic models, declared errors and services, as a module of source.

    source = python(from_file(json.loads(text)))

The module says what the document says: described again, it is the same contract.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterable
from typing import Any, cast

from pydantic import BaseModel

from nexuskit.contract.adapters import OPAQUE, Schema
from nexuskit.contract.declared import TAKEN
from nexuskit.contract.document import ContractDocument, ErrorDocument, OperationDocument, ServiceDocument
from nexuskit.contract.schemas import same_values

FORMATS = {
    "date": "datetime.date",
    "date-time": "datetime.datetime",
    "time": "datetime.time",
    "duration": "datetime.timedelta",
    "uuid": "uuid.UUID",
    "ipv4": "ipaddress.IPv4Address",
    "ipv6": "ipaddress.IPv6Address",
}
"""The types of texts that Python has a type for."""
_BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "minProperties": "min_length",
    "maxProperties": "max_length",
    "pattern": "pattern",
}
_ASKED = frozenset({*_BOUNDS, "type", "properties", "required", "additionalProperties", "enum", "const", "items"})
_SAID = frozenset({"title", "description", "default", "deprecated", "examples", "$comment", "$defs", "$schema"})
_SAID_TOO = frozenset({"format", "contentEncoding", "discriminator", "anyOf", "oneOf", "$ref", "uniqueItems"})
_MODEL_NAMES = frozenset(dir(BaseModel))


class GenerateError(ValueError):
    """A document that no Python can be made of.

    Attributes:
        faults: all that stands in the way, each with its place.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("no Python can be made of this:" + "".join(f"\n  - {each}" for each in faults))


def python(document: ContractDocument, origin: str = "") -> str:
    """The source of a module that defines a contract.

    Args:
        document: what it is to say.
        origin: where the document comes from, for the module's docstring.

    Raises:
        GenerateError: a schema uses what has no form in Python's types.
    """
    return _Module(document).source(origin)


class _Module:
    def __init__(self, document: ContractDocument) -> None:
        self._document = document
        self._models: dict[str, list[str]] = {}
        self._whole: dict[str, Schema] = {}
        self._errors: dict[str, list[str]] = {}
        self._declared: dict[str, ErrorDocument] = {}
        self._taken: set[str] = {"Any", "Annotated", "Literal", "BaseModel", "Field", "Operation", "MayBeMissing"}
        self._faults: list[str] = []

    def source(self, origin: str) -> str:
        self._taken |= {_service_name(each.name) for each in self._document.services}
        services = [self._service(each) for each in self._document.services]
        if self._faults:
            raise GenerateError(self._faults)
        body = "\n\n\n".join("\n".join(each) for each in (*self._models.values(), *self._errors.values(), *services))
        head = _docstring(f"The contract{f' of {origin}' if origin else ''}: made by `nexus contract generate`.")[
            0
        ].strip()
        return f"{head}\n\nfrom __future__ import annotations\n\n{_imports(body)}\n\n\n{body}\n"

    def _service(self, service: ServiceDocument) -> list[str]:
        name = _service_name(service.name)
        more = [
            *([f"name={_literal(service.name)}"] if name != service.name else []),
            *([f"version={_literal(service.version)}"] if service.version else []),
        ]
        lines = [f"@service({', '.join(more)})" if more else "@service", f"class {name}:", *_docstring(service.doc)]
        attributes: set[str] = set()
        for each in service.operations:
            lines += ["", *self._operation(each, f"{service.name}.{each.name}", attributes)]
        return lines if service.operations else [*lines, "    ..."]

    def _operation(self, operation: OperationDocument, where: str, taken: set[str]) -> list[str]:
        attribute = _unused(_snake(operation.name), taken)
        pascal = _class_name(operation.name)
        input_ = self._type(operation.input, operation.input, f"{where}, input", f"{pascal}Input")
        output = self._type(operation.accepted, operation.accepted, f"{where}, output", f"{pascal}Output")
        errors = [self._error(each, f"{where}, error {each.name}") for each in operation.errors]
        more = [
            *([f"name={_literal(operation.name)}"] if attribute != operation.name else []),
            *([f"errors=[{', '.join(errors)}]"] if errors else []),
            *([f"deadline=datetime.timedelta(seconds={operation.deadline_s!r})"] if operation.deadline_s else []),
            *([f"kind={_literal(operation.kind)}"] if operation.kind else []),
            *([f"tags={_literal([*operation.tags])}"] if operation.tags else []),
        ]
        value = f" = operation({', '.join(more)})" if more else ""
        return [f"    {attribute}: Operation[{input_}, {output}]{value}", *_docstring(operation.doc)]

    def _error(self, error: ErrorDocument, where: str) -> str:
        name = _class_name(error.name)
        if name in self._declared:
            if self._declared[name] != error:
                self._faults.append(f"{where}: there is another error of that name")
            return name
        self._declared[name] = error
        self._taken.add(name)
        schema = _followed(error.accepted, error.accepted)
        for each in schema.get("properties", {}):
            if not _is_name(each) or each in TAKEN:
                self._faults.append(f"{where}: {each!r} cannot be a field of an error in Python")
        about = [
            *([f"name={_literal(error.name)}"] if name != error.name else []),
            *(["retryable=True"] if error.retryable else []),
        ]
        members = self._members(schema, error.accepted, where, name, as_model=False)
        body = [*_docstring(error.doc), *([""] if error.doc and members else []), *members] or ["    ..."]
        self._errors[name] = [f"class {name}({', '.join(['DeclaredError', *about])}):", *body]
        return name

    def _model(self, schema: Schema, root: Schema, where: str, wanted: str) -> str:
        """The class of an object's schema: the same for the same one."""
        whole = {**schema, "$defs": root.get("$defs", {})}
        name = wanted
        while name in self._whole and not same_values(self._whole[name], whole):
            name += "_"
        if name in self._whole:
            return name
        name = _unused(name, self._taken)
        self._whole[name] = whole
        # Fields that nobody names are passed over unless the schema speaks of them.
        rest = schema.get("additionalProperties")
        about = {False: ', extra="forbid"', True: ', extra="allow"'}.get(rest, "") if isinstance(rest, bool) else ""
        if isinstance(rest, dict):
            self._faults.append(f"{where}: named fields beside others of one type")
        members = self._members(schema, root, where, name, as_model=True)
        doc = _docstring(schema.get("description", ""))
        body = [*doc, *([""] if doc and members else []), *members] or ["    ..."]
        # After what it holds, so that a class is whole once it is there.
        self._models[name] = [f"class {name}(BaseModel{about}):", *body]
        return name

    def _members(self, schema: Schema, root: Schema, where: str, owner: str, *, as_model: bool) -> list[str]:
        required = {*schema.get("required", ())}
        lines: list[str] = []
        taken: set[str] = set(_MODEL_NAMES) if as_model else set()
        for name, each in cast("Schema", schema.get("properties", {})).items():
            member: Schema = {} if each is True else each
            attribute = name if _is_name(name) and name not in taken else _unused(_snake(name), taken)
            taken.add(attribute)
            type_ = self._type(member, root, f"{where}.{name}", f"{owner}{_class_name(name)}")
            about = [f"alias={_literal(name)}"] if attribute != name else []
            about += ["deprecated=True"] if member.get("deprecated") else []
            if name in required:
                value = f" = Field({', '.join(about)})" if about else ""
            elif "default" in member and (member["default"] is not None or _takes_null(member, root)):
                value = _default(member["default"], about)
            elif _takes_null(member, root):
                value = _default(None, about)
            else:
                type_, value = f"MayBeMissing[{type_}]", _default(None, about)
            lines += [f"    {attribute}: {type_}{value}"]
            if described := member.get("description"):
                lines += _docstring(described)
        return lines

    # --- types

    def _type(self, node: Any, root: Schema, where: str, name: str) -> str:
        if node is True or not {*node} - _SAID:
            return "Any"
        schema = cast("Schema", node)
        if strange := {*schema} - _ASKED - _SAID - _SAID_TOO - {each for each in schema if each.startswith("x-")}:
            self._faults.append(f"{where}: {', '.join(sorted(strange))} has no form in Python's types")
        if OPAQUE in schema:
            self._faults.append(f"{where}: a {schema[OPAQUE]} is defined elsewhere")
            return "Any"
        if isinstance(reference := schema.get("$ref"), str):
            return self._type(_followed(schema, root), root, where, _class_name(reference.rsplit("/", 1)[1]))
        if alternatives := cast("list[Any]", schema.get("anyOf") or schema.get("oneOf") or []):
            types = [
                self._type(each, root, f"{where} ({at})", f"{name}{at or ''}") for at, each in enumerate(alternatives)
            ]
            return " | ".join(dict.fromkeys(types))
        if "const" in schema or "enum" in schema:
            return self._values([schema["const"]] if "const" in schema else schema["enum"], where)
        return self._simple(schema, root, where, name)

    def _simple(self, schema: Schema, root: Schema, where: str, name: str) -> str:
        match schema.get("type"):
            case "null":
                return "None"
            case "boolean":
                return "bool"
            case "integer":
                return _asked("int", schema)
            case "number":
                return _asked("float", schema)
            case "string":
                return _text(schema)
            case "array":
                if "items" not in schema:
                    return _asked("list[Any]", schema)
                unique = "set" if schema.get("uniqueItems") else "list"
                return _asked(f"{unique}[{self._type(schema['items'], root, f'{where}.[]', f'{name}Item')}]", schema)
            case "object" if not schema.get("properties") and schema.get("additionalProperties", False) is not False:
                rest = schema["additionalProperties"]
                return _asked(f"dict[str, {self._type(rest, root, f'{where}.{{}}', f'{name}Value')}]", schema)
            case "object":
                return self._model(schema, root, where, _class_name(schema.get("title") or name))
            case other:
                self._faults.append(f"{where}: the type {other!r} has no form in Python's types")
                return "Any"

    def _values(self, values: list[Any], where: str) -> str:
        if any(isinstance(each, list | dict | float) for each in values):
            self._faults.append(f"{where}: only texts, whole numbers, truth values and null can be counted")
        return f"Literal[{', '.join(map(_literal, values))}]"


def _followed(schema: Schema, root: Schema) -> Schema:
    found = schema
    while isinstance(reference := found.get("$ref"), str):
        found = cast("Schema", root.get("$defs", {}).get(reference.rsplit("/", 1)[1], {}))
    return found


def _takes_null(schema: Schema, root: Schema) -> bool:
    found = _followed(schema, root)
    alternatives = cast("list[Any]", found.get("anyOf") or found.get("oneOf") or [])
    return found.get("type") == "null" or any(_takes_null(each, root) for each in alternatives)


def _text(schema: Schema) -> str:
    found = FORMATS.get(schema.get("format", ""))
    if found:
        return _asked(found, schema)
    said = {key: schema[key] for key in ("format", "contentEncoding") if key in schema}
    return _asked("str", schema, f"json_schema_extra={_literal(said)}" if said else "")


def _asked(type_: str, schema: Schema, *more: str) -> str:
    """A type with the bounds of its schema."""
    asked = [f"{word}={_literal(schema[key])}" for key, word in _BOUNDS.items() if key in schema] + [
        each for each in more if each
    ]
    return f"Annotated[{type_}, Field({', '.join(asked)})]" if asked else type_


def _default(value: Any, about: list[str]) -> str:
    if isinstance(value, list | dict):
        return f" = Field({', '.join([f'default_factory=lambda: {_literal(value)}', *about])})"
    return f" = Field({', '.join([f'default={_literal(value)}', *about])})" if about else f" = {_literal(value)}"


def _literal(value: Any) -> str:
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case list():
            return f"[{', '.join(map(_literal, cast('list[Any]', value)))}]"
        case _:
            return repr(value)


_NAMES = {
    "pydantic": ("BaseModel", "Field"),
    "nexusrpc": ("Operation",),
    "nexuskit.contract": ("DeclaredError", "MayBeMissing", "operation", "service"),
    "typing": ("Annotated", "Any", "Literal"),
}


def _imports(body: str) -> str:
    words = {*re.findall(r"[A-Za-z_]\w*", body)}
    modules = [f"import {each}" for each in ("datetime", "ipaddress", "uuid") if re.search(rf"\b{each}\.", body)]
    found = {module: [each for each in names if each in words] for module, names in _NAMES.items()}
    lines = {module: f"from {module} import {', '.join(names)}" for module, names in found.items() if names}
    parts = [
        [*modules, *([lines["typing"]] if "typing" in lines else [])],
        [lines[each] for each in ("nexusrpc", "pydantic") if each in lines],
        [lines[each] for each in ("nexuskit.contract",) if each in lines],
    ]
    return "\n\n".join("\n".join(each) for each in parts if each)


def _docstring(text: str) -> list[str]:
    lines = [each.rstrip() for each in text.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"').splitlines()]
    if not lines:
        return []
    if len(lines) == 1:
        end = " " if lines[0].endswith('"') else ""
        return [f'    """{lines[0]}{end}"""']
    return [f'    """{lines[0]}', *(f"    {each}".rstrip() for each in lines[1:]), '    """']


def _is_name(text: str) -> bool:
    return text.isidentifier() and text.isascii() and not keyword.iskeyword(text) and not text.startswith("_")


def _words(text: str) -> Iterable[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]|\d+", text) or ["value"]


def _snake(text: str) -> str:
    found = text if _is_name(text) and text == text.lower() else "_".join(each.lower() for each in _words(text))
    return found if _is_name(found) else f"a_{found}" if found[0].isdigit() else f"{found}_"


def _service_name(text: str) -> str:
    """The class of a service: other languages name services with their packages."""
    return _class_name(text.rsplit(".", 1)[-1])


def _class_name(text: str) -> str:
    parts = re.findall(r"[A-Za-z\d]+", text) or ["Value"]
    found = "".join(each[0].upper() + each[1:] for each in parts)
    return found if _is_name(found) else f"A{found}" if found[0].isdigit() else f"{found}_"


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
