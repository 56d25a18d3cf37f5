"""What a commit group makes of many requests: one statement for each row, whatever happened to it meanwhile."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.history.v1 import History, HistoryEvent, WorkflowExecutionSignaledEventAttributes

from nexuskit.backend import limits
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.history.state import Execution, Info, Row
from nexuskit.backend.history.timer import Timer
from nexuskit.backend.store.group import (
    CLOSE_EXECUTION,
    INSERT_EXECUTION,
    PUT_EVENTS,
    PUT_ROW,
    REMOVE_ROW,
    SET_CURRENT,
    UPDATE_EXECUTION,
    Batch,
    Group,
    batches,
)
from nexuskit.backend.store.schema import MIGRATIONS
from nexuskit.backend.store.upgrades import add_functions
from nexuskit.backend.visibility.subjects import OPEN

COMPLETED = int(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED)


def execution(number: int = 7) -> Execution:
    return Execution(number, Info(namespace_id="ns", workflow_id=f"order-{number}", run_id=f"run-{number}"))


def timer(fires: int, key: str = "t") -> Timer:
    return Timer(timer_id=key, started_id=5, fires=fires)


def operation(ready: int) -> NexusOperation:
    return NexusOperation(
        scheduled_id=5,
        endpoint="payments",
        endpoint_id="id",
        service="Payments",
        operation="process",
        request_id="request",
        scheduled_time=1,
        ready=ready,
    )


def event(number: int, size: int = 0) -> HistoryEvent:
    signal = WorkflowExecutionSignaledEventAttributes(input=Payloads(payloads=[Payload(data=b"x" * size)]))
    return HistoryEvent(event_id=number, workflow_execution_signaled_event_attributes=signal)


def put(group: Group, into: Execution, *events: HistoryEvent, new: bool = False, **timers: int | None) -> None:
    """One settled transaction: timers by name, with the moment at which each fires, None for one that is gone."""
    for key, fires in timers.items():
        if fires is None:
            into.of(Timer).remove(key)
        else:
            into.of(Timer).put(key, timer(fires, key))
    changes = into.changes()
    into.settle()
    group.add_execution(into, changes, batches(list(events)), new=new)


def rows(group: Group) -> dict[str, list[tuple[object, ...]]]:
    """What happens to rows: by statement, the values that name the row and, for one that is put, the row itself."""
    statements = dict(group.statements())
    assert len(statements) == len(group.statements()), "a statement comes once, with all its parameters"
    puts = [
        (key, msgspec.msgpack.decode(body, type=Timer).fires) for _, _, key, *_, body in statements.get(PUT_ROW, [])
    ]
    return {"put": puts, "remove": [(key,) for _, _, key in statements.get(REMOVE_ROW, [])]}


def test_a_row_that_changes_twice_is_written_once_as_it_is_last() -> None:
    group, order = Group(), execution()
    put(group, order, t=1)
    put(group, order, t=2)
    assert rows(group) == {"put": [("t", 2)], "remove": []}


def test_a_row_that_comes_and_goes_is_not_written_at_all() -> None:
    group, order = Group(), execution()
    put(group, order, t=1)
    put(group, order, t=2)
    put(group, order, t=None)
    assert rows(group) == {"put": [], "remove": []}


def test_a_row_that_was_there_and_goes_is_removed_once() -> None:
    order = execution()
    put(Group(), order, t=1)
    group = Group()
    put(group, order, t=2)
    put(group, order, t=None)
    assert rows(group) == {"put": [], "remove": [("t",)]}


def test_a_row_that_was_there_goes_and_comes_again_is_written() -> None:
    order = execution()
    put(Group(), order, t=1)
    group = Group()
    put(group, order, t=None)
    put(group, order, t=3)
    assert rows(group) == {"put": [("t", 3)], "remove": []}


def test_a_row_that_was_there_goes_comes_and_goes_is_removed() -> None:
    order = execution()
    put(Group(), order, t=1)
    group = Group()
    for fires in (None, 3, None):
        put(group, order, t=fires)
    assert rows(group) == {"put": [], "remove": [("t",)]}


def test_a_row_that_comes_goes_and_comes_is_written() -> None:
    group, order = Group(), execution()
    for fires in (1, None, 3):
        put(group, order, t=fires)
    assert rows(group) == {"put": [("t", 3)], "remove": []}


def test_rows_of_the_same_key_of_two_executions_or_kinds_are_two_rows() -> None:
    group, one, two = Group(), execution(1), execution(2)
    put(group, one, t=1)
    put(group, two, t=2)
    one.of(NexusOperation).put("t", operation(ready=9))
    group.add_execution(one, one.changes(), [], new=False)
    written = dict(group.statements())[PUT_ROW]
    assert [row[:3] for row in written] == [(1, "timer", "t"), (1, "nexus_operation", "t"), (2, "timer", "t")]


@pytest.mark.parametrize("row", [timer(99), operation(ready=42)], ids=["with a moment", "with a destination"])
def test_a_row_is_written_with_its_index(row: Row) -> None:
    group, order = Group(), execution()
    order.of(type(row)).put(5, row)
    group.add_execution(order, order.changes(), [], new=False)
    ((number, kind, key, due, destination, queue, ready, stamp, body),) = dict(group.statements())[PUT_ROW]
    index = row.index(order.info)
    assert (number, kind, key, due, ready, stamp) == (7, row.kind, 5, index.due, index.ready, index.stamp)
    assert (destination, queue) == (
        (index.destination.kind, index.destination.queue) if index.destination else (None,) * 2
    )
    assert msgspec.msgpack.decode(body, type=type(row)) == row


def test_a_new_run_is_inserted_once_as_it_is_last() -> None:
    group, order = Group(), execution()
    put(group, order, event(1), new=True)
    order.info.workflow_type = "PlaceOrder"
    put(group, order, event(2), t=5)
    statements = dict(group.statements())
    assert set(statements) == {INSERT_EXECUTION, PUT_EVENTS, PUT_ROW}
    ((*columns, info),) = statements[INSERT_EXECUTION]
    assert columns[:6] == [7, "ns", "ns", "order-7", "run-7", "PlaceOrder"]
    assert columns[7:12] == [1, 0, 0, 0, OPEN]  # status, start, execution, close, place in the list
    assert columns[12:] == [None] * 8
    assert msgspec.msgpack.decode(info, type=Info) == order.info


def test_a_run_that_starts_and_closes_in_one_group_is_inserted_closed() -> None:
    group, order = Group(), execution()
    put(group, order, event(1), new=True)
    order.info.status, order.info.close_time = COMPLETED, 9
    put(group, order, event(2))
    statements = dict(group.statements())
    assert set(statements) == {INSERT_EXECUTION, PUT_EVENTS}
    assert statements[INSERT_EXECUTION][0][7:12] == (COMPLETED, 0, 0, 9, 9)


def test_a_run_that_goes_on_has_its_info_written_and_no_column_that_is_indexed() -> None:
    group, order = Group(), execution()
    put(group, order, event(5))
    ((info, number),) = dict(group.statements())[UPDATE_EXECUTION]
    assert (msgspec.msgpack.decode(info, type=Info), number) == (order.info, 7)


def test_a_run_that_closes_has_that_written_too() -> None:
    group, order = Group(), execution()
    put(group, order, event(5))
    order.info.status, order.info.close_time = COMPLETED, 9
    put(group, order, event(6))
    statements = dict(group.statements())
    assert UPDATE_EXECUTION not in statements
    assert statements[CLOSE_EXECUTION][0][1:] == (COMPLETED, 9, 9, 0, 0, 0, 7)


def test_the_events_of_one_execution_are_one_row_and_their_bytes_are_those_of_a_history() -> None:
    group, order, other = Group(), execution(), execution(8)
    put(group, order, event(1), event(2), new=True)
    put(group, other, event(1), new=True)
    put(group, order, event(3))
    written = [Batch(*row[1:]) for row in dict(group.statements())[PUT_EVENTS]]
    assert [(each.first_id, each.last_id) for each in written] == [(1, 3), (1, 1)]
    assert History.FromString(written[0].body) == History(events=[event(1), event(2), event(3)])


def test_the_newest_run_of_a_workflow_id_is_the_last_one_that_was_named() -> None:
    group = Group()
    group.set_current("ns", "order", 1)
    group.set_current("ns", "other", 2)
    group.set_current("ns", "order", 3)
    assert group.statements() == [(SET_CURRENT, [("ns", "order", 3), ("ns", "other", 2)])]


def test_other_statements_keep_their_order_and_come_last() -> None:
    group = Group()
    group.add("first", (1,))
    put(group, execution(), event(5))
    group.add("second", (2,))
    group.add("first", (3,))
    assert group.statements()[-3:] == [("first", [(1,)]), ("second", [(2,)]), ("first", [(3,)])]


def test_statements_of_one_kind_are_run_together() -> None:
    group = Group()
    for number in range(1, 4):
        put(group, execution(number), event(1), new=True, a=1, b=2)
    assert [(sql, len(parameters)) for sql, parameters in group.statements()] == [
        (INSERT_EXECUTION, 3),
        (PUT_EVENTS, 3),
        (PUT_ROW, 6),
    ]


def test_a_group_with_nothing_to_write_is_false() -> None:
    group = Group()
    group.after(lambda: None)
    group.on_failure(lambda: None)
    assert not group
    assert group.statements() == []


def test_a_group_with_anything_to_write_is_true() -> None:
    groups = [Group(), Group(), Group()]
    groups[0].add("anything", ())
    groups[1].set_current("ns", "order", 1)
    put(groups[2], execution(), event(5))
    assert all(groups)


def talking() -> tuple[Group, list[str]]:
    """A group, and what it says: three changes to undo, two calls for afterwards."""
    group = Group()
    said: list[str] = []
    group.add("one", (), undo=lambda: said.append("undo one"))
    group.after(lambda: said.append("after one"))
    group.on_failure(lambda: said.append("undo two"))
    group.add("three", (), undo=lambda: said.append("undo three"))
    group.add("four", ())
    group.after(lambda: said.append("after two"))
    return group, said


def test_a_group_that_failed_undoes_the_newest_first_and_does_nothing_of_what_comes_after() -> None:
    group, said = talking()
    group.failed()
    assert said == ["undo three", "undo two", "undo one"]


def test_a_group_on_disk_does_what_comes_after_in_order_and_undoes_nothing() -> None:
    group, said = talking()
    group.committed()
    assert said == ["after one", "after two"]


# --- batches


def test_no_events_make_no_batch() -> None:
    assert batches([]) == []


@given(st.lists(st.one_of(st.integers(0, 300), st.integers(16_300, 16_400)), min_size=1, max_size=5))
@example([100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110])  # here the length before an event takes a byte more
@example([16_360 + number for number in range(20)])
@example([2_097_130 + number for number in range(0, 12, 3)])
def test_the_bytes_of_a_batch_are_those_of_a_history(sizes: list[int]) -> None:
    events = [event(number, size) for number, size in enumerate(sizes, 3)]
    made = batches(events)
    assert (made[0].first_id, made[-1].last_id) == (3, len(events) + 2)
    assert b"".join(each.body for each in made) == History(events=events).SerializeToString()
    assert all(each.first_id == before.last_id + 1 for before, each in pairwise(made))


def test_a_batch_is_long_only_for_one_long_event() -> None:
    events = [event(number, size) for number, size in enumerate([1_900_000, 10, 10, 1_900_000, 100_000, 200_000], 1)]
    assert [(each.first_id, each.last_id) for each in batches(events)] == [(1, 1), (2, 3), (4, 4), (5, 5), (6, 6)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_the_bytes_of_batches_one_after_the_other_are_those_of_one_history(counts: list[int]) -> None:
    events: list[HistoryEvent] = []
    body = b""
    for count in counts:
        part = [event(len(events) + each, 40 * each) for each in range(1, count + 1)]
        events += part
        body += b"".join(each.body for each in batches(part))
    assert body == History(events=events).SerializeToString()


def test_the_events_of_one_execution_are_several_rows_when_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_SIZE", 100)
    group, order = Group(), execution()
    put(group, order, event(1, 30), event(2, 30), new=True)
    put(group, order, event(3, 5), event(4, 300), event(5, 30))
    written = [Batch(*row[1:]) for row in dict(group.statements())[PUT_EVENTS]]
    assert [(each.first_id, each.last_id) for each in written] == [(1, 2), (3, 3), (4, 4), (5, 5)]


@given(st.lists(st.integers(0, 60), max_size=20), st.integers(1, 200))
def test_batches_follow_one_another_and_are_as_long_as_they_may_be(sizes: list[int], limit: int) -> None:
    events = [event(number, size) for number, size in enumerate(sizes, 1)]
    before, limits.BATCH_SIZE = limits.BATCH_SIZE, limit
    try:
        made = batches(events)
    finally:
        limits.BATCH_SIZE = before
    told = [[each.event_id for each in History.FromString(part.body).events] for part in made]
    assert [number for part in told for number in part] == list(range(1, len(events) + 1))
    assert [(part[0], part[-1]) for part in told] == [(part.first_id, part.last_id) for part in made]
    assert all(len(part.body) <= limit or part.first_id == part.last_id for part in made)
    following = [len(batches([events[part.first_id - 1]])[0].body) for part in made[1:]]
    assert all(len(part.body) + more > limit for part, more in zip(made, following, strict=False))


# --- all together, against a database

KEYS = ("a", "b", "c")
TRANSACTIONS = st.lists(st.dictionaries(st.sampled_from(KEYS), st.one_of(st.none(), st.integers(1, 9))), max_size=5)


@given(groups=st.lists(TRANSACTIONS, max_size=5))
def test_whatever_happens_to_rows_within_and_across_groups_the_disk_says_what_memory_says(
    groups: list[list[dict[str, int | None]]],
) -> None:
    order = execution()
    new, events = True, 0
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        add_functions(connection)
        connection.executescript("".join(MIGRATIONS))
        for transactions in groups:
            group = Group()
            for changes in transactions:
                events += 1
                there = {key for key, _ in order.of(Timer).items()}
                possible = {key: fires for key, fires in changes.items() if fires is not None or key in there}
                put(group, order, event(events), new=new, **possible)
                new = False
            for sql, parameters in group.statements():
                connection.executemany(sql, parameters)
        on_disk = connection.execute("SELECT key, due, body FROM pending ORDER BY key").fetchall()
        bodies = [body for (body,) in connection.execute("SELECT body FROM events ORDER BY first_id")]
    assert [(key, due, msgspec.msgpack.decode(body, type=Timer)) for key, due, body in on_disk] == [
        (key, row.fires, row) for key, row in sorted(order.of(Timer).items())
    ]
    written = History.FromString(b"".join(bodies)).events
    assert [each.event_id for each in written] == list(range(1, events + 1))
