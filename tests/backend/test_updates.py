"""Updates, by hand: what is on the wire, and what history holds afterwards."""

import asyncio
import contextlib
from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.errordetails.v1 import ResourceExhaustedFailure, WorkflowNotReadyFailure
from temporalio.api.protocol.v1 import Message
from temporalio.api.update.v1 import Input, Meta, Request, UpdateRef, WaitPolicy
from temporalio.api.workflowservice.v1 import (
    PollWorkflowExecutionUpdateRequest,
    PollWorkflowTaskQueueResponse,
    SignalWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
    UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
)

from nexuskit.backend import limits
from tests.support.messages import acceptance, place_of, rejection, request_of, response
from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import complete_workflow, event_names, payload, payloads, start_timer, sticky_queue, value_of

ADMITTED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED
ACCEPTED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
COMPLETED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED

FIRST_TURN = [
    "WORKFLOW_EXECUTION_STARTED",
    "WORKFLOW_TASK_SCHEDULED",
    "WORKFLOW_TASK_STARTED",
    "WORKFLOW_TASK_COMPLETED",
]
TURN = ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_COMPLETED"]


def update_request(
    orders: Namespace, workflow_id: str, update_id: str = "one", stage: int = COMPLETED, **more: Any
) -> UpdateWorkflowExecutionRequest:
    request = more.pop("request", None) or Request(
        meta=Meta(update_id=update_id, identity=IDENTITY), input=Input(name="add", args=payloads("a book"))
    )
    return UpdateWorkflowExecutionRequest(
        namespace=orders.name,
        workflow_execution=WorkflowExecution(workflow_id=workflow_id),
        wait_policy=WaitPolicy(lifecycle_stage=stage),
        request=request,
        **more,
    )


def begin(
    orders: Namespace, workflow_id: str, update_id: str = "one", stage: int = COMPLETED, **more: Any
) -> "asyncio.Task[UpdateWorkflowExecutionResponse]":
    """Asks for an update; the answer comes when a worker has been played."""

    async def ask() -> UpdateWorkflowExecutionResponse:
        return await orders.service.UpdateWorkflowExecution(
            update_request(orders, workflow_id, update_id, stage, **more)
        )

    return asyncio.create_task(ask())


def poll(orders: Namespace, workflow_id: str, update_id: str = "one", stage: int = 0) -> Any:
    reference = UpdateRef(workflow_execution=WorkflowExecution(workflow_id=workflow_id), update_id=update_id)
    return orders.service.PollWorkflowExecutionUpdate(
        PollWorkflowExecutionUpdateRequest(
            namespace=orders.name,
            update_ref=reference,
            wait_policy=WaitPolicy(lifecycle_stage=stage),
        )
    )


@pytest.fixture
async def waiting(orders: Namespace, workflow_id: str, queue: str) -> str:
    """The id of a workflow that has had its first turn, and waits."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    return workflow_id


async def names(orders: Namespace, workflow_id: str) -> list[str]:
    return event_names(await orders.history(workflow_id))


async def accept_and_complete(orders: Namespace, task: PollWorkflowTaskQueueResponse) -> None:
    (message,) = task.messages
    update_id = message.protocol_instance_id
    accepted, done = acceptance(message), response(update_id)
    await orders.complete_workflow_task(task, place_of(accepted), place_of(done), messages=[accepted, done])


async def test_an_update_comes_to_the_worker_as_a_message_with_a_task_that_history_does_not_hold(
    orders: Namespace, waiting: str, queue: str
) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    (message,) = task.messages
    assert (message.id, message.protocol_instance_id, message.event_id) == ("one/request", "one", 5)
    request = request_of(message)
    assert request.input.name == "add"
    assert request.meta.identity == IDENTITY
    assert event_names(task.history.events) == [*FIRST_TURN, *TURN[:2]]
    assert (task.previous_started_event_id, task.started_event_id, task.attempt) == (3, 6, 1)
    await accept_and_complete(orders, task)
    answer = await asked
    assert answer.stage == COMPLETED
    assert value_of(answer.outcome.success.payloads[0]) == "done"
    assert answer.update_ref.update_id == "one"
    assert answer.update_ref.workflow_execution.workflow_id == waiting
    assert answer.link.workflow_event.request_id_ref.event_type == (
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
    )
    history = await orders.history(waiting)
    assert event_names(history) == [
        *FIRST_TURN,
        *TURN,
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
    ]
    accepted = history[-2].workflow_execution_update_accepted_event_attributes
    assert accepted.protocol_instance_id == "one"
    assert accepted.accepted_request_message_id == "one/request"
    assert accepted.accepted_request_sequencing_event_id == 5
    assert accepted.accepted_request.input.name == "add"
    completed = history[-1].workflow_execution_update_completed_event_attributes
    assert completed.accepted_event_id == history[-2].event_id
    assert completed.meta.update_id == "one"


async def test_a_rejected_update_leaves_nothing_and_the_worker_is_told_where_history_ends(
    orders: Namespace, waiting: str, queue: str
) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    answer = await orders.complete_workflow_task(task, messages=[rejection(task.messages[0], "too dear")])
    assert answer.reset_history_event_id == 3
    rejected = await asked
    assert rejected.stage == COMPLETED
    assert rejected.outcome.failure.message == "too dear"
    assert rejected.link.workflow.reason == "Update rejected"
    assert await names(orders, waiting) == FIRST_TURN
    refused = await refusal(poll(orders, waiting))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_an_update_is_answered_as_soon_as_it_is_accepted_where_that_is_wanted(
    orders: Namespace, waiting: str, queue: str
) -> None:
    asked = begin(orders, waiting, stage=ACCEPTED)
    task = await orders.poll_workflow_task(queue)
    accepted = acceptance(task.messages[0])
    await orders.complete_workflow_task(task, place_of(accepted), start_timer("t", 0.05), messages=[accepted])
    answer = await asked
    assert answer.stage == ACCEPTED
    assert not answer.HasField("outcome")
    assert (await poll(orders, waiting)).stage == ACCEPTED
    polled = asyncio.create_task(_await(poll(orders, waiting, stage=COMPLETED)))
    task = await orders.poll_workflow_task(queue)
    done = response("one")
    await orders.complete_workflow_task(task, place_of(done), messages=[done])
    outcome = await polled
    assert outcome.stage == COMPLETED
    assert value_of(outcome.outcome.success.payloads[0]) == "done"


async def until_admitted(orders: Namespace, workflow_id: str, update_id: str) -> None:
    """Waits until the server has the update: asking for it was not answered yet."""
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            assert (await poll(orders, workflow_id, update_id)).stage == ADMITTED
            return


async def signal(orders: Namespace, workflow_id: str) -> None:
    """Something else happens to the workflow."""
    await orders.service.SignalWorkflowExecution(
        SignalWorkflowExecutionRequest(
            namespace=orders.name, workflow_execution=WorkflowExecution(workflow_id=workflow_id), signal_name="hello"
        )
    )


async def terminate(orders: Namespace, workflow_id: str) -> None:
    await orders.service.TerminateWorkflowExecution(
        TerminateWorkflowExecutionRequest(
            namespace=orders.name, workflow_execution=WorkflowExecution(workflow_id=workflow_id)
        )
    )


async def _await(call: Any) -> Any:
    return await call


async def test_the_same_update_id_is_brought_once_and_answered_to_all_who_ask(
    orders: Namespace, waiting: str, queue: str
) -> None:
    asked = [begin(orders, waiting), begin(orders, waiting)]
    task = await orders.poll_workflow_task(queue)
    assert len(task.messages) == 1
    await accept_and_complete(orders, task)
    assert {(await each).stage for each in asked} == {COMPLETED}
    again = await begin(orders, waiting)
    assert value_of(again.outcome.success.payloads[0]) == "done"
    assert (await names(orders, waiting)).count("WORKFLOW_EXECUTION_UPDATE_ACCEPTED") == 1


async def test_an_update_that_comes_before_the_first_task_goes_with_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    asked = begin(orders, workflow_id)
    await asyncio.sleep(0)
    refused = await refusal(poll(orders, workflow_id, "another"))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    task = await orders.poll_workflow_task(queue)
    if not task.messages:  # it was a little later than our poll
        answer = await orders.complete_workflow_task(task, return_new_workflow_task=True)
        task = answer.workflow_task if answer.workflow_task.task_token else await orders.poll_workflow_task(queue)
    await accept_and_complete(orders, task)
    assert (await asked).stage == COMPLETED


async def test_a_worker_that_takes_the_next_task_gets_what_came_meanwhile(
    orders: Namespace, waiting: str, queue: str
) -> None:
    first = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    second = begin(orders, waiting, "two")
    await until_admitted(orders, waiting, "two")
    answer = await orders.complete_workflow_task(
        task, messages=[rejection(task.messages[0])], return_new_workflow_task=True
    )
    assert answer.reset_history_event_id == 3
    assert [message.protocol_instance_id for message in answer.workflow_task.messages] == ["two"]
    assert (await first).outcome.failure.message == "no"
    await accept_and_complete(orders, answer.workflow_task)
    assert (await second).stage == COMPLETED
    assert await names(orders, waiting) == [
        *FIRST_TURN,
        *TURN,
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
    ]


async def test_a_signal_makes_the_speculative_task_a_normal_one(orders: Namespace, waiting: str, queue: str) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    await signal(orders, waiting)
    assert await names(orders, waiting) == [*FIRST_TURN, *TURN[:2]]
    await orders.complete_workflow_task(task, messages=[rejection(task.messages[0])])
    assert (await asked).outcome.failure.message == "no"
    after = [*FIRST_TURN, *TURN, "WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
    assert await names(orders, waiting) == after


async def test_a_signal_makes_a_speculative_task_that_nobody_has_a_normal_one(
    orders: Namespace, waiting: str, queue: str
) -> None:
    asked = begin(orders, waiting)
    await until_admitted(orders, waiting, "one")
    await signal(orders, waiting)
    assert await names(orders, waiting) == [*FIRST_TURN, "WORKFLOW_TASK_SCHEDULED", "WORKFLOW_EXECUTION_SIGNALED"]
    task = await orders.poll_workflow_task(queue)
    assert event_names(task.history.events)[-3:] == [
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_STARTED",
    ]
    await accept_and_complete(orders, task)
    assert (await asked).stage == COMPLETED


async def test_a_failed_speculative_task_is_in_history_and_the_update_comes_again(
    orders: Namespace, waiting: str, queue: str
) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    await orders.fail_workflow_task(task)
    task = await orders.poll_workflow_task(queue)
    assert task.attempt == 2
    await accept_and_complete(orders, task)
    assert (await asked).stage == COMPLETED
    assert await names(orders, waiting) == [
        *FIRST_TURN,
        *TURN[:2],
        "WORKFLOW_TASK_FAILED",
        *TURN,
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
    ]


async def test_a_failed_task_of_a_worker_with_the_workflow_in_its_cache_does_not_count(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    own = f"own-{queue}"
    polling = await orders.begin_sticky_poll(own, queue)
    await orders.complete_workflow_task(task, start_timer("t", 0.01), sticky=sticky_queue(own, queue))
    task = await polling
    await orders.fail_workflow_task(task)
    task = await orders.poll_workflow_task(queue)
    assert task.attempt == 1
    assert event_names(task.history.events)[-3:] == ["WORKFLOW_TASK_FAILED", *TURN[:2]]


async def test_a_message_that_is_there_twice_fails_the_task(orders: Namespace, waiting: str, queue: str) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    accepted, done = acceptance(task.messages[0]), response("one")
    messages = [accepted, done, accepted, done]
    refused = await refusal(orders.complete_workflow_task(task, place_of(accepted), place_of(done), messages=messages))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    says = "invalid state transition attempted for Update one: received *update.Acceptance message while in state"
    assert refused.message.startswith(f"BadUpdateWorkflowExecutionMessage: {says} ")
    assert (await refusal(asked)).code == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_message_without_a_body_is_refused_and_the_task_stays(
    orders: Namespace, waiting: str, queue: str
) -> None:
    await orders.signal(waiting, "wake")
    task = await orders.poll_workflow_task(queue)
    empty = Message(id="empty", protocol_instance_id="one")
    refused = await refusal(orders.complete_workflow_task(task, messages=[empty]))
    assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, "nil message body")
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_wrong_message_fails_the_task(orders: Namespace, waiting: str, queue: str) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, messages=[response("one")]))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message.startswith("BadUpdateWorkflowExecutionMessage: invalid state transition attempted")
    told = await refusal(asked)
    assert told.code == grpc.StatusCode.FAILED_PRECONDITION
    told.detail(WorkflowNotReadyFailure)
    assert "WORKFLOW_TASK_FAILED" in await names(orders, waiting)


async def test_an_update_that_the_worker_passes_over_is_rejected(orders: Namespace, waiting: str, queue: str) -> None:
    asked = begin(orders, waiting)
    await orders.run_workflow_task(queue)
    assert (await asked).outcome.failure.application_failure_info.type == "UnprocessedUpdate"


async def test_a_run_that_ends_takes_its_updates_along(orders: Namespace, waiting: str, queue: str) -> None:
    accepted = begin(orders, waiting, stage=ACCEPTED)
    task = await orders.poll_workflow_task(queue)
    message = acceptance(task.messages[0])
    await orders.complete_workflow_task(task, place_of(message), messages=[message])
    assert (await accepted).stage == ACCEPTED
    admitted = begin(orders, waiting, "two")
    task = await orders.poll_workflow_task(queue)
    assert task.messages
    await terminate(orders, waiting)
    told = await refusal(admitted)
    assert (told.code, told.message) == (
        grpc.StatusCode.NOT_FOUND,
        "workflow update was aborted by closing workflow",
    )
    failed = await begin(orders, waiting)
    assert failed.outcome.failure.application_failure_info.type == "AcceptedUpdateCompletedWorkflow"
    too_late = await refusal(begin(orders, waiting, "three"))
    assert (too_late.code, too_late.message) == (
        grpc.StatusCode.NOT_FOUND,
        "workflow execution already completed",
    )


async def test_a_completed_update_is_found_when_the_workflow_is_closed(
    orders: Namespace, waiting: str, queue: str
) -> None:
    asked = begin(orders, waiting)
    task = await orders.poll_workflow_task(queue)
    accepted, done = acceptance(task.messages[0]), response("one")
    await orders.complete_workflow_task(
        task, place_of(accepted), place_of(done), complete_workflow(), messages=[accepted, done]
    )
    assert value_of((await asked).outcome.success.payloads[0]) == "done"
    assert value_of((await poll(orders, waiting)).outcome.success.payloads[0]) == "done"
    assert value_of((await begin(orders, waiting)).outcome.success.payloads[0]) == "done"


async def test_at_most_ten_updates_are_in_flight(orders: Namespace, waiting: str, queue: str) -> None:
    asked = [begin(orders, waiting, str(number)) for number in range(10)]
    for number in range(10):
        await until_admitted(orders, waiting, str(number))
    refused = await refusal(begin(orders, waiting, "one too many"))
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.message == "limit on number of concurrent in-flight updates has been reached (10)"
    refused.detail(ResourceExhaustedFailure)
    await terminate(orders, waiting)
    await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"request": Request(input=Input(name="add"))}, "INVALID_ARGUMENT", "Update meta is not set on request."),
        ({"request": Request(meta=Meta(update_id="x"))}, "INVALID_ARGUMENT", "Update input is not set on request."),
        (
            {"request": Request(meta=Meta(update_id="x"), input=Input())},
            "INVALID_ARGUMENT",
            "Update name is not set on request.",
        ),
        (
            {"request": Request(meta=Meta(update_id="x" * 1001), input=Input(name="add"))},
            "INVALID_ARGUMENT",
            "UpdateId length exceeds limit",
        ),
        ({"stage": ADMITTED}, "PERMISSION_DENIED", "waiting on update admitted is not supported"),
        ({"first_execution_run_id": "another"}, "NOT_FOUND", "workflow execution not found"),
    ],
)
async def test_a_request_that_cannot_be_is_refused(
    orders: Namespace, waiting: str, change: dict[str, Any], code: str, says: str
) -> None:
    refused = await refusal(begin(orders, waiting, **change))
    assert refused.code.name == code
    assert says in refused.message


@pytest.mark.usefixtures("embedded_only")  # a real server lets it in, and finds out when a worker has it
@pytest.mark.parametrize("more", [0, 1])
async def test_a_request_is_as_large_as_a_payload_may_be(
    orders: Namespace, waiting: str, queue: str, more: int
) -> None:
    request = Request(meta=Meta(update_id="large"), input=Input(name="add", args=payloads("")))
    argument = request.input.args.payloads[0]
    argument.data = b"x" * (limits.PAYLOAD_SIZE - 1000)
    argument.data += b"x" * (limits.PAYLOAD_SIZE - request.ByteSize() + more)
    asked = begin(orders, waiting, request=request)
    if more:
        refused = await refusal(asked)
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.message.startswith("Blob data size exceeds limit. UpdateWorkflowExecution.Request")
    else:
        await orders.complete_workflow_task(await orders.poll_workflow_task(queue), complete_workflow())
        await refusal(asked)  # the workflow is closed before it is accepted


async def test_an_update_without_an_id_is_given_one(orders: Namespace, waiting: str, queue: str) -> None:
    asked = begin(orders, waiting, "")
    task = await orders.poll_workflow_task(queue)
    await accept_and_complete(orders, task)
    assert len((await asked).update_ref.update_id) == 36


async def test_headers_and_arguments_come_as_they_were_sent(orders: Namespace, waiting: str, queue: str) -> None:
    request = Request(meta=Meta(update_id="one"), input=Input(name="add", args=payloads(1, "two")), request_id="r")
    request.input.header.fields["trace"].CopyFrom(payload("abc"))
    asked = begin(orders, waiting, request=request)
    task = await orders.poll_workflow_task(queue)
    assert request_of(task.messages[0]) == request
    await accept_and_complete(orders, task)
    answer = await asked
    assert answer.link.workflow_event.request_id_ref.request_id == "r"
    history = await orders.history(waiting)
    assert history[-2].workflow_execution_update_accepted_event_attributes.accepted_request == request
