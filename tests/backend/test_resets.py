"""Resets: a workflow goes on from an earlier workflow task, in a run of its own."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import Link, WorkflowExecution
from temporalio.api.enums.v1 import (
    EventType,
    ResetReapplyExcludeType,
    ResetReapplyType,
    UpdateAdmittedEventOrigin,
    UpdateWorkflowExecutionLifecycleStage,
    WorkflowExecutionStatus,
    WorkflowIdReusePolicy,
    WorkflowTaskFailedCause,
)
from temporalio.api.history.v1 import ChildWorkflowExecutionStartedEventAttributes, HistoryEvent
from temporalio.api.protocol.v1 import Message
from temporalio.api.update.v1 import Input, Meta, Request, UpdateRef, WaitPolicy
from temporalio.api.workflow.v1 import PostResetOperation
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryReverseRequest,
    PollWorkflowExecutionUpdateRequest,
    ResetWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest,
    UpdateWorkflowExecutionRequest,
)

from tests.backend.conftest import Endpoint
from tests.support.messages import acceptance, response
from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import (
    application_failure,
    complete_workflow,
    event_names,
    fail_workflow,
    payloads,
    schedule_activity,
    schedule_operation,
    start_child,
    start_timer,
    sync_result,
    value_of,
)

STATUS = WorkflowExecutionStatus
COMPLETED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED


async def reset(orders: Namespace, workflow_id: str, run_id: str, point: int, **more: Any) -> str:
    request = ResetWorkflowExecutionRequest(
        namespace=orders.name,
        workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        reason="a mistake",
        workflow_task_finish_event_id=point,
        identity=IDENTITY,
        **{"request_id": str(uuid.uuid4()), **more},
    )
    return (await orders.service.ResetWorkflowExecution(request)).run_id


async def signal(orders: Namespace, workflow_id: str, name: str) -> None:
    request = SignalWorkflowExecutionRequest(
        namespace=orders.name,
        workflow_execution=WorkflowExecution(workflow_id=workflow_id),
        signal_name=name,
        input=payloads(name),
        identity=IDENTITY,
        request_id=str(uuid.uuid4()),
    )
    await orders.service.SignalWorkflowExecution(request)


async def test_a_running_workflow_goes_on_from_an_earlier_task_and_its_run_is_terminated(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("t", 3600))
    second = await reset(orders, workflow_id, first, 4)
    assert second != first
    described = await orders.describe(workflow_id, run_id=first)
    assert described.workflow_execution_info.status == STATUS.WORKFLOW_EXECUTION_STATUS_TERMINATED
    assert described.workflow_extended_info.reset_run_id == second
    ended = (await orders.history(workflow_id, run_id=first))[-1].workflow_execution_terminated_event_attributes
    assert (ended.reason, ended.identity) == ("a mistake", "history-resetter")
    events = await orders.history(workflow_id, run_id=second)
    assert event_names(events) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    failed = events[3].workflow_task_failed_event_attributes
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
    assert (failed.base_run_id, failed.new_run_id) == (first, second)
    assert failed.failure.HasField("reset_workflow_failure_info")
    assert (failed.failure.message, failed.failure.source) == ("a mistake", "")
    assert (await orders.describe(workflow_id)).workflow_extended_info.HasField("last_reset_time")
    started = events[0].workflow_execution_started_event_attributes
    assert started.original_execution_run_id == first
    task = await orders.run_workflow_task(queue, complete_workflow("again"))
    assert task.workflow_execution.run_id == second
    assert (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id == second


async def test_a_closed_workflow_is_reset_and_stays_as_it_closed(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow("done"))
    second = await reset(orders, workflow_id, first, 4)
    status = (await orders.describe(workflow_id, run_id=first)).workflow_execution_info.status
    assert status == STATUS.WORKFLOW_EXECUTION_STATUS_COMPLETED
    status = (await orders.describe(workflow_id, run_id=second)).workflow_execution_info.status
    assert status == STATUS.WORKFLOW_EXECUTION_STATUS_RUNNING


async def test_what_was_pending_at_the_point_is_pending_again(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("a", queue), start_timer("t", 0.01))
    await orders.poll_activity_task(queue)
    await orders.run_workflow_task(queue)  # the timer has fired
    second = await reset(orders, workflow_id, first, 9)
    (pending,) = (await orders.describe(workflow_id, run_id=second)).pending_activities
    assert (pending.activity_id, pending.attempt) == ("a", 1)
    task = await orders.poll_activity_task(queue)
    assert task.workflow_execution.run_id == second
    assert task.attempt == 1


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["late"]),
        ({"reset_reapply_type": ResetReapplyType.RESET_REAPPLY_TYPE_NONE}, []),
        ({"reset_reapply_exclude_types": [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL]}, []),
        ({"reset_reapply_exclude_types": [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE]}, ["late"]),
    ],
    ids=["all", "none", "no signals", "no updates"],
)
async def test_signals_after_the_point_are_given_to_the_new_run_unless_they_are_excluded(
    orders: Namespace, workflow_id: str, queue: str, options: Any, names: list[str]
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    await signal(orders, workflow_id, "late")
    second = await reset(orders, workflow_id, first, 4, **options)
    events = await orders.history(workflow_id, run_id=second)
    signals = [event.workflow_execution_signaled_event_attributes.signal_name for event in events]
    assert [name for name in signals if name] == names
    assert event_names(events)[-1] == "WORKFLOW_TASK_SCHEDULED"


@pytest.mark.parametrize("excluded", [False, True])
async def test_a_signal_that_waits_for_the_task_in_flight_is_given_to_the_new_run_unless_it_is_excluded(
    orders: Namespace, workflow_id: str, queue: str, excluded: bool
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    await signal(orders, workflow_id, "one")
    await orders.poll_workflow_task(queue)
    await signal(orders, workflow_id, "two")
    types = [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL] if excluded else []
    second = await reset(orders, workflow_id, first, 4, reset_reapply_exclude_types=types)
    for run_id, sent in ((first, ["one", "two"]), (second, [] if excluded else ["one", "two"])):
        events = await orders.history(workflow_id, run_id=run_id)
        came = [event.workflow_execution_signaled_event_attributes for event in events if _is_signal(event)]
        assert [each.signal_name for each in came] == sent
    task = await orders.run_workflow_task(queue, complete_workflow())
    assert [event.event_id for event in task.history.events] == list(range(1, len(task.history.events) + 1))


def _is_signal(event: HistoryEvent) -> bool:
    return event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED


@pytest.mark.usefixtures("embedded_only")  # the API has it, the real server refuses it
async def test_a_signal_can_be_sent_with_the_reset(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    sent = PostResetOperation.SignalWorkflow(signal_name="go-on", input=payloads("x"), links=[Link()])
    del sent.links[:]
    second = await reset(
        orders, workflow_id, first, 4, post_reset_operations=[PostResetOperation(signal_workflow=sent)]
    )
    events = await orders.history(workflow_id, run_id=second)
    assert event_names(events)[-2:] == ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]


@pytest.mark.parametrize("point", [0, 1, 100])
async def test_a_point_outside_of_history_is_refused(
    orders: Namespace, workflow_id: str, queue: str, point: int
) -> None:
    first = await orders.start(workflow_id, queue)
    refused = await refusal(reset(orders, workflow_id, first, point))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message == "Workflow task finish ID must be > 1 && <= workflow last event ID."


async def updated(orders: Namespace, workflow_id: str, queue: str) -> str:
    """A run that had the update `u` after its first workflow task."""
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    caller = asyncio.ensure_future(orders.service.UpdateWorkflowExecution(update_request(orders, workflow_id)))
    task = await orders.poll_workflow_task(queue)
    messages = [acceptance(task.messages[0]), response("u")]
    await orders.complete_workflow_task(task, messages=messages)
    assert value_of((await caller).outcome.success.payloads[0]) == "done"
    return first


def update_request(orders: Namespace, workflow_id: str) -> UpdateWorkflowExecutionRequest:
    return UpdateWorkflowExecutionRequest(
        namespace=orders.name,
        workflow_execution=WorkflowExecution(workflow_id=workflow_id),
        request=Request(meta=Meta(update_id="u"), input=Input(name="change", args=payloads(5))),
    )


def poll_request(orders: Namespace, workflow_id: str) -> PollWorkflowExecutionUpdateRequest:
    reference = UpdateRef(workflow_execution=WorkflowExecution(workflow_id=workflow_id), update_id="u")
    return PollWorkflowExecutionUpdateRequest(
        namespace=orders.name, update_ref=reference, wait_policy=WaitPolicy(lifecycle_stage=COMPLETED)
    )


async def test_updates_after_the_point_are_admitted_by_events_and_the_worker_accepts_them_anew(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await updated(orders, workflow_id, queue)
    second = await reset(orders, workflow_id, first, 4)
    # The same call again finds the update that came with the reset.
    caller = asyncio.ensure_future(orders.service.UpdateWorkflowExecution(update_request(orders, workflow_id)))
    task = await orders.poll_workflow_task(queue)
    assert event_names(task.history.events)[3:] == [
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_EXECUTION_UPDATE_ADMITTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    admitted = task.history.events[4].workflow_execution_update_admitted_event_attributes
    assert admitted.origin == UpdateAdmittedEventOrigin.UPDATE_ADMITTED_EVENT_ORIGIN_REAPPLY
    assert (admitted.request.meta.update_id, value_of(admitted.request.input.args.payloads[0])) == ("u", 5)
    assert not task.messages  # the event tells of it
    message = Message(id="u/request", protocol_instance_id="u", event_id=5)
    message.body.Pack(admitted.request)
    await orders.complete_workflow_task(task, messages=[acceptance(message), response("u", b'"again"')])
    assert value_of((await caller).outcome.success.payloads[0]) == "again"
    events = await orders.history(workflow_id, run_id=second)
    assert event_names(events)[-2:] == ["WORKFLOW_EXECUTION_UPDATE_ACCEPTED", "WORKFLOW_EXECUTION_UPDATE_COMPLETED"]
    assert not events[-2].workflow_execution_update_accepted_event_attributes.HasField("accepted_request")


@pytest.mark.parametrize(
    "options",
    [
        {"reset_reapply_type": ResetReapplyType.RESET_REAPPLY_TYPE_NONE},
        {"reset_reapply_type": ResetReapplyType.RESET_REAPPLY_TYPE_SIGNAL},
        {"reset_reapply_exclude_types": [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE]},
    ],
    ids=["none", "signals only", "no updates"],
)
async def test_updates_after_the_point_are_left_out_if_they_are_excluded(
    orders: Namespace, workflow_id: str, queue: str, options: Any
) -> None:
    first = await updated(orders, workflow_id, queue)
    await reset(orders, workflow_id, first, 4, **options)
    assert event_names(await orders.history(workflow_id))[4:] == ["WORKFLOW_TASK_SCHEDULED"]


async def test_an_update_that_came_with_a_reset_is_given_up_with_its_run(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await updated(orders, workflow_id, queue)
    await reset(orders, workflow_id, first, 4)
    caller = asyncio.ensure_future(
        refusal(orders.service.PollWorkflowExecutionUpdate(poll_request(orders, workflow_id)))
    )
    await orders.run_workflow_task(queue, complete_workflow("done"))
    refused = await caller
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.message == "workflow update was aborted by closing workflow"


async def test_a_worker_that_passes_over_an_update_that_came_with_a_reset_rejects_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await updated(orders, workflow_id, queue)
    await reset(orders, workflow_id, first, 4)
    task = await orders.poll_workflow_task(queue)
    caller = asyncio.ensure_future(orders.service.UpdateWorkflowExecution(update_request(orders, workflow_id)))
    await orders.describe(workflow_id)
    await orders.complete_workflow_task(task)
    assert (await caller).outcome.failure.application_failure_info.type == "UnprocessedUpdate"


@pytest.mark.parametrize(
    ("close", "name"),
    [
        (complete_workflow("grown"), "CHILD_WORKFLOW_EXECUTION_COMPLETED"),
        (fail_workflow(application_failure()), "CHILD_WORKFLOW_EXECUTION_FAILED"),
    ],
    ids=["completed", "failed"],
)
async def test_a_child_that_closed_after_the_point_has_closed_for_the_new_run_too(
    orders: Namespace, workflow_id: str, queue: str, close: Any, name: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_child(f"{workflow_id}-child", f"{queue}-child"))
    await orders.run_workflow_task(queue)  # it has started
    await orders.run_workflow_task(f"{queue}-child", close)
    await orders.run_workflow_task(queue)  # it has closed
    second = await reset(orders, workflow_id, first, 9)
    events = await orders.history(workflow_id, run_id=second)
    assert event_names(events)[8:] == ["WORKFLOW_TASK_FAILED", name, "WORKFLOW_TASK_SCHEDULED"]
    there = (await orders.history(workflow_id, run_id=first))[9]
    assert event_names([there]) == [name]
    field = there.WhichOneof("attributes") or ""
    assert getattr(events[9], field) == getattr(there, field)
    assert not (await orders.describe(workflow_id)).pending_children


async def test_a_child_whose_start_waits_for_the_task_in_flight_is_the_new_runs_child(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    """On a real server the start may come before the task, too; the new run knows its child either way."""
    first = await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    await signal(orders, workflow_id, "another task")
    polling = asyncio.create_task(orders.poll_workflow_task(queue))
    await orders.polled(queue)  # so that the next task is taken before the child has started, where that can be
    await orders.complete_workflow_task(task, start_child(f"{workflow_id}-child", f"{queue}-child"))
    await polling
    child = await orders.poll_workflow_task(f"{queue}-child")
    last = (await orders.history(workflow_id))[-1]
    second = await reset(orders, workflow_id, first, last.event_id)
    (pending,) = (await orders.describe(workflow_id, second)).pending_children
    assert pending.run_id == child.workflow_execution.run_id
    await orders.complete_workflow_task(child, complete_workflow("done"))
    ended = await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
    assert ended.child_workflow_execution_completed_event_attributes.result == payloads("done")


async def test_a_child_with_the_id_and_the_place_of_another_runs_child_does_not_end_with_that_one(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    """The new run starts it anew, which ends the one that the first run had started by its event of the same number."""
    child, policy = f"{workflow_id}-child", WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    await signal(orders, workflow_id, "go")
    command = start_child(child, f"{queue}-child", workflow_id_reuse_policy=policy)
    older = await _started_child(orders, workflow_id, queue, command)
    await reset(orders, workflow_id, first, 4)
    newer = await _started_child(orders, workflow_id, queue, command)
    assert older.initiated_event_id == newer.initiated_event_id
    await orders.close_event(child, older.workflow_execution.run_id)
    await orders.run_workflow_task(f"{queue}-child", complete_workflow("done"))
    ended = await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
    assert ended.child_workflow_execution_completed_event_attributes.workflow_execution == newer.workflow_execution
    assert "CHILD_WORKFLOW_EXECUTION_TERMINATED" not in event_names(await orders.history(workflow_id))


@pytest.mark.usefixtures("embedded_only")  # there, a child is ended by the run alone that started it
async def test_a_child_is_ended_with_the_run_that_has_it_by_a_reset(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await _started_child(orders, workflow_id, queue, start_child(f"{workflow_id}-child", f"{queue}-child"))
    task = await orders.run_workflow_task(queue)
    await reset(orders, workflow_id, first, task.started_event_id + 1)
    await orders.terminate(workflow_id)
    closed = await orders.close_event(f"{workflow_id}-child")
    assert closed.workflow_execution_terminated_event_attributes.reason == "by parent close policy"


async def _started_child(
    orders: Namespace, workflow_id: str, queue: str, command: Command
) -> ChildWorkflowExecutionStartedEventAttributes:
    await orders.run_workflow_task(queue, command)
    event = await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    return event.child_workflow_execution_started_event_attributes


@pytest.mark.parametrize("excluded", [False, True], ids=["given", "excluded"])
async def test_an_operation_that_ended_after_the_point_has_ended_for_the_new_run_too_unless_that_is_excluded(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, excluded: bool
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name), start_timer("t", 0.01))
    await orders.run_workflow_task(queue)  # the timer has fired
    point = len(await orders.history(workflow_id))
    await payments.answer_nexus_task(await payments.poll_nexus_task(endpoint.queue), sync_result("paid"))
    await orders.run_workflow_task(queue)
    excluded_types = [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_NEXUS] if excluded else []
    await reset(orders, workflow_id, first, point, reset_reapply_exclude_types=excluded_types)
    names = event_names(await orders.history(workflow_id))[point - 1 :]
    said = [] if excluded else ["NEXUS_OPERATION_COMPLETED"]
    assert names == ["WORKFLOW_TASK_FAILED", *said, "WORKFLOW_TASK_SCHEDULED"]
    assert len((await orders.describe(workflow_id)).pending_nexus_operations) == (1 if excluded else 0)


async def test_a_point_outside_of_a_workflow_task_is_refused_and_changes_nothing(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("t", 3600))
    refused = await refusal(reset(orders, workflow_id, first, 5))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    info = (await orders.describe(workflow_id)).workflow_execution_info
    assert (info.execution.run_id, info.status) == (first, STATUS.WORKFLOW_EXECUTION_STATUS_RUNNING)


async def test_an_unknown_workflow_cannot_be_reset(orders: Namespace, workflow_id: str) -> None:
    refused = await refusal(reset(orders, workflow_id, "", 4))
    assert refused.code == grpc.StatusCode.NOT_FOUND


@pytest.mark.usefixtures(
    "embedded_only"
)  # a real server gives the new run the first start's request id, and resets again
async def test_a_repeated_reset_gets_the_first_answer(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    second = await reset(orders, workflow_id, first, 4, request_id="once")
    assert await reset(orders, workflow_id, first, 4, request_id="once") == second


async def test_a_history_is_read_from_its_end(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, *(start_timer(f"timer-{number}", 3600) for number in range(10)))
    token, seen = b"", []
    while True:
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=orders.name,
            execution=WorkflowExecution(workflow_id=workflow_id),
            maximum_page_size=3,
            next_page_token=token,
        )
        page = await orders.service.GetWorkflowExecutionHistoryReverse(request)
        seen += page.history.events
        token = page.next_page_token
        if not token:
            break
    assert seen == list(reversed(await orders.history(workflow_id)))


async def test_an_unknown_way_to_reapply_is_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    refused = await refusal(reset(orders, workflow_id, first, 4, reset_reapply_type=77))
    # A fault of the caller's; the real server takes it for one of its own.
    assert refused.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    assert "unknown reset reapply type: 77" in refused.message or refused.code == grpc.StatusCode.INTERNAL
