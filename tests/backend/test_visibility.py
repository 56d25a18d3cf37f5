"""Lists and counts of workflows. A real server lists them a moment later, so it is asked until it does."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import grpc
import pytest
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.filter.v1 import StartTimeFilter, StatusFilter, WorkflowExecutionFilter, WorkflowTypeFilter
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    CountWorkflowExecutionsResponse,
    ListClosedWorkflowExecutionsRequest,
    ListOpenWorkflowExecutionsRequest,
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
    ScanWorkflowExecutionsRequest,
)

from tests.support.raw import Namespace, refusal
from tests.support.servers import Server
from tests.support.values import complete_workflow, fail_workflow, payload, value_of

T = TypeVar("T")
STATUS = WorkflowExecutionStatus


async def eventually(read: Callable[[], Awaitable[T]], holds: Callable[[T], bool], server: Server) -> T:
    """What is read, once it is so; the embedded backend is right at once. The test's own timeout ends the wait."""
    while not holds(found := await read()):
        assert server.kind == "real", found
        await asyncio.sleep(0)
    return found


class Orders(NamedTuple):
    """Three workflows on a queue of their own: one completed, one failed, one open."""

    namespace: Namespace
    server: Server
    queue: str
    ids: list[str]

    async def page(self, query: str, size: int = 0, token: bytes = b"") -> ListWorkflowExecutionsResponse:
        return await self.namespace.service.ListWorkflowExecutions(
            ListWorkflowExecutionsRequest(
                namespace=self.namespace.name, query=query, page_size=size, next_page_token=token
            )
        )

    async def count(self, query: str) -> CountWorkflowExecutionsResponse:
        return await self.namespace.service.CountWorkflowExecutions(
            CountWorkflowExecutionsRequest(namespace=self.namespace.name, query=query)
        )

    async def found(self, query: str) -> list[str]:
        """The ids, without what is different for each test."""
        return names((await self.page(query)).executions)


def names(found: list[WorkflowExecutionInfo]) -> list[str]:
    return [each.execution.workflow_id.rpartition("/")[2] for each in found]


@pytest.fixture
async def listed(orders: Namespace, server: Server, queue: str, workflow_id: str) -> Orders:
    ids = [f"{workflow_id}/{name}" for name in ("done", "bad", "open")]
    made = Orders(orders, server, queue, ids)
    await orders.start(ids[0], queue, workflow_type="Order", memo={"fields": {"note": payload("hi")}})
    await orders.run_workflow_task(queue, complete_workflow())
    await orders.start(ids[1], queue, workflow_type="Refund")
    await orders.run_workflow_task(queue, fail_workflow())
    await orders.start(ids[2], queue, workflow_type="Order")
    for status, number in (
        (STATUS.WORKFLOW_EXECUTION_STATUS_COMPLETED, 1),
        (STATUS.WORKFLOW_EXECUTION_STATUS_FAILED, 1),
    ):
        query = f"TaskQueue = '{queue}' AND ExecutionStatus = {int(status)}"
        await eventually(lambda query=query: made.count(query), lambda got, n=number: got.count == n, server)
    await eventually(lambda: made.count(f"TaskQueue = '{queue}'"), lambda got: got.count == 3, server)
    return made


async def test_a_list_has_open_workflows_first_then_those_that_closed_last(listed: Orders) -> None:
    assert await listed.found(f"TaskQueue = '{listed.queue}'") == ["open", "bad", "done"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("WorkflowType = 'Order'", ["open", "done"]),
        ("WorkflowType != 'Order'", ["bad"]),
        ("WorkflowType IN ('Order', 'Refund')", ["open", "bad", "done"]),
        ("WorkflowType NOT IN ('Refund')", ["open", "done"]),
        ("WorkflowType STARTS_WITH 'Ref'", ["bad"]),
        ("WorkflowType NOT STARTS_WITH 'Ref'", ["open", "done"]),
        ("ExecutionStatus = 'Running'", ["open"]),
        ("ExecutionStatus != 'Running'", ["bad", "done"]),
        ("ExecutionStatus = 'Failed' OR ExecutionStatus = 2", ["bad", "done"]),
        ("NOT (WorkflowType = 'Order' AND ExecutionStatus = 'Completed')", ["open", "bad"]),
        ("CloseTime IS NULL", ["open"]),
        ("CloseTime IS NOT NULL", ["bad", "done"]),
        ("CloseTime > '2020-01-01T00:00:00Z'", ["bad", "done"]),
        ("CloseTime < '2020-01-01T00:00:00Z'", []),
        ("StartTime BETWEEN '2020-01-01T00:00:00Z' AND '2100-01-01T00:00:00+02:00'", ["open", "bad", "done"]),
        ("StartTime < 1000", []),
        ("ExecutionDuration < '1h'", ["bad", "done"]),
        ("ExecutionDuration >= '01:00:00'", []),
        ("HistoryLength = 5", ["bad", "done"]),
        ("HistorySizeBytes > 10", ["bad", "done"]),
        ("ParentWorkflowId IS NULL", ["open", "bad", "done"]),
        ('`WorkflowType` = "Refund"', ["bad"]),
        ("TemporalChangeVersion IS NULL", ["open", "bad", "done"]),
        ("TemporalChangeVersion = 'x'", []),
    ],
)
async def test_a_filter_finds_what_it_says(listed: Orders, query: str, expected: list[str]) -> None:
    assert await listed.found(f"TaskQueue = '{listed.queue}' AND ({query})") == expected
    assert (await listed.count(f"TaskQueue = '{listed.queue}' AND ({query})")).count == len(expected)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ExecutionStatus = 'Failed' -- and nothing else", ["bad"]),
        ("/* those\nthat */ ExecutionStatus = 'Failed'", ["bad"]),
        ("ExecutionStatus = 'Failed' # AND WorkflowType = 'Order'", ["bad"]),
        ("ExecutionStatus = 'Failed' -- one\n OR ExecutionStatus = 'Completed'", ["bad", "done"]),
        ("ExecutionStatus = 'Failed' // a third kind", ["bad"]),
        ("ExecutionStatus = 'Failed' || ExecutionStatus = 'Completed'", ["bad", "done"]),
        ("ExecutionStatus = 'Failed' &&WorkflowType = 'Order'", []),
        ("WorkflowType != 'a -- b' AND WorkflowType != '/*' && ExecutionStatus = 'Failed'", ["bad"]),
    ],
)
async def test_a_filter_may_hold_comments_and_signs_for_and_and_or(
    listed: Orders, query: str, expected: list[str]
) -> None:
    assert sorted(await listed.found(f"TaskQueue = '{listed.queue}' AND ({query}\n)")) == expected


@pytest.mark.parametrize("query", ["StartTime > '2026-01-01'", "StartTime IN ('2026-01-01')"])
async def test_a_date_alone_is_no_time(listed: Orders, query: str) -> None:
    refused = await refusal(listed.page(query))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message == "invalid query: invalid expression: unable to parse datetime '2026-01-01'"


async def test_a_workflow_is_found_by_its_ids(listed: Orders) -> None:
    (found,) = (await listed.page(f"WorkflowId = '{listed.ids[0]}'")).executions
    assert await listed.found(f"RunId = '{found.execution.run_id}'") == ["done"]
    assert await listed.found(f"RootWorkflowId = '{listed.ids[1]}'") == ["bad"]
    assert await listed.found(f"WorkflowId STARTS_WITH '{listed.ids[0][:-4]}'") == ["open", "bad", "done"]


async def test_a_list_tells_what_is_known_of_a_workflow(listed: Orders) -> None:
    running, _, done = (await listed.page(f"TaskQueue = '{listed.queue}'")).executions
    assert (done.type.name, done.task_queue) == ("Order", listed.queue)
    assert done.status == STATUS.WORKFLOW_EXECUTION_STATUS_COMPLETED
    assert value_of(done.memo.fields["note"]) == "hi"
    assert done.history_length == 5
    assert done.execution_duration.ToNanoseconds() > 0
    assert done.close_time.ToNanoseconds() > done.start_time.ToNanoseconds() > 0
    assert (running.status, running.history_length) == (STATUS.WORKFLOW_EXECUTION_STATUS_RUNNING, 0)
    assert not running.HasField("close_time")
    assert (done.root_execution.workflow_id, done.root_execution.run_id) == (listed.ids[0], done.execution.run_id)


async def test_a_list_comes_in_pages(listed: Orders) -> None:
    query = f"TaskQueue = '{listed.queue}'"
    first = await listed.page(query, 2)
    assert names(first.executions) == ["open", "bad"]
    second = await listed.page(query, 2, first.next_page_token)
    assert names(second.executions) == ["done"]
    assert not second.next_page_token


async def test_a_count_may_be_grouped_by_status(listed: Orders) -> None:
    found = await listed.count(f"TaskQueue = '{listed.queue}' GROUP BY ExecutionStatus")
    assert found.count == 3
    assert {value_of(group.group_values[0]): group.count for group in found.groups} == {
        "Running": 1,
        "Completed": 1,
        "Failed": 1,
    }
    assert found.groups[0].group_values[0].metadata["type"] == b"Keyword"


async def test_older_calls_list_open_and_closed_workflows(listed: Orders) -> None:
    service, namespace = listed.namespace.service, listed.namespace.name
    times = StartTimeFilter()
    times.earliest_time.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
    one = WorkflowExecutionFilter(workflow_id=listed.ids[2])
    found = await service.ListOpenWorkflowExecutions(
        ListOpenWorkflowExecutionsRequest(namespace=namespace, start_time_filter=times, execution_filter=one)
    )
    assert names(found.executions) == ["open"]
    closed = ListClosedWorkflowExecutionsRequest(namespace=namespace, start_time_filter=times, execution_filter=one)
    assert names((await service.ListClosedWorkflowExecutions(closed)).executions) == []
    closed.type_filter.CopyFrom(WorkflowTypeFilter(name="Refund"))
    assert "bad" in names((await service.ListClosedWorkflowExecutions(closed)).executions)
    closed.status_filter.CopyFrom(StatusFilter(status=STATUS.WORKFLOW_EXECUTION_STATUS_RUNNING))
    refused = await refusal(service.ListClosedWorkflowExecutions(closed))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message == "StatusFilter must be specified and must be not Running."
    scanned = await service.ScanWorkflowExecutions(
        ScanWorkflowExecutionsRequest(namespace=namespace, query=f"TaskQueue = '{listed.queue}'")
    )
    assert names(scanned.executions) == ["open", "bad", "done"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("WorkflowId = ", "malformed SQL query: syntax error at position"),
        ("Nothing = 'x'", "invalid search attribute: Nothing"),
        ("WorkflowId = x", 'column name on the right side of comparison expression (did you forget to quote "x"?)'),
        ("StartTime > 'noon'", "invalid expression: unable to parse datetime 'noon'"),
        ("ExecutionStatus = 'Lost'", "invalid expression: invalid ExecutionStatus value 'Lost'"),
        ("WorkflowId", "invalid expression: incomplete expression"),
        ("WorkflowId = 'x' LIMIT 3", "operation is not supported: 'LIMIT' clause"),
        ("WorkflowId = 5", "invalid value type for search attribute WorkflowId of type Keyword: 5"),
        ("ExecutionStatus = 99", "invalid expression: invalid ExecutionStatus value 99"),
        ("TemporalSchedulePaused BETWEEN true AND false", "cannot do range condition on search attribute"),
    ],
)
async def test_a_filter_that_is_wrong_is_refused(listed: Orders, query: str, message: str) -> None:
    refused = await refusal(listed.page(query))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message.startswith("invalid query: ")
    assert message in refused.message


async def test_a_count_is_grouped_by_nothing_else(listed: Orders) -> None:
    refused = await refusal(listed.count("GROUP BY WorkflowType"))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "'GROUP BY' clause is not supported for search attribute WorkflowType" in refused.message


@pytest.mark.usefixtures("embedded_only")  # a real server on an SQL database refuses ORDER BY
async def test_a_list_may_be_sorted(listed: Orders) -> None:
    query = f"TaskQueue = '{listed.queue}'"
    assert await listed.found(f"{query} ORDER BY StartTime") == ["done", "bad", "open"]
    assert await listed.found(f"{query} ORDER BY WorkflowType DESC") == ["bad", "open", "done"]


@pytest.mark.usefixtures("embedded_only")  # on a real server it depends on the database
async def test_the_beginning_of_a_word_minds_upper_and_lower_case(listed: Orders) -> None:
    mine = f"TaskQueue = '{listed.queue}'"
    assert await listed.found(f"{mine} AND WorkflowType STARTS_WITH 'Ref'") == ["bad"]
    assert await listed.found(f"{mine} AND WorkflowType STARTS_WITH 'ref'") == []


@pytest.mark.usefixtures("embedded_only")  # a real server takes it, and does as if it were not there
async def test_a_list_cannot_be_grouped(listed: Orders) -> None:
    refused = await refusal(listed.page("WorkflowId = 'x' GROUP BY ExecutionStatus"))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "operation is not supported: 'GROUP BY' clause" in refused.message


@pytest.mark.usefixtures("embedded_only")  # a real server answers UNKNOWN
async def test_a_page_token_of_something_else_is_refused(listed: Orders) -> None:
    refused = await refusal(listed.page("", token=b"nonsense"))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_namespace_that_is_not_there_has_no_list(listed: Orders) -> None:
    elsewhere = Namespace("nowhere", listed.namespace.channel)
    refused = await refusal(listed._replace(namespace=elsewhere).page(""))
    assert refused.code is grpc.StatusCode.NOT_FOUND
    refused = await refusal(
        elsewhere.operator.AddSearchAttributes(
            AddSearchAttributesRequest(namespace="nowhere", search_attributes={"Customer": 2})
        )
    )
    assert refused.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
