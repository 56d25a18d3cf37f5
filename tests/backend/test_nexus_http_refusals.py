"""Calls by HTTP that are refused before a worker sees them."""

from __future__ import annotations

import json

import httpx
import pytest

from nexuskit.identity.uris import instance_uri
from tests.backend.conftest import Endpoint
from tests.backend.test_nexus_http import JSON, failure_of, path
from tests.support.servers import Server


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
