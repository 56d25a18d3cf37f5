"""Child workflows: what parent and child write down of each other, and what becomes of one when the other ends."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import Header, Memo, Priority
from temporalio.api.enums.v1 import (
    ContinueAsNewInitiator,
    EventType,
    ParentClosePolicy,
    RetryState,
    StartChildWorkflowExecutionFailedCause,
    WorkflowExecutionStatus,
    WorkflowIdReusePolicy,
)
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import UserMetadata

from tests.support.raw import Namespace, refusal
from tests.support.values import (
    application_failure,
    cancel_external,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    duration,
    event_names,
    fail_workflow,
    payload,
    payloads,
    result_of,
    retry_policy,
    start_child,
    start_timer,
)

POLICY = ParentClosePolicy
REUSE = WorkflowIdReusePolicy
TAKEN = StartChildWorkflowExecutionFailedCause.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS


@dataclass(frozen=True)
class Family:
    """A parent and a child, with the names that the test gives them."""

    orders: Namespace
    parent: str
    queue: str
    child: str
    child_queue: str

    async def start(self, **more: Any) -> str:
        """Starts the parent, which starts the child; answers when the parent knows of it."""
        run_id = await self.orders.start(self.parent, self.queue)
        await self.have_child(**more)
        return run_id

    async def have_child(self, **more: Any) -> None:
        """The parent's next task starts the child; answers when that is in the parent's history."""
        await self.orders.run_workflow_task(self.queue, start_child(self.child, self.child_queue, **more))
        await self.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
        await self.orders.run_workflow_task(self.queue)

    async def parent_event(self, event_type: EventType.ValueType) -> HistoryEvent:
        return await self.orders.wait_for_event(self.parent, event_type)

    async def child_status(self, run_id: str = "") -> str:
        info = (await self.orders.describe(self.child, run_id)).workflow_execution_info
        return WorkflowExecutionStatus.Name(info.status).removeprefix("WORKFLOW_EXECUTION_STATUS_")

    async def child_run(self) -> str:
        return (await self.orders.describe(self.child)).workflow_execution_info.execution.run_id

    async def names(self) -> list[str]:
        return event_names(await self.orders.history(self.parent))


@pytest.fixture
def family(orders: Namespace, unique: Callable[[str], str]) -> Family:
    return Family(orders, unique("parent"), unique("queue"), unique("child"), unique("child-queue"))


def attributes_of(event: HistoryEvent) -> Any:
    return getattr(event, event.WhichOneof("attributes") or "")


async def test_a_child_has_what_its_priority_leaves_open_from_its_parent(family: Family) -> None:
    orders = family.orders
    await orders.start(family.parent, family.queue, priority=Priority(priority_key=1, fairness_key="books"))
    await orders.run_workflow_task(
        family.queue, start_child(family.child, family.child_queue, priority=Priority(fairness_weight=2.5))
    )
    await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    (begun, *_) = await orders.history(family.child)
    assert begun.workflow_execution_started_event_attributes.priority == Priority(
        priority_key=1, fairness_key="books", fairness_weight=2.5
    )


async def test_parent_and_child_know_each_other(family: Family) -> None:
    orders = family.orders
    run_id = await orders.start(family.parent, family.queue)
    header, memo = Header(fields={"trace": payload("7")}), Memo(fields={"who": payload("me")})
    command = start_child(
        family.child,
        family.child_queue,
        input=payloads(1, "two"),
        workflow_execution_timeout=duration(300),
        workflow_run_timeout=duration(200),
        workflow_task_timeout=duration(20),
        header=header,
        memo=memo,
        control="control",
        priority=Priority(priority_key=2),
        retry_policy=retry_policy(attempts=1),
    )
    command.user_metadata.CopyFrom(UserMetadata(summary=payload("the child")))
    await orders.run_workflow_task(family.queue, command)
    started = await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    history = await orders.history(family.parent)
    assert event_names(history)[4:7] == [
        "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
        "CHILD_WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    initiated = history[4].start_child_workflow_execution_initiated_event_attributes
    assert history[4].user_metadata == command.user_metadata
    assert (initiated.workflow_id, initiated.workflow_type.name) == (family.child, "Child")
    assert (initiated.namespace, initiated.control) == ("orders", "control")
    assert (initiated.header, initiated.memo, initiated.input) == (header, memo, payloads(1, "two"))
    assert initiated.parent_close_policy == POLICY.PARENT_CLOSE_POLICY_TERMINATE
    assert initiated.workflow_task_completed_event_id == 4
    child_run = started.child_workflow_execution_started_event_attributes.workflow_execution.run_id
    assert started.child_workflow_execution_started_event_attributes.initiated_event_id == 5
    (begun, _) = await orders.history(family.child)
    attributes = begun.workflow_execution_started_event_attributes
    parent = attributes.parent_workflow_execution
    assert (parent.workflow_id, parent.run_id) == (family.parent, run_id)
    assert attributes.parent_workflow_namespace == "orders"
    assert attributes.parent_initiated_event_id == 5
    root = attributes.root_workflow_execution
    assert (root.workflow_id, root.run_id) == (family.parent, run_id)
    assert attributes.first_execution_run_id == child_run
    assert attributes.workflow_run_timeout.seconds == initiated.workflow_run_timeout.seconds == 200
    assert begun.user_metadata == command.user_metadata


async def test_a_grandchild_knows_the_root(family: Family, unique: Callable[[str], str]) -> None:
    orders = family.orders
    run_id = await family.start()
    grandchild = unique("grandchild")
    await orders.run_workflow_task(family.child_queue, start_child(grandchild, family.child_queue))
    await orders.wait_for_event(family.child, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    begun = (await orders.history(grandchild))[0]
    root = begun.workflow_execution_started_event_attributes.root_workflow_execution
    assert (root.workflow_id, root.run_id) == (family.parent, run_id)
    await orders.terminate(family.parent)


@pytest.mark.parametrize(
    ("how", "event_type"),
    [
        ("completed", EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED),
        ("failed", EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED),
        ("cancelled", EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED),
        ("terminated", EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED),
        ("timed out", EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT),
    ],
)
async def test_a_parent_is_told_how_its_child_ended(family: Family, how: str, event_type: EventType.ValueType) -> None:
    orders = family.orders
    await family.start(workflow_run_timeout=duration(0.3) if how == "timed out" else None)
    child_run = await family.child_run()
    match how:
        case "completed":
            await orders.run_workflow_task(family.child_queue, complete_workflow("done"))
        case "failed":
            await orders.run_workflow_task(family.child_queue, fail_workflow())
        case "cancelled":
            await orders.run_workflow_task(family.child_queue, cancel_workflow("so far"))
        case "terminated":
            await orders.terminate(family.child)
        case _:
            pass
    event = await family.parent_event(event_type)
    attributes = attributes_of(event)
    execution = attributes.workflow_execution
    assert (execution.workflow_id, execution.run_id) == (family.child, child_run)
    assert (attributes.initiated_event_id, attributes.started_event_id) == (5, 6)
    assert (attributes.namespace, attributes.workflow_type.name) == ("orders", "Child")
    if how == "completed":
        assert result_of(event) == "done"
    if how == "failed":
        assert attributes.failure == application_failure()
        assert attributes.retry_state == RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET
    if how == "cancelled":
        assert attributes.details == payloads("so far")
    if how == "timed out":
        assert attributes.retry_state == RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET
    task = await orders.poll_workflow_task(family.queue)
    await orders.complete_workflow_task(task, complete_workflow())


@pytest.mark.parametrize(
    ("policy", "open_too"),
    [
        ("UNSPECIFIED", False),
        ("ALLOW_DUPLICATE", False),
        ("ALLOW_DUPLICATE_FAILED_ONLY", False),
        ("REJECT_DUPLICATE", False),
        ("TERMINATE_IF_RUNNING", True),
    ],
)
async def test_a_child_whose_id_is_taken_by_an_open_workflow(family: Family, policy: str, open_too: bool) -> None:
    orders = family.orders
    other = await orders.start(family.child, family.child_queue)
    await orders.start(family.parent, family.queue)
    reuse = REUSE.Value(f"WORKFLOW_ID_REUSE_POLICY_{policy}")
    await orders.run_workflow_task(
        family.queue, start_child(family.child, family.child_queue, workflow_id_reuse_policy=reuse, control="c")
    )
    if open_too:
        await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
        assert await family.child_status(other) == "TERMINATED"
        assert await family.child_run() != other
        return
    failed = await family.parent_event(EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED)
    attributes = failed.start_child_workflow_execution_failed_event_attributes
    assert (attributes.workflow_id, attributes.workflow_type.name) == (family.child, "Child")
    assert attributes.cause == TAKEN
    assert attributes.initiated_event_id == 5
    assert await family.child_status() == "RUNNING"
    task = await orders.poll_workflow_task(family.queue)
    await orders.complete_workflow_task(task, complete_workflow())
    assert await family.child_status() == "RUNNING"


@pytest.mark.parametrize("ended", ["completed", "failed"])
@pytest.mark.parametrize(
    "policy", ["UNSPECIFIED", "ALLOW_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY", "REJECT_DUPLICATE"]
)
async def test_a_child_whose_id_was_that_of_a_workflow_which_has_closed(
    family: Family, policy: str, ended: str
) -> None:
    orders = family.orders
    await orders.start(family.child, family.child_queue)
    await orders.run_workflow_task(family.child_queue, complete_workflow() if ended == "completed" else fail_workflow())
    await orders.start(family.parent, family.queue)
    reuse = REUSE.Value(f"WORKFLOW_ID_REUSE_POLICY_{policy}")
    await orders.run_workflow_task(
        family.queue, start_child(family.child, family.child_queue, workflow_id_reuse_policy=reuse)
    )
    if policy == "REJECT_DUPLICATE" or (policy == "ALLOW_DUPLICATE_FAILED_ONLY" and ended == "completed"):
        failed = await family.parent_event(EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED)
        assert failed.start_child_workflow_execution_failed_event_attributes.cause == TAKEN
    else:
        await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
        assert await family.child_status() == "RUNNING"


async def test_a_child_that_continues_as_new_is_one_child(family: Family) -> None:
    orders = family.orders
    await family.start()
    first = await family.child_run()
    await orders.run_workflow_task(family.child_queue, continue_as_new())
    task = await orders.poll_workflow_task(family.child_queue)
    second = task.workflow_execution.run_id
    begun = task.history.events[0].workflow_execution_started_event_attributes
    assert begun.parent_workflow_execution.workflow_id == family.parent
    assert begun.parent_workflow_namespace == "orders"
    assert begun.root_workflow_execution.workflow_id == family.parent
    assert (begun.parent_initiated_event_id, begun.first_execution_run_id) == (5, first)
    await orders.complete_workflow_task(task, complete_workflow("at last"))
    event = await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
    attributes = event.child_workflow_execution_completed_event_attributes
    assert result_of(event) == "at last"
    assert attributes.workflow_execution.run_id == second
    assert (attributes.initiated_event_id, attributes.started_event_id) == (5, 6)
    assert (await family.names()).count("CHILD_WORKFLOW_EXECUTION_STARTED") == 1


async def test_a_child_is_retried_by_its_own_policy(family: Family) -> None:
    orders = family.orders
    await family.start(retry_policy=retry_policy(attempts=2))
    await orders.run_workflow_task(family.child_queue, fail_workflow())
    task = await orders.poll_workflow_task(family.child_queue)
    begun = task.history.events[0].workflow_execution_started_event_attributes
    assert begun.attempt == 2
    assert begun.initiator == ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_RETRY
    assert begun.parent_workflow_execution.workflow_id == family.parent
    await orders.complete_workflow_task(task, fail_workflow())
    event = await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED)
    attributes = event.child_workflow_execution_failed_event_attributes
    assert attributes.retry_state == RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
    assert (await family.names()).count("CHILD_WORKFLOW_EXECUTION_FAILED") == 1


async def test_a_child_on_a_cron_schedule_goes_on_until_it_is_ended(family: Family) -> None:
    orders = family.orders
    await family.start(cron_schedule="@every 1s")
    await orders.run_workflow_task(family.child_queue, complete_workflow(1))
    task = await orders.poll_workflow_task(family.child_queue)
    begun = task.history.events[0].workflow_execution_started_event_attributes
    assert begun.last_completion_result == payloads(1)
    assert begun.parent_workflow_execution.workflow_id == family.parent
    await orders.terminate(family.child)
    await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED)
    assert "CHILD_WORKFLOW_EXECUTION_COMPLETED" not in await family.names()


CLOSES = ["completes", "fails", "is cancelled", "continues as new", "is terminated", "times out"]


@pytest.mark.parametrize("how", CLOSES)
@pytest.mark.parametrize("policy", ["UNSPECIFIED", "TERMINATE", "ABANDON", "REQUEST_CANCEL"])
async def test_a_child_is_dealt_with_as_its_policy_says_when_its_parent(family: Family, policy: str, how: str) -> None:
    orders = family.orders
    timeout = duration(1) if how == "times out" else None
    run_id = await orders.start(family.parent, family.queue, workflow_run_timeout=timeout)
    await family.have_child(parent_close_policy=POLICY.Value(f"PARENT_CLOSE_POLICY_{policy}"))
    if how == "is terminated":
        await orders.terminate(family.parent)
    elif how != "times out":
        await orders.signal(family.parent, "go on")
        commands = {
            "completes": complete_workflow(),
            "fails": fail_workflow(),
            "is cancelled": cancel_workflow(),
            "continues as new": continue_as_new(),
        }
        await orders.run_workflow_task(family.queue, commands[how])
    await orders.close_event(family.parent, run_id)
    if policy == "ABANDON":
        # A child that would be ended is ended at once; this one goes on and completes.
        await orders.run_workflow_task(family.child_queue, complete_workflow())
        assert await family.child_status() == "COMPLETED"
        assert "CANCEL_REQUESTED" not in str(event_names(await orders.history(family.child)))
    elif policy == "REQUEST_CANCEL":
        event = await orders.wait_for_event(family.child, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
        asked = event.workflow_execution_cancel_requested_event_attributes
        assert asked.external_workflow_execution.workflow_id == family.parent
        assert asked.external_workflow_execution.run_id == run_id
        await orders.run_workflow_task(family.child_queue, complete_workflow())
    else:
        closed = await orders.close_event(family.child)
        ended = closed.workflow_execution_terminated_event_attributes
        assert (ended.reason, ended.identity) == ("by parent close policy", "history-service")


async def test_a_child_that_continued_as_new_is_ended_with_its_parent(family: Family) -> None:
    orders = family.orders
    await family.start()
    await orders.run_workflow_task(family.child_queue, continue_as_new())
    await orders.terminate(family.parent)
    closed = await orders.close_event(family.child)
    assert closed.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED


async def test_a_workflow_that_took_the_id_of_a_child_is_not_ended_with_the_childs_parent(family: Family) -> None:
    orders = family.orders
    await family.start()
    await orders.run_workflow_task(family.child_queue, complete_workflow())
    await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
    await orders.start(family.child, family.child_queue)
    await orders.run_workflow_task(family.queue, complete_workflow())
    await orders.run_workflow_task(family.child_queue, complete_workflow("mine"))
    assert await family.child_status() == "COMPLETED"


async def no_child_pending(family: Family) -> None:
    """Waits until the parent knows that its child has ended, which its history does not say before its task does."""
    while (await family.orders.describe(family.parent)).pending_children:  # noqa: ASYNC110, nothing tells
        await asyncio.sleep(0.01)


async def test_a_child_that_starts_and_ends_while_a_task_is_in_flight(family: Family) -> None:
    """Both events wait, and the second names the first, which gets its id only with it."""
    orders = family.orders
    await orders.start(family.parent, family.queue)
    first = await orders.poll_workflow_task(family.queue)
    command = start_child(family.child, family.child_queue)
    await orders.complete_workflow_task(first, command, force_create_new_workflow_task=True)
    second = await orders.poll_workflow_task(family.queue)
    shown = event_names(second.history.events)
    assert shown[4] == "START_CHILD_WORKFLOW_EXECUTION_INITIATED"
    await orders.run_workflow_task(family.child_queue, complete_workflow("done"))
    await orders.close_event(family.child)
    await no_child_pending(family)
    await orders.complete_workflow_task(second, start_timer("wait", 60))
    completed = await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
    history = await orders.history(family.parent)
    started = next(e for e in history if e.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    assert completed.child_workflow_execution_completed_event_attributes.started_event_id == started.event_id
    assert started.event_id < completed.event_id
    assert [event.event_id for event in history] == list(range(1, len(history) + 1))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (start_child("", "queue"), "WorkflowId"),
        (start_child("x" * 1001, "queue"), "WorkflowId"),
        (start_child("child", "queue", workflow_type=""), "WorkflowType"),
        (start_child("child", "queue", namespace="payments"), "cross namespace"),
        (start_child("child", "queue", workflow_run_timeout=duration(-1)), "WorkflowRunTimeout"),
        (start_child("child", "queue", cron_schedule="nonsense"), "cron"),
        (start_child("child", "queue", retry_policy=retry_policy(attempts=-1)), "MaximumAttempts"),
    ],
    ids=["no id", "long id", "no type", "another namespace", "time", "cron", "retry"],
)
async def test_a_child_that_cannot_be_fails_the_workflow_task(family: Family, command: Any, says: str) -> None:
    orders = family.orders
    await orders.start(family.parent, family.queue)
    task = await orders.poll_workflow_task(family.queue)
    refused = await refusal(orders.complete_workflow_task(task, command))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names(says)
    failed = await family.parent_event(EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED)
    assert says.lower().replace(
        " ", ""
    ) in failed.workflow_task_failed_event_attributes.failure.message.lower().replace(" ", "").replace("-", "")


async def test_a_child_is_cancelled_by_its_parent(family: Family) -> None:
    orders = family.orders
    await family.start()
    await orders.signal(family.parent, "go on")
    await orders.run_workflow_task(family.queue, cancel_external(family.child, child_workflow_only=True))
    await orders.wait_for_event(family.child, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
    await orders.run_workflow_task(family.child_queue, cancel_workflow())
    await family.parent_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED)


async def test_many_children_at_once(orders: Namespace, unique: Callable[[str], str], queue: str) -> None:
    parent = unique("parent")
    await orders.start(parent, queue)
    names: Sequence[str] = [unique("child") for _ in range(20)]
    children_queue = unique("children")
    await orders.run_workflow_task(queue, *(start_child(name, children_queue) for name in names))

    async def work() -> None:
        for _ in range(5):
            await orders.run_workflow_task(children_queue, complete_workflow())

    await asyncio.gather(*(work() for _ in range(4)))
    done: set[int] = set()
    while len(done) < len(names):
        task = await orders.poll_workflow_task(queue)
        done = {
            event.child_workflow_execution_completed_event_attributes.initiated_event_id
            for event in task.history.events
            if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED
        }
        await orders.complete_workflow_task(task, *([complete_workflow()] if len(done) == len(names) else []))
    history = await orders.history(parent)
    counts = event_names(history)
    assert counts.count("CHILD_WORKFLOW_EXECUTION_STARTED") == counts.count("CHILD_WORKFLOW_EXECUTION_COMPLETED") == 20


async def test_a_child_that_is_commanded_with_the_end_of_its_parent_is_not_started(family: Family) -> None:
    """A run that has closed does nothing any more, whatever the child's policy."""
    orders = family.orders
    await orders.start(family.parent, family.queue)
    command = start_child(family.child, family.child_queue, parent_close_policy=POLICY.PARENT_CLOSE_POLICY_ABANDON)
    await orders.run_workflow_task(family.queue, command, complete_workflow())
    assert await family.names() == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    # It would have been started before this one.
    await orders.start(f"{family.child}-2", family.child_queue)
    await orders.run_workflow_task(family.child_queue)
    assert (await refusal(orders.describe(family.child))).code == grpc.StatusCode.NOT_FOUND


async def test_a_child_does_not_get_its_parents_id(family: Family) -> None:
    orders = family.orders
    await orders.start(family.parent, family.queue)
    await orders.run_workflow_task(family.queue, start_child(family.parent, family.child_queue))
    failed = await family.parent_event(EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED)
    assert failed.start_child_workflow_execution_failed_event_attributes.cause == TAKEN


@pytest.mark.usefixtures("embedded_only")
async def test_a_child_that_insists_on_its_parents_id_takes_its_place(family: Family) -> None:
    """A real server never gets done with this: it waits for itself."""
    orders = family.orders
    run_id = await orders.start(family.parent, family.queue)
    reuse = REUSE.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING
    await orders.run_workflow_task(
        family.queue, start_child(family.parent, family.child_queue, workflow_id_reuse_policy=reuse)
    )
    closed = await orders.last_event(family.parent, run_id)
    assert closed.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED
    task = await orders.run_workflow_task(family.child_queue, complete_workflow())
    assert task.workflow_execution.workflow_id == family.parent
    assert task.workflow_execution.run_id != run_id
    assert (await orders.history(family.parent, run_id))[-1] == closed
