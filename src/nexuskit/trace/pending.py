"""What history does not hold: attempts and last failures of steps that are still open, from a describe's answer."""

from __future__ import annotations

from dataclasses import replace

from temporalio.api.enums.v1 import PendingActivityState, PendingNexusOperationState
from temporalio.api.workflow.v1 import PendingActivityInfo, PendingNexusOperationInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from nexuskit.trace.failures import read_failure
from nexuskit.trace.model import Activity, NexusCall, State, Step, Workflow


def add_pending(workflow: Workflow, description: DescribeWorkflowExecutionResponse) -> Workflow:
    """The workflow with states, attempts and last failures of its open steps; closed steps stay as history has them."""
    activities = {pending.activity_id: pending for pending in description.pending_activities}
    calls = {pending.scheduled_event_id: pending for pending in description.pending_nexus_operations}

    def add(step: Step) -> Step:
        if not step.state.is_open:
            return step
        if isinstance(step, Activity) and step.activity_id in activities:
            return _activity(step, activities[step.activity_id])
        if isinstance(step, NexusCall) and step.event_id in calls:
            return _nexus_call(step, calls[step.event_id])
        return step

    return replace(workflow, steps=tuple(add(step) for step in workflow.steps))


def _activity(step: Activity, pending: PendingActivityInfo) -> Activity:
    failed = pending.HasField("last_failure")
    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        state = State.BACKING_OFF if failed else State.SCHEDULED
    else:
        state = State.RUNNING
    failure = read_failure(pending.last_failure) if failed else None
    return replace(step, state=state, attempts=pending.attempt, failure=failure)


_CALL_STATES: dict[int, State] = {
    PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_SCHEDULED: State.SCHEDULED,
    PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF: State.BACKING_OFF,
    PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_STARTED: State.RUNNING,
    PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_BLOCKED: State.BLOCKED,
}


def _nexus_call(step: NexusCall, pending: PendingNexusOperationInfo) -> NexusCall:
    failed = pending.HasField("last_attempt_failure")
    failure = read_failure(pending.last_attempt_failure) if failed else None
    state = _CALL_STATES.get(pending.state, step.state)
    return replace(step, state=state, attempts=pending.attempt, failure=failure)
