"""Lists and counts of Nexus operations that stand alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import Payload, SearchAttributes
from temporalio.api.enums.v1 import IndexedValueType, NexusOperationExecutionStatus
from temporalio.api.nexus.v1 import NexusOperationExecutionListInfo
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import (
    CountNexusOperationExecutionsRequest,
    CountNexusOperationExecutionsResponse,
    ListNexusOperationExecutionsRequest,
    ListNexusOperationExecutionsResponse,
)

from tests.backend.conftest import Endpoint
from tests.support.operation import Operation
from tests.support.raw import Namespace, refusal
from tests.support.values import sync_result

Status = NexusOperationExecutionStatus


class Lists:
    """Lists of the operations of one endpoint."""

    def __init__(self, at: Namespace, endpoint: str) -> None:
        self._at = at
        self._endpoint = f"Endpoint = '{endpoint}'"

    async def page(self, query: str = "", size: int = 0, token: bytes = b"") -> ListNexusOperationExecutionsResponse:
        return await self._at.service.ListNexusOperationExecutions(
            ListNexusOperationExecutionsRequest(
                namespace=self._at.name, query=self._with(query), page_size=size, next_page_token=token
            )
        )

    async def found(self, query: str = "") -> Sequence[NexusOperationExecutionListInfo]:
        return (await self.page(query)).operations

    async def count(self, query: str = "") -> CountNexusOperationExecutionsResponse:
        return await self._at.service.CountNexusOperationExecutions(
            CountNexusOperationExecutionsRequest(namespace=self._at.name, query=self._with(query))
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
            return f"{self._endpoint} {query}"
        return f"{self._endpoint} AND {query}" if query else self._endpoint


@pytest.fixture
def lists(orders: Namespace, endpoint: Endpoint) -> Lists:
    return Lists(orders, endpoint.name)


@pytest.fixture
async def three(
    orders: Namespace, payments: Namespace, unique: Callable[[str], str], endpoint: Endpoint, lists: Lists
) -> list[Operation]:
    """One that completed, one that failed, and one that runs, in this order."""
    made = [Operation(orders, unique(f"operation-{number}"), endpoint.name) for number in range(3)]
    await made[0].start()
    await payments.answer_nexus_task(await payments.poll_nexus_task(endpoint.queue), sync_result(1))
    await made[0].outcome()
    await made[1].start(service="Refunds", operation="refund")
    await payments.refuse_nexus_task(await payments.poll_nexus_task(endpoint.queue), "BAD_REQUEST", "no")
    await made[1].outcome()
    await made[2].start()
    await lists.until(3)
    await lists.until(1, "ExecutionStatus = 'Running'")
    return made


async def test_operations_are_listed_with_what_is_known_of_them(
    lists: Lists, three: list[Operation], endpoint: Endpoint
) -> None:
    running, failed, completed = await lists.found()
    assert [each.operation_id for each in (completed, failed, running)] == [each.id for each in three]
    assert [each.run_id for each in (completed, failed, running)] == [each.run_id for each in three]
    assert (completed.service, completed.operation) == ("Payments", "charge")
    assert (failed.service, failed.operation) == ("Refunds", "refund")
    assert {each.endpoint for each in (completed, failed, running)} == {endpoint.name}
    assert completed.status == Status.NEXUS_OPERATION_EXECUTION_STATUS_COMPLETED
    assert failed.status == Status.NEXUS_OPERATION_EXECUTION_STATUS_FAILED
    assert running.status == Status.NEXUS_OPERATION_EXECUTION_STATUS_RUNNING
    assert completed.HasField("close_time")
    assert completed.HasField("execution_duration")
    assert not running.HasField("close_time")


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ("Service = 'Refunds'", [1]),
        ("Service IN ('Refunds', 'Payments')", [2, 1, 0]),
        ("Service != 'Refunds'", [2, 0]),
        ("Operation = 'refund'", [1]),
        ("Operation = 'charge' AND ExecutionStatus = 'Completed'", [0]),
        ("ExecutionStatus = 'Completed'", [0]),
        ("ExecutionStatus IN ('Completed', 'Failed')", [1, 0]),
        ("CloseTime IS NULL", [2]),
        ("StartTime > '2020-01-01T00:00:00Z' AND ExecutionStatus != 'Running'", [1, 0]),
        ("StateTransitionCount > 0", [1, 0]),
    ],
)
async def test_a_filter_chooses(lists: Lists, three: list[Operation], query: str, which: list[int]) -> None:
    if "StateTransitionCount" in query:
        await lists.until(len(which), query)
    assert [each.operation_id for each in await lists.found(query)] == [three[number].id for number in which]
    assert (await lists.count(query)).count == len(which)


async def test_an_operation_is_found_by_its_ids(lists: Lists, three: list[Operation]) -> None:
    request_id = (await three[1].info()).request_id
    for query in (
        f"OperationId = '{three[1].id}'",
        f"RunId = '{three[1].run_id}'",
        f"RequestId = '{request_id}'",
    ):
        assert [each.operation_id for each in await lists.found(query)] == [three[1].id]


async def test_a_list_comes_page_by_page(lists: Lists, three: list[Operation]) -> None:
    first = await lists.page(size=2)
    second = await lists.page(size=2, token=first.next_page_token)
    assert [each.operation_id for each in (*first.operations, *second.operations)] == [each.id for each in three[::-1]]
    assert not second.next_page_token


async def test_a_count_is_grouped_by_status(lists: Lists, three: list[Operation]) -> None:
    answer = await lists.count("GROUP BY ExecutionStatus")
    assert answer.count == 3
    groups = {group.group_values[0].data: group.count for group in answer.groups}
    assert groups == {b'"Running"': 1, b'"Completed"': 1, b'"Failed"': 1}


async def test_a_filter_by_what_operations_do_not_have_is_refused(embedded_only: None, lists: Lists) -> None:
    """A real server finds nothing."""
    refused = await refusal(lists.found("WorkflowType = 'Order'"))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_operations_have_search_attributes(
    orders: Namespace, lists: Lists, endpoint: Endpoint, unique: Callable[[str], str]
) -> None:
    await orders.operator.AddSearchAttributes(
        AddSearchAttributesRequest(
            namespace=orders.name,
            search_attributes={"OperationShelf": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD},
        )
    )
    shelf = Payload(metadata={"encoding": b"json/plain", "type": b"Keyword"}, data=b'"top"')
    attributes = SearchAttributes(indexed_fields={"OperationShelf": shelf})
    made, other = (Operation(orders, unique("operation"), endpoint.name) for _ in range(2))
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
    await lists.until(1, "OperationShelf = 'top'")
    (found,) = await lists.found("OperationShelf = 'top'")
    assert found.operation_id == made.id
    assert found.search_attributes.indexed_fields["OperationShelf"].data == b'"top"'
    assert (await made.info()).search_attributes.indexed_fields["OperationShelf"].data == b'"top"'
    unknown = await refusal(other.start(search_attributes=SearchAttributes(indexed_fields={"Nobody": shelf})))
    assert unknown.code == grpc.StatusCode.INVALID_ARGUMENT
