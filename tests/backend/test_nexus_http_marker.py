"""What a call by HTTP carries is held in memory, and in no file."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import grpc.aio
import httpx
import pytest
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.nexus.v1 import StartOperationResponse

from nexuskit.backend import serve
from tests.support.raw import Namespace
from tests.support.values import async_result, sync_result

MARKER = "marker-7f3a9c"


async def test_what_a_call_carries_is_in_no_file_of_the_database_or_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="nexuskit")
    caplog.set_level(logging.DEBUG, logger="uvicorn")
    failure = Failure(message=MARKER, application_failure_info=ApplicationFailureInfo(type=MARKER))
    async with (
        serve(tmp_path / "nexuskit.db", namespaces=["payments"]) as backend,
        grpc.aio.insecure_channel(backend.address) as channel,
        httpx.AsyncClient(base_url=backend.http_address, timeout=30) as http,
    ):
        payments = Namespace("payments", channel)
        endpoint = await payments.create_endpoint("payments", "queue")
        url = f"/nexus/endpoints/{endpoint.id}/services/Payments/quote"
        for answer in (sync_result(MARKER), async_result(MARKER), StartOperationResponse(failure=failure), None):
            calling = asyncio.create_task(
                http.post(
                    url if answer else f"{url}/cancel?token={MARKER}",
                    content=f'"{MARKER}"',
                    params={"callback": f"http://127.0.0.1:1/{MARKER}"} if answer else None,
                    headers={
                        "content-type": "application/json",
                        "nexus-request-id": MARKER,
                        "nexus-callback-token": MARKER,
                        "nexus-operation-token": MARKER,
                        "x-mine": MARKER,
                        "authorization": MARKER,
                    },
                )
            )
            task = await payments.poll_nexus_task("queue")
            if answer is None:
                assert task.request.cancel_operation.operation_token == MARKER
                await payments.refuse_nexus_task(task, "CONFLICT", MARKER)
            else:
                assert MARKER.encode() in task.request.start_operation.payload.data
                await payments.answer_nexus_task(task, answer)
            assert MARKER in str((response := await calling).headers) + response.text
        refused = await http.post("/nexus/callback", content=MARKER, headers={"temporal-callback-token": MARKER})
        assert refused.status_code == 400
        assert not holding(tmp_path)
    assert not holding(tmp_path)
    assert "/services/Payments/quote 200" in caplog.text
    assert MARKER not in caplog.text


def holding(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if MARKER.encode() in path.read_bytes()]
