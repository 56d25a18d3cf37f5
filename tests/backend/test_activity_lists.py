"""Lists and counts of activities that stand alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc
import pytest
from temporalio.api.activity.v1 import ActivityExecutionListInfo
from temporalio.api.common.v1 import ActivityType, Payload, SearchAttributes
from temporalio.api.enums.v1 import ActivityExecutionStatus, IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import (
    CountActivityExecutionsRequest,
    CountActivityExecutionsResponse,
    ListActivityExecutionsRequest,
    ListActivityExecutionsResponse,
)

from tests.support.alone import Alone
from tests.support.raw import Namespace, refusal
from tests.support.values import application_failure, duration

Status = ActivityExecutionStatus


class Lists:
    """Lists of the activities of one task queue."""

    def __init__(self, at: Namespace, queue: str) -> None:
        self._at = at
        self._queue = f"TaskQueue = '{queue}'"

    async def page(self, query: str = "", size: int = 0, token: bytes = b"") -> ListActivityExecutionsResponse:
        return await self._at.service.ListActivityExecutions(
            ListActivityExecutionsRequest(
                namespace=self._at.name, query=self._with(query), page_size=size, next_page_token=token
            )
        )

    async def found(self, query: str = "") -> Sequence[ActivityExecutionListInfo]:
        return (await self.page(query)).executions

    async def count(self, query: str = "") -> CountActivityExecutionsResponse:
        return await self._at.service.CountActivityExecutions(
            CountActivityExecutionsRequest(namespace=self._at.name, query=self._with(query))
        )

    async def until(self, number: int, query: str = "") -> None:
        """Waits until so many are found: a real server lists a moment later."""
        async with asyncio.timeout(20):
            while True:
                if (await self.count(query)).count == number:
                    break
                await asyncio.sleep(0.05)

    def _with(self, query: str) -> str:
        if query.startswith("GROUP"):
            return f"{self._queue} {query}"
        return f"{self._queue} AND {query}" if query else self._queue


@pytest.fixture
def lists(orders: Namespace, queue: str) -> Lists:
    return Lists(orders, queue)


@pytest.fixture
async def three(orders: Namespace, unique: Callable[[str], str], queue: str, lists: Lists) -> list[Alone]:
    """One that completed, one that failed, and one that runs, in this order."""
    made = [Alone(orders, unique(f"activity-{number}"), queue) for number in range(3)]
    await made[0].start()
    await orders.complete_activity(await orders.poll_activity_task(queue))
    await made[1].start(activity_type=ActivityType(name="pack"))
    await orders.fail_activity(await orders.poll_activity_task(queue), application_failure(non_retryable=True))
    await made[2].start(start_delay=duration(60))
    await lists.until(3)
    await lists.until(1, "ExecutionStatus = 'Running'")
    return made


async def test_activities_are_listed_with_what_is_known_of_them(lists: Lists, three: list[Alone], queue: str) -> None:
    running, failed, completed = await lists.found()
    assert [each.activity_id for each in (completed, failed, running)] == [each.id for each in three]
    assert [each.run_id for each in (completed, failed, running)] == [each.run_id for each in three]
    assert (completed.activity_type.name, failed.activity_type.name) == ("reserve", "pack")
    assert completed.status == Status.ACTIVITY_EXECUTION_STATUS_COMPLETED
    assert failed.status == Status.ACTIVITY_EXECUTION_STATUS_FAILED
    assert running.status == Status.ACTIVITY_EXECUTION_STATUS_RUNNING
    assert {each.task_queue for each in (completed, failed, running)} == {queue}
    assert completed.HasField("close_time")
    assert completed.HasField("execution_duration")
    assert not running.HasField("close_time")
    delay = running.execution_time.ToDatetime() - running.schedule_time.ToDatetime()
    assert delay.total_seconds() == pytest.approx(60, abs=0.001)


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ("ActivityType = 'pack'", [1]),
        ("ExecutionStatus = 'Completed'", [0]),
        ("ExecutionStatus IN ('Completed', 'Failed')", [1, 0]),
        ("CloseTime IS NULL", [2]),
        ("StartTime > '2020-01-01T00:00:00Z' AND ExecutionStatus != 'Running'", [1, 0]),
    ],
)
async def test_a_filter_chooses(lists: Lists, three: list[Alone], query: str, which: list[int]) -> None:
    assert [each.activity_id for each in await lists.found(query)] == [three[number].id for number in which]
    assert (await lists.count(query)).count == len(which)


async def test_an_activity_is_found_by_its_ids(lists: Lists, three: list[Alone]) -> None:
    for query in (f"ActivityId = '{three[1].id}'", f"RunId = '{three[1].run_id}'"):
        assert [each.activity_id for each in await lists.found(query)] == [three[1].id]


async def test_a_list_comes_page_by_page(lists: Lists, three: list[Alone]) -> None:
    first = await lists.page(size=2)
    second = await lists.page(size=2, token=first.next_page_token)
    assert [each.activity_id for each in (*first.executions, *second.executions)] == [each.id for each in three[::-1]]
    assert not second.next_page_token


async def test_a_count_is_grouped_by_status(lists: Lists, three: list[Alone]) -> None:
    answer = await lists.count("GROUP BY ExecutionStatus")
    assert answer.count == 3
    groups = {group.group_values[0].data: group.count for group in answer.groups}
    assert groups == {b'"Running"': 1, b'"Completed"': 1, b'"Failed"': 1}


async def test_activities_and_workflows_are_not_in_one_list(
    lists: Lists, three: list[Alone], orders: Namespace, queue: str
) -> None:
    await orders.start(three[0].id, queue)
    assert len(await lists.found()) == 3


async def test_a_filter_by_what_activities_do_not_have_is_refused(embedded_only: None, lists: Lists) -> None:
    """A real server finds nothing."""
    refused = await refusal(lists.found("WorkflowType = 'Order'"))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_activities_have_search_attributes(
    orders: Namespace, lists: Lists, queue: str, unique: Callable[[str], str]
) -> None:
    await orders.operator.AddSearchAttributes(
        AddSearchAttributesRequest(
            namespace=orders.name,
            search_attributes={"ActivityShelf": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD},
        )
    )
    shelf = Payload(metadata={"encoding": b"json/plain", "type": b"Keyword"}, data=b'"top"')
    attributes = SearchAttributes(indexed_fields={"ActivityShelf": shelf})
    made, other = (Alone(orders, unique("activity"), queue) for _ in range(2))
    async with asyncio.timeout(20):
        while True:  # a real server knows a new search attribute a moment later
            try:
                await made.start(search_attributes=attributes)
                break
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                await asyncio.sleep(0.1)
    await other.start()
    await lists.until(1, "ActivityShelf = 'top'")
    (found,) = await lists.found("ActivityShelf = 'top'")
    assert found.activity_id == made.id
    assert found.search_attributes.indexed_fields["ActivityShelf"].data == b'"top"'
    assert (await made.describe()).info.search_attributes.indexed_fields["ActivityShelf"].data == b'"top"'
    unknown = await refusal(
        Alone(orders, unique("activity"), queue).start(
            search_attributes=SearchAttributes(indexed_fields={"Nobody": shelf})
        )
    )
    assert unknown.code == grpc.StatusCode.INVALID_ARGUMENT
