"""Nexus operations that stand alone: an operation id, an endpoint, and no workflow that calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import Callback, Link, Payload
from temporalio.api.enums.v1 import (
    CallbackState,
    NexusOperationCancellationState,
    NexusOperationExecutionStatus,
    NexusOperationIdConflictPolicy,
    NexusOperationIdReusePolicy,
    NexusOperationWaitStage,
    PendingNexusOperationState,
    TimeoutType,
)
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure, NexusOperationExecutionAlreadyStartedFailure
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexusoperation.v1 import OnConflictOptions
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.workflowservice import v1 as workflowservice
from temporalio.api.workflowservice.v1 import PollNexusTaskQueueResponse

from tests.backend.conftest import Endpoint
from tests.support.operation import Operation
from tests.support.raw import IDENTITY, Namespace, refusal, refusals
from tests.support.values import (
    application_failure,
    async_result,
    cancel_workflow,
    complete_workflow,
    duration,
    fail_workflow,
    payload,
    sync_result,
)

Status = NexusOperationExecutionStatus
State = PendingNexusOperationState
Cancellation = NexusOperationCancellationState
Stage = NexusOperationWaitStage
REJECT = NexusOperationIdReusePolicy.NEXUS_OPERATION_ID_REUSE_POLICY_REJECT_DUPLICATE
FAILED_ONLY = NexusOperationIdReusePolicy.NEXUS_OPERATION_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
USE_EXISTING = NexusOperationIdConflictPolicy.NEXUS_OPERATION_ID_CONFLICT_POLICY_USE_EXISTING


@pytest.fixture
def operation(orders: Namespace, unique: Callable[[str], str], endpoint: Endpoint) -> Operation:
    return Operation(orders, unique("operation"), endpoint.name)


def callback_of(task: PollNexusTaskQueueResponse) -> Callback:
    """Where the handler of this task is asked to report the end of its operation."""
    start = task.request.start_operation
    return Callback(nexus=Callback.Nexus(url=start.callback, header=start.callback_header))


async def test_an_operation_is_started_answered_and_waited_for(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    answer = await operation.start(input=payload({"cents": 5}), nexus_header={"X-Trace": "7"})
    assert answer.started
    task = await payments.poll_nexus_task(endpoint.queue)
    asked = task.request.start_operation
    assert (asked.service, asked.operation, asked.payload) == ("Payments", "charge", payload({"cents": 5}))
    assert task.request.header["x-trace"] == "7"
    assert asked.request_id == (await operation.info()).request_id
    (link,) = asked.links
    assert link.type == "temporal.api.common.v1.Link.NexusOperation"
    assert link.url == f"temporal:///namespaces/orders/nexus-operations/{operation.id}/{answer.run_id}/details"
    await payments.answer_nexus_task(task, sync_result({"receipt": 3}))
    polled = await operation.poll()
    assert (polled.run_id, polled.wait_stage) == (answer.run_id, Stage.NEXUS_OPERATION_WAIT_STAGE_CLOSED)
    assert (polled.result, polled.operation_token) == (payload({"receipt": 3}), "")
    assert (await operation.poll(run_id=answer.run_id)).result == polled.result


async def test_describe_tells_everything(operation: Operation, endpoint: Endpoint, payments: Namespace) -> None:
    await operation.start(
        input=payload(1),
        nexus_header={"X-Trace": "7"},
        schedule_to_close_timeout=duration(90),
        start_to_close_timeout=duration(200),
        user_metadata=UserMetadata(summary=payload("a summary")),
    )
    task = await payments.poll_nexus_task(endpoint.queue)
    described = await operation.describe()
    info = described.info
    assert (described.run_id, info.run_id, info.operation_id) == (operation.run_id, operation.run_id, operation.id)
    assert (info.endpoint, info.service, info.operation) == (endpoint.name, "Payments", "charge")
    assert info.status == Status.NEXUS_OPERATION_EXECUTION_STATUS_RUNNING
    assert info.state == State.PENDING_NEXUS_OPERATION_STATE_SCHEDULED
    assert (info.attempt, info.identity, dict(info.nexus_header)) == (1, IDENTITY, {"x-trace": "7"})
    assert (info.schedule_to_close_timeout.seconds, info.start_to_close_timeout.seconds) == (90, 90)
    assert (info.expiration_time.ToDatetime() - info.schedule_time.ToDatetime()).total_seconds() == 90
    assert info.user_metadata.summary == payload("a summary")
    assert not info.HasField("close_time")
    assert not info.HasField("cancellation_info")
    assert not described.HasField("input")
    await payments.answer_nexus_task(task, async_result("token"))
    await operation.started()
    described = await operation.describe(include_input=True, include_outcome=True)
    info = described.info
    assert described.input == payload(1)
    assert described.WhichOneof("outcome") is None
    assert (info.state, info.operation_token) == (State.PENDING_NEXUS_OPERATION_STATE_STARTED, "token")
    assert info.HasField("last_attempt_complete_time")
    await operation.terminate()
    closed = await operation.describe(include_outcome=True)
    assert closed.info.status == Status.NEXUS_OPERATION_EXECUTION_STATUS_TERMINATED
    assert closed.info.state == State.PENDING_NEXUS_OPERATION_STATE_UNSPECIFIED
    assert closed.info.HasField("close_time")
    assert closed.info.HasField("execution_duration")
    assert (closed.failure.message, closed.failure.terminated_failure_info.identity) == ("enough", "boss")
    assert closed.info.state_transition_count > info.state_transition_count


async def test_describe_waits_for_a_change(operation: Operation, endpoint: Endpoint, payments: Namespace) -> None:
    await operation.start()
    task = await payments.poll_nexus_task(endpoint.queue)
    first = await operation.describe()
    await payments.answer_nexus_task(task, async_result("token"))
    second = await operation.describe(long_poll_token=first.long_poll_token)
    assert second.info.state == State.PENDING_NEXUS_OPERATION_STATE_STARTED
    await operation.terminate()
    third = await operation.describe(long_poll_token=second.long_poll_token, include_outcome=True)
    assert third.info.status == Status.NEXUS_OPERATION_EXECUTION_STATUS_TERMINATED
    assert third.HasField("failure")
    unnamed, spoilt = await refusals(
        operation.describe(run_id="", long_poll_token=first.long_poll_token), operation.describe(long_poll_token=b"x")
    )
    assert unnamed.message == "run_id is required when long_poll_token is provided"
    assert spoilt.message == "invalid long poll token"
    await operation.start()
    other = await refusal(operation.describe(long_poll_token=first.long_poll_token))
    assert (other.code, other.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "long poll token does not match execution",
    )


async def test_a_handler_completes_it_later(
    operation: Operation, endpoint: Endpoint, payments: Namespace, workflow_id: str, queue: str
) -> None:
    await operation.start()
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.start(workflow_id, queue, completion_callbacks=[callback_of(task)])
    await payments.answer_nexus_task(task, async_result("token"))
    polled = await operation.started()
    assert (polled.wait_stage, polled.operation_token) == (Stage.NEXUS_OPERATION_WAIT_STAGE_STARTED, "token")
    assert polled.WhichOneof("outcome") is None
    await payments.run_workflow_task(queue, complete_workflow({"receipt": 3}))
    assert await operation.outcome() == payload({"receipt": 3})
    assert (await operation.info()).status == Status.NEXUS_OPERATION_EXECUTION_STATUS_COMPLETED


async def test_a_handler_completes_it_before_it_answers(
    operation: Operation, endpoint: Endpoint, payments: Namespace, workflow_id: str, queue: str
) -> None:
    await operation.start()
    task = await payments.poll_nexus_task(endpoint.queue)
    callback = callback_of(task)
    callback.nexus.header["nexus-operation-token"] = "early"
    await payments.start(workflow_id, queue, completion_callbacks=[callback])
    await payments.run_workflow_task(queue, fail_workflow(application_failure("declined")))
    failure = await operation.outcome()
    assert isinstance(failure, Failure)
    assert (failure.message, failure.application_failure_info.type) == ("declined", "OutOfStock")
    described = await operation.describe(include_outcome=True)
    assert described.failure == failure
    assert described.info.operation_token == "early"
    assert not described.info.HasField("last_attempt_failure")
    (link,) = described.info.links
    assert link.workflow_event.workflow_id == workflow_id
    with contextlib.suppress(grpc.aio.AioRpcError):  # the answer comes too late, or to nobody
        await payments.answer_nexus_task(task, async_result("late"))
    assert (await operation.describe(include_outcome=True)).failure == failure


async def test_a_failure_is_told_as_the_handler_said_it(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    await operation.start()
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.refuse_nexus_task(task, "BAD_REQUEST", "no such card")
    failure = await operation.outcome()
    assert isinstance(failure, Failure)
    assert failure.nexus_handler_failure_info.type == "BAD_REQUEST"
    info = await operation.info()
    assert info.status == Status.NEXUS_OPERATION_EXECUTION_STATUS_FAILED
    assert info.last_attempt_failure == failure
    assert info.HasField("last_attempt_complete_time")


async def test_an_attempt_that_may_be_repeated_is(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    await operation.start()
    first = await payments.poll_nexus_task(endpoint.queue)
    token = (await operation.describe()).long_poll_token
    await payments.refuse_nexus_task(first, "UNAVAILABLE", "come back later")
    info = (await operation.describe(long_poll_token=token)).info
    assert info.state == State.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF
    assert info.HasField("next_attempt_schedule_time")
    assert (info.attempt, info.last_attempt_failure.nexus_handler_failure_info.type) == (1, "UNAVAILABLE")
    second = await payments.poll_nexus_task(endpoint.queue)
    assert second.request.start_operation.request_id == first.request.start_operation.request_id
    assert (await operation.info()).attempt == 2
    await payments.answer_nexus_task(second, sync_result("done"))
    assert await operation.outcome() == payload("done")


@pytest.mark.parametrize(
    ("timeouts", "started", "kind"),
    [
        ({"schedule_to_close_timeout": 2}, False, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
        ({"schedule_to_start_timeout": 2}, False, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START),
        ({"start_to_close_timeout": 1}, True, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE),
    ],
)
async def test_it_times_out(
    operation: Operation,
    endpoint: Endpoint,
    payments: Namespace,
    timeouts: dict[str, int],
    started: bool,
    kind: TimeoutType.ValueType,
) -> None:
    await operation.start(**{name: duration(seconds) for name, seconds in timeouts.items()})
    task = await payments.poll_nexus_task(endpoint.queue)
    if started:
        await payments.answer_nexus_task(task, async_result("token"))
    failure = await operation.outcome()
    assert isinstance(failure, Failure)
    assert (failure.message, failure.timeout_failure_info.timeout_type) == ("operation timed out", kind)
    assert (await operation.info()).status == Status.NEXUS_OPERATION_EXECUTION_STATUS_TIMED_OUT


# --- cancelled and terminated


async def test_a_cancellation_waits_for_the_start_and_tells_the_handler_once(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    await operation.start()
    task = await payments.poll_nexus_task(endpoint.queue)
    await operation.cancel(request_id="one")
    await operation.cancel(request_id="one")
    info = (await operation.info()).cancellation_info
    assert (info.reason, info.state) == ("no need", Cancellation.NEXUS_OPERATION_CANCELLATION_STATE_UNSPECIFIED)
    other = await refusal(operation.cancel(request_id="two"))
    assert (other.code, other.message) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "cancellation already requested with request ID one",
    )
    await payments.answer_nexus_task(task, async_result("token"))
    told = await payments.poll_nexus_task(endpoint.queue)
    assert told.request.cancel_operation.operation_token == "token"
    described = await operation.describe()
    info = described.info.cancellation_info
    assert (info.state, info.attempt) == (Cancellation.NEXUS_OPERATION_CANCELLATION_STATE_SCHEDULED, 1)
    await payments.answer_nexus_cancellation(told)
    info = (await operation.describe(long_poll_token=described.long_poll_token)).info
    succeeded = Cancellation.NEXUS_OPERATION_CANCELLATION_STATE_SUCCEEDED
    assert (info.cancellation_info.state, info.cancellation_info.attempt) == (succeeded, 1)
    assert info.cancellation_info.HasField("last_attempt_complete_time")
    # To be told is not to have stopped.
    assert info.status == Status.NEXUS_OPERATION_EXECUTION_STATUS_RUNNING


async def test_a_handler_that_was_told_ends_it_as_cancelled(
    operation: Operation, endpoint: Endpoint, payments: Namespace, workflow_id: str, queue: str
) -> None:
    await operation.start()
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.start(workflow_id, queue, completion_callbacks=[callback_of(task)])
    await payments.answer_nexus_task(task, async_result("token"))
    await operation.started()
    await operation.cancel()
    await payments.answer_nexus_cancellation(await payments.poll_nexus_task(endpoint.queue))
    await payments.run_workflow_task(queue, cancel_workflow())
    failure = await operation.outcome()
    assert isinstance(failure, Failure)
    assert failure.HasField("canceled_failure_info")
    assert (await operation.info()).status == Status.NEXUS_OPERATION_EXECUTION_STATUS_CANCELED


async def test_it_is_terminated_once_and_its_handler_is_not_heard_any_more(
    operation: Operation, endpoint: Endpoint, payments: Namespace, workflow_id: str, queue: str
) -> None:
    await operation.start()
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.start(workflow_id, queue, completion_callbacks=[callback_of(task)])
    await payments.answer_nexus_task(task, async_result("token"))
    await operation.started()
    await operation.terminate(request_id="one")
    await operation.terminate(request_id="one")
    again, cancelled = await refusals(operation.terminate(request_id="two"), operation.cancel())
    assert again.message == "already terminated with request ID one"
    assert (cancelled.code, cancelled.message) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "operation already completed",
    )
    await payments.run_workflow_task(queue, complete_workflow("too late"))
    failure = await operation.outcome()
    assert isinstance(failure, Failure)
    assert failure.terminated_failure_info.identity == "boss"


async def test_what_has_ended_is_neither_cancelled_nor_terminated(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    await operation.start()
    await payments.answer_nexus_task(await payments.poll_nexus_task(endpoint.queue), sync_result("done"))
    await operation.outcome()
    cancelled, terminated = await refusals(operation.cancel(), operation.terminate())
    assert {cancelled.code, terminated.code} == {grpc.StatusCode.FAILED_PRECONDITION}
    assert (cancelled.message, terminated.message) == (
        "operation already completed",
        "invalid transition from Succeeded",
    )
    assert await operation.outcome() == payload("done")


async def test_a_deleted_operation_is_gone(operation: Operation, endpoint: Endpoint, payments: Namespace) -> None:
    await operation.start()
    await operation.delete()
    with contextlib.suppress(grpc.aio.AioRpcError):
        while True:  # a real server deletes a moment later
            await operation.describe()
    gone = await refusal(operation.describe())
    assert gone.code == grpc.StatusCode.NOT_FOUND
    assert gone.message.startswith(f"operation not found for ID: {operation.id}")
    missing = await refusal(operation.delete(run_id="2b1e0c1c-0000-4000-8000-000000000000"))
    assert missing.code == grpc.StatusCode.NOT_FOUND


@pytest.mark.usefixtures("embedded_only")  # a real server may tell of the termination first
async def test_whoever_waits_for_one_that_is_deleted_is_told(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    await operation.start()
    await payments.answer_nexus_task(await payments.poll_nexus_task(endpoint.queue), async_result("token"))
    await operation.started()
    token = (await operation.describe()).long_poll_token
    waiting = asyncio.create_task(refusals(operation.outcome(), operation.describe(long_poll_token=token)))
    await operation.delete()
    for each in await waiting:
        assert each.code == grpc.StatusCode.NOT_FOUND
        assert each.message.startswith(f"operation not found for ID: {operation.id}")


# --- policies


async def test_the_same_request_again_gets_the_same_operation_also_when_that_is_closed(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    first = await operation.start(request_id="one")
    again = await operation.start(request_id="one")
    assert (again.run_id, again.started) == (first.run_id, False)
    await payments.answer_nexus_task(await payments.poll_nexus_task(endpoint.queue), sync_result("done"))
    await operation.outcome()
    again = await operation.start(request_id="one")
    assert (again.run_id, again.started) == (first.run_id, False)


async def test_an_id_that_runs_is_taken_or_used(operation: Operation) -> None:
    first = await operation.start(request_id="one")
    taken = await refusal(operation.start(request_id="two"))
    assert taken.code == grpc.StatusCode.ALREADY_EXISTS
    detail = taken.detail(NexusOperationExecutionAlreadyStartedFailure)
    assert (detail.start_request_id, detail.run_id) == ("one", first.run_id)
    used = await operation.start(request_id="three", id_conflict_policy=USE_EXISTING)
    assert (used.run_id, used.started) == (first.run_id, False)


async def test_an_id_is_used_again_as_its_policy_says(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    first = await operation.start()
    await operation.terminate()
    rejected = await refusal(operation.start(id_reuse_policy=REJECT))
    assert rejected.code == grpc.StatusCode.ALREADY_EXISTS
    second = await operation.start(id_reuse_policy=FAILED_ONLY)
    assert second.started
    task = await payments.poll_nexus_task(endpoint.queue)
    while second.run_id not in task.request.start_operation.links[0].url:  # the first one may have been on its way
        task = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(task, sync_result("done"))
    await operation.outcome()
    rejected = await refusal(operation.start(id_reuse_policy=FAILED_ONLY))
    assert rejected.detail(NexusOperationExecutionAlreadyStartedFailure).run_id == second.run_id
    third = await operation.start()
    assert third.started
    assert len({first.run_id, second.run_id, third.run_id}) == 3
    assert (await operation.describe(run_id=first.run_id)).info.run_id == first.run_id


# --- what is refused

LONG = "x" * 1001


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("operation_id", "", "operation_id is required"),
        ("operation_id", LONG, "operation_id exceeds length limit. Length=1001 Limit=1000"),
        ("identity", LONG, "identity exceeds length limit. Length=1001 Limit=1000"),
        ("request_id", LONG, "request_id exceeds length limit. Length=1001 Limit=1000"),
        ("endpoint", "", "endpoint is required"),
        ("service", "", "service is required"),
        ("service", LONG, "service exceeds length limit. Length=1001 Limit=1000"),
        ("operation", "", "operation is required"),
        ("operation", LONG, "operation exceeds length limit. Length=1001 Limit=1000"),
        ("schedule_to_close_timeout", duration(-1), "schedule_to_close_timeout is invalid: negative duration"),
        ("schedule_to_start_timeout", duration(-1), "schedule_to_start_timeout is invalid: negative duration"),
        ("start_to_close_timeout", duration(-1), "start_to_close_timeout is invalid: negative duration"),
        ("input", Payload(data=b"x" * (2 * 1024 * 1024)), "input exceeds size limit. Length=2097157 Limit=2097152"),
        (
            "user_metadata",
            UserMetadata(summary=Payload(data=b"x" * 400)),
            "user_metadata.summary exceeds size limit. Length=403 Limit=400",
        ),
        (
            "user_metadata",
            UserMetadata(details=Payload(data=b"x" * 20_000)),
            "user_metadata.details exceeds size limit. Length=20004 Limit=20000",
        ),
        ("nexus_header", {"Request-Timeout": "1"}, 'nexus_header contains a disallowed key: "Request-Timeout"'),
        ("nexus_header", {"a": "x" * 8192}, "nexus_header exceeds size limit"),
    ],
)
async def test_a_start_that_cannot_be_is_refused(operation: Operation, field: str, value: Any, message: str) -> None:
    refused = await refusal(operation.start(**{field: value}))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message.startswith(message)


async def test_what_is_just_within_the_limits_is_taken(operation: Operation) -> None:
    most = "x" * 1000
    operation.id = most
    await operation.start(
        service=most,
        operation=most,
        identity=most,
        request_id=most,
        nexus_header={"a": "x" * 8191},
        user_metadata=UserMetadata(summary=Payload(data=b"x" * 397), details=Payload(data=b"x" * 19_996)),
        input=Payload(data=b"x" * (2 * 1024 * 1024 - 5)),
    )
    await operation.cancel(reason=most, request_id=most, identity=most)
    too_long = await refusals(operation.cancel(reason=LONG), operation.terminate(reason=LONG))
    assert {each.message for each in too_long} == {"reason exceeds length limit. Length=1001 Limit=1000"}
    await operation.terminate(reason=most)


async def test_an_unknown_endpoint_is_refused_at_once(operation: Operation) -> None:
    refused = await refusal(operation.start(endpoint="nowhere-at-all"))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.NOT_FOUND,
        "could not find Nexus endpoint by name: nowhere-at-all",
    )
    assert (await refusal(operation.describe())).code == grpc.StatusCode.NOT_FOUND


async def test_ids_of_what_is_not_there_are_refused(operation: Operation) -> None:
    await operation.start()
    operation.run_id = ""
    for call in (operation.describe, operation.poll, operation.cancel, operation.terminate, operation.delete):
        missing, malformed = await refusals(
            call(run_id="2b1e0c1c-0000-4000-8000-000000000000"), call(run_id="not-a-uuid")
        )
        assert missing.code == grpc.StatusCode.NOT_FOUND
        assert missing.message.startswith(f"operation not found for ID: {operation.id}")
        assert malformed.message == "run_id is not a valid UUID"
    unknown = await refusal(operation.poll(wait_stage=7))
    assert unknown.message == "unsupported wait_stage: 7"
    operation.id = ""
    assert (await refusal(operation.describe())).message == "operation_id is required"


@pytest.mark.usefixtures("embedded_only")  # a real server takes an unknown policy for the default
async def test_policies_that_are_not_known_are_refused(operation: Operation) -> None:
    for field in ("id_reuse_policy", "id_conflict_policy"):
        assert (await refusal(operation.start(**{field: 9}))).message == f"unsupported {field}: 9"


@pytest.mark.parametrize("call", ["Describe", "Poll", "RequestCancel", "Terminate", "Delete"])
async def test_an_unknown_namespace_is_not_found(operation: Operation, call: str) -> None:
    name = f"{call}NexusOperationExecution"
    request = getattr(workflowservice, f"{name}Request")(namespace="no-such-team", operation_id=operation.id)
    refused = await refusal(getattr(operation.at.service, name)(request))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.detail(NamespaceNotFoundFailure).namespace == "no-such-team"


async def test_an_operation_is_no_workflow_and_no_activity(operation: Operation, orders: Namespace) -> None:
    await operation.start()
    assert (await refusal(orders.describe(operation.id))).code == grpc.StatusCode.NOT_FOUND
    assert (await refusal(orders.history(operation.id))).code == grpc.StatusCode.NOT_FOUND
    assert (await refusal(orders.terminate(operation.id))).code == grpc.StatusCode.NOT_FOUND


# --- what a real server does not have: its API is older


@pytest.mark.usefixtures("embedded_only")
@pytest.mark.parametrize("ended", ["completed", "failed", "terminated"])
async def test_whoever_asked_is_told_of_its_end(
    operation: Operation,
    endpoint: Endpoint,
    orders: Namespace,
    payments: Namespace,
    make_endpoint: Callable[[], Awaitable[Endpoint]],
    unique: Callable[[str], str],
    ended: str,
) -> None:
    outer = Operation(orders, unique("outer"), (behind := await make_endpoint()).name)
    await outer.start()
    task = await payments.poll_nexus_task(behind.queue)
    await operation.start(completion_callbacks=[callback_of(task)])
    await payments.answer_nexus_task(task, async_result("token"))
    (waiting,) = (await operation.describe()).completion_callbacks
    assert waiting.info.state == CallbackState.CALLBACK_STATE_STANDBY
    assert waiting.trigger.HasField("operation_completed")
    asked = await payments.poll_nexus_task(endpoint.queue)
    if ended == "completed":
        await payments.answer_nexus_task(asked, sync_result("paid"))
    elif ended == "failed":
        await payments.refuse_nexus_task(asked, "BAD_REQUEST", "no such card")
    else:
        await operation.terminate()
    outcome = await outer.outcome()
    if ended == "completed":
        assert outcome == payload("paid")
    else:
        assert outcome == await operation.outcome()
    (told,) = (await operation.describe()).completion_callbacks
    assert told.info.state == CallbackState.CALLBACK_STATE_SUCCEEDED


@pytest.mark.usefixtures("embedded_only")
async def test_a_start_that_finds_it_running_leaves_its_callbacks_and_links_with_it(
    operation: Operation, endpoint: Endpoint, payments: Namespace
) -> None:
    link = Link(workflow_event=Link.WorkflowEvent(namespace="n", workflow_id="w", run_id="r"))
    await operation.start(links=[link])
    callback = callback_of(await payments.poll_nexus_task(endpoint.queue))
    everything = OnConflictOptions(attach_request_id=True, attach_completion_callbacks=True, attach_links=True)
    brought: dict[str, Any] = {
        "request_id": "two",
        "id_conflict_policy": USE_EXISTING,
        "completion_callbacks": [callback],
        "links": [link],
        "on_conflict_options": everything,
    }
    for _ in range(2):
        assert not (await operation.start(**brought)).started
    described = await operation.describe()
    assert len(described.completion_callbacks) == 1
    assert [each.workflow_event.workflow_id for each in described.info.links] == ["w", "w"]
    without = await refusal(
        operation.start(**brought | {"on_conflict_options": OnConflictOptions(attach_completion_callbacks=True)})
    )
    assert without.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "attach_request_id" in without.message
    unsupported = await refusal(operation.start(links=[Link()]))
    assert unsupported.message == "unsupported link variant"
