"""A database that an older version of this project wrote is used as if this one had.

`version_1.sql` is such a file, as text: that version ran a worker of the Python SDK, and was killed. In it are `quick`,
which has ended; `order` with an activity that failed and is to be tried again an hour later (1) and one that a worker
has (2); `sleep`, which sleeps for an hour; `caller` with a Nexus operation behind which the workflow `handler-x` sleeps
for an hour; `waits`, which no worker has seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import grpc.aio
import pytest
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest

from nexuskit.backend.history.activity import Activity
from nexuskit.backend.history.rules import ROWS
from nexuskit.backend.server import running
from nexuskit.backend.store.database import open_database
from nexuskit.backend.store.reader import Entry, Reader, read_everything
from nexuskit.backend.times import HOUR, MINUTE, moment
from tests.support.clock import FakeClock
from tests.support.raw import Namespace
from tests.support.values import complete_workflow, event_names, result_of

DUMP = Path(__file__).parent / "version_1.sql"
RUNS = {"quick": 1, "order": 2, "sleep": 3, "caller": 4, "handler-x": 5, "waits": 6}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "nexus.db")) as made:
        made.executescript(DUMP.read_text())
    return tmp_path / "nexus.db"


def last_start(file: Path) -> int:
    with closing(sqlite3.connect(file)) as made:
        return made.execute("SELECT max(start_time) FROM executions").fetchone()[0]


async def test_every_run_is_read_and_what_is_to_happen_next_is_what_its_rows_say(file: Path) -> None:
    with closing(sqlite3.connect(file)) as made:
        started = dict(made.execute("SELECT id, start_time FROM executions").fetchall())
    database = open_database(file)
    reader = Reader(database)
    everything = await reader.run(read_everything)
    computed: list[Entry] = []
    for number in RUNS.values():
        execution = await reader.execution(number)
        assert execution is not None
        assert execution.info.execution_time == execution.info.start_time == started[number]
        for kind, key, row in execution.rows():
            assert kind in ROWS
            index = row.index(execution.info)
            if index.due or index.destination is not None:
                computed.append(Entry(number, kind, key, index))
    assert sorted(everything.entries, key=str) == sorted(computed, key=str)
    order = await reader.execution(RUNS["order"])
    assert order is not None
    one, two = (row for _, row in sorted(order.of(Activity).items()))
    assert (one.activity_type, one.attempt, one.stamp, one.started_attempt) == ("charge", 2, 2, 0)
    assert (two.activity_type, two.attempt, two.stamp, two.started_attempt) == ("pack", 1, 1, 1)
    reader.close()
    database.close()


@pytest.fixture
async def clock(file: Path) -> FakeClock:
    clock = FakeClock()
    clock.jump(last_start(file) + MINUTE - clock.now())
    return clock


@pytest.fixture
async def orders(file: Path, clock: FakeClock) -> AsyncIterator[Namespace]:
    async with (
        running(file, namespaces=[], host="127.0.0.1", port=0, http_port=0, clock=clock) as backend,
        grpc.aio.insecure_channel(backend.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        yield Namespace("default", channel)


async def test_runs_are_listed_with_their_times(orders: Namespace, clock: FakeClock) -> None:
    listed = await orders.service.ListWorkflowExecutions(
        ListWorkflowExecutionsRequest(
            namespace=orders.name, query="TaskQueue = 'q' AND ExecutionTime > '2026-01-01T00:00:00Z'"
        )
    )
    shown = {each.execution.workflow_id: each for each in listed.executions}
    assert set(shown) == set(RUNS) - {"waits"}
    for each in shown.values():
        assert moment(each.execution_time) == moment(each.start_time) > clock.now() - 2 * MINUTE
    assert shown["quick"].history_length == 5


async def test_activities_and_timers_go_on(orders: Namespace, clock: FakeClock) -> None:
    described = await orders.describe("order")
    assert [each.activity_type.name for each in described.pending_activities] == ["charge", "pack"]
    clock.pass_time(2 * HOUR)
    tasks = [await orders.poll_activity_task("q") for _ in range(2)]
    assert {(task.activity_type.name, task.attempt) for task in tasks} == {("charge", 2), ("pack", 2)}
    for task in tasks:
        await orders.complete_activity(task, "done")
    turns = {}
    while turns.keys() != {"order", "sleep", "handler-x"}:
        task = await orders.poll_workflow_task("q")
        turns[task.workflow_execution.workflow_id] = event_names(task.history.events)
        await orders.complete_workflow_task(task, complete_workflow("awake"))
    assert "ACTIVITY_TASK_COMPLETED" in turns["order"]
    assert "TIMER_FIRED" in turns["sleep"]
    task = await orders.poll_workflow_task("q")
    assert task.workflow_execution.workflow_id == "caller"
    completed = task.history.events[-3]
    assert result_of(completed) == "awake"
    await orders.complete_workflow_task(task, complete_workflow("called"))
    assert result_of(await orders.close_event("caller")) == "called"


async def test_a_run_that_nobody_has_taken_is_taken(orders: Namespace) -> None:
    await orders.run_workflow_task("nobody", complete_workflow("seen"))
    assert result_of(await orders.close_event("waits")) == "seen"
