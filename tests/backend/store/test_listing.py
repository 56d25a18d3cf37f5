"""Lists: what SQLite finds is what a plain look at every execution finds, page by page, in the order of lists."""

import json
import random
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload, SearchAttributes

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history.state import OPERATION, Execution, Info, Parent, Root
from nexuskit.backend.store import listing
from nexuskit.backend.store.database import open_database
from nexuskit.backend.store.group import Group
from nexuskit.backend.visibility.plans import plan
from nexuskit.backend.visibility.search_attributes import (
    BOOL,
    DATETIME,
    DOUBLE,
    INT,
    KEYWORD,
    KEYWORD_LIST,
    NAMES,
    TEXT,
)
from nexuskit.backend.visibility.subjects import OPERATIONS, WORKFLOWS

CUSTOM = {"K": KEYWORD, "I": INT, "L": KEYWORD_LIST, "T": TEXT, "D": DATETIME, "F": BOOL, "N": DOUBLE, "U K": KEYWORD}
STATUSES = {1: "Running", 2: "Completed", 3: "Failed", 7: "TimedOut"}
FOREVER = 2**63 - 1


class Run(NamedTuple):
    """A run, and what it is to be found by."""

    info: Info
    attributes: dict[str, Any]

    @property
    def place(self) -> tuple[int, int]:
        return (self.info.close_time or FOREVER, self.info.start_time)

    def value(self, name: str) -> Any:
        info = self.info
        match name:
            case "WorkflowId":
                return info.workflow_id
            case "WorkflowType":
                return info.workflow_type
            case "TaskQueue":
                return info.task_queue
            case "StartTime":
                return info.start_time
            case "CloseTime":
                return info.close_time or None
            case "ExecutionStatus":
                return info.status
            case "HistoryLength":
                return info.next_event_id - 1 if info.close_time else None
            case "ExecutionDuration":
                return info.close_time - info.execution_time if info.close_time else None
            case "ParentWorkflowId":
                return info.parent.workflow_id if info.parent else None
            case "RootWorkflowId":
                return info.root.workflow_id if info.root else info.workflow_id
            case _:
                return self.attributes.get(name)


def payload(value: Any, kind: int) -> Payload:
    if kind == DATETIME:
        value = f"1970-01-01T00:00:00.{value:09}Z"
    return Payload(
        metadata={"encoding": b"json/plain", "type": NAMES[kind].encode()},
        data=json.dumps(bool(value) if kind == BOOL else value).encode(),
    )


def make(number: int, draw: random.Random, ends: dict[str, int]) -> Run:
    """A run; those of one workflow id follow one another, `ends` says when the newest one ended (0: it is open)."""
    names = [name for name in (f"o{place}" for place in range(12)) if ends.get(name, 1)]
    info = Info(
        namespace_id="ns" if number % 10 else "other",
        workflow_id=draw.choice(names or [f"extra{number}"]),
        run_id=f"r{number}",
    )
    info.workflow_type = draw.choice(["Pay", "Ship", "Payroll"])
    info.task_queue = draw.choice(["q1", "q2"])
    info.start_time = info.execution_time = ends.get(info.workflow_id, draw.randrange(1, 20)) + draw.randrange(3)
    info.next_event_id = draw.randrange(3, 9)
    info.status = 1 if draw.random() < 0.04 or info.workflow_id.startswith("e") else draw.choice([2, 2, 2, 3, 7])
    info.close_time = info.start_time + draw.randrange(5) if info.status != 1 else 0
    ends[info.workflow_id] = info.close_time
    if draw.random() < 0.3:
        info.parent, info.root = Parent("ns", f"o{draw.randrange(3)}", "p", 1), Root(f"o{draw.randrange(3)}", "p")
    choices: dict[str, Callable[[], Any]] = {
        "K": lambda: draw.choice(["a", "ab", "abc", "b", "é", "A"]),
        "I": lambda: draw.randrange(-3, 4),
        "L": lambda: draw.sample(["x", "y", "z"], draw.randrange(1, 4)),
        "T": lambda: draw.choice(["Hello World", "hello there", "World"]),
        "D": lambda: draw.randrange(1, 40),
        "F": lambda: draw.randrange(2),
        "N": lambda: draw.choice([0.5, 1.0, -2.25]),
        "U K": lambda: draw.choice(["u", "v"]),
    }
    found = {name: choose() for name, choose in choices.items() if draw.random() < 0.5}
    info.search_attributes = SearchAttributes(
        indexed_fields={name: payload(value, CUSTOM[name]) for name, value in found.items()}
    ).SerializeToString(deterministic=True)
    return Run(info, found)


class Filled(NamedTuple):
    connection: sqlite3.Connection
    runs: list[tuple[int, Run]]


def write(connection: sqlite3.Connection, group: Group) -> None:
    for sql, rows in group.statements():
        connection.executemany(sql, rows)


@pytest.fixture(scope="module")
def filled() -> Iterator[Filled]:
    """Two hundred runs: started in one group, changed and closed in others, as it goes in life."""
    database = open_database(":memory:")
    draw = random.Random(4)
    runs: list[tuple[int, Run]] = []
    ends: dict[str, int] = {}
    for number in range(1, 201):
        run = make(number, draw, ends)
        final = msgspec.structs.replace(run.info)
        early = msgspec.structs.replace(run.info, status=1, close_time=0)
        if draw.random() < 0.5:
            early.search_attributes = make(number, draw, {}).info.search_attributes
        execution = Execution(number, early)
        group = Group()
        group.add_execution(execution, [], [], new=True)
        write(database.first, group)
        execution.settle()
        execution.info = final
        group = Group()
        group.add_execution(execution, [], [], new=False)
        write(database.first, group)
        if run.info.namespace_id == "ns":
            runs.append((number, run))
    runs.sort(key=lambda each: (*each[1].place, each[0]), reverse=True)
    yield Filled(database.first, runs)
    database.close()


def listed(connection: sqlite3.Connection, text: str, size: int = 7) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = listing.read_page(connection, plan(text, WORKFLOWS, "ns", CUSTOM), after, size, limits.LIST_WORK)
        assert len(page.bodies) <= size
        found += [msgspec.msgpack.decode(body, type=Info).run_id for body in page.bodies]
        after = page.after
        if after is None:
            return found


def counted(connection: sqlite3.Connection, text: str) -> dict[int, int]:
    return dict(listing.count(connection, plan(text, WORKFLOWS, "ns", CUSTOM, count=True), limits.LIST_WORK))


# --- filters with what they mean: true, false, or None where a value is not there

Filter = tuple[str, Callable[[Run], bool | None]]

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "WorkflowId": st.sampled_from(["o1", "o2", "o11", "none"]),
    "WorkflowType": st.sampled_from(["Pay", "Ship", "None"]),
    "TaskQueue": st.sampled_from(["q1", "q2"]),
    "StartTime": st.integers(0, 60),
    "CloseTime": st.integers(0, 70),
    "HistoryLength": st.integers(2, 8),
    "ExecutionDuration": st.integers(0, 20),
    "ParentWorkflowId": st.sampled_from(["o0", "o1"]),
    "RootWorkflowId": st.sampled_from(["o0", "o1", "o5"]),
    "K": st.sampled_from(["a", "ab", "é", "none"]),
    "I": st.integers(-4, 4),
    "D": st.integers(0, 40),
    "N": st.sampled_from([0.5, 1.0, 0.0]),
    "U K": st.sampled_from(["u", "v"]),
}
WORDS = {"K", "U K", "WorkflowId", "WorkflowType", "TaskQueue", "ParentWorkflowId", "RootWorkflowId"}
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


def quoted(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def on(name: str, test: Callable[[Any], bool]) -> Callable[[Run], bool | None]:
    def decide(run: Run) -> bool | None:
        value = run.value(name)
        return None if value is None else test(value)

    return decide


@st.composite
def single(draw: st.DrawFn) -> Filter:
    kind = draw(
        st.sampled_from(["compare", "compare", "in", "between", "null", "prefix", "status", "list", "text", "flag"])
    )
    negated = draw(st.booleans())
    word = "NOT " if negated else ""
    if kind == "status":
        number = draw(st.sampled_from(list(STATUSES)))
        operator = draw(st.sampled_from(["=", "!="]))
        shown = draw(st.sampled_from([f"'{STATUSES[number]}'", str(number)]))
        return f"ExecutionStatus {operator} {shown}", on("ExecutionStatus", lambda v: OPERATORS[operator](v, number))
    if kind == "list":
        wanted = draw(st.lists(st.sampled_from(["x", "y", "w"]), min_size=1, max_size=2))
        text = f"L {word}IN ({', '.join(map(quoted, wanted))})"
        return text, lambda run: bool(set(wanted) & set(run.value("L") or ())) != negated
    if kind == "text":
        wanted = draw(st.sampled_from(["hello", "WORLD there", "nobody"]))
        text = f"T {'!=' if negated else '='} '{wanted}'"
        words = set(wanted.lower().split())
        return text, lambda run: bool(words & set((run.value("T") or "").lower().split())) != negated
    if kind == "flag":
        return f"F = {str(negated).lower()}", on("F", lambda v: bool(v) == negated)
    name = draw(st.sampled_from(sorted(WORDS) if kind == "prefix" else sorted(VALUES)))
    column = f"`{name}`"
    if kind == "prefix":
        prefix = draw(st.sampled_from(["a", "o1", "Pay", "", "é"]))
        return f"{column} {word}STARTS_WITH '{prefix}'", on(name, lambda v: v.startswith(prefix) != negated)
    if kind == "null":
        return f"{column} IS {word}NULL", lambda run: (run.value(name) is None) != negated
    if kind == "in":
        wanted = draw(st.lists(VALUES[name], min_size=1, max_size=3))
        return f"{column} {word}IN ({', '.join(map(quoted, wanted))})", on(name, lambda v: (v in wanted) != negated)
    if kind == "between":
        low, high = draw(VALUES[name]), draw(VALUES[name])
        text = f"{column} {word}BETWEEN {quoted(low)} AND {quoted(high)}"
        return text, on(name, lambda v: (low <= v <= high) != negated)
    value = draw(VALUES[name])
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    return f"{column} {operator} {quoted(value)}", on(name, lambda v: OPERATORS[operator](v, value))


def both(parts: list[Filter]) -> Filter:
    def decide(run: Run) -> bool | None:
        found = [test(run) for _, test in parts]
        return False if False in found else None if None in found else True

    return " AND ".join(f"({text})" for text, _ in parts), decide


def either(parts: list[Filter]) -> Filter:
    def decide(run: Run) -> bool | None:
        found = [test(run) for _, test in parts]
        return True if True in found else None if None in found else False

    return " OR ".join(f"({text})" for text, _ in parts), decide


def negate(part: Filter) -> Filter:
    def decide(run: Run) -> bool | None:
        found = part[1](run)
        return None if found is None else not found

    return f"NOT ({part[0]})", decide


FILTERS = st.recursive(
    single(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(both),
        st.lists(inner, min_size=2, max_size=3).map(either),
        inner.map(negate),
    ),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(FILTERS)
def test_what_is_found_is_what_a_plain_look_finds(filled: Filled, made: Filter) -> None:
    text, test = made
    expected = [run for _, run in filled.runs if test(run) is True]
    assert listed(filled.connection, text) == [run.info.run_id for run in expected]
    assert sum(counted(filled.connection, text).values()) == len(expected)
    groups = {status: sum(run.info.status == status for run in expected) for status in STATUSES}
    assert counted(filled.connection, f"{text} GROUP BY ExecutionStatus") == {k: n for k, n in groups.items() if n}


@settings(max_examples=60, deadline=None)
@given(made=single(), name=st.sampled_from(sorted(VALUES)), descending=st.booleans())
def test_a_sorted_list_has_those_without_a_value_last(
    filled: Filled, made: Filter, name: str, descending: bool
) -> None:
    text, test = made
    found = [run for _, run in filled.runs if test(run) is True]

    keys = sorted({run.value(name) for run in found if run.value(name) is not None}, reverse=descending)
    there = [run for key in keys for run in found if run.value(name) == key]
    expected = there + [run for run in found if run.value(name) is None]
    sorting = f"{text} ORDER BY `{name}` {'DESC' if descending else 'ASC'}"
    assert listed(filled.connection, sorting) == [run.info.run_id for run in expected]


def test_the_index_of_search_attributes_holds_what_the_executions_hold(filled: Filled) -> None:
    kept = filled.connection.execute("SELECT listing, name, value, status, listed, start_time, id FROM attributes")
    anew = filled.connection.execute(
        "SELECT listing, n.key, v.value, status, listed, start_time, e.id FROM executions AS e,"
        " json_each(e.attributes) AS n, json_each(n.value) AS v"
    )
    assert set(kept) == set(anew)


def test_an_execution_that_is_removed_is_in_no_index(filled: Filled) -> None:
    connection = filled.connection
    connection.execute("BEGIN")
    number = filled.runs[0][0]
    connection.execute("DELETE FROM executions WHERE id = ?", (number,))
    assert connection.execute("SELECT count(*) FROM attributes WHERE id = ?", (number,)).fetchone() == (0,)
    connection.execute("ROLLBACK")


def test_what_comes_between_two_pages_changes_no_later_page(filled: Filled) -> None:
    connection = filled.connection
    before = listed(connection, "")
    planned = plan("", WORKFLOWS, "ns", CUSTOM)
    first = listing.read_page(connection, planned, None, 50, limits.LIST_WORK)
    info = Info(namespace_id="ns", workflow_id="new", run_id=str(uuid.uuid4()), start_time=99)
    group = Group()
    group.add_execution(Execution(999, info), [], [], new=True)
    write(connection, group)
    second = listing.read_page(connection, planned, first.after, 500, limits.LIST_WORK)
    connection.execute("DELETE FROM executions WHERE id = 999")
    found = [msgspec.msgpack.decode(body, type=Info).run_id for body in [*first.bodies, *second.bodies]]
    assert found == before


def test_a_list_that_takes_too_much_work_is_refused_and_one_just_under_is_not(filled: Filled) -> None:
    connection = filled.connection
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO executions SELECT ? + id, namespace, listing, workflow_id, run_id || '-' || ?, workflow_type,"
        " task_queue, status, start_time, execution_time, close_time, listed, history_length, history_size,"
        " transitions, NULL, NULL, NULL, NULL, NULL, info FROM executions WHERE id <= 200",
        [(1_000 * copy, copy) for copy in range(1, 31)],
    )
    connection.execute("COMMIT")
    listing_plan = plan("HistoryLength = 100", WORKFLOWS, "ns", CUSTOM)
    counting_plan = plan("HistoryLength = 100", WORKFLOWS, "ns", CUSTOM, count=True)
    reads: list[Callable[[int], Any]] = [
        lambda work: listing.read_page(connection, listing_plan, None, 10, work),
        lambda work: listing.count(connection, counting_plan, work),
    ]
    try:
        for read in reads:
            refused = [_refused(read, 10_000 * steps) for steps in range(60)]
            enough = refused.index(None)
            assert enough > 1
            assert all(refused[:enough])
            assert not any(refused[enough:])
    finally:
        connection.execute("DELETE FROM executions WHERE id > 1000")


def _refused(read: Callable[[int], Any], work: int) -> str | None:
    try:
        read(work)
    except StatusError as error:
        return error.message if error.code is Code.RESOURCE_EXHAUSTED else None
    return None


def test_a_page_ends_where_it_would_become_too_large(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_PAGE_BYTES", 1)
    planned = plan("", WORKFLOWS, "ns", CUSTOM)
    page = listing.read_page(filled.connection, planned, None, 50, limits.LIST_WORK)
    assert len(page.bodies) == 1
    assert len(listed(filled.connection, "", 50)) == len(filled.runs)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("", "executions_by_status"),
        ("ExecutionStatus = 'Failed'", "executions_by_status"),
        ("CloseTime > 5 AND ExecutionStatus = 'Failed'", "executions_by_status"),
        ("WorkflowType = 'Pay' AND ExecutionStatus = 'Failed' AND StartTime > 5", "executions_by_type"),
        ("TaskQueue = 'q1' AND CloseTime BETWEEN 1 AND 5", "executions_by_queue"),
        ("WorkflowId = 'o1'", "executions_by_workflow"),
        ("ParentWorkflowId = 'o1'", "executions_by_parent"),
        ("K = 'a' AND ExecutionStatus = 'Running'", "PRIMARY KEY (listing=? AND name=? AND value=? AND status=?"),
        ("L = 'x' AND CloseTime < 5", "value=? AND status=? AND listed<?"),
    ],
)
def test_one_value_of_an_indexed_attribute_is_read_from_its_index_in_order(
    filled: Filled, text: str, index: str
) -> None:
    planned = plan(text, WORKFLOWS, "ns", CUSTOM)
    assert planned.streams
    for source, where, row in planned.streams:
        columns = ("id",) if planned.by_number else ("listed", "start_time", "id")
        order = ", ".join(f"{row}.{column} DESC" for column in columns)
        sql = f"EXPLAIN QUERY PLAN SELECT {row}.id FROM {source} WHERE {where.text} ORDER BY {order}"
        shown = " ".join(step[3] for step in filled.connection.execute(sql, where.parameters))
        assert index in shown
        assert "TEMP B-TREE" not in shown


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Operation = 'charge' AND ExecutionStatus = 'Failed'", "executions_by_type"),
        ("Endpoint = 'payments'", "executions_by_queue"),
        ("OperationId = 'o1'", "executions_by_workflow"),
        ("Service = 'Payments' AND ExecutionStatus = 'Running'", "name=? AND value=? AND status=?"),
        ("RequestId = 'r1'", "name=? AND value=? AND status=?"),
    ],
)
def test_a_nexus_operation_is_found_by_an_index_too(filled: Filled, text: str, index: str) -> None:
    alone = Info(namespace_id="ns", workflow_id="o1", run_id="alone", archetype=OPERATION)
    alone.workflow_type, alone.task_queue = "charge", "payments"
    alone.keywords = {"Service": "Payments", "RequestId": "r1"}
    alone.status = 3 if "Failed" in text else 1
    group = Group()
    group.add_execution(Execution(998, alone), [], [], new=True)
    write(filled.connection, group)
    try:
        planned = plan(text, OPERATIONS, alone.space, CUSTOM)
        page = listing.read_page(filled.connection, planned, None, 10, limits.LIST_WORK)
        assert [msgspec.msgpack.decode(body, type=Info).run_id for body in page.bodies] == ["alone"]
        for source, where, row in planned.streams:
            sql = f"EXPLAIN QUERY PLAN SELECT {row}.id FROM {source} WHERE {where.text} ORDER BY {row}.id DESC"
            shown = " ".join(step[3] for step in filled.connection.execute(sql, where.parameters))
            assert index in shown
    finally:
        filled.connection.execute("DELETE FROM executions WHERE id = 998")
    assert filled.connection.execute("SELECT count(*) FROM attributes WHERE id = 998").fetchone() == (0,)


def test_a_run_of_a_division_and_one_that_is_no_workflow_are_in_lists_of_their_own(filled: Filled) -> None:
    divided = Info(namespace_id="ns", workflow_id="o", run_id="divided")
    divided.search_attributes = SearchAttributes(
        indexed_fields={"TemporalNamespaceDivision": payload("batch", KEYWORD)}
    ).SerializeToString()
    alone = Info(namespace_id="ns", workflow_id="o", run_id="alone", archetype="activity")
    before = listed(filled.connection, "")
    group = Group()
    group.add_execution(Execution(997, divided), [], [], new=True)
    group.add_execution(Execution(998, alone), [], [], new=True)
    write(filled.connection, group)
    try:
        assert listed(filled.connection, "") == before
        assert listed(filled.connection, "TemporalNamespaceDivision = 'batch'") == ["divided"]
        assert listed(filled.connection, "TemporalNamespaceDivision IS NULL") == before
    finally:
        filled.connection.execute("DELETE FROM executions WHERE id IN (997, 998)")
