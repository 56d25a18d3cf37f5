"""Temporal's gRPC interface by hand: what an SDK would hide, a test can send, and see, here.

A `Namespace` is one namespace of a server. Its methods play the worker one call at a time: poll a task, look at it,
answer it with commands from the functions below. `refusal` turns a call that must fail into a value to look at.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from temporalio.api.command.v1 import (
    CancelTimerCommandAttributes,
    CancelWorkflowExecutionCommandAttributes,
    Command,
    CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
    RequestCancelActivityTaskCommandAttributes,
    RequestCancelExternalWorkflowExecutionCommandAttributes,
    ScheduleActivityTaskCommandAttributes,
    ScheduleNexusOperationCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes,
    StartTimerCommandAttributes,
)
from temporalio.api.common.v1 import (
    ActivityType,
    GrpcStatus,
    Payload,
    Payloads,
    RetryPolicy,
    WorkflowExecution,
    WorkflowType,
)
from temporalio.api.enums.v1 import CommandType, EventType, HistoryEventFilterType, TaskQueueKind
from temporalio.api.failure.v1 import ApplicationFailureInfo, CanceledFailureInfo, Failure, NexusHandlerFailureInfo
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.nexus.v1 import Endpoint, EndpointSpec, EndpointTarget, Response, StartOperationResponse
from temporalio.api.operatorservice.v1 import (
    CreateNexusEndpointRequest,
    CreateNexusEndpointResponse,
)
from temporalio.api.operatorservice.v1.service_pb2_grpc import OperatorServiceStub
from temporalio.api.taskqueue.v1 import StickyExecutionAttributes, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryRequest,
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    PollNexusTaskQueueRequest,
    PollNexusTaskQueueResponse,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    RequestCancelWorkflowExecutionRequest,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest,
    RespondNexusTaskCompletedRequest,
    RespondNexusTaskFailedRequest,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
    SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse,
    SignalWorkflowExecutionRequest,
    SignalWorkflowExecutionResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
    TerminateWorkflowExecutionRequest,
)
from temporalio.api.workflowservice.v1.service_pb2_grpc import WorkflowServiceStub

POLL_TIMEOUT = timedelta(seconds=20)
"""A task that a test waits for is there at once; this ends the test where it is not."""

IDENTITY = "a-test"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Refusal:
    """A call's failure, as the wire has it."""

    code: grpc.StatusCode
    message: str
    details: tuple[AnyMessage, ...]

    def names(self, thing: str) -> bool:
        """Whether the message names the thing: `task queue`, `TaskQueue` and `task_queue` are one."""
        return _squeezed(thing) in _squeezed(self.message)

    def detail(self, kind: type[M]) -> M:
        """The typed detail of this kind.

        Raises:
            LookupError: there is none; the message lists those there are.
        """
        for each in self.details:
            if each.Is(kind.DESCRIPTOR):
                found = kind()
                each.Unpack(found)
                return found
        raise LookupError(f"no {kind.DESCRIPTOR.full_name} among {[each.type_url for each in self.details]}")


def _squeezed(text: str) -> str:
    return text.lower().replace(" ", "").replace("_", "")


async def refusal(call: Awaitable[Any]) -> Refusal:
    """How the call was refused.

    Raises:
        AssertionError: it was answered.
    """
    (refused,) = await refusals(call)
    return refused


async def refusals(*calls: Awaitable[Any]) -> list[Refusal]:
    """How each of the calls was refused; they are made at once.

    Raises:
        AssertionError: one was answered.
    """
    return [_refused(outcome) for outcome in await asyncio.gather(*calls, return_exceptions=True)]


def _refused(outcome: Any) -> Refusal:
    if isinstance(outcome, grpc.aio.AioRpcError):
        details: tuple[AnyMessage, ...] = ()
        for key, value in outcome.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                details = tuple(GrpcStatus.FromString(value).details)
        return Refusal(outcome.code(), outcome.details() or "", details)
    if isinstance(outcome, BaseException):
        raise outcome
    raise AssertionError(f"the call was answered: {outcome!r}")


@dataclass(frozen=True)
class Namespace:
    """One namespace of a server, called by hand."""

    name: str
    channel: grpc.aio.Channel

    @property
    def service(self) -> Any:
        """Every call of the workflow service, as it is on the wire. (Its types are those of grpc without asyncio.)"""
        return WorkflowServiceStub(self.channel)  # type: ignore[arg-type]

    @property
    def operator(self) -> Any:
        """Every call of the operator service, as it is on the wire."""
        return OperatorServiceStub(self.channel)  # type: ignore[arg-type]

    async def start(
        self, workflow_id: str, queue: str, *, workflow_type: str = "Order", request_id: str | None = None, **more: Any
    ) -> str:
        """Starts a workflow; answers with its run id."""
        answer = await self.service.StartWorkflowExecution(
            self.start_request(workflow_id, queue, workflow_type=workflow_type, request_id=request_id, **more)
        )
        return answer.run_id

    def start_request(
        self, workflow_id: str, queue: str, *, workflow_type: str = "Order", request_id: str | None = None, **more: Any
    ) -> StartWorkflowExecutionRequest:
        """What `start` sends. A new request id unless one is given."""
        return StartWorkflowExecutionRequest(
            namespace=self.name,
            workflow_id=workflow_id,
            workflow_type=WorkflowType(name=workflow_type),
            task_queue=TaskQueue(name=queue),
            request_id=str(uuid.uuid4()) if request_id is None else request_id,
            identity=IDENTITY,
            **more,
        )

    async def start_whole(self, workflow_id: str, queue: str, **more: Any) -> StartWorkflowExecutionResponse:
        """Starts a workflow as `start` does; answers with all that the server says."""
        return await self.service.StartWorkflowExecution(self.start_request(workflow_id, queue, **more))

    async def signal(
        self, workflow_id: str, name: str, *values: Any, run_id: str = "", request_id: str = "", **more: Any
    ) -> SignalWorkflowExecutionResponse:
        """Sends a signal, with values as its input if there are any."""
        return await self.service.SignalWorkflowExecution(
            SignalWorkflowExecutionRequest(
                namespace=self.name,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                signal_name=name,
                input=payloads(*values) if values else None,
                request_id=request_id,
                identity=IDENTITY,
                **more,
            )
        )

    async def signal_with_start(
        self, workflow_id: str, queue: str, name: str, *, workflow_type: str = "Order", **more: Any
    ) -> SignalWithStartWorkflowExecutionResponse:
        """Sends a signal, and starts the workflow if it does not run."""
        return await self.service.SignalWithStartWorkflowExecution(
            SignalWithStartWorkflowExecutionRequest(
                namespace=self.name,
                workflow_id=workflow_id,
                workflow_type=WorkflowType(name=workflow_type),
                task_queue=TaskQueue(name=queue),
                signal_name=name,
                identity=IDENTITY,
                **{"request_id": str(uuid.uuid4()), **more},
            )
        )

    async def request_cancel(self, workflow_id: str, run_id: str = "", **more: Any) -> None:
        """Asks a workflow to stop."""
        await self.service.RequestCancelWorkflowExecution(
            RequestCancelWorkflowExecutionRequest(
                namespace=self.name,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                identity=IDENTITY,
                **{"request_id": str(uuid.uuid4()), **more},
            )
        )

    async def terminate(self, workflow_id: str, run_id: str = "", **more: Any) -> None:
        """Ends a workflow."""
        await self.service.TerminateWorkflowExecution(
            TerminateWorkflowExecutionRequest(
                namespace=self.name,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                identity=IDENTITY,
                **more,
            )
        )

    async def poll_workflow_task(self, queue: str, *, sticky_of: str | None = None) -> PollWorkflowTaskQueueResponse:
        """The next workflow task of a queue; of the sticky queue that belongs to queue `sticky_of`, if given.

        Raises:
            AssertionError: none came in time.
        """
        kind = TaskQueueKind.TASK_QUEUE_KIND_STICKY if sticky_of else TaskQueueKind.TASK_QUEUE_KIND_NORMAL
        request = PollWorkflowTaskQueueRequest(
            namespace=self.name,
            task_queue=TaskQueue(name=queue, kind=kind, normal_name=sticky_of or ""),
            identity=IDENTITY,
        )
        task = await self.service.PollWorkflowTaskQueue(request, timeout=POLL_TIMEOUT.total_seconds())
        assert task.task_token, f"no workflow task came on {queue!r}"
        return task

    async def complete_workflow_task(
        self,
        task: PollWorkflowTaskQueueResponse,
        *commands: Command,
        sticky: StickyExecutionAttributes | None = None,
        **more: Any,
    ) -> RespondWorkflowTaskCompletedResponse:
        """Answers a workflow task with commands."""
        return await self.service.RespondWorkflowTaskCompleted(
            RespondWorkflowTaskCompletedRequest(
                namespace=self.name,
                task_token=task.task_token,
                commands=commands,
                sticky_attributes=sticky,
                identity=IDENTITY,
                **more,
            )
        )

    async def run_workflow_task(self, queue: str, *commands: Command) -> PollWorkflowTaskQueueResponse:
        """Polls the next workflow task and answers it with these commands."""
        task = await self.poll_workflow_task(queue)
        await self.complete_workflow_task(task, *commands)
        return task

    async def poll_activity_task(self, queue: str) -> PollActivityTaskQueueResponse:
        """The next activity task of a queue.

        Raises:
            AssertionError: none came in time.
        """
        task = await self.service.PollActivityTaskQueue(
            PollActivityTaskQueueRequest(namespace=self.name, task_queue=TaskQueue(name=queue), identity=IDENTITY),
            timeout=POLL_TIMEOUT.total_seconds(),
        )
        assert task.task_token, f"no activity task came on {queue!r}"
        return task

    async def complete_activity(self, task: PollActivityTaskQueueResponse, result: Any = None) -> None:
        """Answers an activity task with a result."""
        await self.service.RespondActivityTaskCompleted(
            RespondActivityTaskCompletedRequest(
                namespace=self.name, task_token=task.task_token, result=payloads(result), identity=IDENTITY
            )
        )

    async def fail_activity(self, task: PollActivityTaskQueueResponse, failure: Failure) -> None:
        """Answers an activity task with a failure."""
        await self.service.RespondActivityTaskFailed(
            RespondActivityTaskFailedRequest(
                namespace=self.name, task_token=task.task_token, failure=failure, identity=IDENTITY
            )
        )

    async def poll_nexus_task(self, queue: str) -> PollNexusTaskQueueResponse:
        """The next Nexus task of a queue.

        Raises:
            AssertionError: none came in time.
        """
        task = await self.service.PollNexusTaskQueue(
            PollNexusTaskQueueRequest(namespace=self.name, task_queue=TaskQueue(name=queue), identity=IDENTITY),
            timeout=POLL_TIMEOUT.total_seconds(),
        )
        assert task.task_token, f"no Nexus task came on {queue!r}"
        return task

    async def answer_nexus_task(self, task: PollNexusTaskQueueResponse, answer: StartOperationResponse) -> None:
        """Answers a Nexus task that starts an operation."""
        await self.service.RespondNexusTaskCompleted(
            RespondNexusTaskCompletedRequest(
                namespace=self.name,
                task_token=task.task_token,
                response=Response(start_operation=answer),
                identity=IDENTITY,
            )
        )

    async def refuse_nexus_task(self, task: PollNexusTaskQueueResponse, error_type: str, message: str) -> None:
        """Answers a Nexus task with a handler error."""
        await self.service.RespondNexusTaskFailed(
            RespondNexusTaskFailedRequest(
                namespace=self.name,
                task_token=task.task_token,
                failure=Failure(message=message, nexus_handler_failure_info=NexusHandlerFailureInfo(type=error_type)),
                identity=IDENTITY,
            )
        )

    async def history(self, workflow_id: str, run_id: str = "") -> list[HistoryEvent]:
        """All events of a run now; of the newest run if no run id is given."""
        return [event async for page in self.history_pages(workflow_id, run_id) for event in page]

    async def history_pages(
        self, workflow_id: str, run_id: str = "", page_size: int = 0
    ) -> AsyncIterator[Sequence[HistoryEvent]]:
        """The events of a run now, page by page."""
        token = b""
        while True:
            page = await self.service.GetWorkflowExecutionHistory(
                GetWorkflowExecutionHistoryRequest(
                    namespace=self.name,
                    execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                    maximum_page_size=page_size,
                    next_page_token=token,
                )
            )
            yield page.history.events
            token = page.next_page_token
            if not token:
                return

    async def wait_for_event(self, workflow_id: str, event_type: EventType.ValueType, run_id: str = "") -> HistoryEvent:
        """Waits by long poll until the run's history has an event of this type.

        Raises:
            AssertionError: the run closed without it.
        """
        seen: list[HistoryEvent] = []
        token = b""
        while True:
            page = await self.service.GetWorkflowExecutionHistory(
                GetWorkflowExecutionHistoryRequest(
                    namespace=self.name,
                    execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                    wait_new_event=True,
                    next_page_token=token,
                ),
                timeout=POLL_TIMEOUT.total_seconds(),
            )
            seen += page.history.events
            for event in page.history.events:
                if event.event_type == event_type:
                    return event
            token = page.next_page_token
            assert token, f"closed without {EventType.Name(event_type)}: {event_names(seen)}"

    async def close_event(self, workflow_id: str, run_id: str = "") -> HistoryEvent:
        """Waits by long poll until the run is closed; answers with its last event."""
        token = b""
        while True:
            page = await self.service.GetWorkflowExecutionHistory(
                GetWorkflowExecutionHistoryRequest(
                    namespace=self.name,
                    execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                    wait_new_event=True,
                    history_event_filter_type=HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
                    next_page_token=token,
                ),
                timeout=POLL_TIMEOUT.total_seconds(),
            )
            if page.history.events:
                return page.history.events[-1]
            token = page.next_page_token
            assert token, "the long poll for the close event ended without one"

    async def last_event(self, workflow_id: str, run_id: str = "") -> HistoryEvent:
        """Waits until the run is closed; answers with its last event as it is.

        A client that does not say that it follows runs is shown a continue-as-new as the close event instead.
        """
        await self.close_event(workflow_id, run_id)
        return (await self.history(workflow_id, run_id))[-1]

    async def describe(self, workflow_id: str, run_id: str = "") -> DescribeWorkflowExecutionResponse:
        """What the server tells about a run."""
        return await self.service.DescribeWorkflowExecution(
            DescribeWorkflowExecutionRequest(
                namespace=self.name, execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
            )
        )

    async def create_endpoint(self, name: str, queue: str) -> Endpoint:
        """Registers an endpoint that routes to a queue of this namespace."""
        answer: CreateNexusEndpointResponse = await self.operator.CreateNexusEndpoint(
            CreateNexusEndpointRequest(spec=endpoint_spec(name, self.name, queue))
        )
        return answer.endpoint


async def wait_until_callable(caller: Namespace, endpoint: str) -> None:
    """Waits until workflows of the namespace can call a new endpoint: a real server's parts hear of it a moment later.

    No operation is started: the second command is wrong, so the server looks the endpoint up and then does nothing.
    """
    probe = f"is-{endpoint}-known"
    await caller.start(probe, probe)
    while True:
        task = await caller.poll_workflow_task(probe)
        refused = await refusal(
            caller.complete_workflow_task(task, schedule_operation(endpoint), start_timer("", seconds=1))
        )
        if endpoint not in refused.message:
            break
    await caller.run_workflow_task(probe, complete_workflow())


def endpoint_spec(name: str, namespace: str, queue: str, description: Payload | None = None) -> EndpointSpec:
    """An endpoint that routes to a worker's queue."""
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=namespace, task_queue=queue))
    return EndpointSpec(name=name, target=target, description=description)


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
