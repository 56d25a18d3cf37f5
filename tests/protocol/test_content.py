"""Values and bodies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import Content, HandlerError, HandlerErrorType
from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from nexuskit.protocol import LocalProtocolError, SerializerError
from nexuskit.protocol.content import InputValue, JsonSerializer, RawValue, deserialize, serialize

JSON = {"content-type": "application/json"}
OCTETS = {"content-type": "application/octet-stream"}
SERIALIZER = JsonSerializer()


@dataclass
class Point:
    x: int
    at: datetime


class Person(BaseModel):
    name: str
    secret: SecretStr = SecretStr("hidden")
    points: list[Point] = []


class Order(BaseModel):
    order_id: str = Field(alias="orderId")


@dataclass
class Pixel(Point):
    colour: str = "secret"


class Spy(Person):
    password: str = "secret"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


Animal = Annotated[Cat | Dog, Field(discriminator="kind")]


class Nested(BaseModel):
    points: dict[str, Point]


class Checked(BaseModel):
    word: str
    odd: str

    @field_validator("word")
    @classmethod
    def refuse(cls, word: str) -> str:
        raise ValueError(f"not {word}")

    @field_validator("odd")
    @classmethod
    def refuse_too(cls, word: str) -> str:
        raise PydanticCustomError("odd", f"not {word}")


class Strict(BaseModel, extra="forbid"):
    pass


POINT = Point(1, datetime(2025, 1, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    ("value", "headers", "data", "as_type"),
    [
        (None, {}, b"", None),
        (None, {}, b"", type(None)),
        (None, {}, b"", int | None),
        (b"\x00\xff", OCTETS, b"\x00\xff", bytes),
        (b"", OCTETS, b"", None),
        (5, JSON, b"5", int),
        ("a", JSON, b'"a"', None),
        ({"a": [1, None]}, JSON, b'{"a":[1,null]}', None),
        (POINT, JSON, b'{"x":1,"at":"2025-01-31T00:00:00Z"}', Point),
        (Person(name="n", points=[POINT]), None, None, Person),
        (Order(orderId="1"), JSON, b'{"orderId":"1"}', Order),
        ([Order(orderId="1")], JSON, b'[{"orderId":"1"}]', list[Order]),
    ],
)
def test_values_become_bodies_and_bodies_values(value: Any, headers: Any, data: Any, as_type: Any) -> None:
    content = SERIALIZER.serialize(value)
    if headers is not None:
        assert (dict(content.headers), content.data) == (headers, data)
    if not isinstance(value, Person):
        assert SERIALIZER.deserialize(content, as_type) == value
    else:
        assert SERIALIZER.deserialize(content, as_type).points == value.points


@pytest.mark.parametrize(
    ("content", "as_type", "message"),
    [
        (
            Content(headers=JSON, data=b'{"name": 5, "points": [{"x": "secret"}]}'),
            Person,
            "name: .*points.0.x: .*points.0.at",
        ),
        (Content(headers=JSON, data=b'{"name": secret'), Person, "Invalid JSON"),
        (Content(headers=JSON, data=b""), int, "Invalid JSON"),
        (Content(headers=JSON, data=b"\xff"), int, "Invalid JSON"),
        (Content(headers=JSON, data=b"[" * 100_000), None, "Invalid JSON"),
        (Content(headers={}, data=b""), int, "integer"),
        (Content(headers={}, data=b"x"), int, "expected content-type"),
        (Content(headers={"content-type": "text/plain; charset=utf-8"}, data=b"x"), str, "'text/plain'"),
        (Content(headers={**JSON, "content-encoding": "gzip"}, data=b"x"), int, "content-encoding"),
        (Content(headers=OCTETS, data=b"x"), int, "integer"),
        (Content(headers=JSON, data=b'{"kind": "secret"}'), Animal, "one of the tags"),
        (Content(headers=JSON, data=b'{"secret": "x"}'), dict[str, int], r"^\*: .*integer"),
        (Content(headers=JSON, data=b'{"points": {"secret": {"x": "y", "at": 1}}}'), Nested, r"^points\.\*\.x: "),
        (Content(headers=JSON, data=b'"secret/zone"'), ZoneInfo, "timezone"),
        (Content(headers=JSON, data=b'"secret"'), UUID, "UUID"),
        (Content(headers=JSON, data=b'{"word": "secret", "odd": "secret"}'), Checked, "^word: expected.*odd: expected"),
        (Content(headers=JSON, data=b'{"secret": 1}'), Strict, r"^\*: Extra"),
        (Content(headers=JSON, data=b"[" + b'"secret",' * 50 + b'"secret"]'), list[int], "and 31 more"),
    ],
)
def test_content_that_does_not_fit_is_refused_without_its_values(content: Content, as_type: Any, message: str) -> None:
    with pytest.raises(SerializerError, match=message) as raised:
        SERIALIZER.deserialize(content, as_type)
    assert "secret" not in str(raised.value)


def test_the_type_of_content_may_have_parameters_and_any_case() -> None:
    content = Content(headers={"content-type": "Application/JSON; charset=utf-8"}, data=b"5")
    assert SERIALIZER.deserialize(content, int) == 5


def test_a_value_that_is_no_json_is_not_written() -> None:
    with pytest.raises(SerializerError, match="object"):
        SERIALIZER.serialize(object())
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SerializerError, match="list"):
        SERIALIZER.serialize(endless)


class Sloppy(BaseModel):
    number: int = None


@pytest.mark.parametrize(
    ("value", "as_type", "data"),
    [
        (Spy(name="n"), Person, b'{"name":"n","secret":"**********","points":[]}'),
        ([Spy(name="n")], list[Person], b'[{"name":"n","secret":"**********","points":[]}]'),
        (Spy(name="n"), Person | None, b'{"name":"n","secret":"**********","points":[]}'),
        (Spy(name="n"), Order | Person, b'{"name":"n","secret":"**********","points":[]}'),
        (Pixel(1, POINT.at), Point, b'{"x":1,"at":"2025-01-31T00:00:00Z"}'),
        (Order(orderId="1"), Order, b'{"orderId":"1"}'),
        ({"orderId": "1", "password": "secret"}, Order, b'{"orderId":"1"}'),
        ((1, 2), list[int], b"[1,2]"),
        (Sloppy(), Sloppy, b'{"number":null}'),
        (5, Any, b"5"),
        (5, Annotated[int, {}], b"5"),
    ],
)
async def test_a_value_is_written_as_what_it_was_declared(value: Any, as_type: Any, data: bytes) -> None:
    assert (await serialize(SERIALIZER, value, as_type)).data == data


async def test_a_value_of_another_type_than_declared_is_not_written() -> None:
    with pytest.raises(SerializerError, match="type dict is none of its type: orderId: "):
        await serialize(SERIALIZER, {"password": "secret"}, Order)


async def test_a_value_of_a_type_that_pydantic_does_not_know_is_written_as_it_is() -> None:
    class Odd:
        pass

    assert (await serialize(SERIALIZER, 5, Odd)).data == b"5"
    assert (await serialize(SERIALIZER, 5, list["Nowhere"])).data == b"5"  # noqa: F821


async def test_a_serializer_of_ones_own_sees_the_value_alone() -> None:
    class Own(JsonSerializer):
        def serialize(self, value: Any) -> Content:
            return Content(headers={}, data=value.password.encode())

    assert (await serialize(Own(), Spy(name="n"), Person)).data == b"secret"


class Config(BaseModel, ser_json_inf_nan="constants"):
    number: float


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
async def test_what_is_no_number_is_not_written(number: float) -> None:
    for value, as_type in ((number, None), ({"a": [number]}, None), (number, float), (Config(number=number), Config)):
        with pytest.raises(SerializerError, match="JSON"):
            await serialize(SERIALIZER, value, as_type)
    assert (await serialize(SERIALIZER, ["NaN null Infinity", None])).data == b'["NaN null Infinity",null]'


def test_an_empty_body_is_nothing_whatever_its_type() -> None:
    content = Content(headers=JSON, data=b"")
    assert SERIALIZER.deserialize(content, type(None)) is None
    assert SERIALIZER.deserialize(content) is None


def test_a_type_that_pydantic_does_not_know_is_a_fault_of_this_side() -> None:
    class Odd:
        pass

    with pytest.raises(LocalProtocolError, match="Odd"):
        SERIALIZER.deserialize(Content(headers=JSON, data=b"5"), Odd)


def test_a_type_that_cannot_be_hashed_will_do() -> None:
    assert SERIALIZER.deserialize(Content(headers=JSON, data=b"5"), Annotated[int, {}]) == 5


async def test_an_input_that_does_not_fit_is_a_bad_request() -> None:
    with pytest.raises(HandlerError, match="invalid input: ") as raised:
        await InputValue(SERIALIZER, Content(headers=JSON, data=b"x")).consume(int)
    assert raised.value.type is HandlerErrorType.BAD_REQUEST


async def test_raw_values_pass_untouched() -> None:
    content = Content(
        headers={"content-type": "application/x-protobuf; message-type=a.B", "content-x": "y"}, data=b"\x08\x01"
    )
    value = await InputValue(SERIALIZER, content).consume(RawValue)
    assert value == RawValue(content)
    assert await serialize(SERIALIZER, value) is content


async def test_a_serializer_may_be_async() -> None:
    class Reversing:
        async def serialize(self, value: Any) -> Content:
            return Content(headers={}, data=value[::-1])

        async def deserialize(self, content: Content, as_type: Any = None) -> Any:
            return content.data[::-1]

    content = await serialize(Reversing(), b"ab")
    assert content.data == b"ba"
    assert await deserialize(Reversing(), content, bytes) == b"ab"


@given(st.binary(max_size=30), st.sampled_from(["application/json", "application/octet-stream", "", "x/y"]))
def test_any_content_is_read_or_refused(data: bytes, kind: str) -> None:
    content = Content(headers={"content-type": kind} if kind else {}, data=data)
    for as_type in (None, int, Person, dict[str, list[int]], bytes):
        try:
            SERIALIZER.deserialize(content, as_type)
        except SerializerError as error:
            told = error
            assert str(told)
