"""What a request asks for and does not get is refused by the name of its field; what harms nobody is let in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nexuskit.backend.frontend.checks import ACCEPTED
from nexuskit.backend.frontend.grpc_server import SERVICES
from tests.house import fields
from tests.support.raw import refusal

pytestmark = pytest.mark.usefixtures("embedded_only")  # a real server serves more


class Place(NamedTuple):
    """A field in a request: the call, and the fields on the way to it."""

    method: MethodDescriptor
    path: tuple[FieldDescriptor, ...]

    @property
    def name(self) -> str:
        last = self.path[-1]
        return f"{last.containing_type.name}.{last.name}"


def places(wanted: Callable[[Descriptor, str], bool]) -> list[Place]:
    """Every field that is wanted, by the shortest way from each call."""
    return [
        Place(method, path)
        for service, handlers in SERVICES
        for method in service.methods
        if service.full_name.startswith(fields.PREFIX) and method.name in handlers
        for path in _paths(method.input_type, wanted)
    ]


def _paths(request: Descriptor, wanted: Callable[[Descriptor, str], bool]) -> Iterator[tuple[FieldDescriptor, ...]]:
    waiting: list[tuple[Descriptor, tuple[FieldDescriptor, ...]]] = [(request, ())]
    seen: set[str] = set()
    for message, way in waiting:
        if message.full_name in seen or fields.name_of(message) in fields.CARRIED:
            continue
        seen.add(message.full_name)
        for field in message.fields:
            if wanted(message, field.name):
                yield (*way, field)
        for field in fields.looked_into(message):
            child = fields.inner(field)
            if child is not None and child.full_name.startswith(fields.PREFIX):
                waiting.append((child, (*way, field)))


def request_with(place: Place, value: object = None) -> Message:
    """A request in which nothing is set but that field."""
    request = GetMessageClass(place.method.input_type)()
    message: Any = request
    for field in place.path[:-1]:
        there = getattr(message, field.name)
        message = there.add() if field.is_repeated else there
    last = place.path[-1]
    if value is not None:
        setattr(message, last.name, value)
    elif last.message_type is not None and last.message_type.GetOptions().map_entry:
        key = "key"
        values = last.message_type.fields_by_name["value"]
        if values.message_type is not None:
            getattr(message, last.name)[key].SetInParent()
        else:
            getattr(message, last.name)[key] = _some(values)
    elif last.message_type is not None:
        there = getattr(message, last.name)
        there.add() if last.is_repeated else there.SetInParent()
    elif last.is_repeated:
        getattr(message, last.name).append(_some(last))
    else:
        setattr(message, last.name, _some(last))
    return request


def _some(field: FieldDescriptor) -> object:
    if field.enum_type is not None:
        return max(field.enum_type.values_by_number)
    return {
        FieldDescriptor.CPPTYPE_STRING: b"x" if field.type == FieldDescriptor.TYPE_BYTES else "x",
        FieldDescriptor.CPPTYPE_BOOL: True,
    }.get(field.cpp_type, 1)


async def ask(channel: grpc.aio.Channel, place: Place, request: Message) -> Any:
    call = channel.unary_unary(f"/{place.method.containing_service.full_name}/{place.method.name}")
    return await call(request.SerializeToString(), timeout=10)


REFUSED = places(fields.refused)
HARMLESS = places(fields.harmless)


@pytest.mark.parametrize("place", REFUSED, ids=lambda place: f"{place.method.name}: {place.name}")
async def test_a_field_that_is_not_honoured_is_refused_by_name(channel: grpc.aio.Channel, place: Place) -> None:
    refused = await refusal(ask(channel, place, request_with(place)))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
    assert refused.message == f"{place.name} is set, and not served by this backend"


async def test_a_field_that_harms_nobody_is_let_in(channel: grpc.aio.Channel) -> None:
    for place in HARMLESS:
        try:
            await ask(channel, place, request_with(place))
        except grpc.aio.AioRpcError as error:  # nothing else is set, so most requests are faulty
            assert "is set, and not served" not in (error.details() or ""), place.name  # noqa: PT017


async def test_a_field_that_asks_for_what_is_so_anyway_is_let_in(channel: grpc.aio.Channel) -> None:
    asked = [place for place in REFUSED if place.name in ACCEPTED]
    assert {place.name for place in asked} == set(ACCEPTED)
    for place in asked:
        refused = await refusal(ask(channel, place, request_with(place, ACCEPTED[place.name])))
        assert refused.code != grpc.StatusCode.UNIMPLEMENTED, place.name
