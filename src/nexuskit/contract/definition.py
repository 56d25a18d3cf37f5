"""Contracts: services and their operations, as values that tools read.

A plain `@nexusrpc.service` class is a contract. `service` and `operation` add what two teams agree on beyond names and
types, and find what is wrong with a definition when it is imported, all of it at once.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast, dataclass_transform, overload

import nexusrpc
from nexusrpc import Operation

from nexuskit.contract.adapters import TypeFaultError, adapter
from nexuskit.contract.declared import DeclaredError

S = TypeVar("S")

Kind = Literal["sync", "async"]
"""Whether an operation answers at once, or by a callback."""

NAME_LENGTH = 200
"""Characters of a service's or operation's name: what Temporal's own limit on ids leaves room for in any case."""

_CONTRACT = "__nexuskit_contract__"


class ContractError(TypeError):
    """A definition that cannot be a contract.

    Attributes:
        faults: all that is wrong with it, each with its place, what was expected, what was found, and what to do.
    """

    def __init__(self, what: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"{what} is no contract:" + "".join(f"\n  - {fault}" for fault in faults))


@dataclass
class _ContractOperation(Operation[Any, Any]):
    """An operation with what the contract says of it beyond its types."""

    errors: tuple[type[DeclaredError], ...] = ()
    deadline: timedelta | None = None
    kind: Kind | None = None
    tags: tuple[str, ...] = ()
    doc: str = ""


@dataclass(frozen=True)
class OperationContract:
    """One operation of a contract.

    Attributes:
        service: the name of its service.
        name: its name, as callers know it.
        attribute: the attribute of the class that defines it.
        input_type: the type of its input.
        output_type: the type of its result.
        errors: the errors that callers may catch.
        deadline: how long a call of it takes at most: its schedule-to-close timeout where the caller sets none.
        kind: whether it answers at once or by a callback, where the contract promises it.
        tags: words to find it by.
        doc: what it does, for people.
    """

    service: str
    name: str
    attribute: str
    input_type: Any
    output_type: Any
    errors: tuple[type[DeclaredError], ...] = ()
    deadline: timedelta | None = None
    kind: Kind | None = None
    tags: tuple[str, ...] = ()
    doc: str = ""

    def __str__(self) -> str:
        """Its full name, `PaymentService.process`."""
        return f"{self.service}.{self.name}"


@dataclass(frozen=True)
class ServiceContract:
    """One service of a contract.

    Attributes:
        name: its name.
        version: what the team calls this state of it; "" where it does not say.
        doc: what it is for.
        operations: its operations, by name, in the order of the class.
    """

    name: str
    version: str = ""
    doc: str = ""
    operations: Mapping[str, OperationContract] = field(default_factory=lambda: MappingProxyType({}))


def operation(
    *,
    name: str = "",
    errors: Sequence[type[DeclaredError]] = (),
    deadline: timedelta | None = None,
    kind: Kind | None = None,
    tags: Sequence[str] = (),
    doc: str = "",
) -> Operation[Any, Any]:
    """What a contract says of an operation beyond its types::

        process: Operation[Payment, Receipt] = nexuskit.operation(errors=[CardDeclined], deadline=timedelta(minutes=5))

    Args:
        name: its name, where it is not the attribute's; slashes group (`process/status`).
        errors: classes that callers may catch.
        deadline: its schedule-to-close timeout where the caller sets none.
        kind: "sync" or "async", where the team promises one of them.
        tags: words to find it by.
        doc: what it does; without it, the string below the attribute.
    """
    return _ContractOperation(name=name, errors=tuple(errors), deadline=deadline, kind=kind, tags=tuple(tags), doc=doc)


@overload
@dataclass_transform(field_specifiers=(Operation, operation))
def service(cls: type[S]) -> type[S]: ...
@overload
@dataclass_transform(field_specifiers=(Operation, operation))
def service(*, name: str = "", version: str = "") -> Callable[[type[S]], type[S]]: ...
def service(cls: type[S] | None = None, *, name: str = "", version: str = "") -> type[S] | Callable[[type[S]], type[S]]:
    """A class whose attributes of type `Operation` are a service's operations: `@nexusrpc.service` and more.

    Args:
        cls: the class.
        name: the service's name, where it is not the class's.
        version: what the team calls this state of it.

    Raises:
        ContractError: it is no contract; says all that is wrong with it.
    """

    def decorate(cls: type[S]) -> type[S]:
        faults = _prepare(cls)
        if faults:
            raise ContractError(f"{cls.__module__}.{cls.__qualname__}", faults)
        made = nexusrpc.service(name=name or cls.__name__)(cls)
        contract = _read(made, version)
        if faults := [*_faults(contract), *_inherited_faults(made)]:
            raise ContractError(f"{cls.__module__}.{cls.__qualname__}", faults)
        setattr(made, _CONTRACT, contract)
        return made

    return decorate if cls is None else decorate(cls)


def service_contract(cls: type[Any]) -> ServiceContract:
    """What a service class says, whether `service` made it one or `nexusrpc.service`.

    Raises:
        ContractError: it is no service, or no contract can be made of it.
    """
    found = cls.__dict__.get(_CONTRACT)
    if isinstance(found, ServiceContract):
        return found
    if nexusrpc.get_service_definition(cls) is None:
        raise ContractError(
            f"{cls.__module__}.{cls.__qualname__}",
            ["it is no service: put @nexuskit.service or @nexusrpc.service above the class"],
        )
    contract = _read(cls, "")
    if faults := _faults(contract):
        raise ContractError(f"{cls.__module__}.{cls.__qualname__}", faults)
    return contract


def operation_contract(service: ServiceContract, wanted: str | Operation[Any, Any]) -> OperationContract:
    """An operation of a service, by its name or by the attribute of its class.

    Raises:
        LookupError: the service has none of that name.
    """
    name = wanted if isinstance(wanted, str) else wanted.name
    if name not in service.operations:
        raise LookupError(f"service {service.name} has no operation {name!r}; it has {', '.join(service.operations)}")
    return service.operations[name]


# --- what stands in a class


def _prepare(cls: type[Any]) -> list[str]:
    """Give operations the names of their attributes; answers with what would stop nexusrpc at the first fault."""
    faults: list[str] = []
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError) as error:
        return [f"{cls.__name__}: an annotation cannot be read: {error}. Import what it names, outside TYPE_CHECKING"]
    named: dict[str, str] = {}
    for attribute in dict.fromkeys((*inspect.get_annotations(cls), *vars(cls))):
        hint = hints.get(attribute)
        said: Operation[Any, Any] | None = None
        if isinstance(value := vars(cls).get(attribute), Operation):
            said = cast("Operation[Any, Any]", value)
            said.name = said.name or attribute
        elif hint is not Operation and typing.get_origin(hint) is not Operation:
            continue
        where = f"{cls.__name__}.{attribute}"
        typed = said is not None and said.input_type is not None and said.output_type is not None
        if not typed and len(typing.get_args(hint)) != 2:
            faults.append(
                f"{where}: expected was an input and an output type, found {_hint(hint)}."
                f" Write `{attribute}: Operation[Input, Output]`"
            )
        name = said.name if said else attribute
        if name in named:
            faults.append(f"{where}: is called {name!r}, as {named[name]} is. Give one of them another name")
        named[name] = where
    return faults


def _read(cls: type[Any], version: str) -> ServiceContract:
    definition = nexusrpc.get_service_definition(cls)
    if definition is None:
        raise TypeError(f"{cls.__qualname__} is no service")
    docs = _attribute_docs(cls)
    operations: dict[str, OperationContract] = {}
    for found in definition.operation_definitions.values():
        said = inspect.getattr_static(cls, found.method_name, None)
        more = said if isinstance(said, _ContractOperation) else _ContractOperation(name=found.name)
        operations[found.name] = OperationContract(
            service=definition.name,
            name=found.name,
            attribute=found.method_name,
            input_type=found.input_type,
            output_type=found.output_type,
            errors=more.errors,
            deadline=more.deadline,
            kind=more.kind,
            tags=more.tags,
            doc=inspect.cleandoc(more.doc or docs.get(found.method_name, "")),
        )
    order = {name: at for at, name in enumerate(docs)}
    ordered = dict(sorted(operations.items(), key=lambda each: order.get(each[1].attribute, len(order))))
    return ServiceContract(
        name=definition.name,
        version=version,
        doc=inspect.cleandoc(cls.__doc__ or ""),
        operations=MappingProxyType(ordered),
    )


def _faults(contract: ServiceContract) -> list[str]:
    faults: list[str] = []
    if not contract.operations:
        faults.append(f"{contract.name}: has no operation. Add one: `process: Operation[Input, Output]`")
    if problem := _name_problem(contract.name):
        faults.append(f"{contract.name!r}: {problem}")
    for each in contract.operations.values():
        faults += [f"{each}: {problem}" for problem in _operation_problems(each)]
    return faults


def _operation_problems(contract: OperationContract) -> list[str]:
    problems: list[str] = []
    if problem := _name_problem(contract.name):
        problems.append(problem)
    for what, type_ in (("input", contract.input_type), ("output", contract.output_type)):
        try:
            adapter(type_)
        except TypeFaultError as error:
            problems.append(
                f"its {what}: {error}. Use a pydantic model, a dataclass, a TypedDict, a msgspec struct, a protobuf"
                " message or a plain type"
            )
    seen: dict[str, str] = {}
    for error_class in contract.errors:
        problems += _error_problems(error_class, seen)
    if contract.deadline is not None and contract.deadline <= timedelta(0):
        problems.append(f"its deadline: expected was more than nothing, found {contract.deadline}")
    if contract.kind not in (None, *typing.get_args(Kind)):
        problems.append(f"its kind: expected was 'sync', 'async' or nothing, found {contract.kind!r}")
    return problems


def _error_problems(error_class: Any, seen: dict[str, str]) -> list[str]:
    if not (isinstance(error_class, type) and issubclass(error_class, DeclaredError)):
        return [f"its errors: expected was a class made of nexuskit.DeclaredError, found {error_class!r}"]
    name = error_class.error_name
    if name in seen:
        return [f"its errors: {error_class.__qualname__} travels as {name!r}, as {seen[name]} does. Name one otherwise"]
    seen[name] = error_class.__qualname__
    try:
        error_class.fields()
    except TypeFaultError as error:
        return [f"its errors: {error}. Use fields of plain types, models or dataclasses"]
    return []


def _inherited_faults(cls: type[Any]) -> list[str]:
    return [
        f"{cls.__name__}.{name}: is annotated as an operation in a parent that is no service."
        f" Put @nexuskit.service above {parent.__name__}, or say it again here"
        for parent in cls.__mro__[1:]
        if nexusrpc.get_service_definition(parent) is None
        for name, hint in inspect.get_annotations(parent).items()
        if (isinstance(hint, str) and "Operation[" in hint) or typing.get_origin(hint) is Operation
        if not hasattr(cls, name)
    ]


def _name_problem(name: str) -> str:
    if not name or len(name) > NAME_LENGTH:
        return f"expected was a name of 1 to {NAME_LENGTH} characters, found {len(name)}"
    if name != name.strip() or not name.isprintable():
        return "expected was a name without spaces at its ends and without control characters"
    if name.startswith("__temporal"):
        return "names that begin with '__temporal' are the server's own. Choose another one"
    return ""


def _hint(hint: object) -> str:
    return "no annotation" if hint is None else f"`{getattr(hint, '__name__', hint)}`"


def _attribute_docs(cls: type[Any]) -> dict[str, str]:
    """The strings below a class's attributes, which only its source has; each attribute with "" where there is none."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if nexusrpc.get_service_definition(each) is None:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError, SyntaxError):  # made by a program, or shipped without its source: no docs then
            found |= {name: "" for name in (*inspect.get_annotations(each), *vars(each)) if name not in found}
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for at, statement in enumerate(body):
            name = _assigned(statement)
            if name:
                following = body[at + 1] if at + 1 < len(body) else None
                found[name] = _string(following)
    return found


def _assigned(statement: ast.stmt) -> str:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case _:
            return ""


def _string(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(said))):
            return said
        case _:
            return ""
