"""What is read from disk is what was written."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Callback
from temporalio.api.history.v1 import History, HistoryEvent

from nexuskit.backend.history.rules import ROWS
from nexuskit.backend.history.state import NOTHING, Execution, Info
from nexuskit.backend.history.timer import Timer
from nexuskit.backend.history.transaction import Transaction
from nexuskit.backend.store.database import Database, open_database
from nexuskit.backend.store.group import Batch, Group, batches
from nexuskit.backend.store.reader import Entry, Reader, read_batches, read_everything
from nexuskit.backend.store.schema import MIGRATIONS
from nexuskit.backend.store.upgrades import add_functions
from nexuskit.backend.times import HOUR, SECOND
from tests.support.world import World, complete_workflow, schedule_activity, schedule_operation, start_timer

VALUES: dict[str, st.SearchStrategy[Any]] = {
    str(int): st.integers(-(2**63), 2**63 - 1),
    str(str): st.text(),
    str(bytes): st.binary(),
    str(bool): st.booleans(),
}
"""Type of a row's field → what may be in it; fields of other types keep their default."""


class WrittenWorld(World):
    """A world whose every transaction goes to the database in a group of its own."""

    def __init__(self, database: Database, number: int = 1) -> None:
        super().__init__()
        info = Info(namespace_id=f"ns-{number % 2}", workflow_id=f"order-{number}", run_id=f"run-{number}")
        self.execution = Execution(number, info)
        self.database = database

    def run(self, decide: Callable[[Transaction], Any]) -> Any:
        group = Group()

        def noting(tx: Transaction) -> Any:
            answer = decide(tx)
            group.add_execution(tx.state, tx.state.changes(), batches(tx.events), new=not self.history)
            return answer

        answer = super().run(noting)
        group.set_current(self.execution.info.namespace_id, self.execution.info.workflow_id, self.execution.id)
        write(self.database, group)
        return answer

    def index(self) -> list[Entry]:
        """What must happen next, from memory."""
        rows = ((kind, key, row.index(self.execution.info)) for kind, key, row in self.execution.rows())
        return [Entry(self.execution.id, kind, key, index) for kind, key, index in rows if index != NOTHING]


def write(database: Database, group: Group) -> None:
    for sql, parameters in group.statements():
        database.first.executemany(sql, parameters)


def busy(database: Database, number: int = 1) -> WrittenWorld:
    """A run with rows of many kinds."""
    world = WrittenWorld(database, number)
    callback = Callback(nexus=Callback.Nexus(url="temporal://system"))
    timeouts = {"workflow_run_timeout": {"seconds": 3600}, "workflow_task_timeout": {"seconds": 100}}
    world.start(completion_callbacks=[callback], **timeouts)
    activities = [schedule_activity(name, start_to_close=1_000, heartbeat=500) for name in "abc"]
    world.turn(start_timer("t", 99), *activities, schedule_operation())
    for scheduled_id in (6, 7, 8):
        world.take_activity(scheduled_id)
    world.complete_activity(6)
    world.take_task()
    world.complete_activity(7)  # while the task is with a worker
    return world


def close(world: WrittenWorld) -> None:
    world.complete_task()  # it has not seen what waited for its end
    world.turn(complete_workflow())


@pytest.fixture
def database(tmp_path: Path) -> Any:
    opened = open_database(tmp_path / "nexus.db")
    yield opened
    opened.close()


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Reader]:
    made = Reader(database)
    yield made
    made.close()


@given(data=st.data())
def test_a_row_of_any_kind_is_read_as_it_was_written(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(ROWS)))
    row_type = ROWS[kind]
    fields = msgspec.structs.fields(row_type)
    values = {field.name: data.draw(VALUES[str(field.type)]) for field in fields if str(field.type) in VALUES}
    row = row_type(**values)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=row_type) == row


async def test_a_run_is_read_as_it_was_written_with_its_rows(database: Database, reader: Reader) -> None:
    world = busy(database)
    read = await reader.execution(1)
    assert read is not None
    assert read.info == world.execution.info
    assert sorted(read.rows(), key=str) == sorted(world.execution.rows(), key=str)
    assert read.changes() == []


async def test_a_closed_run_has_its_callbacks_left_alone(database: Database, reader: Reader) -> None:
    world = busy(database)
    close(world)
    read = await reader.execution(1)
    assert read is not None
    assert not read.info.running
    assert [kind for kind, _, _ in read.rows()] == ["callback"]


async def test_a_key_that_is_a_number_and_one_that_looks_like_it_are_two(database: Database, reader: Reader) -> None:
    order = Execution(1, Info(namespace_id="ns", workflow_id="order", run_id="run"))
    keys: list[int | str] = [5, "5", "", "ü"]
    for key in keys:
        order.of(Timer).put(key, Timer(timer_id=str(key), started_id=1, fires=1))
    group = Group()
    group.add_execution(order, order.changes(), [], new=True)
    write(database, group)
    read = await reader.execution(1)
    assert read is not None
    assert sorted((key for key, _ in read.of(Timer).items()), key=repr) == sorted(keys, key=repr)


async def test_runs_are_found_by_their_names_in_their_own_namespace_alone(database: Database, reader: Reader) -> None:
    WrittenWorld(database, 1).start()
    assert await reader.current_run("ns-1", "order-1") == 1
    assert await reader.run_number("ns-1", "order-1", "run-1") == 1
    for namespace, workflow_id, run_id in [
        ("ns-0", "order-1", "run-1"),
        ("ns-1", "order-2", "run-1"),
        ("ns-1", "order-1", "run-2"),
    ]:
        assert await reader.run_number(namespace, workflow_id, run_id) is None
    assert await reader.current_run("ns-0", "order-1") is None
    assert await reader.execution(2) is None


async def test_the_newest_run_of_a_workflow_id_is_its_current_one(database: Database, reader: Reader) -> None:
    for number in (1, 2):
        group = Group()
        group.set_current("ns", "order", number)
        write(database, group)
    assert await reader.current_run("ns", "order") == 2


async def test_workflow_ids_are_read_page_by_page_each_once(database: Database, reader: Reader) -> None:
    group = Group()
    names = [(namespace, f"order-{number}") for namespace in ("a", "b") for number in range(5)]
    for number, name in enumerate(names):
        group.set_current(*name, number)
    write(database, group)
    found: list[tuple[str, str]] = []
    after = ("", "")
    while page := await reader.workflow_ids(after, 3):
        assert len(page) <= 3
        found += page
        after = page[-1]
    assert found == names


# --- everything that start-up needs


async def test_start_up_reads_what_must_happen_next_of_every_run_and_no_more(
    database: Database, reader: Reader
) -> None:
    worlds = [busy(database, number) for number in (1, 2, 3)]
    close(worlds[1])  # what is left of it is a callback to be delivered
    worlds.append(WrittenWorld(database, 9))
    worlds[3].start()
    everything = await reader.run(read_everything)
    expected = [entry for world in worlds for entry in world.index()]
    assert sorted(everything.entries, key=str) == sorted(expected, key=str)
    kinds = [entry.kind for entry in expected]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "run_deadline": 2,
        "timer": 2,
        "activity": 2,
        "nexus_operation": 2,
        "workflow_task": 3,
        "callback": 1,
    }
    assert everything.last_execution == 9
    namespaces = {entry.next.destination.namespace for entry in everything.entries if entry.next.destination}
    assert namespaces == {"ns-0", "ns-1"}


async def test_start_up_reads_namespaces_endpoints_and_keys(database: Database, reader: Reader) -> None:
    group = Group()
    group.add("INSERT INTO namespaces (id, name, body) VALUES (?, ?, ?)", ("id-1", "orders", b"orders' body"))
    group.add("INSERT INTO endpoints (id, name, body) VALUES (?, ?, ?)", ("id-2", "payments", b"payments' body"))
    group.add("INSERT INTO meta (key, value) VALUES (?, ?)", ("callback_key", b"secret"))
    write(database, group)
    everything = await reader.run(read_everything)
    assert everything.namespaces == [("orders", b"orders' body")]
    assert everything.endpoints == [("payments", b"payments' body")]
    assert everything.meta == {"callback_key": b"secret"}


async def test_an_empty_database_has_nothing(reader: Reader) -> None:
    everything = await reader.run(read_everything)
    assert everything == ([], [], [], {}, [], 0)


# --- batches


def events(first_id: int, last_id: int) -> Batch:
    (made,) = batches([HistoryEvent(event_id=number) for number in range(first_id, last_id + 1)])
    return made


LAYOUT = [events(1, 2), events(3, 3), events(4, 8), events(9, 10)]


@pytest.mark.parametrize(
    ("first_id", "last_id", "size", "found"),
    [
        (1, 10, 10_000, [0, 1, 2, 3]),
        (1, 10, 1, [0]),
        (1, 10, len(LAYOUT[0].body), [0]),
        (1, 10, len(LAYOUT[0].body) + 1, [0, 1]),
        (2, 2, 10_000, [0]),
        (2, 3, 10_000, [0, 1]),
        (5, 6, 10_000, [2]),
        (8, 9, 10_000, [2, 3]),
        (8, 9, 1, [2]),
        (10, 99, 10_000, [3]),
        (11, 99, 10_000, [3]),
        (5, 4, 10_000, [2]),
    ],
)
def test_batches_hold_the_events_that_were_asked_for_up_to_a_size(
    database: Database, first_id: int, last_id: int, size: int, found: list[int]
) -> None:
    put(database.first, LAYOUT)
    assert read_batches(database.first, 1, first_id, last_id, size) == [LAYOUT[number] for number in found]


def test_a_run_without_events_has_no_batches(database: Database) -> None:
    put(database.first, LAYOUT)
    assert read_batches(database.first, 2, 1, 99, 10_000) == []


def put(connection: sqlite3.Connection, batches: list[Batch]) -> None:
    connection.executemany("INSERT INTO events (execution, first_id, last_id, body) VALUES (1, ?, ?, ?)", batches)


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    first_id=st.integers(1, 25),
    length=st.integers(1, 25),
    size=st.integers(1, 200),
)
def test_reading_on_from_where_it_stopped_gives_every_event_once(
    counts: list[int], first_id: int, length: int, size: int
) -> None:
    total = sum(counts)
    last_id = min(first_id + length, total)
    if first_id > total:
        return
    layout, following = [], 1
    for count in counts:
        layout.append(events(following, following + count - 1))
        following += count
    seen: list[int] = []
    at = first_id
    with closing(sqlite3.connect(":memory:")) as connection:
        add_functions(connection)
        connection.executescript("".join(MIGRATIONS))
        put(connection, layout)
        while at <= last_id:
            found = read_batches(connection, 1, at, last_id, size)
            assert found
            told = [event.event_id for each in found for event in History.FromString(each.body).events]
            assert told[0] <= at
            seen += [number for number in told if at <= number <= last_id]
            at = found[-1].last_id + 1
    assert seen == list(range(first_id, last_id + 1))


# --- threads


async def test_reading_is_done_on_other_threads_and_several_at_once(reader: Reader) -> None:
    both = threading.Barrier(2)

    def meet(_: Any) -> str:
        both.wait(timeout=10)
        return threading.current_thread().name

    names = await asyncio.gather(reader.run(meet), reader.run(meet))
    assert len({*names, threading.current_thread().name}) == 3


async def test_what_is_committed_is_read_at_once(database: Database, reader: Reader) -> None:
    assert await reader.execution(1) is None
    WrittenWorld(database, 1).start()
    assert await reader.execution(1) is not None


async def test_a_run_that_cannot_be_read_is_an_error_and_the_next_read_is_none(
    database: Database, reader: Reader
) -> None:
    WrittenWorld(database, 1).start()
    database.first.execute("UPDATE executions SET info = x'c1'")
    for _ in range(3):
        with pytest.raises(msgspec.DecodeError):
            await reader.execution(1)
    database.first.execute("DELETE FROM executions")  # no connection still looks at the state of before
    assert [await reader.execution(1) for _ in range(3)] == [None] * 3


async def test_closing_waits_for_what_is_being_read(database: Database) -> None:
    reader = Reader(database)
    started, done = threading.Event(), []

    def slow(connection: Any) -> None:
        started.set()
        assert not closing.done()
        done.append(connection.execute("SELECT 1").fetchone())

    reading = asyncio.ensure_future(reader.run(slow))
    closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    await asyncio.to_thread(started.wait, 10)
    reader.close()
    closing.set_result(None)
    await reading
    assert done == [(1,)]


def test_a_moment_far_away_is_kept_to_the_nanosecond(database: Database) -> None:
    world = WrittenWorld(database, 1)
    world.start()
    world.turn(start_timer("far", 365 * 24 * 3600 + 0.5))
    (fires,) = (entry.next.due for entry in read_everything(database.first).entries if entry.kind == "timer")
    assert fires == world.now + 365 * 24 * HOUR + SECOND // 2
