"""How long lists take in a large database, and what their indexes cost a start and a close.

Builds a database of many runs in a temporary folder, with the statements that the backend writes them with, and times
queries of the first page on a connection such as a reader's. Figures go into docs/performance.md.

    .venv/bin/python -m benchmarks.lists --runs 1000000
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import msgspec
from temporalio.api.common.v1 import Payload, SearchAttributes

from nexuskit.backend import limits
from nexuskit.backend.errors import StatusError
from nexuskit.backend.history.state import Execution, Info
from nexuskit.backend.store import listing
from nexuskit.backend.store.database import Database, open_database
from nexuskit.backend.store.group import Group
from nexuskit.backend.times import HOUR, MINUTE, SECOND
from nexuskit.backend.visibility.plans import plan
from nexuskit.backend.visibility.search_attributes import DATETIME, INT, KEYWORD, KEYWORD_LIST, NAMES, moment
from nexuskit.backend.visibility.subjects import WORKFLOWS

NAMESPACE = str(uuid.UUID(int=7))
CUSTOM = {"Customer": KEYWORD, "Amount": INT, "Tags": KEYWORD_LIST, "ShipBy": DATETIME}
START = moment("2026-01-01T00:00:00Z")
EVERY = SECOND
"""A run is started each second."""


def payload(value: object, kind: int) -> Payload:
    return Payload(metadata={"encoding": b"json/plain", "type": NAMES[kind].encode()}, data=msgspec.json.encode(value))


def run(number: int, total: int, draw: random.Random) -> Info:
    """A run; one in ten is still open, one in 5,000 failed, one in 10,000 is of a rare type."""
    info = Info(namespace_id=NAMESPACE, workflow_id=f"order-{draw.randrange(total)}", run_id=str(uuid.uuid4()))
    info.workflow_type = "Refund" if number % 10_000 == 77 else f"Order{number % 7}"
    info.task_queue = f"queue-{number % 3}"
    info.start_time = START + number * EVERY
    info.next_event_id, info.history_size, info.transitions = 12, 2_345, 7
    info.first_run_id, info.start_request_id = info.run_id, str(uuid.uuid4())
    if number % 3 == 0:
        fields = {
            "Customer": payload(f"customer-{draw.randrange(50_000)}", KEYWORD),
            "Amount": payload(draw.randrange(1_000_000), INT),
            "Tags": payload(["gift", "big"] if number % 5_000 == 3 else ["big"], KEYWORD_LIST),
        }
        info.search_attributes = SearchAttributes(indexed_fields=fields).SerializeToString(deterministic=True)
    if draw.random() < 0.9:
        info.status = 3 if number % 5_000 == 4_000 else 2
        info.close_time = info.start_time + int(draw.expovariate(1 / (2 * MINUTE)))
        if number % 1_000 == 5:
            info.close_time += 50 * HOUR
    return info


def build(database: Database, total: int) -> None:
    draw = random.Random(1)
    for first in range(0, total, 5_000):
        group = Group()
        for number in range(first, min(first + 5_000, total)):
            group.add_execution(Execution(number + 1, run(number, total, draw)), [], [], new=True)
        commit(database, group)


def commit(database: Database, group: Group) -> float:
    """Write a group as the writer does. Returns the seconds it took before the disk was waited for."""
    statements = group.statements()
    began = time.perf_counter()
    execute = database.first.execute
    execute("BEGIN IMMEDIATE")
    for sql, parameters in statements:
        database.first.executemany(sql, parameters)
    took = time.perf_counter() - began
    execute("COMMIT")
    return took


def times(day: int, hour: int = 0) -> str:
    return f"'2026-01-{day:02}T{hour:02}:00:00Z'"


QUERIES = (
    "",
    "ExecutionStatus = 'Running'",
    "ExecutionStatus = 'Failed'",
    "ExecutionStatus = 'Terminated'",
    "WorkflowType = 'Order3'",
    "WorkflowType = 'Refund'",
    "WorkflowType = 'Nothing'",
    "WorkflowType = 'Order3' AND ExecutionStatus = 'Failed'",
    f"WorkflowType = 'Order3' AND ExecutionStatus = 'Completed' AND CloseTime BETWEEN {times(2)} AND {times(3)}",
    f"WorkflowType = 'Order3' AND ExecutionStatus = 'Completed' AND StartTime BETWEEN {times(2)} AND {times(2, 1)}",
    f"WorkflowType = 'Order3' AND ExecutionStatus = 'Completed' AND StartTime < {times(2)}",
    f"WorkflowType = 'Order3' AND StartTime > {times(12)}",
    f"StartTime BETWEEN {times(2)} AND {times(2, 1)}",
    f"CloseTime < {times(2)}",
    f"ExecutionStatus = 'Completed' AND StartTime < {times(1, 1)}",
    "TaskQueue = 'queue-1' AND ExecutionStatus = 'Running'",
    "WorkflowId = 'order-4712'",
    "WorkflowId STARTS_WITH 'order-47'",
    "WorkflowType STARTS_WITH 'Ref'",
    "WorkflowType STARTS_WITH 'Order'",
    "Customer = 'customer-4711'",
    "Customer IN ('customer-1', 'customer-2', 'customer-3')",
    "Customer STARTS_WITH 'customer-4'",
    "Amount > 999900",
    "Amount < 500000",
    "Tags = 'gift'",
    "Tags = 'big' AND ExecutionStatus = 'Completed'",
    f"Tags = 'big' AND StartTime BETWEEN {times(2)} AND {times(2, 1)}",
    "WorkflowType = 'Order3' ORDER BY StartTime",
    f"WorkflowType = 'Order3' AND CloseTime > {times(12)}",
    "HistoryLength > 100",
    "COUNT",
    "COUNT GROUP BY ExecutionStatus",
    "COUNT WorkflowType = 'Order3' AND ExecutionStatus = 'Completed'",
    "COUNT Customer = 'customer-4711'",
)


def measure(database: Database, size: int, rounds: int) -> None:
    connection = database.connect()
    print(f"| query, first page of {size} | found | ms, median | ms, first |\n| --- | ---: | ---: | ---: |")
    for query in QUERIES:
        taken: list[float] = []
        found = ""
        for _ in range(rounds):
            began = time.perf_counter()
            try:
                if query.startswith("COUNT"):
                    planned = plan(query[6:], WORKFLOWS, NAMESPACE, CUSTOM, count=True)
                    found = str(sum(number for _, number in listing.count(connection, planned, limits.LIST_WORK)))
                else:
                    planned = plan(query, WORKFLOWS, NAMESPACE, CUSTOM)
                    page = listing.read_page(connection, planned, None, size, limits.LIST_WORK)
                    found = str(len(page.bodies))
            except StatusError as error:
                found = error.code.name
            taken.append((time.perf_counter() - began) * 1000)
        shown = f"`{query}`" if query else "no filter"
        print(f"| {shown} | {found} | {statistics.median(taken):.1f} | {taken[0]:.1f} |", flush=True)
    connection.close()


def write_cost(database: Database, total: int) -> None:
    """What the writer takes for a start and a close in groups of ten, without the wait for the disk."""
    draw = random.Random(2)
    (last,) = database.first.execute("SELECT max(id) FROM executions").fetchone()
    for attributes in (False, True):
        started: list[float] = []
        closed: list[float] = []
        for first in range(0, 2_000, 10):
            infos: list[Info] = []
            for number in range(first, first + 10):
                info = run(total + number, total, draw)
                info.status, info.close_time = 1, 0
                info.search_attributes = run(3, total, draw).search_attributes if attributes else b""
                infos.append(info)
            executions = [Execution(last + 1 + place, info) for place, info in enumerate(infos)]
            last += len(executions)
            group = Group()
            for each in executions:
                group.add_execution(each, [], [], new=True)
            started.append(commit(database, group))
            group = Group()
            for each in executions:
                each.settle()
                each.info.status, each.info.close_time = 2, each.info.start_time + SECOND
                group.add_execution(each, [], [], new=False)
            closed.append(commit(database, group))
        what = "with three search attributes" if attributes else "without search attributes"
        print(
            f"writer, a run {what}: start {statistics.median(started) * 1e5:.0f} µs,"
            f" close {statistics.median(closed) * 1e5:.0f} µs"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--page", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--db", help="keep the database here; one that is there already is measured as it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(options.db or f"{folder}/lists.db")
        there = path.exists()
        database = open_database(path)
        try:
            if not there:
                began = time.perf_counter()
                build(database, options.runs)
                print(f"{options.runs} runs written in {time.perf_counter() - began:.0f} s,", end=" ")
                print(f"{path.stat().st_size / 2**20:.0f} MiB\n")
            measure(database, options.page, options.rounds)
            print()
            write_cost(database, options.runs)
        finally:
            database.close()


if __name__ == "__main__":
    main()
