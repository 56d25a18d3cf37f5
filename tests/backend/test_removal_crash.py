"""SIGKILL in the middle of a removal: the next process goes on with it, and what is kept is whole."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import grpc.aio
import pytest
from temporalio.api.namespace.v1 import NamespaceFilter
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest
from temporalio.api.workflowservice.v1 import ListNamespacesRequest

from tests.support.backend_process import BackendProcess
from tests.support.raw import Namespace
from tests.support.values import complete_workflow

RUNS = 150
"""Some batches' worth."""


@pytest.mark.timeout(120)
async def test_a_namespace_is_removed_to_its_end_after_a_kill(tmp_path: Path) -> None:
    async with BackendProcess(tmp_path / "nexus.db", ["orders", "payments"]) as backend:
        async with grpc.aio.insecure_channel(backend.address) as channel:
            orders, payments = Namespace("orders", channel), Namespace("payments", channel)
            kept = await orders.start("kept", "queue")
            for number in range(RUNS):
                await payments.start(f"order-{number}", "queue")
                if number % 2:
                    await payments.run_workflow_task("queue", complete_workflow())
            await payments.operator.DeleteNamespace(DeleteNamespaceRequest(namespace="payments"))
        backend.kill()
        assert 0 < rows(tmp_path, "executions") <= RUNS + 1
        await backend.start()
        async with grpc.aio.insecure_channel(backend.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            orders = Namespace("orders", channel)
            everything = ListNamespacesRequest(page_size=100, namespace_filter=NamespaceFilter(include_deleted=True))
            while any(
                "deleted" in each.namespace_info.name
                for each in (await orders.service.ListNamespaces(everything)).namespaces
            ):
                pass
            assert (await orders.describe("kept")).workflow_execution_info.execution.run_id == kept
            assert len(await orders.history("kept")) == 2
        backend.kill()
    tables = ("executions", "current_runs", "events", "pending", "removals")
    assert [rows(tmp_path, table) for table in tables] == [1, 1, 1, 1, 0]


def rows(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(folder / "nexus.db")) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
