"""Queries, by hand: the two roads on which they come to a worker, and what becomes of them."""

import asyncio
from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    QueryRejectCondition,
    QueryResultType,
    WorkflowExecutionStatus,
)
from temporalio.api.errordetails.v1 import QueryFailedFailure, ResourceExhaustedFailure, WorkflowNotReadyFailure
from temporalio.api.query.v1 import WorkflowQuery, WorkflowQueryResult
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueResponse,
    QueryWorkflowRequest,
    QueryWorkflowResponse,
    RespondQueryTaskCompletedRequest,
    ShutdownWorkerRequest,
    SignalWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
)

from nexuskit.backend import limits
from tests.support.raw import Namespace, refusal
from tests.support.values import (
    application_failure,
    complete_workflow,
    duration,
    event_names,
    payloads,
    sticky_queue,
    value_of,
)

ANSWERED = QueryResultType.QUERY_RESULT_TYPE_ANSWERED
FAILED = QueryResultType.QUERY_RESULT_TYPE_FAILED


async def ask(
    orders: Namespace, workflow_id: str, *, timeout: float = 20, reject: int = 0, query: WorkflowQuery | None = None
) -> QueryWorkflowResponse:
    return await orders.service.QueryWorkflow(
        QueryWorkflowRequest(
            namespace=orders.name,
            execution=WorkflowExecution(workflow_id=workflow_id),
            query=query or WorkflowQuery(query_type="items", query_args=payloads(1)),
            query_reject_condition=QueryRejectCondition.ValueType(reject),
        ),
        timeout=timeout,
    )


def begin(orders: Namespace, workflow_id: str, **more: Any) -> "asyncio.Task[QueryWorkflowResponse]":
    return asyncio.create_task(ask(orders, workflow_id, **more))


async def answer(orders: Namespace, task: PollWorkflowTaskQueueResponse, value: Any, **more: Any) -> None:
    await orders.service.RespondQueryTaskCompleted(
        RespondQueryTaskCompletedRequest(
            namespace=orders.name,
            task_token=task.task_token,
            **(more or {"completed_type": ANSWERED, "query_result": payloads(value)}),
        )
    )


async def signal(orders: Namespace, workflow_id: str) -> None:
    execution = WorkflowExecution(workflow_id=workflow_id)
    await orders.service.SignalWorkflowExecution(
        SignalWorkflowExecutionRequest(namespace=orders.name, workflow_execution=execution, signal_name="hello")
    )


@pytest.fixture
async def waiting(orders: Namespace, workflow_id: str, queue: str) -> str:
    """The id of a workflow that has had its first turn, and waits."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    return workflow_id


async def test_a_query_of_a_workflow_that_waits_is_a_task_of_its_own(
    orders: Namespace, waiting: str, queue: str
) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    assert task.query.query_type == "items"
    assert value_of(task.query.query_args.payloads[0]) == 1
    assert (task.workflow_execution.workflow_id, task.previous_started_event_id, task.started_event_id) == (
        waiting,
        3,
        0,
    )
    assert event_names(task.history.events)[-1] == "WORKFLOW_TASK_COMPLETED"
    await answer(orders, task, "a book")
    told = await asked
    assert value_of(told.query_result.payloads[0]) == "a book"
    assert len(await orders.history(waiting)) == 4
    again = await refusal(answer(orders, task, "twice"))
    assert (again.code, again.message) == (grpc.StatusCode.NOT_FOUND, "query task not found, or already expired")


async def test_an_answer_links_to_the_workflow(
    orders: Namespace, waiting: str, queue: str, embedded_only: None
) -> None:
    """Version 1.32.1 of the real server gives no link yet."""
    asked = begin(orders, waiting)
    await answer(orders, await orders.poll_workflow_task(queue), "a book")
    link = (await asked).link.workflow
    assert (link.namespace, link.workflow_id, link.reason) == (orders.name, waiting, "Query processed")
    await terminate(orders, waiting)
    rejected = await ask(orders, waiting, reject=QueryRejectCondition.QUERY_REJECT_CONDITION_NOT_OPEN)
    assert rejected.link.workflow.reason == "Query rejected"


async def test_a_query_that_fails_says_why(orders: Namespace, waiting: str, queue: str) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    failure = application_failure("no such thing", failure_type="NoAnswer")
    await answer(orders, task, None, completed_type=FAILED, error_message="no such thing", failure=failure)
    refused = await refusal(asked)
    assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, "no such thing")
    assert refused.detail(QueryFailedFailure).failure.application_failure_info.type == "NoAnswer"


async def test_an_answer_that_is_too_long_is_a_failed_query(orders: Namespace, waiting: str, queue: str) -> None:
    for size, fits in ((2 * 1024 * 1024 - 200, True), (2 * 1024 * 1024, False)):
        asked = begin(orders, waiting)
        task = await orders.poll_workflow_task(queue)
        await answer(orders, task, "x" * size)
        if fits:
            assert len(value_of((await asked).query_result.payloads[0])) == size
        else:
            refused = await refusal(asked)
            assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
            assert refused.message == "Blob data size exceeds limit."


async def test_a_query_before_the_first_turn_waits_for_it(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    asked = begin(orders, workflow_id)
    told = asyncio.create_task(play_until(orders, queue, asked))
    assert value_of((await asked).query_result.payloads[0]) == "a book"
    await told


async def play_until(orders: Namespace, queue: str, asked: "asyncio.Task[Any]") -> None:
    """A worker that answers whatever it is asked, on either road, until one asker has his answer."""
    while not asked.done():
        task = await orders.poll_workflow_task(queue)
        if task.HasField("query"):
            await answer(orders, task, "a book")
        else:
            await orders.complete_workflow_task(task, query_results={key: results_of("a book") for key in task.queries})
        await asyncio.wait([asked], timeout=0.2)


def results_of(value: Any) -> WorkflowQueryResult:
    return WorkflowQueryResult(result_type=ANSWERED, answer=payloads(value))


async def test_a_query_goes_with_the_task_that_brings_what_came_before_it(
    orders: Namespace, waiting: str, queue: str
) -> None:
    await signal(orders, waiting)
    asked = begin(orders, waiting)
    told = asyncio.create_task(play_until(orders, queue, asked))
    assert value_of((await asked).query_result.payloads[0]) == "a book"
    await told
    assert event_names(await orders.history(waiting))[-4:] == [
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
    ]


async def test_a_query_that_comes_while_a_task_is_under_way_is_asked_after_it(
    orders: Namespace, waiting: str, queue: str
) -> None:
    await signal(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    asked = begin(orders, waiting)
    done, _ = await asyncio.wait([asked], timeout=0.2)
    assert not done
    await orders.complete_workflow_task(task)
    task = await orders.poll_workflow_task(queue)
    assert task.query.query_type == "items"
    await answer(orders, task, "a book")
    assert value_of((await asked).query_result.payloads[0]) == "a book"


async def test_so_many_queries_wait_for_a_task_and_no_more(
    orders: Namespace, waiting: str, queue: str, embedded_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real server lets one wait."""
    monkeypatch.setattr(limits, "BUFFERED_QUERIES", 2)
    await signal(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    asked = [begin(orders, waiting), begin(orders, waiting)]
    await asyncio.wait(asked, timeout=0.1)
    refused = await refusal(ask(orders, waiting))
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.message.startswith("consistent query buffer is full")
    refused.detail(ResourceExhaustedFailure)
    await orders.complete_workflow_task(task, complete_workflow())
    for _ in asked:
        await answer(orders, await orders.poll_workflow_task(queue), "a book")
    assert [value_of((await each).query_result.payloads[0]) for each in asked] == ["a book"] * 2


async def test_a_query_goes_with_the_next_task_if_there_is_one(orders: Namespace, waiting: str, queue: str) -> None:
    await signal(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    await signal(orders, waiting)
    asked = begin(orders, waiting)
    done, _ = await asyncio.wait([asked], timeout=0.2)
    assert not done
    following = await orders.complete_workflow_task(task, return_new_workflow_task=True)
    (query_id,) = following.workflow_task.queries
    assert following.workflow_task.queries[query_id].query_type == "items"
    await orders.complete_workflow_task(following.workflow_task, query_results={query_id: results_of("a book")})
    assert value_of((await asked).query_result.payloads[0]) == "a book"


async def test_a_failed_query_that_came_with_a_task_says_why(orders: Namespace, waiting: str, queue: str) -> None:
    await signal(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    await signal(orders, waiting)
    asked = begin(orders, waiting)
    done, _ = await asyncio.wait([asked], timeout=0.2)
    assert not done
    following = await orders.complete_workflow_task(task, return_new_workflow_task=True)
    (query_id,) = following.workflow_task.queries
    failure = application_failure("no such thing", failure_type="NoAnswer")
    failed = WorkflowQueryResult(result_type=FAILED, error_message="no such thing", failure=failure)
    await orders.complete_workflow_task(following.workflow_task, query_results={query_id: failed})
    refused = await refusal(asked)
    assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, "no such thing")
    assert refused.detail(QueryFailedFailure).failure.application_failure_info.type == "NoAnswer"


async def test_a_closed_workflow_is_asked_unless_the_client_does_not_want_that(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    rejected = await ask(orders, workflow_id, reject=QueryRejectCondition.QUERY_REJECT_CONDITION_NOT_OPEN)
    assert rejected.query_rejected.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED
    unclean = QueryRejectCondition.QUERY_REJECT_CONDITION_NOT_COMPLETED_CLEANLY
    asked = begin(orders, workflow_id, reject=unclean)
    task = await orders.poll_workflow_task(queue)
    assert event_names(task.history.events)[-1] == "WORKFLOW_EXECUTION_COMPLETED"
    await answer(orders, task, "a book")
    assert value_of((await asked).query_result.payloads[0]) == "a book"


async def test_a_workflow_that_was_terminated_did_not_complete_cleanly(
    orders: Namespace, workflow_id: str, waiting: str
) -> None:
    await terminate(orders, workflow_id)
    unclean = QueryRejectCondition.QUERY_REJECT_CONDITION_NOT_COMPLETED_CLEANLY
    rejected = await ask(orders, workflow_id, reject=unclean)
    assert rejected.query_rejected.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED


async def terminate(orders: Namespace, workflow_id: str) -> None:
    execution = WorkflowExecution(workflow_id=workflow_id)
    await orders.service.TerminateWorkflowExecution(
        TerminateWorkflowExecutionRequest(namespace=orders.name, workflow_execution=execution)
    )


async def test_a_workflow_that_was_closed_before_its_first_turn_cannot_be_asked(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await terminate(orders, workflow_id)
    refused = await refusal(ask(orders, workflow_id))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Workflow execution closed before WorkflowTaskStarted event",
    )
    refused.detail(WorkflowNotReadyFailure)


async def test_a_workflow_that_is_to_begin_later_than_the_client_waits_is_not_asked(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, workflow_start_delay=duration(60))
    refused = await refusal(ask(orders, workflow_id, timeout=5))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Workflow task is not scheduled yet.",
    )
    refused.detail(WorkflowNotReadyFailure)


async def test_a_workflow_whose_task_keeps_failing_is_not_asked(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    for _ in range(2):
        task = await orders.poll_workflow_task(queue)
        await orders.fail_workflow_task(task)
    refused = await refusal(ask(orders, workflow_id))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Unable to query workflow due to Workflow Task in failed state.",
    )
    refused.detail(WorkflowNotReadyFailure)


async def test_a_query_that_no_worker_takes_ends_with_the_clients_patience(orders: Namespace, waiting: str) -> None:
    refused = await refusal(ask(orders, waiting, timeout=1.5))
    assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_the_worker_that_has_the_workflow_is_asked_without_its_history(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    own = f"own-{queue}"
    await orders.complete_workflow_task(task, sticky=sticky_queue(own, queue))
    polling = await orders.begin_sticky_poll(own, queue)
    asked = begin(orders, workflow_id)
    task = await polling
    assert task.query.query_type == "items"
    assert not task.history.events
    await answer(orders, task, "a book")
    assert value_of((await asked).query_result.payloads[0]) == "a book"


async def test_when_that_worker_is_gone_any_other_is_asked_with_all_of_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    own = f"own-{queue}"
    await orders.complete_workflow_task(task, sticky=sticky_queue(own, queue))
    asked = begin(orders, workflow_id)
    task = await orders.poll_workflow_task(queue)
    assert len(task.history.events) == 4
    await answer(orders, task, "a book")
    assert value_of((await asked).query_result.payloads[0]) == "a book"


async def test_a_query_leaves_the_queue_of_a_worker_that_shuts_down(
    orders: Namespace, workflow_id: str, queue: str, embedded_only: None
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    own = f"own-{queue}"
    await orders.complete_workflow_task(task, sticky=sticky_queue(own, queue, timeout=60))
    polling = await orders.begin_sticky_poll(own, queue)
    polling.cancel()
    asked = begin(orders, workflow_id)
    await asyncio.wait([asked], timeout=0.1)
    await orders.service.ShutdownWorker(ShutdownWorkerRequest(namespace=orders.name, sticky_task_queue=own))
    task = await orders.poll_workflow_task(queue)
    await answer(orders, task, "a book")
    assert value_of((await asked).query_result.payloads[0]) == "a book"


async def test_queries_that_wait_for_a_task_fit_into_one_message(
    orders: Namespace, waiting: str, queue: str, embedded_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BUFFERED_QUERIES_SIZE", 200)
    await signal(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    large = WorkflowQuery(query_type="items", query_args=payloads("x" * 80))
    asked = begin(orders, waiting, query=large)
    await asyncio.wait([asked], timeout=0.1)
    refused = await refusal(ask(orders, waiting, query=large))
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.message.startswith("consistent query buffer is full")
    await orders.complete_workflow_task(task, complete_workflow())
    await answer(orders, await orders.poll_workflow_task(queue), "a book")
    assert value_of((await asked).query_result.payloads[0]) == "a book"


@pytest.mark.parametrize(
    ("query", "says"),
    [(WorkflowQuery(), "QueryType is not set on request."), (WorkflowQuery(query_type="x"), "")],
)
async def test_a_query_without_a_type_or_workflow_is_refused(
    orders: Namespace, waiting: str, query: WorkflowQuery, says: str
) -> None:
    if says:
        refused = await refusal(ask(orders, waiting, query=query))
        assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, says)
    else:
        refused = await refusal(ask(orders, "nobody", query=query))
        assert refused.code == grpc.StatusCode.NOT_FOUND
