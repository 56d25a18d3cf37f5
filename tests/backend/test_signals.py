"""Signals: what a client sends to a running workflow, and the start that brings a signal along."""

import asyncio
from uuid import uuid4

import grpc
import pytest
from temporalio.api.common.v1 import Header, Link, WorkflowExecution
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus, WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from temporalio.api.history.v1 import HistoryEvent

from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import (
    complete_workflow,
    duration,
    event_names,
    fail_workflow,
    payload,
    payloads,
    schedule_activity,
    start_timer,
    value_of,
)

REUSE = WorkflowIdReusePolicy
CONFLICT = WorkflowIdConflictPolicy


def signals(history: list[HistoryEvent]) -> list[str]:
    """The names of the signals in a history, in order."""
    return [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in history
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]


async def test_a_signal_has_its_place_in_history_and_wakes_the_workflow(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    link = Link(workflow_event=Link.WorkflowEvent(namespace="elsewhere", workflow_id="w", run_id=str(uuid4())))
    header = Header(fields={"trace": payload("7")})
    answer = await orders.signal(workflow_id, "paid", 5, request_id="the-request", header=header, links=[link])
    task = await orders.poll_workflow_task(queue)
    assert event_names(task.history.events)[4:] == [
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    event = task.history.events[4]
    attributes = event.workflow_execution_signaled_event_attributes
    assert (attributes.signal_name, attributes.identity) == ("paid", IDENTITY)
    assert value_of(attributes.input.payloads[0]) == 5
    assert attributes.header == header
    assert attributes.request_id == "the-request"
    assert list(event.links) == [link]
    told = answer.link.workflow_event
    assert (told.namespace, told.workflow_id, told.run_id) == (orders.name, workflow_id, run_id)
    assert told.request_id_ref.request_id == "the-request"
    assert told.request_id_ref.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED


async def test_signals_keep_their_order(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    names = [f"signal-{number}" for number in range(20)]
    for name in names:
        await orders.signal(workflow_id, name)
    assert signals(await orders.history(workflow_id)) == names


async def test_a_signal_sent_twice_under_one_request_id_is_taken_once(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    request_id = str(uuid4())
    answers = await asyncio.gather(*(orders.signal(workflow_id, "paid", request_id=request_id) for _ in range(5)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    await orders.signal(workflow_id, "paid", request_id=str(uuid4()))
    assert signals(await orders.history(workflow_id)) == ["paid", "paid"]


async def test_signals_without_a_request_id_are_all_taken(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    for _ in range(3):
        await orders.signal(workflow_id, "paid")
    assert signals(await orders.history(workflow_id)) == ["paid"] * 3


async def test_a_signal_to_a_closed_or_unknown_workflow_is_refused(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    unknown = await refusal(orders.signal(workflow_id, "paid"))
    assert unknown.code == grpc.StatusCode.NOT_FOUND
    assert workflow_id in unknown.message
    run_id = await orders.start(workflow_id, queue)
    elsewhere = await refusal(orders.signal(workflow_id, "paid", run_id=str(uuid4())))
    assert elsewhere.code == grpc.StatusCode.NOT_FOUND
    await orders.run_workflow_task(queue, complete_workflow())
    closed = await refusal(orders.signal(workflow_id, "paid"))
    assert closed.code == grpc.StatusCode.NOT_FOUND
    assert closed.message.startswith("workflow execution already completed")
    assert (await refusal(orders.signal(workflow_id, "paid", run_id=run_id))).code == grpc.StatusCode.NOT_FOUND


async def test_a_signal_without_a_name_is_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    refused = await refusal(orders.signal(workflow_id, ""))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "SignalName is not set on request.",
    )
    long = await refusal(orders.signal(workflow_id, "x" * 1001))
    assert long.code == grpc.StatusCode.INVALID_ARGUMENT
    await orders.signal(workflow_id, "x" * 1000)


async def test_signals_that_come_while_a_workflow_task_is_in_flight_follow_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    request_id = str(uuid4())
    for name in ("one", "two"):
        await orders.signal(workflow_id, name)
    await orders.signal(workflow_id, "three", request_id=request_id)
    await orders.signal(workflow_id, "three", request_id=request_id)
    assert len(await orders.history(workflow_id)) == 3
    await orders.complete_workflow_task(task, start_timer("wait", 60))
    assert event_names(await orders.history(workflow_id)) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "TIMER_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    assert signals(await orders.history(workflow_id)) == ["one", "two", "three"]


async def test_what_ends_while_a_workflow_task_is_in_flight_comes_after_the_signals(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("a", queue), start_timer("t", 0.01))
    task = await orders.poll_workflow_task(queue)
    await orders.complete_activity(await orders.poll_activity_task(queue))
    await orders.signal(workflow_id, "late")
    await orders.complete_workflow_task(task)
    *_, begun, sent, ended, scheduled = await orders.history(workflow_id)
    assert event_names([begun, sent, ended, scheduled]) == [
        "ACTIVITY_TASK_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    assert ended.activity_task_completed_event_attributes.started_event_id == begun.event_id


async def test_a_workflow_does_not_complete_over_a_signal_it_has_not_seen(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    await orders.signal(workflow_id, "wait")
    refused = await refusal(orders.complete_workflow_task(task, complete_workflow()))
    assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, "UnhandledCommand")
    again = await orders.poll_workflow_task(queue)
    assert signals(list(again.history.events)) == ["wait"]
    await orders.complete_workflow_task(again, complete_workflow())
    assert event_names(await orders.history(workflow_id))[-1] == "WORKFLOW_EXECUTION_COMPLETED"


async def test_a_run_that_is_terminated_under_a_task_keeps_the_signals_that_wait_for_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.poll_workflow_task(queue)
    await orders.signal(workflow_id, "paid")
    await orders.terminate(workflow_id)
    assert event_names(await orders.history(workflow_id))[3:] == [
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_TERMINATED",
    ]


async def test_a_run_whose_time_is_over_keeps_the_signals_that_wait_for_its_task(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, workflow_run_timeout=duration(1))
    await orders.poll_workflow_task(queue)
    await orders.signal(workflow_id, "paid")
    await orders.close_event(workflow_id)
    names = event_names(await orders.history(workflow_id))[3:]
    assert names[-2:] == ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_EXECUTION_TIMED_OUT"] or (
        # A workflow task's time is the run's at most, so it may be the first of the two that is over.
        names[:2] == ["WORKFLOW_TASK_TIMED_OUT", "WORKFLOW_EXECUTION_SIGNALED"]
    )


async def test_a_signal_with_start_starts_the_workflow_with_the_signal(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    header = Header(fields={"trace": payload("7")})
    answer = await orders.signal_with_start(
        workflow_id,
        queue,
        "paid",
        signal_input=payloads(5),
        input=payloads("order"),
        header=header,
        memo={"fields": {"who": payload("me")}},
        request_id="the-request",
    )
    assert answer.started
    assert answer.first_execution_run_id == answer.run_id
    assert answer.signal_link.workflow_event.request_id_ref.request_id == "the-request"
    history = await orders.history(workflow_id, answer.run_id)
    assert event_names(history) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    started = history[0].workflow_execution_started_event_attributes
    assert (started.input, started.header) == (payloads("order"), header)
    signaled = history[1].workflow_execution_signaled_event_attributes
    assert (signaled.signal_name, signaled.input, signaled.identity) == ("paid", payloads(5), IDENTITY)


async def test_a_signal_with_start_of_a_running_workflow_only_signals(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    answer = await orders.signal_with_start(workflow_id, queue, "paid", workflow_type="AnotherOne")
    assert (answer.run_id, answer.first_execution_run_id, answer.started) == (run_id, run_id, False)
    assert signals(await orders.history(workflow_id)) == ["paid"]


async def test_a_signal_with_start_repeated_is_one(orders: Namespace, workflow_id: str, queue: str) -> None:
    request_id = str(uuid4())
    first = await orders.signal_with_start(workflow_id, queue, "paid", request_id=request_id)
    again = await orders.signal_with_start(workflow_id, queue, "paid", request_id=request_id)
    assert again.run_id == first.run_id
    assert signals(await orders.history(workflow_id)) == ["paid"]


@pytest.mark.parametrize("ended", ["completed", "failed"])
@pytest.mark.parametrize(
    "policy", ["UNSPECIFIED", "ALLOW_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY", "REJECT_DUPLICATE"]
)
async def test_a_signal_with_start_of_a_closed_workflow_asks_the_reuse_policy(
    orders: Namespace, workflow_id: str, queue: str, ended: str, policy: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow() if ended == "completed" else fail_workflow())
    call = orders.signal_with_start(
        workflow_id, queue, "paid", workflow_id_reuse_policy=REUSE.Value(f"WORKFLOW_ID_REUSE_POLICY_{policy}")
    )
    if policy == "REJECT_DUPLICATE" or (policy == "ALLOW_DUPLICATE_FAILED_ONLY" and ended == "completed"):
        refused = await refusal(call)
        assert refused.code == grpc.StatusCode.ALREADY_EXISTS
        assert refused.detail(WorkflowExecutionAlreadyStartedFailure).run_id == run_id
    else:
        answer = await call
        assert answer.started
        assert answer.run_id != run_id
        assert signals(await orders.history(workflow_id, answer.run_id)) == ["paid"]


@pytest.mark.parametrize("how", ["reuse", "conflict"])
async def test_a_signal_with_start_may_ask_for_a_new_run_in_place_of_the_open_one(
    orders: Namespace, workflow_id: str, queue: str, how: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    answer = await orders.signal_with_start(
        workflow_id,
        queue,
        "paid",
        workflow_id_reuse_policy=REUSE.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING if how == "reuse" else 0,
        workflow_id_conflict_policy=CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING if how == "conflict" else 0,
    )
    assert answer.started
    assert answer.run_id != run_id
    old = (await orders.describe(workflow_id, run_id)).workflow_execution_info
    assert old.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED
    assert signals(await orders.history(workflow_id, run_id)) == []
    assert signals(await orders.history(workflow_id, answer.run_id)) == ["paid"]


async def test_a_signal_with_start_that_may_not_find_a_running_workflow_is_refused(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    refused = await refusal(
        orders.signal_with_start(
            workflow_id, queue, "paid", workflow_id_conflict_policy=CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_FAIL
        )
    )
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names("ConflictPolicy")


async def test_a_signal_waits_for_the_start_delay_and_a_signal_with_start_cuts_it_short(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, workflow_start_delay=duration(60))
    await orders.signal(workflow_id, "one")
    assert event_names(await orders.history(workflow_id)) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
    ]
    await orders.signal_with_start(workflow_id, queue, "two")
    task = await orders.poll_workflow_task(queue)
    assert signals(list(task.history.events)) == ["one", "two"]


async def test_a_signal_with_start_and_a_start_delay_waits_for_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.signal_with_start(workflow_id, queue, "paid", workflow_start_delay=duration(0.3))
    assert event_names(await orders.history(workflow_id)) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
    ]
    task = await orders.poll_workflow_task(queue)
    assert signals(list(task.history.events)) == ["paid"]


async def test_a_signal_names_a_run_of_a_chain(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    second = await orders.start(workflow_id, queue)
    refused = await refusal(orders.signal(workflow_id, "paid", run_id=first))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    await orders.signal(workflow_id, "paid", run_id=second)
    assert signals(await orders.history(workflow_id, second)) == ["paid"]
    assert WorkflowExecution(workflow_id=workflow_id, run_id=second)


@pytest.mark.usefixtures("embedded_only")
async def test_a_signal_with_start_repeated_after_its_run_has_closed_starts_no_other(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    """A real server starts the workflow a second time, though the request is the same."""
    request_id = str(uuid4())
    first = await orders.signal_with_start(workflow_id, queue, "paid", request_id=request_id)
    await orders.run_workflow_task(queue, complete_workflow())
    again = await orders.signal_with_start(workflow_id, queue, "paid", request_id=request_id)
    assert again.run_id == first.run_id
    other = await orders.signal_with_start(workflow_id, queue, "paid", request_id=str(uuid4()))
    assert other.run_id != first.run_id
