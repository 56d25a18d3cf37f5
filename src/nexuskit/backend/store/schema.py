"""The tables of the database, and the steps that bring an older file to this version.

`executions` holds a row for each run, open or closed; `pending` the rows of open things (timers, activities,
callbacks), each with its index, so that start-up learns what must happen next without reading anything else; `events`
the histories, one row for each transaction that wrote some. Runs have numbers, given out in the order of their
making, so that what is written together lies together, and a file full of closed runs costs new ones nothing.

Lists are answered from `executions` alone. Each of its indexes for them begins with `listing` (whose list a run is in:
its namespace's), goes on with one attribute and the status, and ends with the order of lists: open runs first, then by
close time, then by start time, newest first. So the newest ones of any status are at one place of it, and it is
changed twice in the life of a run, at its start and its end. Search attributes are in one column, and by a trigger in
`attributes`, a row for each value, which is nothing but one more index.
"""

from __future__ import annotations

from nexuskit.backend.visibility.subjects import OPEN

VERSION = 4
"""The version that this code reads and writes, kept in the file's `PRAGMA user_version`."""

_index_attributes = """
    INSERT OR IGNORE INTO attributes
    SELECT new.listing, named.key, each.value, new.status, new.listed, new.start_time, new.id
    FROM json_each(new.attributes) AS named, json_each(named.value) AS each"""
# Each column by itself, so that the rows are found by their key; no other execution's rows have this id.
_forget_attributes = """
    DELETE FROM attributes WHERE listing = old.listing AND name IN (SELECT key FROM json_each(old.attributes))
    AND value IN (
        SELECT each.value FROM json_each(old.attributes) AS named, json_each(named.value) AS each
    ) AND status = old.status AND listed = old.listed AND start_time = old.start_time AND id = old.id"""

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

_LISTS = f"""
UPDATE executions SET info = info_4(info, start_time);
UPDATE pending SET body = activity_4(body, key, (
    SELECT events.body FROM events
    WHERE events.execution = pending.execution AND events.first_id <= pending.key AND events.last_id >= pending.key
)) WHERE kind = 'activity';
CREATE TABLE listed_executions (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    listing TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    workflow_type TEXT NOT NULL,
    task_queue TEXT NOT NULL,
    status INTEGER NOT NULL,
    start_time INTEGER NOT NULL,
    execution_time INTEGER NOT NULL,
    close_time INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    history_length INTEGER,
    history_size INTEGER,
    transitions INTEGER,
    parent_workflow_id TEXT,
    parent_run_id TEXT,
    root_workflow_id TEXT,
    root_run_id TEXT,
    attributes TEXT,
    info BLOB NOT NULL
);
INSERT INTO listed_executions
SELECT id, namespace, namespace, workflow_id, run_id, workflow_type, info_field(info, 'task_queue', ''), status,
    start_time, info_field(info, 'execution_time', 0), close_time, iif(close_time, close_time, {OPEN}),
    iif(close_time, info_field(info, 'next_event_id', 1) - 1, NULL),
    iif(close_time, info_field(info, 'history_size', 0), NULL),
    iif(close_time, info_field(info, 'transitions', 0), NULL),
    info_field(info, 'parent.1', NULL), info_field(info, 'parent.2', NULL),
    info_field(info, 'root.0', NULL), info_field(info, 'root.1', NULL), NULL, info
FROM executions;
DROP TABLE executions;
ALTER TABLE listed_executions RENAME TO executions;
CREATE UNIQUE INDEX executions_by_run ON executions (run_id);
CREATE INDEX executions_by_close ON executions (namespace, close_time) WHERE close_time > 0;
CREATE INDEX executions_by_workflow ON executions (namespace, workflow_id);
CREATE INDEX executions_by_start ON executions (listing, start_time, status, listed);
CREATE INDEX executions_by_status ON executions (listing, status, listed, start_time);
CREATE INDEX executions_by_type ON executions (listing, workflow_type, status, listed, start_time);
CREATE INDEX executions_by_queue ON executions (listing, task_queue, status, listed, start_time);
CREATE INDEX executions_by_parent ON executions (listing, parent_workflow_id, status, listed, start_time)
WHERE parent_workflow_id IS NOT NULL;
CREATE INDEX executions_by_root ON executions (listing, root_workflow_id, status, listed, start_time)
WHERE root_workflow_id IS NOT NULL;

CREATE TABLE attributes (
    listing TEXT NOT NULL,
    name TEXT NOT NULL,
    value NOT NULL,
    status INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    start_time INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (listing, name, value, status, listed, start_time, id)
) WITHOUT ROWID;
CREATE TRIGGER attributes_made AFTER INSERT ON executions WHEN new.attributes IS NOT NULL BEGIN
    {_index_attributes};
END;
CREATE TRIGGER attributes_changed AFTER UPDATE OF listing, status, listed, attributes ON executions
WHEN old.attributes IS NOT NULL OR new.attributes IS NOT NULL BEGIN
    {_forget_attributes};
    {_index_attributes};
END;
CREATE TRIGGER attributes_gone AFTER DELETE ON executions WHEN old.attributes IS NOT NULL BEGIN
    {_forget_attributes};
END;
"""

MIGRATIONS: tuple[str, ...] = (_V1, _TASK_QUEUES, _REMOVALS, _LISTS)
"""Step n brings a file of version n to version n + 1; the step and the new number commit together.

They call the functions of `upgrades.py`.
"""
