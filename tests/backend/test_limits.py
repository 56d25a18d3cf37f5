"""What a request may hold: just under a limit it is taken, just over it is refused in the real server's words.

What the embedded backend adds (which thing, how large, what limit) follows them. Limits of commands are in
test_command_limits.py, of a whole run in test_sizes.py, of search attributes in test_search_attributes.py, of updates
in test_updates.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import Header, Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType, WorkflowTaskFailedCause
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import Input, Meta, Request
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    PauseActivityExecutionRequest,
    PollActivityTaskQueueRequest,
    PollNexusTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    QueryWorkflowRequest,
    ResetActivityExecutionRequest,
    RespondActivityTaskCompletedByIdRequest,
    SignalWorkflowExecutionRequest,
    UnpauseActivityExecutionRequest,
    UpdateActivityExecutionOptionsRequest,
    UpdateTaskQueueConfigRequest,
    UpdateWorkflowExecutionRequest,
)

from tests.support.blobs import PAYLOAD_SIZE, blob, memo
from tests.support.raw import Namespace, refusal
from tests.support.values import complete_workflow, event_names

INVALID = grpc.StatusCode.INVALID_ARGUMENT
ID_LENGTH = 1_000

Send = Callable[[Namespace, str, str, str], Awaitable[Any]]
"""A call in a namespace, to a running workflow, on a queue, with a name of some length."""


def _run(workflow_id: str) -> WorkflowExecution:
    return WorkflowExecution(workflow_id=workflow_id)


def _poll(call: str, kind: Any, *, identity: bool = False) -> Send:
    """A poll with the name as that of its queue, or as its identity."""

    def poll(at: Namespace, _: str, queue: str, name: str) -> Awaitable[Any]:
        request = kind(
            namespace=at.name,
            task_queue=TaskQueue(name=f"{queue}-nobody" if identity else name),
            identity=name if identity else "",
        )
        return _shortly(getattr(at.service, call)(request, timeout=_patience(name, 2.5)))

    return poll


NAMES: dict[str, tuple[Send, str]] = {
    "a workflow's id": (
        lambda at, _, queue, name: at.start(name, queue),
        "WorkflowId exceeds maximum allowed length (1001/1000)",
    ),
    "a workflow's type": (
        lambda at, run, queue, name: at.start(run + "-2", queue, workflow_type=name),
        "WorkflowType length exceeds limit.",
    ),
    "a workflow's task queue": (
        lambda at, run, _, name: at.start(run + "-2", name),
        "taskQueue length exceeds limit",
    ),
    "the request id of a start": (
        lambda at, run, queue, name: at.start(run + "-2", queue, request_id=name),
        "RequestId length exceeds limit.",
    ),
    "the workflow's id of a signal with start": (
        lambda at, _, queue, name: at.signal_with_start(name, queue, "go"),
        "WorkflowId exceeds maximum allowed length (1001/1000)",
    ),
    "the signal's name of a signal with start": (
        lambda at, run, queue, name: at.signal_with_start(run, queue, name),
        "signal name exceeds maximum allowed length (1001/1000)",
    ),
    "the workflow's type of a signal with start": (
        lambda at, run, queue, name: at.signal_with_start(run, queue, "go", workflow_type=name),
        "workflow type name exceeds maximum allowed length (1001/1000)",
    ),
    "the request id of a signal with start": (
        lambda at, run, queue, name: at.signal_with_start(run, queue, "go", request_id=name),
        "Request ID exceeds maximum allowed length (1001/1000)",
    ),
    "a signal's name": (lambda at, run, _, name: at.signal(run, name), "SignalName length exceeds limit."),
    "the request id of a signal": (
        lambda at, run, _, name: at.signal(run, "go", request_id=name),
        "RequestId length exceeds limit.",
    ),
    "an update's id": (
        lambda at, run, _, name: _shortly(
            at.service.UpdateWorkflowExecution(
                UpdateWorkflowExecutionRequest(
                    namespace=at.name,
                    workflow_execution=_run(run),
                    request=Request(meta=Meta(update_id=name), input=Input(name="add")),
                ),
                timeout=_patience(name, 0.3),
            )
        ),
        "UpdateId length exceeds limit.",
    ),
    "the identity of a poll for a workflow task": (
        _poll("PollWorkflowTaskQueue", PollWorkflowTaskQueueRequest, identity=True),
        "Identity length exceeds limit.",
    ),
    "the queue of a poll for a workflow task": (
        _poll("PollWorkflowTaskQueue", PollWorkflowTaskQueueRequest),
        "taskQueue length exceeds limit",
    ),
    "the identity of a poll for an activity": (
        _poll("PollActivityTaskQueue", PollActivityTaskQueueRequest, identity=True),
        "Identity length exceeds limit.",
    ),
    "the queue of a poll for an activity": (
        _poll("PollActivityTaskQueue", PollActivityTaskQueueRequest),
        "taskQueue length exceeds limit",
    ),
    "the queue of a poll for a Nexus request": (
        _poll("PollNexusTaskQueue", PollNexusTaskQueueRequest),
        "taskQueue length exceeds limit",
    ),
    "the identity of one who completes an activity": (
        lambda at, run, _, name: _not_found(
            at.service.RespondActivityTaskCompletedById(
                RespondActivityTaskCompletedByIdRequest(
                    namespace=at.name, workflow_id=run, activity_id="none", identity=name
                )
            )
        ),
        "Identity length exceeds limit.",
    ),
    "a described queue": (
        lambda at, _, queue, name: at.service.DescribeTaskQueue(
            DescribeTaskQueueRequest(namespace=at.name, task_queue=TaskQueue(name=name))
        ),
        "taskQueue length exceeds limit",
    ),
    "the identity of one who configures a queue": (
        lambda at, _, queue, name: at.service.UpdateTaskQueueConfig(
            UpdateTaskQueueConfigRequest(
                namespace=at.name,
                task_queue=queue,
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                identity=name,
            )
        ),
        "Identity field too long (max 1000 characters).",
    ),
}
"""What has a name → the call that brings it, and what the server says of one that is too long."""


def _patience(name: str, taken: float) -> float:
    """Seconds to wait: a call that is taken waits for nobody; one that is refused is answered, however busy we are."""
    return taken if len(name) <= ID_LENGTH else 20


async def _shortly(call: Any) -> None:
    """A call that is taken and then waits for a worker, until its short deadline."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
            raise


async def _not_found(call: Any) -> None:
    """A call that was taken and found nothing."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise


@pytest.mark.parametrize(("send", "says"), NAMES.values(), ids=NAMES.keys())
async def test_a_name_has_a_thousand_bytes_at_most(
    orders: Namespace, workflow_id: str, queue: str, send: Send, says: str
) -> None:
    await orders.start(workflow_id, queue)
    await send(orders, workflow_id, queue, workflow_id.ljust(ID_LENGTH, "x"))
    refused = await refusal(send(orders, workflow_id, queue, workflow_id.ljust(ID_LENGTH + 1, "x")))
    assert refused.code == INVALID
    assert refused.message.startswith(says)


@pytest.mark.parametrize(
    "kind",
    [
        PauseActivityExecutionRequest,
        UnpauseActivityExecutionRequest,
        ResetActivityExecutionRequest,
        UpdateActivityExecutionOptionsRequest,
    ],
)
@pytest.mark.parametrize(
    ("field", "named"), [("activity_id", "activity ID"), ("identity", "identity"), ("request_id", "request ID")]
)
async def test_a_name_in_a_call_that_controls_an_activity_has_a_thousand_bytes_at_most(
    orders: Namespace, workflow_id: str, queue: str, kind: Any, field: str, named: str
) -> None:
    await orders.start(workflow_id, queue)
    call = getattr(orders.service, kind.__name__.removesuffix("Request"))

    def request(size: int) -> Any:
        fields = {"activity_id": "none", field: "x" * size}
        return kind(namespace=orders.name, workflow_id=workflow_id, **fields)

    refused = await refusal(call(request(ID_LENGTH + 1)))
    assert (refused.code, refused.message) == (INVALID, f"{named} exceeds length limit. Length=1001 Limit=1000")
    under = await refusal(call(request(ID_LENGTH)))
    assert "exceeds length limit" not in under.message


async def test_a_length_is_counted_in_bytes(orders: Namespace, workflow_id: str, queue: str) -> None:
    refused = await refusal(orders.start("ü" * (ID_LENGTH // 2) + "x", queue))
    assert refused.message == "WorkflowId exceeds maximum allowed length (1001/1000)"


TOO_LONG = "x" * (ID_LENGTH + 1)
TAKEN: dict[str, Callable[[Namespace, str, str], Awaitable[Any]]] = {
    "the identity of a start": lambda at, run, queue: at.service.StartWorkflowExecution(
        _with(at.start_request(run + "-2", queue), identity=TOO_LONG)
    ),
    "the identity of a signal": lambda at, run, _: at.service.SignalWorkflowExecution(
        _with(_signal_request(at, run), identity=TOO_LONG)
    ),
    "the request id of a cancel request": lambda at, run, _: at.request_cancel(run, request_id=TOO_LONG),
    "the reason of a termination": lambda at, run, _: at.terminate(run, reason=TOO_LONG),
    "a query's type": lambda at, run, _: _shortly(
        at.service.QueryWorkflow(
            QueryWorkflowRequest(namespace=at.name, execution=_run(run), query=WorkflowQuery(query_type=TOO_LONG)),
            timeout=0.3,
        )
    ),
    "an update's name": lambda at, run, _: _shortly(
        at.service.UpdateWorkflowExecution(
            UpdateWorkflowExecutionRequest(
                namespace=at.name,
                workflow_execution=_run(run),
                request=Request(meta=Meta(update_id="u"), input=Input(name=TOO_LONG)),
            ),
            timeout=0.3,
        )
    ),
}


def _with(request: Any, **fields: Any) -> Any:
    for field, value in fields.items():
        setattr(request, field, value)
    return request


def _signal_request(at: Namespace, workflow_id: str) -> Any:
    return SignalWorkflowExecutionRequest(
        namespace=at.name, workflow_execution=_run(workflow_id), signal_name="go", request_id=workflow_id
    )


@pytest.mark.parametrize("send", TAKEN.values(), ids=TAKEN.keys())
async def test_some_names_have_no_limit(
    orders: Namespace, workflow_id: str, queue: str, send: Callable[[Namespace, str, str], Awaitable[Any]]
) -> None:
    await orders.start(workflow_id, queue)
    await send(orders, workflow_id, queue)


async def test_a_workflow_that_is_asked_for_by_too_long_an_id_is_not_found(orders: Namespace) -> None:
    refused = await refusal(orders.describe(TOO_LONG))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.message.startswith("workflow not found for ID: xxxxx")
    assert (await refusal(orders.describe("none"))).message == "workflow not found for ID: none"


# --- payloads of calls


async def _query(at: Namespace, workflow_id: str, args: Payloads) -> None:
    query = WorkflowQuery(query_type="state", query_args=args)
    request = QueryWorkflowRequest(namespace=at.name, execution=_run(workflow_id), query=query)
    await _shortly(at.service.QueryWorkflow(request, timeout=0.5))


BLOBS: dict[str, tuple[Callable[[Namespace, str, str, int], Awaitable[Any]], str]] = {
    "a start's input": (
        lambda at, run, queue, size: at.start(run + "-2", queue, input=blob(size)),
        "Blob data size exceeds limit.",
    ),
    "a start's memo": (
        lambda at, run, queue, size: at.start(run + "-2", queue, memo=memo(size)),
        "Memo size exceeds limit.",
    ),
    "a signal's input": (
        lambda at, run, queue, size: at.service.SignalWorkflowExecution(_with_input(_signal_request(at, run), size)),
        "Blob data size exceeds limit.",
    ),
    "the signal's input of a signal with start": (
        lambda at, run, queue, size: at.signal_with_start(run, queue, "go", signal_input=blob(size)),
        "Blob data size exceeds limit.",
    ),
    "the input of a signal with start": (
        lambda at, run, queue, size: at.signal_with_start(run, queue, "go", input=blob(size)),
        "Blob data size exceeds limit.",
    ),
    "a query's arguments": (
        lambda at, run, queue, size: _query(at, run, blob(size)),
        "Blob data size exceeds limit.",
    ),
}


def _with_input(request: Any, size: int) -> Any:
    request.input.CopyFrom(blob(size))
    return request


@pytest.mark.parametrize(("send", "says"), BLOBS.values(), ids=BLOBS.keys())
async def test_a_payload_has_two_mebibytes_at_most(
    orders: Namespace,
    workflow_id: str,
    queue: str,
    send: Callable[[Namespace, str, str, int], Awaitable[Any]],
    says: str,
) -> None:
    await orders.start(workflow_id, queue)
    refused = await refusal(send(orders, workflow_id, queue, PAYLOAD_SIZE + 1))
    assert refused.code == INVALID
    assert refused.message.startswith(says)
    await send(orders, workflow_id, queue, PAYLOAD_SIZE)


async def test_the_header_of_a_start_is_bounded_by_the_message_alone(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    header = Header(fields={"trace": Payload(data=b"x" * (PAYLOAD_SIZE + 1))})
    await orders.start(workflow_id, queue, header=header)
    task = await orders.poll_workflow_task(queue)
    assert task.history.events[0].workflow_execution_started_event_attributes.header == header
    await orders.complete_workflow_task(task, complete_workflow())


async def test_what_waits_for_a_workflow_task_has_two_mebibytes_at_most(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    """What is more ends the task, so that its worker cannot hold it up."""
    await orders.start(workflow_id, queue)
    await orders.poll_workflow_task(queue)
    request = _signal_request(orders, workflow_id)
    for size in (PAYLOAD_SIZE // 2, PAYLOAD_SIZE // 4):
        request.request_id += "x"
        await orders.service.SignalWorkflowExecution(_with_input(request, size))
    assert event_names(await orders.history(workflow_id))[2:] == ["WORKFLOW_TASK_STARTED"]
    request.request_id += "x"
    await orders.service.SignalWorkflowExecution(_with_input(request, PAYLOAD_SIZE // 2))
    failed, *released = (await orders.history(workflow_id))[3:]
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND
    assert failed.workflow_task_failed_event_attributes.cause == cause
    assert event_names(released)[:3] == ["WORKFLOW_EXECUTION_SIGNALED"] * 3
    await orders.terminate(workflow_id)


@pytest.mark.usefixtures("embedded_only")  # it looks at the backend's own log
@pytest.mark.parametrize(("size", "told"), [(512 * 1024, False), (512 * 1024 + 1, True)])
async def test_a_large_payload_is_told_of_in_the_log(
    orders: Namespace, workflow_id: str, queue: str, caplog: pytest.LogCaptureFixture, size: int, told: bool
) -> None:
    with caplog.at_level("WARNING", logger="nexuskit.backend.frontend"):
        await orders.start(workflow_id, queue, input=blob(size))
    said = (
        f"WorkflowStartRequest.Input of {workflow_id!r} in namespace 'orders' is {size} bytes, more than 524288;"
        " refused above 2097152"
    )
    assert (said in caplog.messages) is told


# --- names that are the server's own


RESERVED = "task queue name cannot start with reserved prefix /_sys/"
SYSTEM_QUEUE = "/_sys/queue/1"
RESERVED_IN_CALLS: dict[str, Send] = {
    "a start": lambda at, run, _, name: at.start(run, name),
    "a signal with start": lambda at, run, _, name: at.signal_with_start(run, name, "go"),
    "a poll for a workflow task": _poll("PollWorkflowTaskQueue", PollWorkflowTaskQueueRequest),
    "a poll for an activity": _poll("PollActivityTaskQueue", PollActivityTaskQueueRequest),
    "a poll for a Nexus request": _poll("PollNexusTaskQueue", PollNexusTaskQueueRequest),
}


@pytest.mark.parametrize("send", RESERVED_IN_CALLS.values(), ids=RESERVED_IN_CALLS.keys())
async def test_a_queue_that_is_called_as_the_servers_own_is_refused(
    orders: Namespace, workflow_id: str, send: Send
) -> None:
    refused = await refusal(send(orders, workflow_id, "", SYSTEM_QUEUE))
    assert (refused.code, refused.message) == (INVALID, RESERVED)
