"""One history becomes one workflow: each test is a history of a few events."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Link

from nexuskit.trace import Activity, ChildWorkflow, NexusCall, Ref, State, Timer, Workflow, fold
from tests.trace.histories import START, History, application_failure, link_to


def folded(history: History) -> Workflow:
    return fold(history.events, namespace="orders", workflow_id="order-1")


def only_step(history: History) -> object:
    [step] = folded(history).steps
    return step


def the_call(history: History) -> NexusCall:
    step = only_step(history)
    assert isinstance(step, NexusCall)
    return step


def the_activity(history: History) -> Activity:
    step = only_step(history)
    assert isinstance(step, Activity)
    return step


def test_a_workflow_that_has_just_started() -> None:
    assert folded(History()) == Workflow(
        state=State.RUNNING,
        start=START,
        namespace="orders",
        workflow_id="order-1",
        run_id="run-1",
        type="PlaceOrder",
        task_queue="orders",
    )


def test_a_workflow_that_completed() -> None:
    history = History()
    history.add("WORKFLOW_EXECUTION_COMPLETED", at_s=2.5)
    workflow = folded(history)
    assert (workflow.state, workflow.duration_s, workflow.failure) == (State.COMPLETED, 2.5, None)


def test_a_workflow_that_failed_says_why_and_keeps_the_stack_trace_to_itself() -> None:
    history = History()
    history.add("WORKFLOW_EXECUTION_FAILED", at_s=1, failure=application_failure())
    workflow = folded(history)
    assert workflow.state is State.FAILED
    assert workflow.failure is not None
    assert workflow.failure.text == "CardDeclined: the bank refused"
    assert "secret" not in repr(workflow)


def test_a_workflow_that_was_terminated_tells_the_reason() -> None:
    history = History()
    history.add("WORKFLOW_EXECUTION_TERMINATED", reason="not needed")
    workflow = folded(history)
    assert (workflow.state, workflow.failure and workflow.failure.text) == (State.TERMINATED, "not needed")


@pytest.mark.parametrize("kind", ["CONTINUED_AS_NEW", "COMPLETED", "FAILED", "TIMED_OUT"])
def test_a_run_that_is_followed_by_another_links_to_it(kind: str) -> None:
    history = History()
    history.add(f"WORKFLOW_EXECUTION_{kind}", new_execution_run_id="run-9")
    expected = Ref(namespace="orders", kind="workflow", id="order-1", run_id="run-9")
    assert folded(history).next_link == expected


def test_a_call_that_waits_for_its_handler() -> None:
    history = History()
    history.nexus_call(at_s=1)
    call = the_call(history)
    assert (call.endpoint, call.service, call.operation) == ("payments", "PaymentService", "process")
    assert (call.state, call.mode, call.start, call.duration_s) == (
        State.SCHEDULED,
        None,
        START + timedelta(seconds=1),
        None,
    )


def test_a_call_that_was_answered_at_once() -> None:
    history = History()
    call_id = history.nexus_call(at_s=1)
    history.add("NEXUS_OPERATION_COMPLETED", at_s=1.25, scheduled_event_id=call_id)
    call = the_call(history)
    assert (call.state, call.mode, call.duration_s, call.links) == (State.COMPLETED, "sync", 0.25, ())


def test_a_call_that_runs_on_has_a_token_and_a_link() -> None:
    history = History()
    call_id = history.nexus_call()
    links = [link_to("payments", "payment-1")]
    history.add("NEXUS_OPERATION_STARTED", at_s=1, links=links, scheduled_event_id=call_id, operation_token="t")
    call = the_call(history)
    assert (call.state, call.mode, call.token) == (State.RUNNING, "async", "t")
    assert call.links == (Ref(namespace="payments", kind="workflow", id="payment-1", run_id="run-2"),)


def test_a_link_may_come_with_the_outcome_only() -> None:
    history = History()
    call_id = history.nexus_call()
    activity = Link(activity=Link.Activity(namespace="payments", activity_id="a", run_id="r"))
    history.add("NEXUS_OPERATION_COMPLETED", links=[activity], scheduled_event_id=call_id)
    assert the_call(history).links == (Ref(namespace="payments", kind="activity", id="a", run_id="r"),)


def test_a_link_of_a_kind_without_a_place_is_passed_over() -> None:
    history = History()
    call_id = history.nexus_call()
    links = [Link(batch_job=Link.BatchJob(job_id="b")), link_to("payments", "p"), link_to("payments", "p")]
    history.add("NEXUS_OPERATION_STARTED", links=links, scheduled_event_id=call_id)
    assert [link.id for link in the_call(history).links] == ["p"]


def test_a_failed_call_tells_the_cause_without_its_wrappers() -> None:
    history = History()
    call_id = history.nexus_call()
    wrapped = {
        "message": "nexus operation completed unsuccessfully",
        "nexus_operation_execution_failure_info": {"endpoint": "payments"},
        "cause": {
            "message": "Activity task failed",
            "activity_failure_info": {"activity_id": "1"},
            "cause": application_failure(),
        },
    }
    history.add("NEXUS_OPERATION_FAILED", scheduled_event_id=call_id, failure=wrapped)
    failure = the_call(history).failure
    assert failure is not None
    assert failure.text == "CardDeclined: the bank refused"
    assert [each.kind for each in failure.chain] == ["nexus_operation", "activity", "application"]


def test_a_handler_error_is_told_with_its_cause() -> None:
    history = History()
    call_id = history.nexus_call()
    error = {
        "message": "bad input",
        "nexus_handler_failure_info": {"type": "BAD_REQUEST"},
        "cause": application_failure("not a number", "ValueError"),
    }
    history.add("NEXUS_OPERATION_FAILED", scheduled_event_id=call_id, failure=error)
    failure = the_call(history).failure
    assert failure is not None
    assert failure.text == "BAD_REQUEST: bad input; cause: ValueError: not a number"


def test_a_timeout_tells_which() -> None:
    history = History()
    call_id = history.nexus_call()
    timeout = {
        "message": "operation timed out",
        "timeout_failure_info": {"timeout_type": "TIMEOUT_TYPE_SCHEDULE_TO_CLOSE"},
    }
    history.add("NEXUS_OPERATION_TIMED_OUT", scheduled_event_id=call_id, failure=timeout)
    call = the_call(history)
    assert call.state is State.TIMED_OUT
    assert call.failure is not None
    assert call.failure.text == "SCHEDULE_TO_CLOSE: operation timed out"


def test_a_cancelled_call() -> None:
    history = History()
    call_id = history.nexus_call()
    history.add("NEXUS_OPERATION_CANCEL_REQUESTED", scheduled_event_id=call_id)
    assert the_call(history).cancel_requested
    history.add("NEXUS_OPERATION_CANCELED", scheduled_event_id=call_id)
    assert the_call(history).state is State.CANCELLED


def test_an_activity_from_schedule_to_completion() -> None:
    history = History()
    activity_id = history.activity(at_s=1)
    assert the_activity(history).state is State.SCHEDULED
    history.add("ACTIVITY_TASK_STARTED", at_s=2, scheduled_event_id=activity_id, attempt=1)
    assert the_activity(history).state is State.RUNNING
    history.add("ACTIVITY_TASK_COMPLETED", at_s=4, scheduled_event_id=activity_id)
    activity = the_activity(history)
    assert (activity.state, activity.type, activity.attempts, activity.duration_s) == (
        State.COMPLETED,
        "charge_card",
        1,
        3.0,
    )


def test_an_activity_that_was_tried_again_keeps_the_failure_only_while_it_runs() -> None:
    history = History()
    activity_id = history.activity()
    history.add(
        "ACTIVITY_TASK_STARTED", scheduled_event_id=activity_id, attempt=3, last_failure=application_failure("again")
    )
    running = the_activity(history)
    assert (running.attempts, running.failure and running.failure.message) == (3, "again")
    history.add("ACTIVITY_TASK_COMPLETED", scheduled_event_id=activity_id)
    assert the_activity(history).failure is None


@pytest.mark.parametrize(
    ("kind", "state"), [("FAILED", State.FAILED), ("TIMED_OUT", State.TIMED_OUT), ("CANCELED", State.CANCELLED)]
)
def test_an_activity_that_did_not_complete(kind: str, state: State) -> None:
    history = History()
    history.add(f"ACTIVITY_TASK_{kind}", scheduled_event_id=history.activity())
    assert the_activity(history).state is state


@pytest.mark.parametrize(("kind", "state"), [("FIRED", State.FIRED), ("CANCELED", State.CANCELLED)])
def test_a_timer(kind: str, state: State) -> None:
    history = History()
    started = history.add("TIMER_STARTED", timer_id="1", start_to_fire_timeout={"seconds": 1, "nanos": 500_000_000})
    timer = only_step(history)
    assert isinstance(timer, Timer)
    assert (timer.state, timer.timeout_s) == (State.RUNNING, 1.5)
    history.add(f"TIMER_{kind}", at_s=1.5, started_event_id=started)
    timer = only_step(history)
    assert isinstance(timer, Timer)
    assert (timer.state, timer.duration_s) == (state, 1.5)


def test_a_child_workflow_is_linked_once_it_has_started() -> None:
    history = History()
    initiated = history.add(
        "START_CHILD_WORKFLOW_EXECUTION_INITIATED", workflow_id="child", workflow_type={"name": "Ship"}
    )
    child = only_step(history)
    assert isinstance(child, ChildWorkflow)
    assert (child.state, child.type) == (State.SCHEDULED, "Ship")
    assert child.link == Ref(namespace="orders", kind="workflow", id="child", run_id="")
    history.add(
        "CHILD_WORKFLOW_EXECUTION_STARTED",
        initiated_event_id=initiated,
        workflow_execution={"workflow_id": "child", "run_id": "run-3"},
    )
    child = only_step(history)
    assert isinstance(child, ChildWorkflow)
    assert (child.state, child.link.run_id) == (State.RUNNING, "run-3")
    history.add("CHILD_WORKFLOW_EXECUTION_COMPLETED", at_s=2, initiated_event_id=initiated)
    child = only_step(history)
    assert isinstance(child, ChildWorkflow)
    assert (child.state, child.duration_s) == (State.COMPLETED, 2.0)


def test_steps_stand_in_the_order_in_which_they_were_scheduled() -> None:
    history = History()
    first, second = history.nexus_call("quote"), history.nexus_call("process")
    history.add("NEXUS_OPERATION_COMPLETED", scheduled_event_id=second)
    history.add("NEXUS_OPERATION_COMPLETED", scheduled_event_id=first)
    assert [step.event_id for step in folded(history).steps] == [first, second]


def test_a_workflow_task_that_fails_is_told_until_one_completes() -> None:
    history = History()
    history.add("WORKFLOW_TASK_FAILED", failure=application_failure("endpoint not found", ""))
    workflow = folded(history)
    assert workflow.task_failure is not None
    assert workflow.task_failure.text == "endpoint not found"
    history.add("WORKFLOW_TASK_COMPLETED")
    assert folded(history).task_failure is None


def test_a_workflow_task_that_timed_out_is_told_too() -> None:
    history = History()
    history.add("WORKFLOW_TASK_TIMED_OUT")
    assert folded(history).task_failure is not None


def test_a_workflow_behind_a_call_knows_its_caller() -> None:
    callback = {"nexus": {"url": "temporal://system"}, "links": [link_to("orders", "order-1", "run-1")]}
    history = History(completion_callbacks=[callback])
    second = {"nexus": {"url": "temporal://system"}, "links": [link_to("orders", "order-2", "run-1")]}
    history.add("WORKFLOW_EXECUTION_OPTIONS_UPDATED", attached_completion_callbacks=[second])
    assert [ref.id for ref in folded(history).called_by] == ["order-1", "order-2"]


def test_a_step_whose_beginning_is_missing_is_passed_over() -> None:
    history = History()
    history.add("ACTIVITY_TASK_COMPLETED", scheduled_event_id=99)
    assert folded(history).steps == ()


def test_an_event_that_belongs_to_another_kind_of_step_changes_nothing_of_it() -> None:
    history = History()
    timer = history.add("TIMER_STARTED", timer_id="1")
    before = only_step(history)
    for kind in ("ACTIVITY_TASK_STARTED", "NEXUS_OPERATION_STARTED", "NEXUS_OPERATION_CANCEL_REQUESTED"):
        history.add(kind, scheduled_event_id=timer)
    history.add("CHILD_WORKFLOW_EXECUTION_STARTED", initiated_event_id=timer)
    assert only_step(history) == before


def test_events_that_a_trace_does_not_tell_of_change_nothing() -> None:
    history = History()
    before = folded(history)
    history.add("WORKFLOW_TASK_SCHEDULED")
    history.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="s")
    assert folded(history) == before


def test_no_history_and_half_a_history_are_refused() -> None:
    with pytest.raises(ValueError, match="with nothing"):
        fold([], namespace="orders", workflow_id="order-1")
    history = History()
    history.add("TIMER_STARTED")
    with pytest.raises(ValueError, match="with EVENT_TYPE_TIMER_STARTED"):
        fold(history.events[1:], namespace="orders", workflow_id="order-1")


OPENING = ["ACTIVITY_TASK_SCHEDULED", "TIMER_STARTED", "NEXUS_OPERATION_SCHEDULED"]
FOLLOWING = [
    "ACTIVITY_TASK_STARTED",
    "ACTIVITY_TASK_FAILED",
    "NEXUS_OPERATION_STARTED",
    "NEXUS_OPERATION_COMPLETED",
    "NEXUS_OPERATION_TIMED_OUT",
]


@given(st.lists(st.tuples(st.sampled_from([*OPENING, *FOLLOWING]), st.integers(min_value=0, max_value=20))))
def test_a_longer_history_only_adds_steps(made: list[tuple[str, int]]) -> None:
    history = History()
    steps_before: list[int] = []
    for kind, about in made:
        history.add(kind, **({"scheduled_event_id": about} if kind in FOLLOWING else {}))
        steps = [step.event_id for step in folded(history).steps]
        assert steps[: len(steps_before)] == steps_before
        steps_before = steps
