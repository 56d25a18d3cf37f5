"""What a start may ask for: policies on the workflow's id, a delay, timeouts, and what is only kept and shown."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest
from temporalio.api.common.v1 import Callback, Header, Link, Memo, Priority
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus, WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.workflow.v1 import OnConflictOptions

from tests.backend.conftest import Endpoint
from tests.support.raw import Namespace, refusal
from tests.support.values import (
    application_failure,
    async_result,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    duration,
    event_names,
    fail_workflow,
    payload,
    payloads,
    result_of,
    schedule_operation,
    start_timer,
)

STATUS = WorkflowExecutionStatus
REUSE = ["UNSPECIFIED", "ALLOW_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY", "REJECT_DUPLICATE", "TERMINATE_IF_RUNNING"]
CONFLICT = ["UNSPECIFIED", "FAIL", "USE_EXISTING", "TERMINATE_EXISTING"]
ALL = OnConflictOptions(attach_request_id=True, attach_completion_callbacks=True, attach_links=True)


def policies(reuse: str = "UNSPECIFIED", conflict: str = "UNSPECIFIED") -> dict[str, int]:
    return {
        "workflow_id_reuse_policy": WorkflowIdReusePolicy.Value(f"WORKFLOW_ID_REUSE_POLICY_{reuse}"),
        "workflow_id_conflict_policy": WorkflowIdConflictPolicy.Value(f"WORKFLOW_ID_CONFLICT_POLICY_{conflict}"),
    }


def impossible(reuse: str, conflict: str) -> bool:
    """Whether the two policies contradict each other."""
    return (reuse == "TERMINATE_IF_RUNNING" and conflict != "UNSPECIFIED") or (
        reuse == "REJECT_DUPLICATE" and conflict == "TERMINATE_EXISTING"
    )


def a_link() -> Link:
    return Link(workflow_event=Link.WorkflowEvent(namespace="elsewhere", workflow_id="w", run_id=str(uuid4())))


async def status(orders: Namespace, workflow_id: str, run_id: str = "") -> str:
    info = (await orders.describe(workflow_id, run_id)).workflow_execution_info
    return STATUS.Name(info.status).removeprefix("WORKFLOW_EXECUTION_STATUS_")


# --- policies on the id


@pytest.mark.parametrize("conflict", CONFLICT)
@pytest.mark.parametrize("reuse", REUSE)
async def test_an_open_workflow_of_the_id_is_dealt_with_as_the_policies_say(
    orders: Namespace, workflow_id: str, queue: str, reuse: str, conflict: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    call = orders.start_whole(workflow_id, queue, **policies(reuse, conflict))
    if impossible(reuse, conflict):
        refused = await refusal(call)
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.message.startswith("Invalid WorkflowIDReusePolicy: ")
    elif reuse == "TERMINATE_IF_RUNNING" or conflict == "TERMINATE_EXISTING":
        answer = await call
        assert answer.started
        assert answer.first_execution_run_id == answer.run_id != run_id
        closed = (await orders.close_event(workflow_id, run_id)).workflow_execution_terminated_event_attributes
        assert closed.reason == "TerminateIfRunning WorkflowIdReusePolicy"
        assert closed.identity == "history-service"
        assert closed.details == payloads(f"terminated by new runID: {answer.run_id}")
    elif conflict == "USE_EXISTING":
        answer = await call
        assert (answer.run_id, answer.first_execution_run_id, answer.started) == (run_id, run_id, False)
        assert answer.status == STATUS.WORKFLOW_EXECUTION_STATUS_RUNNING
        assert len(await orders.history(workflow_id)) == 2
    else:
        refused = await refusal(call)
        assert refused.code == grpc.StatusCode.ALREADY_EXISTS
        assert refused.message.startswith("Workflow execution is already running. ")
        detail = refused.detail(WorkflowExecutionAlreadyStartedFailure)
        assert (detail.run_id, detail.first_execution_run_id) == (run_id, run_id)


async def close(orders: Namespace, workflow_id: str, queue: str, how: str) -> str:
    """Runs a workflow that ends like this; answers with the run's id."""
    timeout = duration(0.2) if how == "TIMED_OUT" else None
    run_id = await orders.start(workflow_id, queue, workflow_run_timeout=timeout)
    match how:
        case "COMPLETED":
            await orders.run_workflow_task(queue, complete_workflow())
        case "FAILED":
            await orders.run_workflow_task(queue, fail_workflow())
        case "CANCELED":
            await orders.run_workflow_task(queue, cancel_workflow())
        case "TERMINATED":
            await orders.terminate(workflow_id)
        case _:
            await orders.close_event(workflow_id)
    assert await status(orders, workflow_id) == how
    return run_id


@pytest.mark.parametrize("how", ["COMPLETED", "FAILED", "CANCELED", "TERMINATED", "TIMED_OUT"])
@pytest.mark.parametrize("reuse", REUSE)
async def test_a_closed_workflow_of_the_id_is_dealt_with_as_the_reuse_policy_says(
    orders: Namespace, workflow_id: str, queue: str, reuse: str, how: str
) -> None:
    run_id = await close(orders, workflow_id, queue, how)
    call = orders.start_whole(workflow_id, queue, **policies(reuse))
    if reuse == "REJECT_DUPLICATE" or (reuse == "ALLOW_DUPLICATE_FAILED_ONLY" and how == "COMPLETED"):
        refused = await refusal(call)
        assert refused.code == grpc.StatusCode.ALREADY_EXISTS
        assert refused.detail(WorkflowExecutionAlreadyStartedFailure).run_id == run_id
    else:
        answer = await call
        assert answer.started
        assert answer.first_execution_run_id == answer.run_id != run_id


@pytest.mark.parametrize("conflict", CONFLICT)
async def test_the_conflict_policy_does_not_speak_of_a_closed_workflow(
    orders: Namespace, workflow_id: str, queue: str, conflict: str
) -> None:
    run_id = await close(orders, workflow_id, queue, "COMPLETED")
    answer = await orders.start_whole(workflow_id, queue, **policies(conflict=conflict))
    assert answer.started
    assert answer.run_id != run_id


async def test_a_run_that_was_started_in_place_of_another_one_goes_on(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    old = await orders.start(workflow_id, queue)
    stale = await orders.poll_workflow_task(queue)
    new = await orders.start(workflow_id, queue, **policies(conflict="TERMINATE_EXISTING"))
    assert (await refusal(orders.complete_workflow_task(stale))).code == grpc.StatusCode.NOT_FOUND
    task = await orders.run_workflow_task(queue, complete_workflow("new"))
    assert task.workflow_execution.run_id == new
    assert event_names(await orders.history(workflow_id, old))[-1] == "WORKFLOW_EXECUTION_TERMINATED"


# --- the same request again


async def test_a_request_that_was_answered_is_answered_alike_after_its_run_continued_as_new(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request_id = str(uuid4())
    first = await orders.start(workflow_id, queue, request_id=request_id)
    await orders.run_workflow_task(queue, continue_as_new())
    refused = await refusal(orders.start(workflow_id, queue, request_id=request_id))
    # The newest run was not started by this request, and it is open.
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    detail = refused.detail(WorkflowExecutionAlreadyStartedFailure)
    assert detail.first_execution_run_id == first != detail.run_id


# --- USE_EXISTING with something to be left


async def test_a_request_is_attached_to_the_open_run(orders: Namespace, workflow_id: str, queue: str) -> None:
    run_id = await orders.start(workflow_id, queue)
    link, request_id = a_link(), str(uuid4())
    request = {"request_id": request_id, "links": [link], "on_conflict_options": ALL}
    answer = await orders.start_whole(workflow_id, queue, **request, **policies(conflict="USE_EXISTING"))
    assert (answer.run_id, answer.started) == (run_id, False)
    told = answer.link.workflow_event
    assert (told.run_id, told.request_id_ref.request_id) == (run_id, request_id)
    assert told.request_id_ref.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED
    again = await orders.start_whole(workflow_id, queue, **request, **policies(conflict="USE_EXISTING"))
    assert again == answer
    history = await orders.history(workflow_id)
    assert event_names(history)[2:] == ["WORKFLOW_EXECUTION_OPTIONS_UPDATED"]
    attributes = history[2].workflow_execution_options_updated_event_attributes
    assert attributes.attached_request_id == request_id
    assert list(history[2].links) == [link]
    # Whatever the policy says now: the request was answered.
    assert await orders.start(workflow_id, queue, request_id=request_id) == run_id


async def test_an_attached_request_is_known_after_the_run_has_closed(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    request_id = str(uuid4())
    attach = {"request_id": request_id, "on_conflict_options": ALL, **policies(conflict="USE_EXISTING")}
    await orders.start(workflow_id, queue, **attach)
    await orders.run_workflow_task(queue, complete_workflow())
    answer = await orders.start_whole(workflow_id, queue, **attach)
    assert (answer.run_id, answer.started) == (run_id, False)
    assert answer.status == STATUS.WORKFLOW_EXECUTION_STATUS_COMPLETED


async def test_what_is_attached_while_a_task_is_in_flight_follows_it_and_does_not_wake_the_workflow(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    attach = {"request_id": str(uuid4()), "on_conflict_options": ALL, **policies(conflict="USE_EXISTING")}
    await orders.start(workflow_id, queue, **attach)
    await orders.start(workflow_id, queue, **attach)
    await orders.complete_workflow_task(task, start_timer("wait", 60))
    names = event_names(await orders.history(workflow_id))[3:]
    assert names[:3] == ["WORKFLOW_TASK_COMPLETED", "TIMER_STARTED", "WORKFLOW_EXECUTION_OPTIONS_UPDATED"]
    await orders.start(workflow_id, queue, **attach)
    assert event_names(await orders.history(workflow_id))[3:] == names


async def test_nothing_is_left_where_the_request_asks_for_nothing(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.start(workflow_id, queue, links=[a_link()], **policies(conflict="USE_EXISTING"))
    await orders.start(workflow_id, queue, on_conflict_options=OnConflictOptions(), **policies(conflict="USE_EXISTING"))
    assert "WORKFLOW_EXECUTION_OPTIONS_UPDATED" not in event_names(await orders.history(workflow_id))[:2]


async def test_callbacks_are_not_attached_without_the_request(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    options = OnConflictOptions(attach_completion_callbacks=True)
    refused = await refusal(
        orders.start(workflow_id, queue, on_conflict_options=options, **policies(conflict="USE_EXISTING"))
    )
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message == "attaching request ID is required for attaching completion callbacks"


async def an_operation(orders: Namespace, payments: Namespace, caller: str, endpoint: Endpoint) -> Callback:
    """A workflow of this id waits for an operation; answers with where its end is to be told."""
    await orders.start(caller, caller)
    await orders.run_workflow_task(caller, schedule_operation(endpoint.name))
    task = await payments.poll_nexus_task(endpoint.queue)
    started = task.request.start_operation
    await payments.answer_nexus_task(task, async_result(f"token of {caller}"))
    return Callback(nexus=Callback.Nexus(url=started.callback, header=started.callback_header))


@pytest.mark.parametrize("in_flight", [False, True])
async def test_an_attached_callback_is_told_how_the_run_ends(
    orders: Namespace,
    payments: Namespace,
    unique: Callable[[str], str],
    workflow_id: str,
    queue: str,
    make_endpoint: Callable[[], Awaitable[Endpoint]],
    in_flight: bool,
) -> None:
    endpoint = await make_endpoint()
    callers = [unique("one"), unique("two")]
    await payments.start(
        workflow_id, queue, completion_callbacks=[await an_operation(orders, payments, callers[0], endpoint)]
    )
    task = await payments.poll_workflow_task(queue) if in_flight else None
    attach = {
        "request_id": str(uuid4()),
        "on_conflict_options": ALL,
        "completion_callbacks": [await an_operation(orders, payments, callers[1], endpoint)],
        **policies(conflict="USE_EXISTING"),
    }
    for _ in range(2):
        await payments.start(workflow_id, queue, **attach)
    assert len((await payments.describe(workflow_id)).callbacks) == 2
    if task is not None:
        await payments.complete_workflow_task(task)
    if "WORKFLOW_TASK_COMPLETED" in event_names(await payments.history(workflow_id)):
        await payments.signal(workflow_id, "go on")
    await payments.run_workflow_task(queue, complete_workflow("done"))
    for caller in callers:
        completed = await orders.wait_for_event(caller, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
        assert result_of(completed) == "done"


# --- a start delay


async def test_a_workflow_that_is_started_with_a_delay_waits_for_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, workflow_start_delay=duration(0.5))
    history = await orders.history(workflow_id)
    assert event_names(history) == ["WORKFLOW_EXECUTION_STARTED"]
    attributes = history[0].workflow_execution_started_event_attributes
    assert attributes.first_workflow_task_backoff.ToTimedelta() == timedelta(seconds=0.5)
    task = await orders.poll_workflow_task(queue)
    waited = task.history.events[1].event_time.ToDatetime() - history[0].event_time.ToDatetime()
    assert waited >= timedelta(seconds=0.5)


async def test_the_time_of_a_run_begins_after_its_delay(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue, workflow_start_delay=duration(0.7), workflow_run_timeout=duration(0.5))
    started = (await orders.history(workflow_id))[0]
    closed = await orders.close_event(workflow_id)
    assert closed.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT
    assert closed.event_time.ToDatetime() - started.event_time.ToDatetime() >= timedelta(seconds=1.2)


async def test_what_is_attached_during_a_delay_does_not_cut_it_short(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, workflow_start_delay=duration(60))
    await orders.start(
        workflow_id, queue, on_conflict_options=ALL, links=[a_link()], **policies(conflict="USE_EXISTING")
    )
    assert event_names(await orders.history(workflow_id)) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_OPTIONS_UPDATED",
    ]


async def test_a_negative_delay_is_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    refused = await refusal(orders.start(workflow_id, queue, workflow_start_delay=duration(-1)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names("WorkflowStartDelay")


# --- timeouts


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ((0, 0, 0), (0, 0, 10)),
        ((100, 0, 0), (100, 100, 10)),
        ((100, 50, 20), (100, 50, 20)),
        ((100, 200, 0), (100, 100, 10)),
        ((0, 200, 0), (0, 200, 10)),
        ((0, 5, 0), (0, 5, 5)),
        ((5, 0, 0), (5, 5, 5)),
        ((0, 0, 500), (0, 0, 120)),
        ((0, 50, 100), (0, 50, 50)),
    ],
)
async def test_a_part_lasts_no_longer_than_the_whole(
    orders: Namespace, workflow_id: str, queue: str, asked: tuple[int, int, int], kept: tuple[int, int, int]
) -> None:
    execution, run, task = (duration(value) if value else None for value in asked)
    await orders.start(
        workflow_id,
        queue,
        workflow_execution_timeout=execution,
        workflow_run_timeout=run,
        workflow_task_timeout=task,
    )
    (started, _) = await orders.history(workflow_id)
    attributes = started.workflow_execution_started_event_attributes
    assert (
        attributes.workflow_execution_timeout.seconds,
        attributes.workflow_run_timeout.seconds,
        attributes.workflow_task_timeout.seconds,
    ) == kept
    expires = attributes.workflow_execution_expiration_time
    if asked[0]:
        assert abs((expires.ToDatetime() - started.event_time.ToDatetime()).total_seconds() - asked[0]) < 0.01
    else:
        assert expires.seconds <= 0


@pytest.mark.parametrize("field", ["execution", "run", "task"])
async def test_a_negative_timeout_is_refused(orders: Namespace, workflow_id: str, queue: str, field: str) -> None:
    refused = await refusal(orders.start(workflow_id, queue, **{f"workflow_{field}_timeout": duration(-1)}))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names(f"Workflow{field}Timeout")


# --- what is kept and shown


async def test_what_is_only_kept_is_shown(orders: Namespace, workflow_id: str, queue: str) -> None:
    memo = Memo(fields={"who": payload("me")})
    header = Header(fields={"trace": payload("7")})
    metadata = UserMetadata(summary=payload("an order"), details=payload("of many"))
    priority = Priority(priority_key=2, fairness_key="me", fairness_weight=1.5)
    link = a_link()
    await orders.start(
        workflow_id,
        queue,
        memo=memo,
        header=header,
        user_metadata=metadata,
        priority=priority,
        links=[link],
        last_completion_result=payloads("before"),
        continued_failure=application_failure(),
    )
    started = (await orders.history(workflow_id))[0]
    attributes = started.workflow_execution_started_event_attributes
    assert (attributes.memo, attributes.header, attributes.priority) == (memo, header, priority)
    assert attributes.last_completion_result == payloads("before")
    assert attributes.continued_failure == application_failure()
    assert started.user_metadata == metadata
    assert list(started.links) == [link]
    described = await orders.describe(workflow_id)
    assert described.execution_config.user_metadata == metadata
    assert described.workflow_execution_info.memo == memo
    assert described.workflow_execution_info.priority == priority


@pytest.mark.parametrize(
    ("field", "limit"), [("workflow_id", 1000), ("workflow_type", 1000), ("queue", 1000), ("request_id", 1000)]
)
async def test_ids_and_names_have_a_limit(
    orders: Namespace, workflow_id: str, queue: str, field: str, limit: int
) -> None:
    for length in (limit, limit + 1):
        given = {"workflow_id": workflow_id, "queue": queue, "request_id": str(uuid4())}
        given[field] = (given.get(field, "") + "x" * length)[:length]
        call = orders.start(**given)
        if length == limit:
            await call
            await orders.terminate(given["workflow_id"])
        else:
            refused = await refusal(call)
            assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
            assert "exceeds" in refused.message


async def test_many_starts_with_use_existing_at_once_give_one_run(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    answers = await asyncio.gather(
        *(orders.start_whole(workflow_id, queue, **policies(conflict="USE_EXISTING")) for _ in range(10))
    )
    assert len({answer.run_id for answer in answers}) == 1
    assert [answer.started for answer in answers].count(True) == 1


@pytest.mark.parametrize(
    ("priority", "text"),
    [
        (Priority(priority_key=-1), "priority key can't be negative"),
        (Priority(fairness_key="x" * 65), "fairness key length exceeds limit"),
        (Priority(fairness_weight=-1), "must be greater than zero"),
    ],
    ids=["key", "fairness key", "weight"],
)
async def test_a_priority_that_cannot_be_is_refused(
    orders: Namespace, workflow_id: str, queue: str, priority: Priority, text: str
) -> None:
    refused = await refusal(orders.start(workflow_id, queue, priority=priority))
    assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, text)
    await orders.start(workflow_id, queue, priority=Priority(fairness_key="x" * 64))
