"""The nexusrpc file form and generated Python: out, in, and out again; and what does not fit is told."""

from __future__ import annotations

import importlib.util
import json
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from nexusrpc import Operation
from pydantic import BaseModel, Field
from temporalio.api.common.v1 import Payload

from nexuskit.contract import (
    DeclaredError,
    InvalidValueError,
    MayBeMissing,
    adapter,
    operation,
    service,
    service_contract,
)
from nexuskit.contract.compatibility import compare
from nexuskit.contract.document import ContractDocument, DocumentError, OperationDocument, ServiceDocument, describe
from nexuskit.contract.file_form import FileFormError, from_file, to_file
from nexuskit.contract.generate import GenerateError, python
from tests.contract.shapes import QUICKLY, Record, model_of, models


class Item(BaseModel, extra="forbid"):
    """One thing of an order."""

    name: str = Field(max_length=20)
    cents: int = Field(gt=0)
    below: list[Item] = []


class Order(BaseModel):
    """What is ordered."""

    id: UUID
    placed: datetime
    until: date | None
    patience: timedelta = timedelta(minutes=5)
    colour: Literal["red", "blue"] = "red"
    items: list[Item] = Field(min_length=1)
    prices: dict[str, float] = {}
    nickname: MayBeMissing[str] = None
    class_: str = Field(alias="class")


class SoldOut(DeclaredError, retryable=True):
    """There is none left."""

    item: str
    since: MayBeMissing[int] = None


@service(version="2.1")
class OrderService:
    """Takes orders.

    With \\ and \""" in its docs.
    """

    place: Operation[Order, Item] = operation(
        name="place/now", errors=[SoldOut], deadline=timedelta(seconds=90), kind="async", tags=["orders", "new"]
    )
    """Places one."""
    ping: Operation[None, None]


def module_of(source: str, folder: Path) -> ModuleType:
    file = folder / "generated.py"
    file.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("generated", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generated"] = module  # where pydantic looks for the names of annotations
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["generated"]
    return module


def test_a_file_says_what_nexgen_reads() -> None:
    found = to_file(describe(service_contract(OrderService)))
    assert found["nexusrpc"] == "1.0.0"
    place, ping = found["services"]["OrderService"]["operations"].values()
    assert list(found["services"]["OrderService"]["operations"]) == ["placeNow", "ping"]
    assert (place["fqn"], ping["fqn"]) == ("place/now", "ping")
    assert place["input"] == {"$ref": "#/$defs/Order"}
    assert "input" not in ping
    assert "output" not in ping
    assert list(found["$defs"]) == ["Item", "Order", "SoldOut"]
    order = found["$defs"]["Order"]["properties"]
    assert order["until"] == {"oneOf": [{"type": "string", "format": "date"}, {"type": "null"}]}
    assert order["colour"] == {"type": "string", "enum": ["red", "blue"], "default": "red"}
    assert order["prices"] == {"type": "object", "additionalProperties": {"type": "number"}}
    assert order["nickname"] == {"type": "string"}
    assert "title" not in json.dumps(found)


def test_a_file_comes_back_as_it_was() -> None:
    document = describe(service_contract(OrderService))
    found = json.loads(json.dumps(to_file(document)))
    again = from_file(found)
    assert to_file(again) == found
    one, other = document.services[0], again.services[0]
    assert (other.name, other.version, other.doc) == (one.name, one.version, one.doc)
    for before, after in zip(one.operations, other.operations, strict=True):
        for name in ("name", "doc", "kind", "deadline_s", "tags"):
            assert getattr(before, name) == getattr(after, name)
    assert {each.rule.code for each in compare(document, again)} <= {"output-made-optional", "error-widened"}, (
        "a file says what is accepted, and not that what has a default is always sent"
    )


def test_generated_python_is_the_same_contract(tmp_path: Path) -> None:
    document = describe(service_contract(OrderService))
    module = module_of(python(document, "orders.json"), tmp_path)
    again = describe(service_contract(module.OrderService))
    assert compare(document, again) == ()
    assert module.Item(name="a", cents=1).below == []
    assert module.SoldOut(item="pen").details == ({"item": "pen"},)
    assert module.OrderService.place_now.name == "place/now"


def test_a_field_that_may_be_missing_is_not_null() -> None:
    class Person(BaseModel):
        name: MayBeMissing[str] = None

    found = adapter(Person)
    assert found.encode(Person()) == b"{}"
    assert found.encode(Person(name="a")) == b'{"name":"a"}'
    assert found.decode(b"{}") == Person(name=None)
    with pytest.raises(InvalidValueError, match="name: Input should be a valid string"):
        found.decode(b'{"name":null}')
    assert "required" not in found.schema("serialization")


@QUICKLY
@given(models(), models())
def test_any_contract_comes_back_from_python(
    tmp_path_factory: pytest.TempPathFactory, one: Record, other: Record
) -> None:
    document = contract(model_of(one, "One"), model_of(other, "Other"))
    module = module_of(python(document), tmp_path_factory.mktemp("generated"))
    assert compare(document, describe(service_contract(module.Payments))) == ()


@QUICKLY
@given(models())
def test_any_contract_comes_back_from_a_file(record: Record) -> None:
    model = model_of(record)
    document = contract(model, model)
    try:
        found = to_file(document)
    except FileFormError:
        return  # types of one name
    again = from_file(found)
    assert to_file(again) == found
    assert not [each for each in compare(document, again) if each.part == "input"]


def contract(one: Any, other: Any) -> ContractDocument:
    process = OperationDocument(
        name="process",
        input=adapter(one).schema("validation"),
        output=adapter(other).schema("serialization"),
        accepted_output=adapter(other).schema("validation"),
    )
    return ContractDocument(services=(ServiceDocument(name="Payments", operations=(process,)),))


THEIRS: dict[str, Any] = {
    "nexusrpc": "1.0.0",
    "services": {
        "ChatService": {
            "fqn": "example.chat.v1.ChatService",
            "operations": {
                "sendMessage": {
                    "description": "Sends one.",
                    "input": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "roomId": {"type": "string", "minLength": 1},
                            "class": {"type": "string"},
                            "replyTo": {"oneOf": [{"type": "string"}, {"type": "null"}]},
                            "body": {"$ref": "#/$defs/Body"},
                            "priority": {"type": "integer", "default": 0},
                        },
                        "required": ["roomId", "body"],
                    },
                    "output": {"$ref": "#/$defs/Receipt"},
                },
                "ping": {},
            },
        }
    },
    "$defs": {
        "Body": {"oneOf": [{"$ref": "#/$defs/Text"}, {"$ref": "#/$defs/Link"}]},
        "Text": {
            "type": "object",
            "properties": {"kind": {"type": "string", "const": "text"}, "text": {"type": "string"}},
            "required": ["kind", "text"],
        },
        "Link": {
            "type": "object",
            "properties": {"kind": {"type": "string", "const": "link"}, "url": {"type": "string", "format": "uri"}},
            "required": ["kind", "url"],
        },
        "Receipt": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}},
    },
}


def test_python_is_made_of_what_others_wrote(tmp_path: Path) -> None:
    document = from_file(THEIRS)
    module = module_of(python(document, "chat.nexusrpc.json"), tmp_path)
    made = describe(service_contract(module.ChatService))
    assert compare(document, made) == ()
    sent = module.SendMessageInput.model_validate({"roomId": "r", "body": {"kind": "text", "text": "hi"}, "class": "c"})
    assert (sent.class_, sent.body.text, sent.replyTo, sent.priority) == ("c", "hi", None, 0)
    assert module.ChatService.send_message.name == "SendMessage"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nexusrpc": "2.0.0"}, "nexusrpc is '2.0.0': only '1.0.0' can be read"),
        ({"$defs": {}}, "'#/\\$defs/Body' is not among its \\$defs"),
        ({"services": {"A": {}}}, "it is no nexusrpc file"),
        ({"services": []}, "it is no nexusrpc file|it is no document"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        from_file(THEIRS | change)


class Loose(BaseModel):
    anything: Any
    pair: tuple[int, str]


@service
class Wrong:
    scalar: Operation[int, list[Item]]
    loose: Operation[Loose, Payload]


def test_all_that_does_not_fit_is_told_at_once() -> None:
    with pytest.raises(FileFormError) as caught:
        to_file(describe(service_contract(Wrong)))
    faults = "\n".join(caught.value.faults)
    for said in (
        "Wrong.scalar, input: is no object",
        "Wrong.scalar, output: is no object",
        "Wrong.loose, input.anything: may be anything",
        "Wrong.loose, input.pair: prefixItems is not known there",
        "Wrong.loose, output: is no object",
    ):
        assert said in faults


def test_what_has_no_form_in_python_is_told_at_once() -> None:
    strange = {"type": "object", "properties": {"a": {"not": {"type": "string"}}, "b": {"type": "strange"}}}
    document = contract(Item, Item)
    (found,) = document.services
    process = found.operations[0].model_copy(update={"input": strange})
    document = ContractDocument(services=(found.model_copy(update={"operations": (process,)}),))
    with pytest.raises(GenerateError) as caught:
        python(document)
    assert len(caught.value.faults) == 3
    assert "Payments.process, input.a: not has no form in Python's types" in caught.value.faults
