"""Removal: what is not kept any longer goes, bit by bit, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import ActivityType
from temporalio.api.common.v1 import Callback as CallbackProto
from temporalio.api.enums.v1 import NamespaceState
from temporalio.api.failure.v1 import Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartActivityExecutionRequest, StartNexusOperationExecutionRequest

from nexuskit.backend import limits, starting
from nexuskit.backend.agenda import Waiting
from nexuskit.backend.engine import Resident
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import activity_options, callback, standalone, standalone_operation, start, workflow
from nexuskit.backend.history.callback import Callback
from nexuskit.backend.history.state import ACTIVITY, OPERATION, Info, space
from nexuskit.backend.history.transaction import Transaction
from nexuskit.backend.namespaces import Namespace, Namespaces
from nexuskit.backend.removal import Remover, Run
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.task_queues import TaskQueues
from nexuskit.backend.times import HOUR, SECOND
from tests.support import disk
from tests.support.clock import FakeClock, settle
from tests.support.engine import NAMESPACE, QUEUE, Orders
from tests.support.world import complete_workflow, start_timer

DELETED = int(NamespaceState.NAMESPACE_STATE_DELETED)
TABLES = ("executions", "current_runs", "pending", "events", "removals")


class Kept:
    """An engine, and what removes from it."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.engine = orders.engine
        self.clock = orders.clock
        self.namespaces = Namespaces(self.engine.store, limits=DEFAULTS)
        self.task_queues = TaskQueues(self.engine.store, self.engine.tasks, limits=DEFAULTS)
        self.remover = Remover(self.engine, self.namespaces, self.task_queues)

    @classmethod
    async def on(cls, path: Path, clock: FakeClock | None = None) -> Kept:
        kept = cls(Orders.on(path, clock))
        rows = await kept.engine.store.reader.run(
            lambda connection: connection.execute("SELECT name, body FROM namespaces").fetchall()
        )
        kept.namespaces.load(rows)
        if not rows:
            await kept.namespaces.add(Namespace(id=NAMESPACE, name="orders", retention=2 * HOUR)).wait()
        await kept.orders.resume()
        kept.remover.wake()
        return kept

    async def close(self) -> None:
        self.remover.close()
        await self.engine.close()

    async def pass_time(self, span: int = 0) -> None:
        """Time passes, until nothing is to be removed at its end."""
        end = self.clock.now() + span
        while True:
            next_moment = self.clock.next_moment
            if next_moment is None or next_moment > end:
                break
            self.clock.pass_time(max(next_moment - self.clock.now(), 0))
            await self.orders.idle()
        self.clock.pass_time(end - self.clock.now())
        await self.orders.idle()

    async def counts(self) -> dict[str, int]:
        """How many rows each table has on disk."""
        await self.orders.idle()
        return await self.engine.store.reader.run(
            lambda connection: {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
            }
        )

    async def closed(self, workflow_id: str = "order", **options: object) -> Resident:
        """A run that has closed."""
        resident = self.orders.turn(self.orders.start(workflow_id, **options), complete_workflow())
        await self.orders.idle()
        return resident


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    made = await Kept.on(tmp_path / "nexus.db")
    yield made
    await made.close()


NONE = dict.fromkeys(TABLES, 0)


async def not_found(kept: Kept, workflow_id: str = "order", run_id: str = "") -> None:
    with pytest.raises(StatusError) as refused:
        await kept.engine.find(NAMESPACE, workflow_id, run_id)
    assert refused.value.code == Code.NOT_FOUND


# --- retention


async def test_a_closed_run_is_kept_for_its_time_and_not_longer(kept: Kept) -> None:
    run_id = (await kept.closed()).execution.info.run_id
    await kept.pass_time(2 * HOUR - 1)
    assert (await kept.counts())["executions"] == 1
    assert (await kept.engine.find(NAMESPACE, "order", run_id)).execution.info.run_id == run_id
    await kept.pass_time(2 * SECOND)
    assert await kept.counts() == NONE
    await not_found(kept)
    await not_found(kept, run_id=run_id)


async def test_a_run_that_goes_on_is_kept(kept: Kept) -> None:
    await kept.orders.started("order", start_timer("t", 1000 * 3600))
    await kept.closed("closed")
    await kept.pass_time(100 * HOUR)
    assert (await kept.engine.find(NAMESPACE, "order")).execution.info.running
    await not_found(kept, "closed")


async def test_an_older_run_goes_and_the_newest_of_its_id_stays(kept: Kept) -> None:
    first = (await kept.closed()).execution.info.run_id
    await kept.pass_time(1 * HOUR)
    second = (await kept.closed()).execution.info.run_id
    await kept.pass_time(1 * HOUR + SECOND)
    await not_found(kept, run_id=first)
    assert (await kept.engine.find(NAMESPACE, "order")).execution.info.run_id == second
    await kept.pass_time(1 * HOUR + SECOND)
    assert await kept.counts() == NONE


async def test_a_newest_run_that_was_read_before_it_was_removed_is_not_taken_for_the_newest_after(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be for ever: whoever starts a workflow of that id would be told that there is no such run."""
    run = await kept.closed()
    kept.engine._currents.clear()
    reader = kept.engine.store.reader
    read = reader.current_run

    async def slow(namespace: str, workflow_id: str) -> int | None:
        number = await read(namespace, workflow_id)
        monkeypatch.setattr(reader, "current_run", read)
        kept.engine.remove(Run(run.execution.id, NAMESPACE, "order"))
        await kept.orders.idle()
        return number

    monkeypatch.setattr(reader, "current_run", slow)
    assert await starting.newest(kept.engine, NAMESPACE, "order") is None


async def test_the_id_of_a_run_that_is_gone_can_be_used_again(kept: Kept) -> None:
    number = (await kept.closed()).execution.id
    await kept.pass_time(3 * HOUR)
    assert await kept.engine.current(NAMESPACE, "order") is None
    again = kept.orders.start("order")
    assert again.execution.id > number
    assert await kept.engine.find(NAMESPACE, "order") is again
    await kept.orders.idle()
    assert (await kept.counts())["current_runs"] == 1


async def test_a_run_whose_callback_waits_is_kept_until_it_is_delivered(kept: Kept) -> None:
    calls: list[Waiting] = []

    async def call(waiting: Waiting) -> None:
        calls.append(waiting)

    kept.engine.agenda.effects[Callback.kind] = call
    told = CallbackProto(nexus=CallbackProto.Nexus(url="temporal://system"))
    resident = await kept.closed(completion_callbacks=[told])
    await kept.pass_time(5 * HOUR)
    assert (await kept.engine.find(NAMESPACE, "order")).execution.id == resident.execution.id
    row = resident.execution.of(Callback).get(0)
    assert row is not None
    kept.engine.run(resident, lambda tx: tx.note(callback.Delivered(0, tx.now)))
    await kept.orders.idle()
    await kept.pass_time(1 * HOUR + SECOND)
    assert await kept.counts() == NONE


async def test_runs_that_nobody_has_in_memory_go_too(kept: Kept, tmp_path: Path) -> None:
    for number in range(120):
        kept.orders.turn(kept.orders.start(f"order-{number}"), complete_workflow())
    await kept.close()
    again = await Kept.on(tmp_path / "nexus.db", kept.clock)
    await again.pass_time(3 * HOUR)
    assert await again.counts() == NONE
    await again.close()
    kept.engine.store = again.engine.store  # closed twice
    kept.remover = again.remover


async def test_a_shorter_retention_counts_at_once(kept: Kept) -> None:
    await kept.closed()
    await kept.pass_time(90 * 60 * SECOND)
    shorter = msgspec.structs.replace(kept.namespaces.get("orders"), retention=1 * HOUR)
    await kept.namespaces.change(shorter).wait()
    kept.remover.wake()
    await kept.pass_time(SECOND)
    assert await kept.counts() == NONE


# --- long histories


async def test_a_long_history_goes_bit_by_bit_and_is_not_to_be_seen_meanwhile(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REMOVAL_ROWS", 4)
    resident = kept.orders.start("order")
    kept.orders.turn(resident, start_timer("first", 1))
    for number in range(10):
        await kept.orders.idle()
        kept.orders.turn_by_timer(resident, start_timer(f"t{number}", 1))
    await kept.orders.idle()
    kept.engine.run(resident, lambda tx: workflow.terminate(tx, "enough", ""))
    before = (await kept.counts())["events"]
    kept.clock.jump(2 * HOUR)
    kept.remover.wake()
    kept.clock.turn()
    await kept.orders.idle()
    now = await kept.counts()
    assert (now["executions"], now["removals"]) == (0, 1)
    assert before > now["events"] >= before - 4
    await not_found(kept)
    # The process dies; the next one gives out other numbers, and goes on.
    number = resident.execution.id
    await kept.close()
    again = await Kept.on(tmp_path / "nexus.db", kept.clock)
    assert again.orders.start("another").execution.id > number
    await again.pass_time(10 * SECOND)
    now = await again.counts()
    assert (now["executions"], now["removals"], now["events"]) == (1, 0, 1)
    await again.close()


# --- somebody deletes a run


async def test_a_running_workflow_is_terminated_and_gone(kept: Kept) -> None:
    number = await kept.orders.started("order", start_timer("t", 60))
    resident = await kept.engine.get(number)
    watching = asyncio.ensure_future(kept.engine.more_events(resident, kept.clock.now() + HOUR, last=True))
    await settle()
    kept.remover.delete(resident)
    assert kept.orders.moments == 0
    await not_found(kept)
    with pytest.raises(StatusError) as refused:
        kept.orders.take(resident)
    assert refused.value.code == Code.NOT_FOUND
    await kept.pass_time(SECOND)
    assert await kept.counts() == NONE
    await watching


async def test_a_task_of_a_run_that_is_deleted_is_not_handed_out(kept: Kept) -> None:
    resident = kept.orders.start("order")
    await kept.orders.idle()
    assert kept.engine.tasks.backlog(QUEUE) == 1
    kept.remover.delete(resident)
    assert kept.engine.tasks.backlog(QUEUE) == 0


async def test_a_run_that_is_deleted_in_the_group_that_made_it_leaves_nothing(kept: Kept) -> None:
    kept.remover.delete(kept.orders.start("order"))
    newer = kept.orders.start("order")
    await kept.pass_time(SECOND)
    counts = await kept.counts()
    assert (counts["executions"], counts["current_runs"], counts["removals"]) == (1, 1, 0)
    assert await kept.engine.find(NAMESPACE, "order") is newer


async def test_a_run_that_was_being_read_when_it_was_deleted_does_not_come_back(kept: Kept) -> None:
    resident = await kept.closed()
    number = resident.execution.id
    kept.engine._residents.drop(number)
    reading = asyncio.ensure_future(kept.engine.get(number))
    await asyncio.sleep(0)
    kept.remover.delete(resident)
    with pytest.raises(StatusError):
        await reading
    await kept.pass_time(SECOND)
    assert await kept.counts() == NONE
    assert kept.engine._removed == set()


async def test_a_run_whose_callback_waits_is_deleted_once_it_is_delivered(kept: Kept, tmp_path: Path) -> None:
    calls: list[Waiting] = []

    async def call(waiting: Waiting) -> None:
        calls.append(waiting)

    kept.engine.agenda.effects[Callback.kind] = call
    told = CallbackProto(nexus=CallbackProto.Nexus(url="temporal://system"))
    resident = kept.orders.start("order", completion_callbacks=[told])
    kept.remover.delete(resident)
    await kept.pass_time(5 * SECOND)
    assert not resident.execution.info.running
    assert calls
    assert await kept.engine.find(NAMESPACE, "order") is resident
    kept.engine.run(resident, lambda tx: tx.note(callback.Delivered(0, tx.now)))
    await kept.orders.idle()
    await kept.pass_time(5 * SECOND)
    assert await kept.counts() == NONE


def tried_in_vain(tx: Transaction) -> None:
    row = tx.state.of(Callback).get(0)
    assert row is not None
    callback.refused(tx, row, Failure(message="nobody there"), retryable=True)


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_callback_that_nobody_took_goes_with_its_run(kept: Kept, deleted: bool) -> None:
    calls: list[Waiting] = []

    async def call(waiting: Waiting) -> None:
        calls.append(waiting)

    kept.engine.agenda.effects[Callback.kind] = call
    told = CallbackProto(nexus=CallbackProto.Nexus(url="https://nobody.example"))
    resident = await kept.closed(completion_callbacks=[told])
    await kept.pass_time(SECOND)
    assert [waiting.stamp for waiting in calls] == [0]
    kept.engine.run(resident, tried_in_vain)
    await kept.orders.idle()
    if deleted:
        kept.remover.delete(resident)
        await kept.pass_time(5 * SECOND)
    else:
        await kept.pass_time(5 * HOUR)
    assert await kept.counts() == NONE
    seen = len(calls)
    await kept.pass_time(2 * HOUR)
    assert len(calls) == seen


async def test_a_removal_that_cannot_be_written_never_was(kept: Kept) -> None:
    resident = await kept.closed()
    run_id = resident.execution.info.run_id
    with disk.broken(kept.orders.database):
        kept.remover.delete(resident)
        await not_found(kept)
        with pytest.raises(StatusError) as refused:
            await kept.engine.durable(resident)
        assert refused.value.code == Code.UNAVAILABLE
    await kept.orders.idle()
    assert (await kept.engine.find(NAMESPACE, "order")).execution.info.run_id == run_id
    assert (await kept.counts())["executions"] == 1
    kept.remover.delete(await kept.engine.find(NAMESPACE, "order"))
    await kept.pass_time(SECOND)
    assert await kept.counts() == NONE


async def test_a_batch_that_cannot_be_written_leaves_a_run_with_its_events(kept: Kept) -> None:
    number = (await kept.closed()).execution.id
    kept.clock.jump(3 * HOUR)
    with disk.broken(kept.orders.database):
        kept.remover.wake()
        kept.clock.turn()
        await kept.orders.idle()
    counts = await kept.counts()
    assert (counts["executions"], counts["events"] > 0) == (1, True)
    assert len(await kept.orders.event_names(number)) == 5
    await kept.pass_time(limits.FAULT_PAUSE)
    assert await kept.counts() == NONE


# --- activities that stand alone


def alone(kept: Kept, activity_id: str = "order") -> Resident:
    """One that waits for a worker."""
    info = Info(
        namespace_id=NAMESPACE,
        workflow_id=activity_id,
        run_id=kept.engine.draw.run_id(kept.clock.now()),
        archetype=ACTIVITY,
    )
    options = activity_options.checked(
        ActivityOptions(task_queue=TaskQueue(name="work"), start_to_close_timeout={"seconds": 1000 * 3600}),
        activity_id,
        "charge",
        limits=DEFAULTS,
    )
    request = StartActivityExecutionRequest(activity_id=activity_id, activity_type=ActivityType(name="charge"))
    return kept.engine.create(info, lambda tx: standalone.start(tx, request, options))[0]


async def test_an_activity_goes_when_its_time_is_over_and_a_workflow_of_its_id_stays(kept: Kept) -> None:
    await kept.orders.started("order", start_timer("t", 1000 * 3600))
    resident, other = alone(kept), alone(kept, "other")
    kept.engine.run(resident, lambda tx: standalone.terminate(tx, "", "", ""))
    await kept.pass_time(3 * HOUR)
    assert (await kept.counts())["executions"] == 2
    assert (await kept.engine.find(NAMESPACE, "order")).execution.info.running
    place = space(NAMESPACE, ACTIVITY)
    assert (await kept.engine.find(place, "other")).execution is other.execution
    with pytest.raises(StatusError):
        await kept.engine.find(place, "order")


async def test_an_activity_that_runs_is_terminated_and_gone(kept: Kept) -> None:
    kept.remover.delete(alone(kept))
    await kept.pass_time(5 * SECOND)
    assert await kept.counts() == NONE


async def test_a_namespace_goes_with_its_activities(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMOVAL_RUNS", 3)
    for number in range(5):
        alone(kept, f"activity-{number}")
        await kept.closed(f"closed-{number}")
    renamed = msgspec.structs.replace(kept.namespaces.get("orders"), name="orders-deleted", state=DELETED)
    await kept.namespaces.change(renamed).wait()
    kept.remover.wake()
    await kept.pass_time(5 * SECOND)
    assert kept.namespaces.all() == []
    assert await kept.counts() == NONE
    assert kept.orders.moments == 0


# --- namespaces


async def test_a_namespace_goes_with_all_its_runs_and_no_others(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMOVAL_RUNS", 3)
    other = Namespace(id="other", name="payments")
    await kept.namespaces.add(other).wait()
    info = Info(namespace_id="other", workflow_id="order", run_id=kept.engine.draw.run_id(kept.clock.now()))
    kept.engine.create(info, lambda tx: start.apply_requested(tx.state, start.Requested("r")))
    for number in range(5):
        await kept.closed(f"closed-{number}")
        await kept.orders.started(f"open-{number}", start_timer("t", 60))
    renamed = msgspec.structs.replace(kept.namespaces.get("orders"), name="orders-deleted", state=DELETED)
    await kept.namespaces.change(renamed).wait()
    kept.remover.wake()
    await kept.pass_time(5 * SECOND)
    assert [each.name for each in kept.namespaces.all()] == ["payments"]
    counts = await kept.counts()
    assert (counts["executions"], counts["current_runs"], counts["removals"]) == (1, 1, 0)
    assert kept.orders.moments == 0


async def test_a_namespace_whose_removal_met_a_broken_disk_goes_with_all_its_runs(kept: Kept) -> None:
    for number in range(3):
        await kept.orders.started(f"open-{number}", start_timer("t", 60))
    await kept.namespaces.change(msgspec.structs.replace(kept.namespaces.get("orders"), state=DELETED)).wait()
    with disk.broken(kept.orders.database):
        kept.remover.wake()
        await kept.pass_time()
    assert (await kept.counts())["executions"] == 3
    await kept.pass_time(5 * SECOND)
    assert kept.namespaces.all() == []
    assert await kept.counts() == NONE


async def test_a_start_up_goes_on_with_a_deleted_namespace(kept: Kept, tmp_path: Path) -> None:
    for number in range(3):
        await kept.orders.started(f"open-{number}", start_timer("t", 60))
    await kept.namespaces.change(msgspec.structs.replace(kept.namespaces.get("orders"), state=DELETED)).wait()
    await kept.close()
    again = await Kept.on(tmp_path / "nexus.db", kept.clock)
    await again.pass_time(5 * SECOND)
    assert again.namespaces.all() == []
    assert await again.counts() == NONE
    await again.close()


# --- Nexus operations that stand alone


def operation_alone(kept: Kept, operation_id: str = "order") -> Resident:
    """One that waits for its handler."""
    info = Info(
        namespace_id=NAMESPACE,
        workflow_id=operation_id,
        run_id=kept.engine.draw.run_id(kept.clock.now()),
        archetype=OPERATION,
    )
    request = StartNexusOperationExecutionRequest(
        operation_id=operation_id, endpoint="payments", service="Payments", operation="charge"
    )
    return kept.engine.create(info, lambda tx: standalone_operation.start(tx, request, "endpoint-1", {}))[0]


async def test_an_operation_goes_when_its_time_is_over_and_others_of_its_id_stay(kept: Kept) -> None:
    await kept.orders.started("order", start_timer("t", 1000 * 3600))
    alone(kept)
    resident, other = operation_alone(kept), operation_alone(kept, "other")
    kept.engine.run(resident, lambda tx: standalone_operation.terminate(tx, "", "", ""))
    await kept.pass_time(3 * HOUR)
    assert (await kept.counts())["executions"] == 3
    assert (await kept.engine.find(NAMESPACE, "order")).execution.info.running
    assert (await kept.engine.find(space(NAMESPACE, ACTIVITY), "order")).execution.info.running
    place = space(NAMESPACE, OPERATION)
    assert (await kept.engine.find(place, "other")).execution is other.execution
    with pytest.raises(StatusError):
        await kept.engine.find(place, "order")


async def test_an_operation_that_runs_is_terminated_and_gone(kept: Kept) -> None:
    kept.remover.delete(operation_alone(kept))
    await kept.pass_time(5 * SECOND)
    assert await kept.counts() == NONE


async def test_a_namespace_goes_with_its_operations(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMOVAL_RUNS", 3)
    for number in range(5):
        operation_alone(kept, f"operation-{number}")
        await kept.closed(f"closed-{number}")
    renamed = msgspec.structs.replace(kept.namespaces.get("orders"), name="orders-deleted", state=DELETED)
    await kept.namespaces.change(renamed).wait()
    kept.remover.wake()
    await kept.pass_time(5 * SECOND)
    assert kept.namespaces.all() == []
