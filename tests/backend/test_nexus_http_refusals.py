"""Calls by HTTP that are refused before a worker sees them."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from nexuskit.identity.uris import instance_uri
from tests.backend.conftest import Endpoint
from tests.backend.test_nexus_http import JSON, LINK, LINK_TYPE, answers, called, failure_of, path
from tests.support.raw import Namespace
from tests.support.servers import Server
from tests.support.values import sync_result


@pytest.mark.parametrize("name", ["9b1c9ef1-8a3c-4f3f-9d6b-9d1d5b4a8f20", "nobody", instance_uri("0" * 32)])
async def test_an_unknown_endpoint(http: httpx.AsyncClient, server: Server, name: str) -> None:
    if server.kind == "real" and "-" not in name:
        pytest.skip("a real server knows ids alone")
    response = await http.post(f"/nexus/endpoints/{name}/services/Payments/quote", content=b"1", headers=JSON)
    assert response.status_code == 404
    assert failure_of(response)["message"].startswith("nexus endpoint not found")


async def test_an_unknown_namespace(http: httpx.AsyncClient) -> None:
    response = await http.post("/namespaces/nowhere/task-queues/q/nexus-services/Payments/quote")
    assert response.status_code == 404
    assert "nowhere" in failure_of(response)["message"]


async def test_other_methods_are_bad_requests(http: httpx.AsyncClient, endpoint: Endpoint) -> None:
    response = await http.get(path(endpoint))
    assert response.status_code == 400
    assert "POST" in failure_of(response)["message"]


@pytest.mark.parametrize("below", ["/Payments", "/Payments/quote/stop", "/Payments/quote/1/2/3"])
async def test_paths_that_lead_to_nothing(http: httpx.AsyncClient, endpoint: Endpoint, below: str) -> None:
    response = await http.post(f"/nexus/endpoints/{endpoint.id}/services{below}")
    assert response.status_code == 404
    assert failure_of(response)["details"] == {"type": "NOT_FOUND"}


async def test_a_cancel_without_a_token(http: httpx.AsyncClient, endpoint: Endpoint) -> None:
    response = await http.post(path(endpoint) + "/cancel")
    assert response.status_code == 400
    assert "token" in failure_of(response)["message"]


BROKEN = {
    "a timeout": {"Request-Timeout": "soon"},
    "a link": {"Nexus-Link": "somewhere"},
    "a payload": {"content-type": "application/x-temporal-payload"},
}


@pytest.mark.parametrize("case", BROKEN)
async def test_what_is_broken_is_a_bad_request(http: httpx.AsyncClient, endpoint: Endpoint, case: str) -> None:
    response = await http.post(path(endpoint), content=b"\xff", headers=BROKEN[case])
    assert response.status_code == 400
    assert failure_of(response)["details"]["type"] == "BAD_REQUEST"


async def test_a_body_that_is_compressed_is_refused(
    http: httpx.AsyncClient, endpoint: Endpoint, embedded_only: None
) -> None:
    """A real server hands it on as if it were not."""
    response = await http.post(path(endpoint), content=b"1", headers={**JSON, "content-encoding": "gzip"})
    assert response.status_code == 400
    assert "content-encoding" in failure_of(response)["message"]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
async def test_a_web_page_of_another_origin_is_refused(
    http: httpx.AsyncClient, endpoint: Endpoint, embedded_only: None, site: str
) -> None:
    """A browser lets any page send a simple request to this machine."""
    headers = {"content-type": "text/plain", "sec-fetch-site": site}
    response = await http.post(path(endpoint), content=b"1", headers=headers)
    assert response.status_code == 403
    assert failure_of(response)["details"]["type"] == "UNAUTHORIZED"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:1", ""])
async def test_a_page_of_another_origin_that_says_no_more_is_refused(
    http: httpx.AsyncClient, endpoint: Endpoint, embedded_only: None, origin: str
) -> None:
    """Browsers say `Origin` to every address, and more only to those that they trust."""
    response = await http.post(path(endpoint), content=b"1", headers={"content-type": "text/plain", "origin": origin})
    assert response.status_code == 403
    assert failure_of(response)["details"]["type"] == "UNAUTHORIZED"


async def test_a_page_that_came_from_here_may_ask(http: httpx.AsyncClient, embedded_only: None) -> None:
    origin = f"http://{http.base_url.netloc.decode()}"
    headers = {"origin": origin, "sec-fetch-site": "same-origin"}
    assert (await http.post("/nexus/endpoints/nobody/services/Payments/quote", headers=headers)).status_code == 404


DECIDING = [
    "Temporal-Callback-Token", "Nexus-Operation-State", "Nexus-Operation-Token", "Nexus-Request-Id", "Request-Timeout",
    "Operation-Timeout", "Nexus-Operation-Start-Time", "Nexus-Operation-Close-Time", "Content-Type",
    "Nexus-Callback-Token",
]  # fmt: skip


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.parametrize("where", ["callback", "endpoint"])
async def test_what_decides_something_is_said_once(
    http: httpx.AsyncClient, endpoint: Endpoint, embedded_only: None, name: str, where: str
) -> None:
    """A proxy may have checked the other one."""
    url = path(endpoint) if where == "endpoint" else "/nexus/callback"
    response = await http.post(url, headers=[(name, "5s"), ("x-trace", "1"), (name.lower(), "6s")])
    assert response.status_code == 400
    assert f"one value of header field {name.lower()}" in failure_of(response)["message"]


@pytest.mark.parametrize(
    ("below", "headers", "named"),
    [
        ("/cancel?token=a&token=b", {}, "parameter token"),
        ("/cancel?token=a", {"Nexus-Operation-Token": "b"}, "parameter token"),
        ("?callback=http://a&callback=http://b", {}, "parameter callback"),
    ],
)
async def test_so_is_what_a_query_says(
    http: httpx.AsyncClient, endpoint: Endpoint, embedded_only: None, below: str, headers: dict[str, str], named: str
) -> None:
    response = await http.post(path(endpoint) + below, headers=headers)
    assert response.status_code == 400
    assert named in failure_of(response)["message"]


async def test_the_same_said_twice_is_no_matter(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, embedded_only: None
) -> None:
    link = f'<{LINK}>; type="{LINK_TYPE}"'
    other = link.replace("eventID=1", "eventID=2")
    headers = [("Nexus-Request-Id", "7"), ("Nexus-Request-Id", "7"), ("Nexus-Link", link), ("Nexus-Link", other)]
    task, response = await called(
        http, payments, endpoint.queue, path(endpoint), answers(payments, sync_result(1)), headers=headers
    )
    assert response.status_code == 200
    assert task.request.start_operation.request_id == "7"
    assert len(task.request.start_operation.links) == 2


@pytest.mark.parametrize("path", ["/health", "/nexus/callback", "/nowhere"])
async def test_a_body_that_ends_in_two_places_ends_the_connection(
    http: httpx.AsyncClient, embedded_only: None, path: str
) -> None:
    host, port = http.base_url.host, http.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    try:
        framing = "content-length: 5\r\ntransfer-encoding: chunked"
        writer.write(f"POST {path} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n0\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")  # up to its end
    finally:
        writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head
    assert json.loads(body)["details"] == {"type": "BAD_REQUEST"}


@pytest.mark.parametrize("path", ["/api/v1/namespaces", "/api/v1/namespaces/default/workflows/order/abc"])
async def test_temporals_json_api_is_not_there_and_says_so(
    http: httpx.AsyncClient, path: str, embedded_only: None
) -> None:
    for method in ("GET", "POST"):
        response = await http.request(method, path)
        assert response.status_code == 501
        assert "gRPC" in failure_of(response)["message"]


async def test_other_paths_are_not_found(http: httpx.AsyncClient, embedded_only: None) -> None:
    for where in ("/", "/nexus", "/nexus/endpoints", "/health/", "/namespaces/orders/nexus/callback/"):
        response = await http.post(where)
        assert response.status_code == 404
        assert json.loads(response.content)["details"] == {"type": "NOT_FOUND"}
