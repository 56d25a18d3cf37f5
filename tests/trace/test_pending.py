"""Open steps take their attempts and last failures from the answer to a describe."""

from __future__ import annotations

import pytest
from temporalio.api.enums.v1 import PendingActivityState, PendingNexusOperationState
from temporalio.api.workflow.v1 import PendingActivityInfo, PendingNexusOperationInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from nexuskit.trace import Activity, NexusCall, State, add_pending, fold
from tests.trace.histories import History, application_failure


@pytest.mark.parametrize(
    ("pending", "state"),
    [
        ("PENDING_NEXUS_OPERATION_STATE_SCHEDULED", State.SCHEDULED),
        ("PENDING_NEXUS_OPERATION_STATE_BACKING_OFF", State.BACKING_OFF),
        ("PENDING_NEXUS_OPERATION_STATE_BLOCKED", State.BLOCKED),
        ("PENDING_NEXUS_OPERATION_STATE_STARTED", State.RUNNING),
    ],
)
def test_a_call_that_is_tried_again(pending: str, state: State) -> None:
    history = History()
    event_id = history.nexus_call()
    workflow = fold(history.events, namespace="orders", workflow_id="order-1")
    info = PendingNexusOperationInfo(
        scheduled_event_id=event_id,
        state=PendingNexusOperationState.Value(pending),
        attempt=4,
        last_attempt_failure=application_failure("no handler"),
    )
    [call] = add_pending(workflow, DescribeWorkflowExecutionResponse(pending_nexus_operations=[info])).steps
    assert isinstance(call, NexusCall)
    assert (call.state, call.attempts, call.failure and call.failure.message) == (state, 4, "no handler")


@pytest.mark.parametrize(
    ("pending", "failed", "state"),
    [
        ("PENDING_ACTIVITY_STATE_SCHEDULED", False, State.SCHEDULED),
        ("PENDING_ACTIVITY_STATE_SCHEDULED", True, State.BACKING_OFF),
        ("PENDING_ACTIVITY_STATE_STARTED", True, State.RUNNING),
    ],
)
def test_an_activity_that_has_not_ended(pending: str, failed: bool, state: State) -> None:
    history = History()
    history.activity()
    workflow = fold(history.events, namespace="payments", workflow_id="payment-1")
    info = PendingActivityInfo(activity_id="1", state=PendingActivityState.Value(pending), attempt=2)
    if failed:
        info.last_failure.message = "no answer"
    [activity] = add_pending(workflow, DescribeWorkflowExecutionResponse(pending_activities=[info])).steps
    assert isinstance(activity, Activity)
    assert (activity.state, activity.attempts) == (state, 2)
    assert (activity.failure and activity.failure.message) == ("no answer" if failed else None)


def test_what_has_ended_in_history_stays_so() -> None:
    history = History()
    event_id = history.activity()
    history.add("ACTIVITY_TASK_COMPLETED", scheduled_event_id=event_id)
    workflow = fold(history.events, namespace="payments", workflow_id="payment-1")
    info = PendingActivityInfo(activity_id="1", attempt=2)
    assert add_pending(workflow, DescribeWorkflowExecutionResponse(pending_activities=[info])) == workflow
