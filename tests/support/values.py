"""Temporal's messages in short: payloads, failures, commands, answers, and what is read from events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import (
    CancelTimerCommandAttributes,
    CancelWorkflowExecutionCommandAttributes,
    Command,
    CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
    RequestCancelActivityTaskCommandAttributes,
    RequestCancelExternalWorkflowExecutionCommandAttributes,
    RequestCancelNexusOperationCommandAttributes,
    ScheduleActivityTaskCommandAttributes,
    ScheduleNexusOperationCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes,
    StartTimerCommandAttributes,
)
from temporalio.api.common.v1 import (
    ActivityType,
    Payload,
    Payloads,
    RetryPolicy,
    WorkflowExecution,
    WorkflowType,
)
from temporalio.api.enums.v1 import CommandType, EventType, TaskQueueKind
from temporalio.api.failure.v1 import ApplicationFailureInfo, CanceledFailureInfo, Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.nexus.v1 import StartOperationResponse
from temporalio.api.taskqueue.v1 import StickyExecutionAttributes, TaskQueue


def payload(value: Any) -> Payload:
    """A value as the SDK's default converter encodes it."""
    if value is None:
        return Payload(metadata={"encoding": b"binary/null"})
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())


def payloads(*values: Any) -> Payloads:
    """Arguments, or a result."""
    return Payloads(payloads=[payload(value) for value in values])


def value_of(encoded: Payload) -> Any:
    """The value in a payload of `payload`."""
    return json.loads(encoded.data) if encoded.data else None


def result_of(event: HistoryEvent) -> Any:
    """The result in a workflow's or an activity's completion event."""
    attributes = getattr(event, event.WhichOneof("attributes") or "")
    result = attributes.result
    return value_of(result.payloads[0] if isinstance(result, Payloads) else result)


def event_names(events: Sequence[HistoryEvent]) -> list[str]:
    """The types of events, short: `WORKFLOW_EXECUTION_STARTED`."""
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in events]


def duration(seconds: float) -> Duration:
    """A protobuf duration."""
    result = Duration()
    result.FromTimedelta(timedelta(seconds=seconds))
    return result


def application_failure(
    message: str = "no stock", *, failure_type: str = "OutOfStock", non_retryable: bool = False, **info: Any
) -> Failure:
    """A failure as user code raises it."""
    return Failure(
        message=message,
        source="PythonSDK",
        application_failure_info=ApplicationFailureInfo(type=failure_type, non_retryable=non_retryable, **info),
    )


def cancelled_failure(message: str = "called off") -> Failure:
    """A failure that says that the work was cancelled."""
    return Failure(message=message, source="PythonSDK", canceled_failure_info=CanceledFailureInfo())


def complete_workflow(result: Any = None) -> Command:
    """Closes the workflow with a result."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
        complete_workflow_execution_command_attributes=CompleteWorkflowExecutionCommandAttributes(
            result=payloads(result)
        ),
    )


def fail_workflow(failure: Failure | None = None) -> Command:
    """Closes the workflow with a failure."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
        fail_workflow_execution_command_attributes=FailWorkflowExecutionCommandAttributes(
            failure=failure or application_failure()
        ),
    )


def cancel_workflow(*details: Any) -> Command:
    """Closes the workflow as cancelled."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION,
        cancel_workflow_execution_command_attributes=CancelWorkflowExecutionCommandAttributes(
            details=payloads(*details) if details else None
        ),
    )


def continue_as_new(workflow_type: str = "", queue: str = "", **more: Any) -> Command:
    """Closes the run, and lets another one follow it."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION,
        continue_as_new_workflow_execution_command_attributes=ContinueAsNewWorkflowExecutionCommandAttributes(
            workflow_type=WorkflowType(name=workflow_type), task_queue=TaskQueue(name=queue), **more
        ),
    )


def start_child(workflow_id: str, queue: str, *, workflow_type: str = "Child", **more: Any) -> Command:
    """Starts a child workflow."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION,
        start_child_workflow_execution_command_attributes=StartChildWorkflowExecutionCommandAttributes(
            workflow_id=workflow_id,
            workflow_type=WorkflowType(name=workflow_type),
            task_queue=TaskQueue(name=queue),
            **more,
        ),
    )


def signal_external(workflow_id: str, name: str, *, run_id: str = "", **more: Any) -> Command:
    """Signals another workflow."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION,
        signal_external_workflow_execution_command_attributes=SignalExternalWorkflowExecutionCommandAttributes(
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id), signal_name=name, **more
        ),
    )


def cancel_external(workflow_id: str, *, run_id: str = "", **more: Any) -> Command:
    """Asks another workflow to stop."""
    attributes = RequestCancelExternalWorkflowExecutionCommandAttributes(workflow_id=workflow_id, run_id=run_id, **more)
    return Command(
        command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION,
        request_cancel_external_workflow_execution_command_attributes=attributes,
    )


def start_timer(timer_id: str, seconds: float) -> Command:
    """Starts a timer."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_START_TIMER,
        start_timer_command_attributes=StartTimerCommandAttributes(
            timer_id=timer_id, start_to_fire_timeout=duration(seconds)
        ),
    )


def cancel_timer(timer_id: str) -> Command:
    """Cancels a timer that has not fired."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_CANCEL_TIMER,
        cancel_timer_command_attributes=CancelTimerCommandAttributes(timer_id=timer_id),
    )


def schedule_activity(
    activity_id: str,
    queue: str,
    *,
    activity_type: str = "reserve",
    start_to_close: float = 30,
    retry: RetryPolicy | None = None,
    **more: Any,
) -> Command:
    """Schedules an activity. `retry` as the server's default when None: without end, first after a second."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
        schedule_activity_task_command_attributes=ScheduleActivityTaskCommandAttributes(
            activity_id=activity_id,
            activity_type=ActivityType(name=activity_type),
            task_queue=TaskQueue(name=queue),
            start_to_close_timeout=duration(start_to_close),
            retry_policy=retry,
            **more,
        ),
    )


def cancel_activity(scheduled_id: int) -> Command:
    """Asks an activity to stop."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK,
        request_cancel_activity_task_command_attributes=RequestCancelActivityTaskCommandAttributes(
            scheduled_event_id=scheduled_id
        ),
    )


def retry_policy(*, attempts: int = 0, first: float = 0.01, **more: Any) -> RetryPolicy:
    """A retry policy; without a limit on attempts when 0. The first retry comes after `first` seconds."""
    return RetryPolicy(maximum_attempts=attempts, initial_interval=duration(first), backoff_coefficient=1, **more)


def schedule_operation(
    endpoint: str,
    *,
    service: str = "Payments",
    operation: str = "process",
    value: Any = None,
    headers: Mapping[str, str] | None = None,
    schedule_to_close: float | None = None,
    **more: Any,
) -> Command:
    """Schedules a Nexus operation."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION,
        schedule_nexus_operation_command_attributes=ScheduleNexusOperationCommandAttributes(
            endpoint=endpoint,
            service=service,
            operation=operation,
            input=payload(value),
            nexus_header=headers or {},
            schedule_to_close_timeout=None if schedule_to_close is None else duration(schedule_to_close),
            **more,
        ),
    )


def cancel_operation(scheduled_id: int) -> Command:
    """Asks a Nexus operation to stop."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION,
        request_cancel_nexus_operation_command_attributes=RequestCancelNexusOperationCommandAttributes(
            scheduled_event_id=scheduled_id
        ),
    )


def sync_result(value: Any) -> StartOperationResponse:
    """The answer of an operation that has its result at once."""
    return StartOperationResponse(sync_success=StartOperationResponse.Sync(payload=payload(value)))


def async_result(token: str) -> StartOperationResponse:
    """The answer of an operation that goes on."""
    return StartOperationResponse(async_success=StartOperationResponse.Async(operation_token=token))


def sticky_queue(name: str, normal_name: str, *, timeout: float = 10) -> StickyExecutionAttributes:
    """Asks that the run's next workflow tasks come on a queue of this worker's own."""
    return StickyExecutionAttributes(
        worker_task_queue=TaskQueue(name=name, kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=normal_name),
        schedule_to_start_timeout=duration(timeout),
    )
