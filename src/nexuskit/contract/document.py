"""A contract as a plain value that is JSON: what a version of it says, readable without its code.

    describe(service_contract(PaymentService)).model_dump_json()

Every type stands there as JSON Schema 2020-12. Who receives a value and who sends it see two sides of one type: what
is accepted (a field with a default may be missing) and what is sent (it never is). An operation's input is what
handlers accept, and callers may send all of that; its output and its errors' fields are what handlers send, and beside
that, where it is another thing, what callers accept.
"""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nexuskit.contract.adapters import Adapter, Schema, adapter
from nexuskit.contract.declared import DeclaredError
from nexuskit.contract.definition import Kind, OperationContract, ServiceContract

FORMAT = "1"
"""Version of the document's own form. A reader refuses another one."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The dialect of every schema here."""


class DocumentError(ValueError):
    """What was read is no contract's document."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorDocument(_Value):
    """An error that an operation declares.

    Attributes:
        name: what travels as its type.
        doc: what it means.
        retryable: whether whoever raised it is tried again.
        fields: the schema of its fields as they are sent.
        accepted_fields: the same as callers accept it, where that is another one.
    """

    name: str
    doc: str = ""
    retryable: bool = False
    fields: Schema
    accepted_fields: Schema | None = None

    @property
    def accepted(self) -> Schema:
        """The schema of its fields as callers accept them."""
        return self.fields if self.accepted_fields is None else self.accepted_fields


class OperationDocument(_Value):
    """An operation.

    Attributes:
        name: its name.
        doc: what it does.
        kind: whether it answers at once or by a callback, where the contract promises it.
        deadline_s: how long a call takes at most where the caller says nothing, in seconds.
        tags: words to find it by.
        input: the schema of what handlers accept.
        output: the schema of what handlers send.
        accepted_output: the schema of what callers accept, where that is another one.
        errors: the errors that callers may catch.
    """

    name: str
    doc: str = ""
    kind: Kind | None = None
    deadline_s: float | None = Field(default=None, gt=0)
    tags: tuple[str, ...] = ()
    input: Schema
    output: Schema
    accepted_output: Schema | None = None
    errors: tuple[ErrorDocument, ...] = ()

    @property
    def accepted(self) -> Schema:
        """The schema of the results that callers accept."""
        return self.output if self.accepted_output is None else self.accepted_output

    @property
    def deadline(self) -> timedelta | None:
        """How long a call takes at most where the caller says nothing."""
        return None if self.deadline_s is None else timedelta(seconds=self.deadline_s)


class ServiceDocument(_Value):
    """A service.

    Attributes:
        name: its name.
        version: what the team calls this state of it.
        doc: what it is for.
        operations: its operations, in the order of the class.
    """

    name: str
    version: str = ""
    doc: str = ""
    operations: tuple[OperationDocument, ...] = ()


class ContractDocument(_Value):
    """One version of a contract.

    Attributes:
        nexuskit_contract: version of the document's form; never another than `FORMAT`.
        services: its services.
    """

    nexuskit_contract: Literal["1"] = FORMAT
    services: tuple[ServiceDocument, ...] = ()

    def to_json(self) -> str:
        """The document as text, the same for the same contract."""
        return self.model_dump_json(indent=2, exclude_defaults=False, exclude_none=True) + "\n"


def describe(*contracts: ServiceContract) -> ContractDocument:
    """The document of one or several services."""
    return ContractDocument(services=tuple(_service(each) for each in contracts))


def read(text: str | bytes) -> ContractDocument:
    """The document that JSON means.

    Raises:
        DocumentError: it is none, or of another form.
    """
    try:
        return ContractDocument.model_validate_json(text)
    except ValidationError as error:
        raise DocumentError(_sentence(error)) from None


def from_value(value: object) -> ContractDocument:
    """The same of a value that was read already.

    Raises:
        DocumentError: it is none, or of another form.
    """
    try:
        return ContractDocument.model_validate(value)
    except ValidationError as error:
        raise DocumentError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first, *more = error.errors(include_url=False)
    where = ".".join(map(str, first["loc"])) or "the document"
    rest = f"; {len(more)} more" if more else ""
    return f"it is no document of a contract (nexuskit_contract {FORMAT}): {where}: {first['msg']}{rest}"


def _service(contract: ServiceContract) -> ServiceDocument:
    return ServiceDocument(
        name=contract.name,
        version=contract.version,
        doc=contract.doc,
        operations=tuple(_operation(each) for each in contract.operations.values()),
    )


def _operation(contract: OperationContract) -> OperationDocument:
    sent, accepted = _both(adapter(contract.output_type))
    return OperationDocument(
        name=contract.name,
        doc=contract.doc,
        kind=contract.kind,
        deadline_s=None if contract.deadline is None else contract.deadline.total_seconds(),
        tags=contract.tags,
        input=adapter(contract.input_type).schema("validation"),
        output=sent,
        accepted_output=accepted,
        errors=tuple(_error(each) for each in contract.errors),
    )


def _error(declared: type[DeclaredError]) -> ErrorDocument:
    sent, accepted = _both(declared.fields())
    return ErrorDocument(
        name=declared.error_name,
        doc=inspect.cleandoc(declared.__dict__.get("__doc__") or ""),
        retryable=declared.retryable,
        fields=sent,
        accepted_fields=accepted,
    )


def _both(found: Adapter[Any]) -> tuple[Schema, Schema | None]:
    sent, accepted = found.schema("serialization"), found.schema("validation")
    return sent, None if sent == accepted else accepted


def schemas(document: ContractDocument) -> dict[str, dict[str, Any]]:
    """The schemas of every operation, by its full name: "input", "output" and "errors"."""
    return {
        f"{service.name}.{operation.name}": {
            "input": _whole(operation.input),
            "output": _whole(operation.output),
            "errors": {error.name: _whole(error.fields) for error in operation.errors},
        }
        for service in document.services
        for operation in service.operations
    }


def _whole(schema: Schema) -> Schema:
    return {"$schema": DIALECT, **schema}
