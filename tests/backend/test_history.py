"""Reading history: pages, long polls for what is new, and long polls for the end."""

import asyncio
from collections.abc import Callable

import grpc
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, HistoryEventFilterType
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
    GetWorkflowExecutionHistoryReverseRequest,
)

from tests.support.raw import Namespace, refusal
from tests.support.values import complete_workflow, event_names, result_of, schedule_activity, start_timer

CLOSE_EVENT = HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT


async def read(
    orders: Namespace, workflow_id: str, run_id: str = "", timeout: float | None = None, **more: object
) -> GetWorkflowExecutionHistoryResponse:
    request = GetWorkflowExecutionHistoryRequest(
        namespace=orders.name, execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id), **more
    )
    return await orders.service.GetWorkflowExecutionHistory(request, timeout=timeout)


async def test_pages_together_are_the_whole_history(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, *(start_timer(f"timer-{number}", 3600) for number in range(10)))
    await orders.start(workflow_id + "-other", queue)
    task = await orders.poll_workflow_task(queue)
    await orders.complete_workflow_task(task, *(start_timer(f"timer-{number}", 3600) for number in range(10)))
    pages = [page async for page in orders.history_pages(workflow_id, page_size=3)]
    events = [event for page in pages for event in page]
    assert len(pages) > 1
    assert [event.event_id for event in events] == list(range(1, 15))
    assert events == await orders.history(workflow_id)


@pytest.mark.parametrize("size", [-1, -1000])
async def test_a_page_of_less_than_nothing_is_one_of_the_usual_size(
    orders: Namespace, workflow_id: str, queue: str, size: int
) -> None:
    await orders.start(workflow_id, queue)
    (page,) = [page async for page in orders.history_pages(workflow_id, page_size=size)]
    assert len(page) == 2
    backwards = await orders.service.GetWorkflowExecutionHistoryReverse(
        GetWorkflowExecutionHistoryReverseRequest(
            namespace=orders.name, execution=WorkflowExecution(workflow_id=workflow_id), maximum_page_size=size
        )
    )
    assert [event.event_id for event in backwards.history.events] == [2, 1]


@pytest.mark.usefixtures("embedded_only")  # a real server terminates it first, and shows that
async def test_a_long_poll_for_a_run_that_is_deleted_meanwhile_names_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    execution = WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
    waiting = asyncio.ensure_future(refusal(orders.close_event(workflow_id, run_id)))
    await orders.describe(workflow_id)  # the poll is at the server before this is answered
    await orders.service.DeleteWorkflowExecution(
        DeleteWorkflowExecutionRequest(namespace=orders.name, workflow_execution=execution)
    )
    refused = await waiting
    assert refused.code == grpc.StatusCode.NOT_FOUND
    says = f"Workflow execution history not found. It was that of workflow {workflow_id!r}, run {run_id}."
    assert refused.message == says


async def test_pages_belong_to_the_run_that_the_first_was_read_from(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue)
    page = await read(orders, workflow_id, maximum_page_size=1)
    await orders.run_workflow_task(queue, complete_workflow("first"))
    await orders.start(workflow_id, queue)
    rest = await read(orders, workflow_id, next_page_token=page.next_page_token)
    started = page.history.events[0].workflow_execution_started_event_attributes
    assert started.first_execution_run_id == first
    assert rest.history.events[0].event_id == len(page.history.events) + 1


async def test_a_long_poll_gives_what_is_there_and_then_what_comes(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    first = await read(orders, workflow_id, wait_new_event=True, timeout=20)
    assert event_names(first.history.events) == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]
    waiting = asyncio.ensure_future(
        read(orders, workflow_id, wait_new_event=True, next_page_token=first.next_page_token, timeout=20)
    )
    await orders.run_workflow_task(queue, complete_workflow())
    seen = list((await waiting).history.events)
    token = (await waiting).next_page_token
    while token:
        more = await read(orders, workflow_id, wait_new_event=True, next_page_token=token, timeout=20)
        seen += more.history.events
        token = more.next_page_token
    assert [event.event_id for event in seen] == [3, 4, 5]


async def test_many_long_polls_all_see_the_end(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    waiting = [asyncio.ensure_future(orders.close_event(workflow_id)) for _ in range(20)]
    await orders.run_workflow_task(queue, complete_workflow("done"))
    assert [result_of(event) for event in await asyncio.gather(*waiting)] == ["done"] * 20


async def test_a_long_poll_for_the_end_of_a_closed_workflow_answers_at_once(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow("done"))
    answer = await read(
        orders, workflow_id, run_id, wait_new_event=True, history_event_filter_type=CLOSE_EVENT, timeout=20
    )
    assert event_names(answer.history.events) == ["WORKFLOW_EXECUTION_COMPLETED"]
    assert not answer.next_page_token


async def test_asking_for_the_close_event_of_an_open_workflow_without_waiting_gives_no_event(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    answer = await read(orders, workflow_id, history_event_filter_type=CLOSE_EVENT, timeout=2)
    assert not answer.history.events


async def test_a_long_poll_ends_before_the_clients_deadline_with_a_token_to_go_on_from(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    empty = await read(orders, workflow_id, wait_new_event=True, history_event_filter_type=CLOSE_EVENT, timeout=2)
    assert not empty.history.events
    assert empty.next_page_token
    await orders.run_workflow_task(queue, complete_workflow("done"))
    answer = await read(
        orders,
        workflow_id,
        wait_new_event=True,
        history_event_filter_type=CLOSE_EVENT,
        next_page_token=empty.next_page_token,
        timeout=20,
    )
    assert result_of(answer.history.events[0]) == "done"


async def test_a_token_that_is_none_is_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    refused = await refusal(read(orders, workflow_id, next_page_token=b"garbage"))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names("next page token")


async def test_a_token_of_another_workflow_gives_nothing_of_it_away(
    orders: Namespace, unique: Callable[[str], str], queue: str
) -> None:
    secret, other = unique("secret"), unique("other")
    await orders.start(secret, queue)
    await orders.start(other, queue)
    page = await read(orders, secret, maximum_page_size=1)
    refused = await refusal(read(orders, other, next_page_token=page.next_page_token))
    assert refused.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("page_size", [0, 1, 2, 5, 1000])
async def test_a_workflow_tasks_history_is_the_same_as_what_is_read(
    orders: Namespace, workflow_id: str, queue: str, page_size: int
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue))
    await orders.complete_activity(await orders.poll_activity_task(queue))
    task = await orders.poll_workflow_task(queue)
    read_back = [event async for page in orders.history_pages(workflow_id, page_size=page_size) for event in page]
    assert read_back == list(task.history.events)
    assert read_back[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
    await orders.complete_workflow_task(task, complete_workflow())
