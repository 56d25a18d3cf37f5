"""A contract's document: what it says, and that it comes back as it was."""

from __future__ import annotations

import json
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import Operation
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload

from nexuskit.contract import DeclaredError, adapter, operation, service, service_contract
from nexuskit.contract.document import DIALECT, DocumentError, describe, read, schemas
from nexuskit.contract.schemas import differences, same_values
from tests.contract.shapes import QUICKLY, Record, model_of, models, value


class Payment(BaseModel):
    id: str
    cents: int = 1


class CardDeclined(DeclaredError, retryable=True):
    """The card was refused.

    Ask for another one.
    """

    reason: str
    code: int = 0


@service(version="2")
class PaymentService:
    """Takes payments."""

    process: Operation[Payment, Payment] = operation(
        errors=[CardDeclined], deadline=timedelta(minutes=5), kind="async", tags=["money"], doc="Charges a card."
    )
    raw: Operation[Payload, None]


def test_a_document_says_what_the_contract_says() -> None:
    found = describe(service_contract(PaymentService)).services[0]
    assert (found.name, found.version, found.doc) == ("PaymentService", "2", "Takes payments.")
    process, raw = found.operations
    assert (process.kind, process.deadline, process.tags) == ("async", timedelta(minutes=5), ("money",))
    assert process.doc == "Charges a card."
    assert process.input["required"] == ["id"]
    assert process.output["required"] == ["id", "cents"], "what has a default is always sent"
    assert process.accepted["required"] == ["id"]
    (declined,) = process.errors
    assert (declined.name, declined.retryable) == ("CardDeclined", True)
    assert declined.doc == "The card was refused.\n\nAsk for another one."
    assert (declined.fields["required"], declined.accepted["required"]) == (["reason", "code"], ["reason"])
    assert raw.input["x-opaque-type"] == "temporal.api.common.v1.Payload"
    assert raw.output == {"type": "null"}


def test_a_document_comes_back_as_it_was() -> None:
    document = describe(service_contract(PaymentService))
    assert read(document.to_json()) == document
    assert json.loads(document.to_json())["nexuskit_contract"] == "1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ("[]", "the document: Input should be an object"),
        ('{"nexuskit_contract": "7"}', "nexuskit_contract: Input should be '1'"),
        (
            '{"services": [{"name": "a", "operations": [{"name": "b"}]}]}',
            "services.0.operations.0.input: Field required",
        ),
        ('{"servces": []}', "servces: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_document_is_told(text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        read(text)


def test_schemas_are_of_every_operation() -> None:
    found = schemas(describe(service_contract(PaymentService)))
    assert list(found) == ["PaymentService.process", "PaymentService.raw"]
    process = found["PaymentService.process"]
    assert process["input"]["$schema"] == DIALECT
    assert list(process["errors"]) == ["CardDeclined"]


@QUICKLY
@given(models())
def test_any_model_is_the_same_as_itself(record: Record) -> None:
    found = adapter(model_of(record))
    for mode in ("validation", "serialization"):
        schema = found.schema(mode)
        assert differences(schema, schema, as_declared=True) == []
        assert not [each for each in differences(schema, schema, as_declared=False) if each.refused]
        assert same_values(schema, json.loads(json.dumps(schema)))
    assert differences(found.schema("serialization"), found.schema("validation"), as_declared=True) == []


@QUICKLY
@given(models(), st.builds(Random, st.integers()))
def test_any_model_takes_what_its_schema_describes_and_comes_back(record: Record, random: Random) -> None:
    model = model_of(record)
    sent = value(adapter(model).schema("validation"), random)
    read_ = adapter(model).decode(json.dumps(sent).encode())
    written = adapter(model).encode(read_)
    assert adapter(model).decode(written) == read_
    assert json.loads(written).keys() == model.model_fields.keys(), "what has a default is always sent"
