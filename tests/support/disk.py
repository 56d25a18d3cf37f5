"""A disk that is slow, broken or gone, for real: by a lock, by triggers that refuse, by a table under another name."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from nexuskit.backend.store.database import Database
from nexuskit.backend.store.store import Store

REFUSAL = "the disk is on fire"

_TABLES = (
    "meta",
    "namespaces",
    "endpoints",
    "executions",
    "attributes",
    "current_runs",
    "pending",
    "events",
    "removals",
    "task_queues",
)


@contextmanager
def broken(database: Database) -> Iterator[None]:
    """Nothing can be written. To be called while the writer has nothing to do."""
    names = []
    for table, change in itertools.product(_TABLES, ("INSERT", "UPDATE", "DELETE")):
        names.append(f"refuse_{change}_{table}")
        database.first.execute(
            f"CREATE TEMP TRIGGER {names[-1]} BEFORE {change} ON main.{table}"
            f" BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        )
    try:
        yield
    finally:
        for name in names:
            database.first.execute(f"DROP TRIGGER {name}")


@contextmanager
def gone(database: Database) -> Iterator[None]:
    """No execution can be written or read. To be called while the writer has nothing to do."""
    database.first.execute("ALTER TABLE executions RENAME TO elsewhere")
    try:
        yield
    finally:
        database.first.execute("ALTER TABLE elsewhere RENAME TO executions")


@asynccontextmanager
async def held(store: Store, database: Database) -> AsyncIterator[None]:
    """What is in the open group now is being written for as long as this lasts, and what comes later is in the next."""
    other = database.connect()
    other.execute("BEGIN IMMEDIATE")
    try:
        group, _ = store.group()
        while store.group()[0] is group:  # noqa: ASYNC110, nobody is told when a group is handed over
            await asyncio.sleep(0)
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
