"""DescribeWorkflowExecution: a run, and everything that is pending in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from temporalio.api.common.v1 import (
    Callback,
    Memo,
    Priority,
    SearchAttributes,
    WorkflowExecution,
    WorkflowType,
)
from temporalio.api.enums.v1 import (
    CallbackState,
    EventType,
    ParentClosePolicy,
    PendingWorkflowTaskState,
    TaskQueueKind,
    WorkflowExecutionStatus,
)
from temporalio.api.failure.v1 import Failure
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import (
    CallbackInfo,
    PendingChildExecutionInfo,
    PendingWorkflowTaskInfo,
    RequestIdInfo,
    WorkflowExecutionConfig,
    WorkflowExecutionExtendedInfo,
    WorkflowExecutionInfo,
)
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.frontend import pending_activities, pending_operations
from nexuskit.backend.frontend.search_attributes import visible
from nexuskit.backend.history import callback, workflow_task
from nexuskit.backend.history.activity import Activity
from nexuskit.backend.history.attach import Attached
from nexuskit.backend.history.child import Child
from nexuskit.backend.history.state import Root
from nexuskit.backend.nexus.callbacks import lane_of
from nexuskit.backend.times import duration, timestamp

if TYPE_CHECKING:
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.history.state import Execution, Info
    from nexuskit.backend.nexus.lanes import Lanes
    from nexuskit.backend.services import Services


async def describe(
    services: Services, _: Call, request: DescribeWorkflowExecutionRequest
) -> DescribeWorkflowExecutionResponse:
    """DescribeWorkflowExecution, of the newest run where none is named."""
    resident = await find(services, request.namespace, request.execution)
    answer = _described(services, resident)
    await services.engine.durable(resident)
    return answer


async def find(services: Services, namespace: str, execution: WorkflowExecution) -> Resident:
    """The run that a request names.

    Raises:
        StatusError: INVALID_ARGUMENT, for ids that cannot be; NOT_FOUND, if it is not there.
    """
    namespace_id = services.namespaces.get(namespace).id
    if not execution.workflow_id:
        raise invalid_argument("WorkflowId is not set on request.")
    if execution.run_id and (len(execution.run_id) != 36 or execution.run_id.count("-") != 4):
        raise invalid_argument(f"Invalid RunId. {execution.run_id[:100]!r} is not a UUID.")
    return await services.engine.find(namespace_id, execution.workflow_id, execution.run_id)


def _described(services: Services, resident: Resident) -> DescribeWorkflowExecutionResponse:
    execution = resident.execution
    info = execution.info
    now = services.clock.now()
    answer = DescribeWorkflowExecutionResponse(
        execution_config=WorkflowExecutionConfig(
            task_queue=TaskQueue(name=info.task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
            workflow_execution_timeout=duration(info.execution_timeout),
            workflow_run_timeout=duration(info.run_timeout),
            default_workflow_task_timeout=duration(info.task_timeout),
            user_metadata=UserMetadata.FromString(info.user_metadata) if info.user_metadata else None,
        ),
        workflow_execution_info=_visible_info(services, info),
        pending_activities=[pending_activities.shown(row, now) for _, row in execution.of(Activity).items()],
        callbacks=[_callback(services, info, row, now) for _, row in execution.of(callback.Callback).items()],
        pending_nexus_operations=pending_operations.shown(execution, services.lanes, now),
        pending_children=[_child(row) for _, row in execution.of(Child).items()],
        workflow_extended_info=WorkflowExecutionExtendedInfo(
            execution_expiration_time=timestamp(info.execution_expiration),
            run_expiration_time=timestamp(info.run_deadline),
            cancel_requested=info.cancel_requested,
            original_start_time=timestamp(info.start_time),
            reset_run_id=info.reset_run_id,
            last_reset_time=timestamp(info.reset_time),
            request_id_infos=_requests(execution),
        ),
    )
    task = _workflow_task(execution)
    if task is not None:
        answer.pending_workflow_task.CopyFrom(task)
    return answer


def _requests(execution: Execution) -> dict[str, RequestIdInfo]:
    """The request that started the run, and those that were attached to it."""
    started = RequestIdInfo(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, event_id=1)
    infos = {execution.info.start_request_id: started}
    for request_id, row in execution.of(Attached).items():
        infos[str(request_id)] = RequestIdInfo(
            event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED,
            event_id=row.event_id,
            buffered=not row.event_id,
        )
    return infos


def _child(row: Child) -> PendingChildExecutionInfo:
    return PendingChildExecutionInfo(
        workflow_id=row.workflow_id,
        run_id=row.run_id,
        workflow_type_name=row.workflow_type,
        initiated_id=row.initiated_id,
        parent_close_policy=ParentClosePolicy.ValueType(row.policy),
    )


def _visible_info(services: Services, info: Info) -> WorkflowExecutionInfo:
    shown = execution_info(info)
    visible(shown.search_attributes, services.namespaces.get_by_id(info.namespace_id).search_attributes)
    return shown


def execution_info(info: Info) -> WorkflowExecutionInfo:
    """A run in short, as describe and lists show it."""
    parent, root = info.parent, info.root or Root(info.workflow_id, info.run_id)
    return WorkflowExecutionInfo(
        execution=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
        type=WorkflowType(name=info.workflow_type),
        start_time=timestamp(info.start_time),
        close_time=timestamp(info.close_time),
        execution_time=timestamp(info.execution_time),
        execution_duration=duration(info.close_time - info.execution_time) if info.close_time else None,
        parent_namespace_id=parent.namespace_id if parent else "",
        parent_execution=WorkflowExecution(workflow_id=parent.workflow_id, run_id=parent.run_id) if parent else None,
        status=WorkflowExecutionStatus.ValueType(info.status),
        history_length=info.next_event_id - 1,
        memo=Memo.FromString(info.memo),
        search_attributes=SearchAttributes.FromString(info.search_attributes),
        task_queue=info.task_queue,
        state_transition_count=info.transitions,
        history_size_bytes=info.history_size,
        root_execution=WorkflowExecution(workflow_id=root.workflow_id, run_id=root.run_id),
        first_run_id=info.first_run_id,
        priority=Priority.FromString(info.priority) if info.priority else None,
    )


def _workflow_task(execution: Execution) -> PendingWorkflowTaskInfo | None:
    task = workflow_task.current(execution)
    if task is None:
        return None
    state = PendingWorkflowTaskState
    return PendingWorkflowTaskInfo(
        state=state.PENDING_WORKFLOW_TASK_STATE_STARTED
        if task.started
        else state.PENDING_WORKFLOW_TASK_STATE_SCHEDULED,
        scheduled_time=timestamp(task.scheduled_time),
        original_scheduled_time=timestamp(task.original_scheduled_time),
        started_time=timestamp(task.started_time),
        attempt=task.attempt,
    )


def _callback(services: Services, info: Info, row: callback.Callback, now: int) -> CallbackInfo:
    shown = CallbackInfo(request_id=row.request_id, **callback_fields(services.lanes, info.namespace_id, row, now))
    if row.update_id:
        shown.trigger.update_workflow_execution_completed.update_id = row.update_id
    else:
        shown.trigger.workflow_closed.SetInParent()
    return shown


def callback_fields(lanes: Lanes, namespace_id: str, row: callback.Callback, now: int) -> dict[str, Any]:
    """What is shown of a callback, whatever it is that calls back."""
    backing_off = row.state == callback.State.BACKING_OFF and row.ready > now
    waits = row.state in (callback.State.SCHEDULED, callback.State.BACKING_OFF) and not backing_off
    blocked = lanes.blocked(lane_of(row, namespace_id)) if waits else ""
    return {
        "callback": Callback.FromString(row.callback),
        "registration_time": timestamp(row.registered),
        "state": CallbackState.CALLBACK_STATE_BLOCKED if blocked else CallbackState.ValueType(int(row.state)),
        "attempt": row.attempt,
        "last_attempt_complete_time": timestamp(row.last_attempt_end),
        "last_attempt_failure": Failure.FromString(row.last_failure) if row.last_failure else None,
        "next_attempt_schedule_time": timestamp(row.ready) if backing_off else None,
        "blocked_reason": blocked,
    }
