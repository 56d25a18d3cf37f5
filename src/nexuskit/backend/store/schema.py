"""The tables of the database, and the steps that bring an older file to this version.

`executions` holds a row for each run, open or closed; `pending` the rows of open things (timers, activities,
callbacks), each with its index, so that start-up learns what must happen next without reading anything else; `events`
the histories, one row for each transaction that wrote some. Runs have numbers, given out in the order of their
making, so that what is written together lies together, and a file full of closed runs costs new ones nothing.
"""

from __future__ import annotations

VERSION = 3
"""The version that this code reads and writes, kept in the file's `PRAGMA user_version`."""

_V1 = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE namespaces (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    body BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE endpoints (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    body BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE executions (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    workflow_type TEXT NOT NULL,
    status INTEGER NOT NULL,
    start_time INTEGER NOT NULL,
    close_time INTEGER NOT NULL,
    info BLOB NOT NULL
);
CREATE UNIQUE INDEX executions_by_run ON executions (run_id);

CREATE TABLE current_runs (
    namespace TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    execution INTEGER NOT NULL,
    PRIMARY KEY (namespace, workflow_id)
) WITHOUT ROWID;

CREATE TABLE pending (
    execution INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key NOT NULL,
    due INTEGER NOT NULL,
    destination TEXT,
    queue TEXT,
    ready INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (execution, kind, key)
) WITHOUT ROWID;

CREATE TABLE events (
    execution INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (execution, first_id)
) WITHOUT ROWID;
"""

_TASK_QUEUES = """
CREATE TABLE task_queues (
    namespace TEXT NOT NULL,
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (namespace, kind, queue)
) WITHOUT ROWID;
"""

_REMOVALS = """
CREATE TABLE removals (
    execution INTEGER PRIMARY KEY,
    whole INTEGER NOT NULL
);
CREATE INDEX executions_by_close ON executions (namespace, close_time) WHERE close_time > 0;
"""
"""`removals`: runs of which something is still to be removed, all (`whole`) or what is left of their events."""

MIGRATIONS: tuple[str, ...] = (_V1, _TASK_QUEUES, _REMOVALS)
"""Step n brings a file of version n to version n + 1; the step and the new number commit together."""
