"""Values of a contract's types: checked as they travel, and refused without being shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import AfterValidator, BaseModel, Field, field_validator
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.common import RawValue
from typing_extensions import TypedDict

from nexuskit.contract import Adapter, InvalidValueError, TypeFaultError, adapter

SECRET = "4000-0000-0000-0000"


def luhn(value: str) -> str:
    """Refuses every number, and says it."""
    raise ValueError(f"{value} is no card")


class Item(BaseModel):
    name: str = Field(max_length=5)
    cents: int = Field(gt=0)


class Order(BaseModel):
    items: list[Item]
    notes: dict[str, int] = {}
    colour: Literal["red", "blue"] = "red"
    card: Annotated[str, AfterValidator(luhn)] | None = None
    short_name: str = Field("", alias="shortName")


class Strict(BaseModel, extra="forbid"):
    id: str

    @field_validator("id")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == SECRET:
            raise ValueError(f"{value} is unknown")
        return value


@dataclass
class Address:
    street: str
    number: int = 1


class Size(TypedDict):
    width: int


class Point(msgspec.Struct):
    x: Annotated[int, msgspec.Meta(ge=0)]
    label: str = ""


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Order, Order(items=[Item(name="pen", cents=3)], shortName="o")),
        (Address, Address("High", 3)),
        (Size, {"width": 3}),
        (Point, Point(1, "a")),
        (list[Item], [Item(name="pen", cents=1)]),
        (int, 3),
        (str | None, None),
        (type(None), None),
        (dict[str, int], {"a": 1}),
    ],
    ids=str,
)
def test_a_value_comes_back_as_it_was(type_: Any, value: Any) -> None:
    found: Adapter[Any] = adapter(type_)
    assert found.check(value) == value
    assert found.decode(found.encode(value)) == value
    assert isinstance(found.schema("validation"), dict)


@pytest.mark.parametrize(
    ("type_", "value", "said"),
    [
        (Item, {"name": "a", "cents": 0}, "cents: Input should be greater than 0"),
        (Item, Item.model_construct(name="a", cents=-3), "cents: Input should be greater than 0"),
        (Item, {"name": "too long", "cents": 1}, "name: String should have at most 5 characters"),
        (Item, {"cents": 1}, "name: Field required"),
        (Order, {"items": [{"name": "a", "cents": 1}, {"name": "b", "cents": "x"}]}, "items.1.cents: Input should be"),
        (Order, {"items": [], "colour": SECRET}, "colour: Input should be 'red' or 'blue'"),
        (Order, {"items": [], "notes": {SECRET: "x"}}, "notes.*: Input should be a valid integer"),
        (Order, {"items": [], "card": SECRET}, "card: refused by a check of the type's own"),
        (Strict, {"id": SECRET}, "id: refused by a check of the type's own"),
        (Strict, {"id": "a", "idd": SECRET}, "idd: Extra inputs are not permitted"),
        (Address, {"street": 3}, "street: Input should be a valid string"),
        (Size, {}, "width: Field required"),
        (Point, {"x": -1}, "x: Expected `int` >= 0"),
        (Point, {"x": SECRET}, "x: Expected `int`, got `str`"),
        (Point, {}, "Object missing required field `x`"),
    ],
)
def test_a_wrong_value_is_refused_by_field_and_constraint(type_: Any, value: Any, said: str) -> None:
    found: Adapter[Any] = adapter(type_)
    with pytest.raises(InvalidValueError) as caught:
        found.check(value)
    assert any(str(fault).startswith(said) for fault in caught.value.faults), str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value.faults)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidValueError) as caught:
        adapter(Item).check(Item.model_construct(name=3, cents=-1))  # type: ignore[arg-type]
    assert [(fault.path, fault.code) for fault in caught.value.faults] == [
        ("name", "string_type"),
        ("cents", "greater_than"),
    ]


def test_what_has_no_json_is_refused() -> None:
    for type_ in (Item, Point):
        with pytest.raises(InvalidValueError, match="has no JSON: expected was"):
            adapter(type_).check(object())  # type: ignore[arg-type]


def test_protobuf_messages_and_raw_payloads_pass_as_they_are() -> None:
    execution = WorkflowExecution(workflow_id="a")
    assert adapter(WorkflowExecution).check(execution) is execution
    raw = RawValue(Payload(data=b"x"))
    assert adapter(RawValue).check(raw) is raw
    with pytest.raises(InvalidValueError, match="expected was"):
        adapter(WorkflowExecution).check(raw)  # type: ignore[arg-type]


NO_TYPES: dict[str, Any] = {
    "no type": object(),
    "a class": type("Thing", (), {}),
    "a name": list["Nowhere"],  # type: ignore[name-defined]  # noqa: F821
}


@pytest.mark.parametrize("type_", NO_TYPES.values(), ids=NO_TYPES.keys())
def test_a_type_that_cannot_travel_is_named(type_: Any) -> None:
    with pytest.raises(TypeFaultError, match="cannot travel"):
        adapter(type_)
