"""A program may start the backend and define its workflows in one file, as examples and tests do."""

from __future__ import annotations

from temporalio import workflow
from temporalio.worker import Worker

from nexuskit.backend import serve


@workflow.defn
class Greet:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"hello {name}"


async def test_a_module_that_imports_serve_can_be_imported_by_the_workflow_sandbox() -> None:
    async with serve() as backend:
        client = await backend.client()
        async with Worker(client, task_queue="greet", workflows=[Greet]):
            assert await client.execute_workflow(Greet.run, "Ada", id="greet", task_queue="greet") == "hello Ada"
