"""Eager start: a client that has a worker of its own gets the first workflow task with the answer to its start."""

from uuid import uuid4

from temporalio.api.common.v1 import WorkerVersionStamp

from tests.support.raw import Namespace
from tests.support.values import complete_workflow, duration, event_names, start_timer


async def test_the_first_task_comes_with_the_answer_and_to_nobody_else(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request = orders.start_request(workflow_id, queue, request_eager_execution=True)
    answer = await orders.service.StartWorkflowExecution(request)
    task = answer.eager_workflow_task
    assert task.workflow_execution.run_id == answer.run_id
    assert (task.attempt, task.started_event_id, task.previous_started_event_id) == (1, 3, 0)
    assert event_names(task.history.events) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    assert task.history.events[0].workflow_execution_started_event_attributes.eager_execution_accepted
    await orders.start(workflow_id + "-other", queue)
    other = await orders.poll_workflow_task(queue)
    assert other.workflow_execution.workflow_id == workflow_id + "-other"
    await orders.complete_workflow_task(task, complete_workflow("done"))
    assert event_names(await orders.history(workflow_id))[-1] == "WORKFLOW_EXECUTION_COMPLETED"


async def test_who_does_not_ask_gets_no_task(orders: Namespace, workflow_id: str, queue: str) -> None:
    answer = await orders.service.StartWorkflowExecution(orders.start_request(workflow_id, queue))
    assert not answer.HasField("eager_workflow_task")
    started = (await orders.history(workflow_id))[0].workflow_execution_started_event_attributes
    assert not started.eager_execution_accepted


async def test_a_workflow_that_waits_before_it_starts_is_not_started_eagerly(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request = orders.start_request(
        workflow_id, queue, request_eager_execution=True, workflow_start_delay=duration(3600)
    )
    answer = await orders.service.StartWorkflowExecution(request)
    assert not answer.HasField("eager_workflow_task")
    assert event_names(await orders.history(workflow_id)) == ["WORKFLOW_EXECUTION_STARTED"]


async def test_the_build_of_the_worker_stands_in_history(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    stamp = WorkerVersionStamp(build_id="1.0")
    await orders.complete_workflow_task(task, complete_workflow(), worker_version_stamp=stamp)
    completed = (await orders.history(workflow_id))[3].workflow_task_completed_event_attributes
    assert completed.worker_version.build_id == "1.0"


async def test_a_repeated_start_gets_the_first_task_again_as_long_as_it_is_under_way(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request = {"request_eager_execution": True, "request_id": str(uuid4())}
    first = await orders.start_whole(workflow_id, queue, **request)
    again = await orders.start_whole(workflow_id, queue, **request)
    assert (again.run_id, again.started) == (first.run_id, True)
    assert again.eager_workflow_task.history == first.eager_workflow_task.history
    assert again.eager_workflow_task.started_event_id == 3
    await orders.complete_workflow_task(again.eager_workflow_task, start_timer("t", 3600))
    over = await orders.start_whole(workflow_id, queue, **request)
    assert over.run_id == first.run_id
    assert not over.HasField("eager_workflow_task")
