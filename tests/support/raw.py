"""Temporal's gRPC interface by hand: what an SDK would hide, a test can send, and see, here.

A `Namespace` is one namespace of a server. Its methods play the worker one call at a time: poll a task, look at it,
answer it with commands from the functions below. `refusal` turns a call that must fail into a value to look at.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from temporalio.api.command.v1 import (
    Command,
)
from temporalio.api.common.v1 import (
    GrpcStatus,
    Payload,
    WorkflowExecution,
    WorkflowType,
)
from temporalio.api.enums.v1 import (
    EventType,
    HistoryEventFilterType,
    TaskQueueKind,
    TaskQueueType,
    WorkflowTaskFailedCause,
)
from temporalio.api.failure.v1 import Failure, NexusHandlerFailureInfo
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.nexus.v1 import (
    CancelOperationResponse,
    Endpoint,
    EndpointSpec,
    EndpointTarget,
    Response,
    StartOperationResponse,
)
from temporalio.api.operatorservice.v1 import (
    CreateNexusEndpointRequest,
    CreateNexusEndpointResponse,
)
from temporalio.api.operatorservice.v1.service_pb2_grpc import OperatorServiceStub
from temporalio.api.taskqueue.v1 import StickyExecutionAttributes, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
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
    RespondWorkflowTaskFailedRequest,
    SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse,
    SignalWorkflowExecutionRequest,
    SignalWorkflowExecutionResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
    TerminateWorkflowExecutionRequest,
)
from temporalio.api.workflowservice.v1.service_pb2_grpc import WorkflowServiceStub

from tests.support.values import complete_workflow, event_names, payloads, schedule_operation, start_timer

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
        return WorkflowServiceStub(self.channel)

    @property
    def operator(self) -> Any:
        """Every call of the operator service, as it is on the wire."""
        return OperatorServiceStub(self.channel)

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

    async def begin_sticky_poll(self, queue: str, sticky_of: str) -> asyncio.Task[PollWorkflowTaskQueueResponse]:
        """Begins to wait for a task of a worker's own queue, and answers once the server knows of it.

        A task goes to a worker's own queue only while somebody polls there: begin before there can be one.
        """
        polling = asyncio.create_task(self.poll_workflow_task(queue, sticky_of=sticky_of))
        await self.polled(queue, sticky_of=sticky_of)
        return polling

    async def polled(self, queue: str, *, sticky_of: str | None = None) -> None:
        """Waits until somebody has polled for a workflow task at this queue, at which a poll is under way."""
        kind = TaskQueueKind.TASK_QUEUE_KIND_STICKY if sticky_of else TaskQueueKind.TASK_QUEUE_KIND_NORMAL
        request = DescribeTaskQueueRequest(
            namespace=self.name,
            task_queue=TaskQueue(name=queue, kind=kind, normal_name=sticky_of or ""),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        while not (await self.service.DescribeTaskQueue(request)).pollers:
            pass  # the server tells nobody that a poll has come

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

    async def fail_workflow_task(self, task: PollWorkflowTaskQueueResponse, failure: Failure | None = None) -> None:
        """The worker could not carry a workflow task out."""
        await self.service.RespondWorkflowTaskFailed(
            RespondWorkflowTaskFailedRequest(
                namespace=self.name,
                task_token=task.task_token,
                cause=WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
                failure=failure,
                identity=IDENTITY,
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

    async def answer_nexus_cancellation(self, task: PollNexusTaskQueueResponse) -> None:
        """Answers a Nexus task that cancels an operation: it has been told."""
        await self.service.RespondNexusTaskCompleted(
            RespondNexusTaskCompletedRequest(
                namespace=self.name,
                task_token=task.task_token,
                response=Response(cancel_operation=CancelOperationResponse()),
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

    async def create_external_endpoint(self, name: str, url: str) -> Endpoint:
        """Registers an endpoint that routes to a URL."""
        target = EndpointTarget(external=EndpointTarget.External(url=url))
        request = CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target))
        return (await self.operator.CreateNexusEndpoint(request)).endpoint


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
