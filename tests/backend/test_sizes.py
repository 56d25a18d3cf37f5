"""A run that would become too large is ended instead, and whoever made it so is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import ActivityType, Link, Payload, Payloads
from temporalio.api.enums.v1 import ActivityExecutionStatus, NexusOperationExecutionStatus, ParentClosePolicy
from temporalio.api.failure.v1 import Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartActivityExecutionRequest, StartNexusOperationExecutionRequest

from nexuskit.backend import limits, transfers
from nexuskit.backend.engine import Resident
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import activity, activity_options, signal, standalone, standalone_operation
from nexuskit.backend.history.state import ACTIVITY, OPERATION, Execution, Info
from nexuskit.backend.settings import DEFAULTS
from tests.support.engine import NAMESPACE, QUEUE, Orders, orders
from tests.support.world import schedule_activity, start_child, start_timer


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Orders]:
    async with orders(tmp_path / "nexus.db") as made:
        yield made


def send(backend: Orders, resident: Resident, size: int = 0) -> None:
    sent = signal.Signal("go", Payloads(payloads=[Payload(data=b"x" * size)]), None, "somebody")
    backend.engine.run(resident, lambda tx: signal.take(tx, sent))


async def refused(backend: Orders, resident: Resident, size: int = 0) -> str:
    with pytest.raises(StatusError) as caught:
        send(backend, resident, size)
    assert caught.value.code == Code.INVALID_ARGUMENT
    await backend.idle()
    return caught.value.message


async def test_a_history_may_have_so_many_events_and_not_one_more(
    backend: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HISTORY_EVENTS", 5)
    resident = backend.start()
    for _ in range(3):
        send(backend, resident)
    assert resident.execution.info.next_event_id - 1 == 5
    message = await refused(backend, resident)
    assert "Workflow history count exceeds limit." in message
    assert "6 events, at most 5" in message
    names = await backend.event_names(resident.execution.id)
    assert names[-2:] == ["workflow_execution_signaled", "workflow_execution_terminated"]
    assert len(names) == 6


async def test_a_history_may_have_so_many_bytes_and_not_one_more(
    backend: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = backend.start()
    send(backend, resident, 1000)
    size = resident.execution.info.history_size
    monkeypatch.setattr(limits, "HISTORY_SIZE", size)
    assert "Workflow history size exceeds limit." in await refused(backend, resident)
    assert not resident.execution.info.running


async def test_what_is_pending_may_have_so_many_bytes(backend: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_SIZE", 10_000)
    resident = backend.start()
    backend.turn(resident, schedule_activity("a", start_to_close=100))
    (key,) = (key for key, _ in resident.execution.of(activity.Activity).items())
    row = backend.engine.run(resident, lambda tx: activity.start(tx, activity.Start(int(key), 1, "worker")))
    assert row is not None

    def beat(size: int) -> None:
        details = Payloads(payloads=[Payload(data=b"x" * size)])
        backend.engine.run(resident, lambda tx: activity.heartbeat(tx, row, details))

    beat(9_000)
    assert resident.execution.info.running
    beat(9_000)  # in place of the ones before
    with pytest.raises(StatusError, match="Workflow mutable state size exceeds limit"):
        beat(10_001)
    assert not resident.execution.info.running
    assert resident.execution.size() == 0


async def test_a_run_that_would_begin_too_large_never_begins(backend: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HISTORY_EVENTS", 1)
    with pytest.raises(StatusError, match="Workflow history count exceeds limit") as caught:
        backend.start()
    assert caught.value.code == Code.INVALID_ARGUMENT
    await backend.idle()
    assert await backend.engine.current(NAMESPACE, "order") is None
    assert backend.engine.tasks.backlog(QUEUE) == 0


async def test_the_size_of_what_is_pending_is_the_same_after_it_was_read_from_disk(backend: Orders) -> None:
    resident = backend.start()
    commands = [start_timer(f"timer-{number}", 1000) for number in range(10)]
    backend.turn(resident, schedule_activity("a", start_to_close=100), *commands)
    await backend.idle()
    read = await backend.engine.store.reader.execution(resident.execution.id)
    assert read is not None
    assert read.size() == resident.execution.size() > 0


@pytest.mark.parametrize(
    ("policy", "last"),
    [
        (ParentClosePolicy.PARENT_CLOSE_POLICY_TERMINATE, "workflow_execution_terminated"),
        (ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL, "workflow_execution_cancel_requested"),
        (ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON, "workflow_task_scheduled"),
    ],
)
async def test_a_parent_that_outgrows_a_limit_by_the_start_of_its_child_parts_from_it(
    backend: Orders, monkeypatch: pytest.MonkeyPatch, policy: ParentClosePolicy.ValueType, last: str
) -> None:
    """The start is written into its history no more; the child ends, or does not, as it would with any other end."""
    backend.engine.agenda.effects |= transfers.effects(backend.engine)
    resident = backend.turn(backend.start(), start_child("parcel", policy))
    monkeypatch.setattr(limits, "HISTORY_EVENTS", resident.execution.info.next_event_id - 1)
    await backend.idle()
    assert (await backend.event_names(resident.execution.id))[-2:] == [
        "start_child_workflow_execution_initiated",
        "workflow_execution_terminated",
    ]
    parcel = await backend.engine.current(NAMESPACE, "parcel")
    assert parcel is not None
    assert (await backend.event_names(parcel))[-1] == last
    assert (await backend.engine.get(parcel)).execution.info.running == (last != "workflow_execution_terminated")


def test_an_empty_execution_weighs_nothing() -> None:
    assert Execution(1, Info("ns", "order", "run")).size() == 0


@pytest.mark.parametrize("archetype", [ACTIVITY, OPERATION])
async def test_what_stands_alone_ends_as_its_kind_does(
    backend: Orders, monkeypatch: pytest.MonkeyPatch, archetype: str
) -> None:
    resident = alone(backend, archetype)
    link = Link(batch_job=Link.BatchJob(job_id="j" * 1000))
    size = resident.execution.size()
    monkeypatch.setattr(limits, "PENDING_SIZE", size + 1500)
    backend.engine.run(resident, lambda tx: standalone.attach(tx, "one", [], [link]))
    assert size + 1000 < resident.execution.size() <= size + 1500
    with pytest.raises(StatusError, match="mutable state size exceeds limit") as caught:
        backend.engine.run(resident, lambda tx: standalone.attach(tx, "two", [], [link]))
    assert caught.value.code == Code.INVALID_ARGUMENT
    await backend.idle()
    info = resident.execution.info
    closing = await backend.engine.event(resident, info.close_event_id)
    if archetype == ACTIVITY:
        assert info.status == ActivityExecutionStatus.ACTIVITY_EXECUTION_STATUS_TERMINATED
        failure = standalone.outcome(resident.execution, closing).failure
    else:
        assert info.status == NexusOperationExecutionStatus.NEXUS_OPERATION_EXECUTION_STATUS_TERMINATED
        failure = standalone_operation.outcome(closing)
        assert isinstance(failure, Failure)
    assert "mutable state size exceeds limit" in failure.message
    assert failure.HasField("terminated_failure_info")


def alone(backend: Orders, archetype: str) -> Resident:
    """One that waits for a worker, or for its handler."""
    info = Info(namespace_id=NAMESPACE, workflow_id="alone", run_id="run-1", archetype=archetype)
    if archetype == OPERATION:
        operation = StartNexusOperationExecutionRequest(
            operation_id="alone", endpoint="payments", service="Payments", operation="charge"
        )
        return backend.engine.create(info, lambda tx: standalone_operation.start(tx, operation, "endpoint-1", {}))[0]
    options = ActivityOptions(task_queue=TaskQueue(name="work"), start_to_close_timeout={"seconds": 1000})
    checked = activity_options.checked(options, "alone", "charge", limits=DEFAULTS)
    request = StartActivityExecutionRequest(activity_id="alone", activity_type=ActivityType(name="charge"))
    return backend.engine.create(info, lambda tx: standalone.start(tx, request, checked))[0]
