"""Where requests of the backend go, and where not: configurations, certificates, time and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import CallbackState, EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import UpdateNexusEndpointRequest
from temporalio.api.workflow.v1 import PendingNexusOperationInfo
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest

from nexuskit.backend.configuration import configured
from nexuskit.backend.server import running
from nexuskit.protocol.outbound import resolve
from nexuskit.protocol.values import HttpResponse
from tests.protocol.services import PaymentsHandler
from tests.support.backend_process import BackendProcess
from tests.support.loop_guard import LoopGuard
from tests.support.outside import answering, handler_at_a_url, json_answer
from tests.support.raw import Namespace, refusal
from tests.support.values import complete_workflow, result_of, schedule_operation

COMPLETED = EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED
FAILED = EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED
NAME = "payments.example"
DONE = json_answer(200, b'"done"')
OK = HttpResponse(200)


@contextlib.asynccontextmanager
async def backend(
    *allow: str, db: Path | str = ":memory:", names: dict[str, Sequence[str]] | None = None, **config: Any
) -> AsyncIterator[Namespace]:
    """A backend whose requests may go there, and to whom names mean these addresses; its only namespace."""

    async def looked_up(host: str, port: int) -> Sequence[str]:
        return names[host] if names is not None else await resolve(host, port)

    outbound = {"allow": list(allow), **config.pop("outbound", {})}
    made = configured({"outbound": outbound, **config})
    async with (
        running(
            db,
            namespaces=[],
            host="127.0.0.1",
            port=0,
            http_port=0,
            limits=made.limits,
            outbound=made.outbound,
            resolver=looked_up,
        ) as started,
        grpc.aio.insecure_channel(started.address) as channel,
    ):
        yield Namespace("default", channel)


async def call(here: Namespace, url: str = "", **options: Any) -> None:
    """A workflow calls an operation at a URL; without one, at that of the endpoint that is there."""
    if url:
        await here.create_external_endpoint("outside", url)
    await here.start("order", "queue")
    await here.run_workflow_task("queue", schedule_operation("outside", **options))


async def cause(here: Namespace) -> Failure:
    event = await here.wait_for_event("order", FAILED)
    return event.nexus_operation_failed_event_attributes.failure.cause


async def failed_attempt(here: Namespace, number: int = 0) -> PendingNexusOperationInfo:
    async with asyncio.timeout(20):
        while True:
            (info,) = (await here.describe("order")).pending_nexus_operations
            if info.HasField("last_attempt_failure") and info.attempt >= number:
                return info


async def callback_state(here: Namespace, state: CallbackState.ValueType) -> Failure:
    async with asyncio.timeout(20):
        while True:
            (info,) = (await here.describe("order")).callbacks
            if info.state == state:
                return info.last_attempt_failure


def port_of(url: str) -> str:
    return url.rpartition(":")[2].partition("/")[0]


# --- the list


async def test_nothing_is_allowed_by_default() -> None:
    async with answering(DONE) as (asked, url), backend() as here:
        await call(here, url)
        told = await cause(here)
        assert told.nexus_handler_failure_info.type == "UNAUTHORIZED"
        assert f"{url} is not in the allow-list" in told.message
        refused = await refusal(here.start("other", "queue", completion_callbacks=[{"nexus": {"url": url}}]))
        assert "is not in the allow-list" in refused.message
        assert not asked.requests


@pytest.mark.parametrize("pattern", ["127.0.0.1:{port}", "http://127.0.0.1:1", "http://127.0.0.2:{port}"])
async def test_scheme_port_and_address_must_fit(pattern: str) -> None:
    async with answering(DONE) as (asked, url), backend(pattern.format(port=port_of(url))) as here:
        await call(here, url)
        assert "is not in the allow-list" in (await cause(here)).message
        assert not asked.requests


@pytest.mark.parametrize(
    "host", ["[2a00:1450:4001:810:0:5efe:a01:203]", "[2002:a01:203:dead::1]", "[64:ff9b::a01:203]"]
)
async def test_an_ipv6_address_that_hides_a_listed_one_is_not_listed(host: str) -> None:
    async with backend("http://10.1.0.0/16:8443") as here:
        await call(here, f"http://{host}:8443")
        assert "is not in the allow-list" in (await cause(here)).message
        callback = {"nexus": {"url": f"http://{host}:8443/"}}
        refused = await refusal(here.start("other", "queue", completion_callbacks=[callback]))
        assert "is not in the allow-list" in refused.message


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "::ffff:127.0.0.1"]
)
async def test_a_listed_name_that_resolves_to_an_address_that_is_not_public_is_refused(address: str) -> None:
    async with answering(DONE) as (asked, url):
        port = port_of(url)
        async with backend(f"http://{NAME}:{port}", names={NAME: [address]}) as here:
            await call(here, f"http://{NAME}:{port}")
            told = await cause(here)
            assert told.nexus_handler_failure_info.type == "UNAUTHORIZED"
            assert "has no address that requests may go to" in told.message
            assert "'allow' in [outbound]" in told.message
            await here.start("other", "queue")
        assert not asked.requests


async def test_a_callback_to_such_a_name_fails_and_says_why() -> None:
    async with answering(OK) as (asked, url):
        port = port_of(url)
        async with backend(f"http://{NAME}:{port}", names={NAME: ["127.0.0.1"]}) as here:
            callback = {"nexus": {"url": f"http://{NAME}:{port}"}}
            await here.start("order", "queue", completion_callbacks=[callback])
            await here.run_workflow_task("queue", complete_workflow())
            told = await callback_state(here, CallbackState.CALLBACK_STATE_FAILED)
            assert "has no address that requests may go to" in told.message
            assert told.application_failure_info.non_retryable
        assert not asked.requests


async def test_it_goes_there_if_the_address_is_listed_too_and_says_the_name() -> None:
    async with answering(DONE) as (asked, url):
        port = port_of(url)
        async with backend(f"http://{NAME}:{port}", f"127.0.0.1:{port}", names={NAME: ["127.0.0.1"]}) as here:
            await call(here, f"http://{NAME}:{port}")
            assert result_of(await here.wait_for_event("order", COMPLETED)) == "done"
        assert dict(asked.requests[0].headers)["host"] == f"{NAME}:{port}"


async def test_a_name_is_looked_up_once_for_a_request() -> None:
    """Who answers with another address at the second look gets nothing by it."""
    looks = 0

    class Answers(dict[str, Sequence[str]]):
        def __getitem__(self, name: str) -> Sequence[str]:
            nonlocal looks
            looks += 1
            return ["10.0.0.1"] if looks == 1 else ["127.0.0.1"]

    async with answering(DONE) as (asked, url):
        port = port_of(url)
        async with backend(f"http://{NAME}:{port}", names=Answers()) as here:
            await call(here, f"http://{NAME}:{port}")
            assert "10.0.0.1" in (await cause(here)).message
        assert (looks, asked.requests) == (1, [])


async def test_what_was_allowed_when_it_was_asked_for_is_refused_when_it_is_not_any_more(tmp_path: Path) -> None:
    async with answering(OK) as (asked, url):
        async with backend("http://127.0.0.1:*", db=tmp_path / "a.db") as here:
            await here.start("order", "queue", completion_callbacks=[{"nexus": {"url": url}}])
        async with backend(db=tmp_path / "a.db") as here:
            await here.run_workflow_task("queue", complete_workflow())
            told = await callback_state(here, CallbackState.CALLBACK_STATE_FAILED)
            assert f"{url} is not in the allow-list" in told.message
        assert not asked.requests


# --- certificates


@contextlib.asynccontextmanager
async def served_by_tls(authority: trustme.CA, name: str) -> AsyncIterator[int]:
    """Somebody who answers every request by TLS; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\n"done"')
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_https_needs_a_certificate_for_the_name_by_an_authority_that_is_believed(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ours = {"ca_file": str(tmp_path / "ca.pem")}
    for name, outbound, good in ((NAME, ours, True), (NAME, {}, False), ("other.example", ours, False)):
        async with served_by_tls(authority, name) as port:
            allow = (f"{NAME}:{port}", f"127.0.0.1:{port}")
            async with backend(*allow, names={NAME: ["127.0.0.1"]}, outbound=outbound) as here:
                await call(here, f"https://{NAME}:{port}")
                if good:
                    assert result_of(await here.wait_for_event("order", COMPLETED)) == "done"
                else:
                    info = await failed_attempt(here)
                    assert "certificate verify failed" in info.last_attempt_failure.message.lower().replace("_", " ")


# --- time


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """Somebody who takes connections and says nothing; the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


SHORT = {"nexus_request_timeout": "300 ms", "nexus_request_timeout_min": "100 ms"}


async def test_a_call_without_an_answer_in_time_is_made_again() -> None:
    limits = {**SHORT, "nexus_retry_interval": "10 ms"}
    async with silent() as url, backend("http://127.0.0.1:*", limits=limits) as here:
        await call(here, url)
        told = (await failed_attempt(here)).last_attempt_failure
        assert told.message.startswith("request timed out")
        assert told.application_failure_info.type == "CallError"
        assert not told.application_failure_info.non_retryable
        again = (await failed_attempt(here, 2)).last_attempt_failure
        assert "times no answer came within the request timeout of 0.3 s" in again.message
        assert "answered with an operation token" in again.message


async def test_a_callback_without_an_answer_in_time_is_sent_again() -> None:
    async with silent() as url, backend("http://127.0.0.1:*", limits=SHORT) as here:
        await here.start("order", "queue", completion_callbacks=[{"nexus": {"url": url}}])
        await here.run_workflow_task("queue", complete_workflow())
        told = await callback_state(here, CallbackState.CALLBACK_STATE_BACKING_OFF)
        assert "within 0.3 s" in told.message


async def test_so_many_requests_are_under_way_and_no_more() -> None:
    """What found no room says nothing of who was to be called."""
    async with silent() as url, backend("http://127.0.0.1:*", limits={**SHORT, "outbound_in_flight": 1}) as here:
        await here.create_external_endpoint("outside", url)
        await here.start("order", "queue")
        await here.run_workflow_task("queue", *[schedule_operation("outside") for _ in range(7)])
        async with asyncio.timeout(20):
            while True:
                infos = (await here.describe("order")).pending_nexus_operations
                if all(info.HasField("last_attempt_failure") for info in infos):
                    break
        told = sorted(info.last_attempt_failure.message.partition(":")[0] for info in infos)
        assert told[-1] == "too many requests were under way all the time"
        assert told[0] == "request timed out"
        assert not any(info.blocked_reason for info in infos)


async def test_calls_under_way_hold_up_nothing_else() -> None:
    async with silent() as url, backend("http://127.0.0.1:*") as here, LoopGuard():
        await here.create_external_endpoint("outside", url)
        await here.start("order", "queue")
        await here.run_workflow_task("queue", *[schedule_operation("outside") for _ in range(20)])
        await here.signal("order", "wake")
        await here.run_workflow_task("queue", complete_workflow("gone"))
        assert result_of(await here.close_event("order")) == "gone"


# --- restarts


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "nexus.toml"
    path.write_text('[outbound]\nallow = ["http://127.0.0.1:*"]\n', encoding="utf-8")
    return path


async def test_a_callback_on_its_way_is_delivered_after_a_kill(tmp_path: Path, config: Path) -> None:
    async with (
        answering(HttpResponse(503), OK) as (asked, url),
        BackendProcess(tmp_path / "a.db", [], config) as process,
    ):
        async with grpc.aio.insecure_channel(process.address) as channel:
            here = Namespace("default", channel)
            await here.start("order", "queue", completion_callbacks=[{"nexus": {"url": url}}])
            await here.run_workflow_task("queue", complete_workflow("done"))
            await callback_state(here, CallbackState.CALLBACK_STATE_BACKING_OFF)
        process.kill()
        await process.start()
        async with grpc.aio.insecure_channel(process.address) as channel:
            await callback_state(Namespace("default", channel), CallbackState.CALLBACK_STATE_SUCCEEDED)
        assert [json.loads(request.body) for request in asked.requests] == ["done", "done"]


async def test_a_call_goes_on_after_a_kill_with_its_request_id_and_its_callback(tmp_path: Path, config: Path) -> None:
    async with (
        answering(HttpResponse(503), DONE) as (asked, url),
        BackendProcess(tmp_path / "a.db", [], config) as process,
    ):
        async with grpc.aio.insecure_channel(process.address) as channel:
            here = Namespace("default", channel)
            await call(here, url)
            await failed_attempt(here)
        process.kill()
        await process.start()
        async with grpc.aio.insecure_channel(process.address) as channel:
            event = await Namespace("default", channel).wait_for_event("order", COMPLETED)
            assert result_of(event) == "done"
    first, second = ((request.target, dict(request.headers)["nexus-request-id"]) for request in asked.requests)
    assert first == second


async def test_handlers_are_told_the_configured_url() -> None:
    public = {"public_url": "https://orders.example/nexuskit/"}
    async with handler_at_a_url() as (_, url), backend("http://127.0.0.1:*", outbound=public) as here:
        await call(here, url, operation="seen")
        seen = result_of(await here.wait_for_event("order", COMPLETED))
    assert seen["callback_url"] == "https://orders.example/nexuskit/nexus/callback"


async def test_an_endpoint_that_routes_elsewhere_by_now_is_called_there() -> None:
    """From a queue that nobody polls to a URL: what waits is called at once."""
    async with (
        handler_at_a_url(PaymentsHandler()) as (_, url),
        backend("http://127.0.0.1:*", limits={"nexus_retry_interval": "1 h"}) as here,
    ):
        made = await here.create_endpoint("outside", "nobody")
        await call(here, operation="end", value={"kind": "well"})
        await failed_attempt(here)
        spec = EndpointSpec(name="outside", target=EndpointTarget(external=EndpointTarget.External(url=url)))
        await here.operator.UpdateNexusEndpoint(UpdateNexusEndpointRequest(id=made.id, version=made.version, spec=spec))
        assert result_of(await here.wait_for_event("order", COMPLETED)) == "well"


async def test_a_run_whose_callback_nobody_takes_can_be_deleted() -> None:
    async with answering(HttpResponse(503)) as (_, url), backend("http://127.0.0.1:*") as here:
        await here.start("order", "queue", completion_callbacks=[{"nexus": {"url": url}}])
        await here.run_workflow_task("queue", complete_workflow())
        await callback_state(here, CallbackState.CALLBACK_STATE_BACKING_OFF)
        await here.service.DeleteWorkflowExecution(
            DeleteWorkflowExecutionRequest(
                namespace="default", workflow_execution=WorkflowExecution(workflow_id="order")
            )
        )
        assert (await refusal(here.describe("order"))).code == grpc.StatusCode.NOT_FOUND
