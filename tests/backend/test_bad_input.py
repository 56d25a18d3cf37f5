"""Requests that are wrong: each is refused with the status that Temporal gives, and disturbs no other request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import Payload, Payloads, TimeSkippingConfig, WorkerVersionCapabilities
from temporalio.api.deployment.v1 import WorkerDeploymentOptions
from temporalio.api.enums.v1 import WorkerVersioningMode
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.failure.v1 import Failure, NexusHandlerFailureInfo
from temporalio.api.nexus.v1 import Response, StartOperationResponse
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import VersioningOverride
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    PollActivityTaskQueueRequest,
    PollNexusTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    RecordActivityTaskHeartbeatRequest,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest,
    RespondNexusTaskCompletedRequest,
    RespondNexusTaskFailedRequest,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskFailedRequest,
    StartWorkflowExecutionRequest,
)

from tests.backend.conftest import Endpoint
from tests.support.raw import Namespace, refusal
from tests.support.servers import Server
from tests.support.values import (
    application_failure,
    complete_workflow,
    duration,
    event_names,
    fail_workflow,
    payloads,
    result_of,
    schedule_activity,
    schedule_operation,
)

WORKFLOW_SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
OPERATOR_SERVICE = "/temporal.api.operatorservice.v1.OperatorService/"
MALFORMED = b"\x0a\x50abc"
"""A field of 80 bytes that ends after three."""
INVALID = grpc.StatusCode.INVALID_ARGUMENT
ID_LIMIT = 1000
PAYLOAD_LIMIT = 2 * 1024 * 1024
MESSAGE_LIMIT = 4 * 1024 * 1024

START_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no workflow id": ({"workflow_id": ""}, "WorkflowId"),
    "no workflow type": ({"workflow_type": ""}, "WorkflowType"),
    "no task queue": ({"queue": ""}, "task queue"),
    "a workflow id that is too long": ({"workflow_id": "w" * (ID_LIMIT + 1)}, "WorkflowId"),
    "a workflow type that is too long": ({"workflow_type": "t" * (ID_LIMIT + 1)}, "WorkflowType"),
    "a task queue that is too long": ({"queue": "q" * (ID_LIMIT + 1)}, "taskQueue"),
    "a request id that is too long": ({"request_id": "r" * (ID_LIMIT + 1)}, "RequestId"),
    "a negative run timeout": ({"workflow_run_timeout": duration(-1)}, "WorkflowRunTimeout"),
    "a negative execution timeout": ({"workflow_execution_timeout": duration(-1)}, "WorkflowExecutionTimeout"),
    "a negative task timeout": ({"workflow_task_timeout": duration(-1)}, "WorkflowTaskTimeout"),
    "an input that is too large": (
        {"input": Payloads(payloads=[Payload(data=b"x" * PAYLOAD_LIMIT)])},
        "size",
    ),
}


@pytest.mark.parametrize(("fault", "named"), START_FAULTS.values(), ids=START_FAULTS.keys())
async def test_a_start_that_is_wrong_is_refused_and_starts_nothing(
    orders: Namespace, workflow_id: str, queue: str, fault: dict[str, Any], named: str
) -> None:
    right = {"workflow_id": workflow_id, "queue": queue}
    refused = await refusal(orders.start(**{**right, **fault}))
    assert refused.code == INVALID
    assert refused.names(named)
    assert (await refusal(orders.describe(workflow_id))).code == grpc.StatusCode.NOT_FOUND


async def test_ids_and_names_may_be_as_long_as_the_limit(orders: Namespace, unique: Callable[[str], str]) -> None:
    workflow_id, queue, kind, request_id = (unique(what).ljust(ID_LIMIT, "x") for what in ("w", "q", "t", "r"))
    run_id = await orders.start(workflow_id, queue, workflow_type=kind, request_id=request_id)
    task = await orders.poll_workflow_task(queue)
    assert task.workflow_execution.run_id == run_id
    assert task.workflow_type.name == kind
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_message_larger_than_four_mebibytes_is_refused_and_names_the_limit(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    too_large = Payloads(payloads=[Payload(data=b"x" * MESSAGE_LIMIT)])
    refused = await refusal(orders.start(workflow_id, queue, input=too_large))
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(MESSAGE_LIMIT) in refused.message
    await orders.start(workflow_id, queue)


LARGE = "x" * PAYLOAD_LIMIT
LARGE_COMMANDS: dict[str, tuple[Callable[[str], Command], str]] = {
    "an activity's input": (lambda _: schedule_activity("reserve", "queue", input=payloads(LARGE)), "Input"),
    "a Nexus operation's input": (lambda endpoint: schedule_operation(endpoint, value=LARGE), "Input"),
    "the workflow's result": (lambda _: complete_workflow(LARGE), "Result"),
    "the workflow's failure": (lambda _: fail_workflow(application_failure(LARGE)), "Failure"),
}


@pytest.mark.parametrize(("command", "named"), LARGE_COMMANDS.values(), ids=LARGE_COMMANDS.keys())
async def test_a_command_with_a_payload_that_is_too_large_ends_the_workflow(
    orders: Namespace,
    workflow_id: str,
    queue: str,
    endpoint: Endpoint,
    command: Callable[[str], Command],
    named: str,
) -> None:
    """The worker would give the same command again and again, so the server does not let it try."""
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, command(endpoint.name)))
    assert refused.code == INVALID
    assert refused.names(named)
    assert refused.names("exceeds size limit")
    history = await orders.history(workflow_id)
    assert event_names(history)[3:] == ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_TERMINATED"]
    assert named in history[4].workflow_execution_terminated_event_attributes.reason


Call = Callable[[Namespace, str], Awaitable[Any]]
TOKEN_CALLS: dict[str, Callable[[Namespace, str, bytes], Awaitable[Any]]] = {
    "RespondWorkflowTaskCompleted": lambda at, ns, token: at.service.RespondWorkflowTaskCompleted(
        RespondWorkflowTaskCompletedRequest(namespace=ns, task_token=token)
    ),
    "RespondWorkflowTaskFailed": lambda at, ns, token: at.service.RespondWorkflowTaskFailed(
        RespondWorkflowTaskFailedRequest(namespace=ns, task_token=token)
    ),
    "RespondActivityTaskCompleted": lambda at, ns, token: at.service.RespondActivityTaskCompleted(
        RespondActivityTaskCompletedRequest(namespace=ns, task_token=token)
    ),
    "RespondActivityTaskFailed": lambda at, ns, token: at.service.RespondActivityTaskFailed(
        RespondActivityTaskFailedRequest(namespace=ns, task_token=token)
    ),
    "RecordActivityTaskHeartbeat": lambda at, ns, token: at.service.RecordActivityTaskHeartbeat(
        RecordActivityTaskHeartbeatRequest(namespace=ns, task_token=token)
    ),
    "RespondNexusTaskCompleted": lambda at, ns, token: at.service.RespondNexusTaskCompleted(
        RespondNexusTaskCompletedRequest(
            namespace=ns, task_token=token, response=Response(start_operation=StartOperationResponse())
        )
    ),
    "RespondNexusTaskFailed": lambda at, ns, token: at.service.RespondNexusTaskFailed(
        RespondNexusTaskFailedRequest(
            namespace=ns,
            task_token=token,
            failure=Failure(message="no", nexus_handler_failure_info=NexusHandlerFailureInfo(type="INTERNAL")),
        )
    ),
}


@pytest.mark.parametrize("token", [b"", b"garbage", b"\xff" * 8], ids=["empty", "garbage", "not even a message"])
@pytest.mark.parametrize("call", TOKEN_CALLS.values(), ids=TOKEN_CALLS.keys())
async def test_a_task_token_that_is_none_is_refused(
    orders: Namespace, call: Callable[[Namespace, str, bytes], Awaitable[Any]], token: bytes
) -> None:
    refused = await refusal(call(orders, orders.name, token))
    assert refused.code == INVALID
    assert refused.names("token")


WORKFLOW_TOKENS = ["RespondWorkflowTaskCompleted", "RespondWorkflowTaskFailed"]
ACTIVITY_TOKENS = ["RespondActivityTaskCompleted", "RespondActivityTaskFailed", "RecordActivityTaskHeartbeat"]
NEXUS_TOKENS = ["RespondNexusTaskCompleted", "RespondNexusTaskFailed"]


@pytest.mark.parametrize("name", WORKFLOW_TOKENS + ACTIVITY_TOKENS + NEXUS_TOKENS)
async def test_a_task_token_of_another_namespace_is_refused_and_the_task_stays(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, name: str
) -> None:
    call = TOKEN_CALLS[name]
    await orders.start(workflow_id, queue)
    task: Any = await orders.poll_workflow_task(queue)
    if name in WORKFLOW_TOKENS:
        refused = await refusal(call(orders, payments.name, task.task_token))
        await orders.complete_workflow_task(task, complete_workflow())
    elif name in ACTIVITY_TOKENS:
        await orders.complete_workflow_task(task, schedule_activity("reserve", queue))
        task = await orders.poll_activity_task(queue)
        refused = await refusal(call(orders, payments.name, task.task_token))
        await orders.complete_activity(task)
    else:
        await orders.complete_workflow_task(task, schedule_operation(endpoint.name))
        task = await payments.poll_nexus_task(endpoint.queue)
        refused = await refusal(call(orders, orders.name, task.task_token))
        await payments.refuse_nexus_task(task, "BAD_REQUEST", "no")
    assert refused.code == INVALID
    assert refused.names("namespace")


NAMESPACED: dict[str, Call] = {
    "StartWorkflowExecution": lambda at, ns: at.service.StartWorkflowExecution(
        StartWorkflowExecutionRequest(namespace=ns, workflow_id="w", request_id="r")
    ),
    "DescribeWorkflowExecution": lambda at, ns: at.service.DescribeWorkflowExecution(
        DescribeWorkflowExecutionRequest(namespace=ns)
    ),
    "GetWorkflowExecutionHistory": lambda at, ns: at.service.GetWorkflowExecutionHistory(
        GetWorkflowExecutionHistoryRequest(namespace=ns)
    ),
    "PollWorkflowTaskQueue": lambda at, ns: at.service.PollWorkflowTaskQueue(
        PollWorkflowTaskQueueRequest(namespace=ns, task_queue=TaskQueue(name="queue")), timeout=10
    ),
    "PollActivityTaskQueue": lambda at, ns: at.service.PollActivityTaskQueue(
        PollActivityTaskQueueRequest(namespace=ns, task_queue=TaskQueue(name="queue")), timeout=10
    ),
    "PollNexusTaskQueue": lambda at, ns: at.service.PollNexusTaskQueue(
        PollNexusTaskQueueRequest(namespace=ns, task_queue=TaskQueue(name="queue")), timeout=10
    ),
    **{name: lambda at, ns, call=call: call(at, ns, b"token") for name, call in TOKEN_CALLS.items()},
}


@pytest.mark.parametrize("call", NAMESPACED.values(), ids=NAMESPACED.keys())
async def test_an_unknown_namespace_is_not_found_by_any_call(orders: Namespace, call: Call) -> None:
    refused = await refusal(call(orders, "no-such-team"))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert "no-such-team" in refused.message
    assert refused.detail(NamespaceNotFoundFailure).namespace == "no-such-team"


@pytest.mark.parametrize(
    "name", ["StartWorkflowExecution", "PollWorkflowTaskQueue", "PollActivityTaskQueue", "PollNexusTaskQueue"]
)
async def test_a_call_that_names_no_namespace_is_refused(orders: Namespace, name: str) -> None:
    refused = await refusal(NAMESPACED[name](orders, ""))
    assert refused.code == INVALID
    assert refused.names("namespace")


POLLS: dict[str, Any] = {
    "PollWorkflowTaskQueue": PollWorkflowTaskQueueRequest,
    "PollActivityTaskQueue": PollActivityTaskQueueRequest,
    "PollNexusTaskQueue": PollNexusTaskQueueRequest,
}


@pytest.mark.parametrize("name", POLLS)
@pytest.mark.parametrize(
    ("queue", "identity", "named"),
    [("", "", "task queue"), ("q" * (ID_LIMIT + 1), "", "task queue"), ("queue", "i" * (ID_LIMIT + 1), "identity")],
    ids=["no queue", "a queue that is too long", "an identity that is too long"],
)
async def test_a_poll_that_is_wrong_is_refused(
    orders: Namespace, name: str, queue: str, identity: str, named: str
) -> None:
    request = POLLS[name](namespace=orders.name, task_queue=TaskQueue(name=queue), identity=identity)
    refused = await refusal(getattr(orders.service, name)(request, timeout=10))
    assert refused.code == INVALID
    assert refused.names(named)


@pytest.mark.parametrize(
    "method",
    [
        WORKFLOW_SERVICE + "StartWorkflowExecution",
        WORKFLOW_SERVICE + "PollWorkflowTaskQueue",
        WORKFLOW_SERVICE + "GetSystemInfo",
        OPERATOR_SERVICE + "CreateNexusEndpoint",
    ],
)
@pytest.mark.parametrize("body", [MALFORMED, b"\xff\xff\xff\xff"], ids=["cut short", "no message at all"])
async def test_a_malformed_message_is_an_internal_error_as_grpc_has_it(
    channel: grpc.aio.Channel, method: str, body: bytes
) -> None:
    refused = await refusal(channel.unary_unary(method)(body))
    assert refused.code == grpc.StatusCode.INTERNAL
    assert refused.message


async def test_text_that_is_not_utf8_is_malformed(channel: grpc.aio.Channel) -> None:
    refused = await refusal(channel.unary_unary(WORKFLOW_SERVICE + "DescribeNamespace")(b"\x0a\x02\xff\xfe"))
    assert refused.code == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("method", "named"),
    [
        (WORKFLOW_SERVICE + "NoSuchCall", "NoSuchCall"),
        (OPERATOR_SERVICE + "NoSuchCall", "NoSuchCall"),
        ("/no.such.Service/Call", "no.such.Service"),
    ],
)
async def test_an_unknown_call_is_unimplemented_and_named(channel: grpc.aio.Channel, method: str, named: str) -> None:
    refused = await refusal(channel.unary_unary(method)(b""))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
    assert named in refused.message


@pytest.mark.usefixtures("embedded_only")
@pytest.mark.parametrize("call", ["CreateSchedule", "ListSchedules", "StartBatchOperation"])
async def test_a_call_that_the_embedded_backend_does_not_serve_is_unimplemented_and_named(
    channel: grpc.aio.Channel, call: str
) -> None:
    refused = await refusal(channel.unary_unary(WORKFLOW_SERVICE + call)(b""))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
    assert call in refused.message


NOT_SERVED_YET: dict[str, Any] = {
    "versioning_override": VersioningOverride(auto_upgrade=True),
    "time_skipping_config": TimeSkippingConfig(enabled=True),
}


@pytest.mark.usefixtures("embedded_only")
@pytest.mark.parametrize("field", NOT_SERVED_YET)
async def test_a_field_that_the_embedded_backend_does_not_honour_is_unimplemented_and_named(
    orders: Namespace, workflow_id: str, queue: str, field: str
) -> None:
    refused = await refusal(orders.start(workflow_id, queue, **{field: NOT_SERVED_YET[field]}))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
    assert field in refused.message


@pytest.mark.usefixtures("embedded_only")
@pytest.mark.parametrize(
    ("field", "options"),
    [
        (
            "use_versioning",
            {"worker_version_capabilities": WorkerVersionCapabilities(build_id="1", use_versioning=True)},
        ),
        (
            "worker_versioning_mode",
            {
                "deployment_options": WorkerDeploymentOptions(
                    deployment_name="d",
                    build_id="1",
                    worker_versioning_mode=WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED,
                )
            },
        ),
    ],
)
@pytest.mark.parametrize("kind", ["Workflow", "Activity", "Nexus"])
async def test_a_worker_that_asks_for_versioning_is_told_that_there_is_none(
    orders: Namespace, queue: str, kind: str, field: str, options: dict[str, Any]
) -> None:
    polls = {
        "Workflow": PollWorkflowTaskQueueRequest,
        "Activity": PollActivityTaskQueueRequest,
        "Nexus": PollNexusTaskQueueRequest,
    }
    request = polls[kind](namespace=orders.name, task_queue=TaskQueue(name=queue), **options)
    refused = await refusal(getattr(orders.service, f"Poll{kind}TaskQueue")(request, timeout=10))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
    assert field in refused.message


@pytest.mark.parametrize("way", ["cancels its call", "closes its connection"])
async def test_a_poller_that_goes_away_takes_no_task_with_it(
    server: Server, orders: Namespace, workflow_id: str, queue: str, way: str
) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    leaving = grpc.aio.insecure_channel(server.address, options=options)
    other = Namespace(orders.name, leaving)
    polls = [asyncio.ensure_future(other.poll_workflow_task(queue)) for _ in range(5)]
    # One answer tells that the polls are at the server.
    await orders.start(workflow_id + "-first", queue)
    done, waiting = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), len(waiting)) == (1, 4)
    if way == "cancels its call":
        for poll in waiting:
            poll.cancel()
    else:
        await leaving.close()
    await asyncio.gather(*waiting, return_exceptions=True)
    await orders.start(workflow_id, queue, workflow_task_timeout=duration(1))
    task = await orders.poll_workflow_task(queue)
    assert task.workflow_execution.workflow_id == workflow_id
    await orders.complete_workflow_task(task, complete_workflow("not lost"))
    assert result_of(await orders.close_event(workflow_id)) == "not lost"
    await leaving.close()


async def test_whenever_a_poller_goes_away_the_task_reaches_another(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    """The moment moves through the whole of a start: before it, while it commits, after the task was matched."""

    async def completed(task: PollWorkflowTaskQueueResponse) -> bool:
        try:
            await orders.complete_workflow_task(task, complete_workflow("not lost"))
        except grpc.aio.AioRpcError as error:  # a busy machine took longer than the task's timeout: it comes again
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True

    async def one(moment: float) -> None:
        workflow_id, queue = unique("order"), unique("queue")
        poll = asyncio.ensure_future(orders.poll_workflow_task(queue))
        start = asyncio.ensure_future(orders.start(workflow_id, queue, workflow_task_timeout=duration(1)))
        await asyncio.wait([poll], timeout=moment)
        poll.cancel()
        (task,) = await asyncio.gather(poll, return_exceptions=True)
        await start
        while isinstance(task, BaseException) or not await completed(task):
            task = await orders.poll_workflow_task(queue)
        assert result_of(await orders.close_event(workflow_id)) == "not lost"

    await asyncio.gather(*(one(number / 2000) for number in range(40)))


async def test_wrong_requests_disturb_no_right_one(channel: grpc.aio.Channel, orders: Namespace, queue: str) -> None:
    async def wrong() -> None:
        for _ in range(10):
            await refusal(channel.unary_unary(WORKFLOW_SERVICE + "StartWorkflowExecution")(MALFORMED))
            await refusal(TOKEN_CALLS["RespondWorkflowTaskCompleted"](orders, orders.name, b"garbage"))
            await refusal(orders.describe("no-such-order"))

    async def right(number: int) -> Any:
        workflow_id = f"{queue}-{number}"
        await orders.start(workflow_id, workflow_id, input=payloads(number))
        await orders.run_workflow_task(workflow_id, complete_workflow(number))
        return result_of(await orders.close_event(workflow_id))

    results = await asyncio.gather(*(right(number) for number in range(10)), *(wrong() for _ in range(5)))
    assert results[:10] == list(range(10))
