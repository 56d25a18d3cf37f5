"""A commit group: what many requests changed, written by one transaction of SQLite with one fsync.

Pure: what goes in, and which statements come out, is decided here; the writer thread only carries them out. Of a row
that changed twice within a group only the last is written, and one that came and went within it is not written at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nexuskit.backend import limits
from nexuskit.backend.history.state import Change, Execution, Info, Key, Row
from nexuskit.backend.visibility import search_attributes
from nexuskit.backend.visibility.subjects import OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from temporalio.api.history.v1 import HistoryEvent

Statement = tuple[str, list[tuple[Any, ...]]]
"""SQL, and the parameters of each time it is to be run."""

_encode = msgspec.msgpack.Encoder().encode

_COLUMNS = (
    "id, namespace, listing, workflow_id, run_id, workflow_type, task_queue, status, start_time, execution_time,"
    " close_time, listed, history_length, history_size, transitions, parent_workflow_id, parent_run_id,"
    " root_workflow_id, root_run_id, attributes, info"
)
INSERT_EXECUTION = f"INSERT INTO executions ({_COLUMNS}) VALUES ({', '.join('?' * (_COLUMNS.count(',') + 1))})"
UPDATE_EXECUTION = "UPDATE executions SET info = ? WHERE id = ?"
# Only these two name indexed columns: SQLite touches the indexes of every column that a statement names.
LIST_EXECUTION = "UPDATE executions SET listing = ?, attributes = ? WHERE id = ?"
CLOSE_EXECUTION = (
    "UPDATE executions SET info = ?, status = ?, close_time = ?, listed = ?, history_length = ?, history_size = ?,"
    " transitions = ? WHERE id = ?"
)
SET_CURRENT = "INSERT OR REPLACE INTO current_runs (namespace, workflow_id, execution) VALUES (?, ?, ?)"
PUT_ROW = (
    "INSERT OR REPLACE INTO pending (execution, kind, key, due, destination, queue, ready, stamp, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
REMOVE_ROW = "DELETE FROM pending WHERE execution = ? AND kind = ? AND key = ?"
REMOVE_CURRENT = "DELETE FROM current_runs WHERE namespace = ? AND workflow_id = ? AND execution = ?"
REMOVE_EXECUTION = (
    "DELETE FROM pending WHERE execution = ?",
    "DELETE FROM executions WHERE id = ?",
    # Its events are many, and follow later: see `removal`.
    "INSERT OR REPLACE INTO removals (execution, whole) VALUES (?, 0)",
)
"""What is to be done to each table when a run is removed, by its number."""
PUT_EVENTS = "INSERT INTO events (execution, first_id, last_id, body) VALUES (?, ?, ?, ?)"


class Batch(NamedTuple):
    """Events written together, as a serialised `History`."""

    first_id: int
    last_id: int
    body: bytes


class _Touched:
    """An execution that the group writes."""

    __slots__ = ("batches", "closed", "execution", "new", "relisted", "rows")

    def __init__(self, execution: Execution, *, new: bool) -> None:
        self.execution = execution
        self.new = new
        self.closed = False
        self.relisted = False
        self.batches: list[Batch] = []
        self.rows: dict[tuple[str, Key], tuple[Row | None, Row | None]] = {}


class Group:
    """What is to be committed together.

    Attributes:
        executions: number of each execution that it writes → what it writes.
    """

    def __init__(self) -> None:
        self.executions: dict[int, _Touched] = {}
        self._current: dict[tuple[str, str], int] = {}
        self._removed: list[tuple[str, str, int]] = []
        self._others: list[tuple[str, tuple[Any, ...]]] = []
        self._undo: list[Callable[[], None]] = []
        self._after: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self.executions or self._current or self._removed or self._others)

    def add_execution(
        self, execution: Execution, changes: Iterable[Change], written: Sequence[Batch], *, new: bool
    ) -> None:
        """A settled transaction of one execution."""
        touched = self.executions.get(execution.id)
        if touched is None:
            touched = self.executions[execution.id] = _Touched(execution, new=new)
        touched.closed = touched.closed or not execution.info.running
        touched.relisted = touched.relisted or execution.relisted
        touched.batches.extend(written)
        for change in changes:
            place = (change.kind, change.key)
            first = touched.rows[place][0] if place in touched.rows else change.before
            touched.rows[place] = (first, change.after)

    def set_current(self, namespace: str, workflow_id: str, execution: int) -> None:
        """That execution is the newest run of the workflow id."""
        self._current[namespace, workflow_id] = execution

    def remove_execution(self, number: int, namespace: str, workflow_id: str) -> None:
        """A run is no more, but for its events."""
        self._removed.append((namespace, workflow_id, number))

    def add(self, sql: str, parameters: tuple[Any, ...], undo: Callable[[], None] | None = None) -> None:
        """One more statement; `undo` reverts what was changed in memory with it, should the group fail."""
        self._others.append((sql, parameters))
        if undo is not None:
            self._undo.append(undo)

    def on_failure(self, undo: Callable[[], None]) -> None:
        """Revert something in memory, should the group fail."""
        self._undo.append(undo)

    def after(self, call: Callable[[], None]) -> None:
        """Do this once the group is on disk."""
        self._after.append(call)

    def committed(self) -> None:
        """The group is on disk."""
        for call in self._after:
            call()

    def failed(self) -> None:
        """The group never was: newest changes are reverted first."""
        for undo in reversed(self._undo):
            undo()

    def statements(self) -> list[Statement]:
        """What the writer is to run, in order, within one transaction."""
        by_sql: dict[str, list[tuple[Any, ...]]] = {}
        for touched in self.executions.values():
            info = touched.execution.info
            if touched.new:
                by_sql.setdefault(INSERT_EXECUTION, []).append(_execution_columns(touched.execution.id, info))
            elif touched.closed:
                columns = (_encode(info), info.status, *_closing_columns(info), touched.execution.id)
                by_sql.setdefault(CLOSE_EXECUTION, []).append(columns)
            else:
                by_sql.setdefault(UPDATE_EXECUTION, []).append((_encode(info), touched.execution.id))
            if touched.relisted and not touched.new:
                columns = (search_attributes.listing(info), search_attributes.column(info), touched.execution.id)
                by_sql.setdefault(LIST_EXECUTION, []).append(columns)
            for joined in _joined(touched.batches):
                by_sql.setdefault(PUT_EVENTS, []).append((touched.execution.id, *joined))
            for (kind, key), (before, after) in touched.rows.items():
                if after is not None:
                    by_sql.setdefault(PUT_ROW, []).append(_row_columns(touched.execution.id, info, kind, key, after))
                elif before is not None:
                    by_sql.setdefault(REMOVE_ROW, []).append((touched.execution.id, kind, key))
        if self._current:
            by_sql[SET_CURRENT] = [(*place, execution) for place, execution in self._current.items()]
        if self._removed:
            by_sql[REMOVE_CURRENT] = list(self._removed)
            for sql in REMOVE_EXECUTION:
                by_sql[sql] = [(number,) for _, _, number in self._removed]
        return [*by_sql.items(), *((sql, [parameters]) for sql, parameters in self._others)]


def batches(events: list[HistoryEvent]) -> list[Batch]:
    """Events of one transaction as batches, none of which is long for other reasons than one long event.

    A `History` is a repeated field, so the bytes of two batches, one after the other, are the bytes of both.
    """
    return _joined([Batch(each.event_id, each.event_id, _field(each.SerializeToString())) for each in events])


def _field(event: bytes) -> bytes:
    """Field 1 of `temporal.api.history.v1.History`, as protobuf writes a length-delimited record."""
    size = len(event)
    prefix = bytearray(b"\x0a")
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + event


def _joined(parts: list[Batch]) -> list[Batch]:
    """Neighbours put together, as long as they stay under a size that a page of history can be made of."""
    joined: list[Batch] = []
    pieces: list[bytes] = []
    size = 0
    first = last = 0
    for part in parts:
        if pieces and size + len(part.body) > limits.BATCH_SIZE:
            joined.append(Batch(first, last, b"".join(pieces)))
            pieces, size = [], 0
        if not pieces:
            first = part.first_id
        pieces.append(part.body)
        size += len(part.body)
        last = part.last_id
    if pieces:
        joined.append(Batch(first, last, b"".join(pieces)))
    return joined


def _execution_columns(number: int, info: Info) -> tuple[Any, ...]:
    return (
        number,
        info.space,
        search_attributes.listing(info),
        info.workflow_id,
        info.run_id,
        info.workflow_type,
        info.task_queue,
        info.status,
        info.start_time,
        info.execution_time,
        *_closing_columns(info),
        info.parent.workflow_id if info.parent else None,
        info.parent.run_id if info.parent else None,
        info.root.workflow_id if info.root else None,
        info.root.run_id if info.root else None,
        search_attributes.column(info),
        _encode(info),
    )


def _closing_columns(info: Info) -> tuple[Any, ...]:
    """What lists know of a run only when it is closed, as in the real server."""
    if info.running:
        return (0, OPEN, None, None, None)
    return (info.close_time, info.close_time, info.next_event_id - 1, info.history_size, info.transitions)


def _row_columns(number: int, info: Info, kind: str, key: Key, row: Row) -> tuple[Any, ...]:
    index = row.index(info)
    destination = index.destination
    return (
        number,
        kind,
        key,
        index.due,
        destination.kind if destination else None,
        destination.queue if destination else None,
        index.ready,
        index.stamp,
        _encode(row),
    )
