"""Histories of large payloads: every page and every task can be sent."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.worker import Worker

from nexuskit.backend import serve

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
