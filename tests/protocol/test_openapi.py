"""The OpenAPI document of the services."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nexusrpc
import pytest
from nexusrpc import Operation
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount

from nexuskit.protocol import STATUS_BY_TYPE
from nexuskit.protocol.asgi import NexusApp
from nexuskit.protocol.content import RawValue
from tests.protocol.services import PaymentsHandler, http_to

START = "/Payments/process%2Fnow"


@pytest.fixture
def document() -> dict[str, Any]:
    return NexusApp([PaymentsHandler()], title="Payments", version="2").openapi("/nexus")


def test_each_operation_is_a_path_to_start_it_and_one_to_cancel_it(document: dict[str, Any]) -> None:
    assert (document["openapi"], document["info"]) == ("3.1.0", {"title": "Payments", "version": "2"})
    assert document["servers"] == [{"url": "/nexus"}]
    assert {START, f"{START}/cancel", "/Payments/later", "/Payments/later/cancel"} <= set(document["paths"])
    assert len(document["paths"]) == 14
    ids = [path["post"]["operationId"] for path in document["paths"].values()]
    assert len(ids) == len(set(ids))


def test_schemas_are_made_from_the_types(document: dict[str, Any]) -> None:
    start = document["paths"][START]["post"]
    schemas = document["components"]["schemas"]
    body = start["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Payment"}
    assert schemas["Payment"]["properties"]["cents"]["exclusiveMinimum"] == 0
    answer = start["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Receipt"}
    assert start["description"] == "Takes a payment at once."


def test_bytes_and_nothing_are_what_they_are(document: dict[str, Any]) -> None:
    echo = document["paths"]["/Payments/echo"]["post"]
    assert echo["requestBody"]["content"] == {"application/octet-stream": {}}
    nothing = document["paths"]["/Payments/nothing"]["post"]
    assert "requestBody" not in nothing
    assert "content" not in nothing["responses"]["200"]


def test_every_status_of_the_specification_is_there(document: dict[str, Any]) -> None:
    responses = document["paths"][START]["post"]["responses"]
    assert set(responses) == {"200", "201", "424", *map(str, STATUS_BY_TYPE.values())}
    assert responses["404"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/nexus.Failure"}


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return found + [reference for value in node.values() for reference in references(value)]
    return [reference for value in node for reference in references(value)] if isinstance(node, list) else []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = references(document)
    assert found
    for reference in found:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


class Tree(BaseModel):
    children: list[Tree] = []


class Odd:
    """Nothing that pydantic knows."""


@nexusrpc.service
class Strange:
    tree: Operation[Tree, list[Tree]]
    odd: Operation[Odd, RawValue]


@service_handler(service=Strange)
class StrangeHandler:
    @sync_operation
    async def tree(self, ctx: StartOperationContext, tree: Tree) -> list[Tree]:
        return tree.children

    @sync_operation
    async def odd(self, ctx: StartOperationContext, odd: Odd) -> RawValue:
        raise NotImplementedError


def test_types_that_contain_themselves_and_types_that_nobody_knows() -> None:
    document = NexusApp([StrangeHandler()]).openapi()
    assert {"Tree-Input", "Tree-Output"} <= set(document["components"]["schemas"])
    test_every_reference_leads_somewhere(document)
    odd = document["paths"]["/Strange/odd"]["post"]
    assert odd["requestBody"]["content"] == {"*/*": {}}
    assert odd["responses"]["200"]["content"] == {"*/*": {}}


@nexusrpc.service(name="a")
class Alike:
    cancel: Operation[int, int] = Operation(name="b.cancel")
    slash: Operation[int, int] = Operation(name="b/cancel")
    plain: Operation[int, int] = Operation(name="b")
    maybe: Operation[Tree | None, Tree | None]


@service_handler(service=Alike)
class AlikeHandler:
    @sync_operation
    async def cancel(self, ctx: StartOperationContext, number: int) -> int:
        """Of cancel."""
        return number

    @sync_operation
    def slash(self, ctx: StartOperationContext, number: int) -> int:
        """Of slash.

        And more.
        """
        return number

    @sync_operation
    async def plain(self, ctx: StartOperationContext, number: int) -> int:
        return number

    @sync_operation
    async def maybe(self, ctx: StartOperationContext, tree: Tree | None) -> Tree | None:
        """Of maybe."""
        return tree


@pytest.fixture
def alike() -> dict[str, Any]:
    with ThreadPoolExecutor() as executor:
        return NexusApp([AlikeHandler()], executor=executor).openapi()["paths"]


def test_no_two_operations_have_the_same_id(alike: dict[str, Any]) -> None:
    ids = [path["post"]["operationId"] for path in alike.values()]
    assert {"a/b.cancel", "a/b/cancel", "a/b%2Fcancel", "a/b"} <= set(ids)
    assert len(set(ids)) == 8


def test_each_operation_has_its_own_description(alike: dict[str, Any]) -> None:
    told = {name: path["post"].get("description") for name, path in alike.items() if not name.endswith("/cancel")}
    assert told == {
        "/a/b.cancel": "Of cancel.",
        "/a/b%2Fcancel": "Of slash.\n\nAnd more.",
        "/a/b": None,
        "/a/maybe": "Of maybe.",
    }


def test_a_body_that_may_be_nothing_is_not_required(alike: dict[str, Any]) -> None:
    assert alike["/a/b"]["post"]["requestBody"]["required"]
    assert not alike["/a/maybe"]["post"]["requestBody"]["required"]
    assert "empty" in alike["/a/maybe"]["post"]["responses"]["200"]["description"]
    assert "empty" not in alike["/a/b"]["post"]["responses"]["200"]["description"]


async def test_the_document_is_served_below_the_mount() -> None:
    app = Starlette(routes=[Mount("/the nexus", NexusApp([PaymentsHandler()]))])
    async with http_to(app) as http:
        answer = await http.get("/the%20nexus/openapi.json")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json()["servers"] == [{"url": "/the%20nexus"}]
        assert (await http.post("/the%20nexus/openapi.json")).status_code == 404
