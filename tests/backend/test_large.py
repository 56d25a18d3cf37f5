"""Histories of large payloads: every page and every task can be sent."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc.aio
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage
from temporalio.api.update.v1 import Input, Meta, Request, WaitPolicy
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionRequest
from temporalio.worker import Worker

from nexuskit.backend import serve
from tests.support.raw import Namespace
from tests.support.servers import Server
from tests.support.values import payloads

ACCEPTED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED

SIZE = 1_900_000
"""Bytes of each result: just under what a payload may have."""


@activity.defn
async def fetch(number: int) -> str:
    return "x" * SIZE


@workflow.defn
class Gather:
    @workflow.run
    async def run(self, count: int) -> int:
        calls = [
            workflow.execute_activity(fetch, number, start_to_close_timeout=timedelta(seconds=20))
            for number in range(count)
        ]
        results = await asyncio.gather(*calls)
        await workflow.sleep(0.01)
        return sum(map(len, results))


async def test_a_worker_that_starts_anew_gets_a_history_of_large_payloads() -> None:
    async with serve() as backend:
        client = await backend.client()
        async with Worker(client, task_queue="large", workflows=[Gather], activities=[fetch], max_cached_workflows=0):
            handle = await client.start_workflow(Gather.run, 6, id="gather", task_queue="large")
            assert await handle.result() == 6 * SIZE
        history = await handle.fetch_history()
        assert [event.event_id for event in history.events] == list(range(1, len(history.events) + 1))


async def test_a_task_with_large_updates_can_be_sent(
    orders: Namespace, workflow_id: str, queue: str, server: Server
) -> None:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(server.address, options) as channel:
        large = Namespace(orders.name, channel)
        await large.start(workflow_id, queue)
        await large.run_workflow_task(queue)
        value = payloads("x" * SIZE)
        asked = [
            asyncio.ensure_future(
                large.service.UpdateWorkflowExecution(
                    UpdateWorkflowExecutionRequest(
                        namespace=large.name,
                        workflow_execution=WorkflowExecution(workflow_id=workflow_id),
                        wait_policy=WaitPolicy(lifecycle_stage=ACCEPTED),
                        request=Request(meta=Meta(update_id=f"update-{number}"), input=Input(name="add", args=value)),
                    )
                )
            )
            for number in range(6)
        ]
        seen = 0
        while seen < len(asked):
            task = await large.poll_workflow_task(queue)
            seen = max(seen, len(task.messages))
            if seen < len(asked):  # not all had come when it was taken
                await large.fail_workflow_task(task)
        assert task.ByteSize() > 6 * SIZE
        await large.terminate(workflow_id)
        await asyncio.gather(*asked, return_exceptions=True)
