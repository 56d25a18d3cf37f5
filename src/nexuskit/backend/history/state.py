"""What one run of a workflow is, in memory: its `Info`, and a table of rows for each kind of pending thing.

A row is an immutable value: a pending timer, an activity with its attempt, a workflow task in flight. What history
holds is not repeated in it (an activity's input stays in its scheduled event), so a row is small and is written whole
each time it changes. A row is also the whole truth about what must happen next: its `index` says when it must be
looked at, and where it waits for somebody to take it. The backend's timers, queues and effects are nothing but these
indexes; start-up reads them from disk and goes on, and there is no other recovery.

Changes are laid over the settled rows until the transaction that made them is settled or discarded: a refused request
leaves nothing behind, and the rows to be written are the ones laid over.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

import msgspec
from temporalio.api.enums.v1 import WorkflowExecutionStatus

from nexuskit.backend.errors import InvariantError

if TYPE_CHECKING:
    from collections.abc import Iterator

Key = int | str
"""A row's key within its table: an event id, a timer's id."""

RUNNING = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING


ACTIVITY = "activity"
"""The archetype of an activity that stands alone; a workflow's is empty."""
OPERATION = "nexus-operation"
"""The archetype of a Nexus operation that stands alone."""


class Destination(NamedTuple):
    """Where a row waits for somebody to take it.

    `kind` is "workflow" or "activity" (a task queue that workers poll), or the name of an effect that the backend
    carries out by itself; `namespace` is the namespace's id; `queue` is the task queue's name, or empty.
    """

    kind: str
    namespace: str
    queue: str = ""


class Index(NamedTuple):
    """What must happen next to a row, and when (ns).

    `due`: the row must be looked at then (0: never). `destination`: from the moment `ready` on it may be taken there.
    `stamp`: what whoever takes it must still find in the row, else the row has moved on and the taking is dropped.
    """

    due: int = 0
    destination: Destination | None = None
    ready: int = 0
    stamp: int = 0


NOTHING = Index()


class Parent(msgspec.Struct, frozen=True, array_like=True):
    """The run that started this one as a child.

    `initiated_id` is the event of the parent's history that says so; `namespace` the name that its namespace had then.
    """

    namespace_id: str
    workflow_id: str
    run_id: str
    initiated_id: int
    namespace: str = ""


class Root(msgspec.Struct, frozen=True, array_like=True):
    """A run by its ids, in whatever namespace."""

    workflow_id: str
    run_id: str


class Info(msgspec.Struct, omit_defaults=True):
    """What is known of a run as a whole. Times and spans in nanoseconds, 0 for unset.

    Of an activity that stands alone, `workflow_id` and `workflow_type` are the activity's, and `status` is an
    `ActivityExecutionStatus`, of which the one for running has the same number. Of a Nexus operation that stands alone,
    `workflow_id` is the operation's id, `workflow_type` its name and `task_queue` its endpoint's, and `status` is a
    `NexusOperationExecutionStatus`, with the same number for running.
    """

    namespace_id: str
    workflow_id: str
    run_id: str
    archetype: str = ""
    """What runs: a workflow, `ACTIVITY` or `OPERATION`."""
    workflow_type: str = ""
    task_queue: str = ""
    status: int = int(RUNNING)
    start_time: int = 0
    close_time: int = 0
    execution_timeout: int = 0
    run_timeout: int = 0
    task_timeout: int = 0
    execution_expiration: int = 0
    first_run_id: str = ""
    start_request_id: str = ""
    """The request that started the run; the same one again is answered with this run."""
    attempt: int = 1
    next_event_id: int = 1
    history_size: int = 0
    transitions: int = 0
    previous_started_id: int = 0
    """The started event of the last completed workflow task: where a sticky worker's history ends."""
    sticky_queue: str = ""
    sticky_timeout: int = 0
    memo: bytes = b""
    """`temporal.api.common.v1.Memo`, serialised."""
    search_attributes: bytes = b""
    """`temporal.api.common.v1.SearchAttributes`, serialised."""
    user_metadata: bytes = b""
    """`temporal.api.sdk.v1.UserMetadata`, serialised."""
    priority: bytes = b""
    """`temporal.api.common.v1.Priority`, serialised."""
    serialization_context: bytes = b""
    """`temporal.api.nexus.v1.PropagatedSerializationContext`, serialised."""
    close_event_id: int = 0
    execution_time: int = 0
    """When its first workflow task was, or is, to be given out: later than its start where it waits for that."""
    parent: Parent | None = None
    root: Root | None = None
    """The outermost ancestor; None where that is this run itself."""
    retry_policy: bytes = b""
    """`temporal.api.common.v1.RetryPolicy`, serialised, all defaults filled in; empty: a failed run stays failed."""
    cron_schedule: str = ""
    cancel_requested: bool = False
    new_run_id: str = ""
    """The run that goes on where this one ended: by continue-as-new, a retry or the cron schedule."""
    reset_run_id: str = ""
    """The run that this one was last reset to."""
    was_reset: bool = False
    """Another run goes on from an earlier point: nobody is told of this one's end."""
    reset_request_id: str = ""
    """The request that made this run by a reset."""
    reset_time: int = 0
    """When it came about by a reset (ns); 0 where it did not."""
    signals: int = 0
    """How many it got so far."""
    keywords: dict[str, str] = {}
    """By what else lists find it, beside its search attributes: name → value."""

    @property
    def space(self) -> str:
        """Within what the id is the only one: all that is of its kind in the namespace. What the store goes by."""
        return space(self.namespace_id, self.archetype)

    @property
    def running(self) -> bool:
        return self.status == RUNNING

    @property
    def run_deadline(self) -> int:
        """When the run times out, 0 for never."""
        run = self.execution_time + self.run_timeout if self.run_timeout else 0
        return min(filter(None, (run, self.execution_expiration)), default=0)


def space(namespace_id: str, archetype: str = "") -> str:
    """Within what ids of such runs are looked for, and whose list they are in; `namespace_of` is the way back."""
    return f"{namespace_id}/{archetype}" if archetype else namespace_id


def namespace_of(space: str) -> str:
    """The id of the namespace that a space belongs to."""
    return space.partition("/")[0]


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One pending thing of an execution."""

    kind = ""  # not annotated: a name of the class, and no field of its rows
    outlives = False
    """Whether it stays when the run closes."""

    @property
    def volatile(self) -> bool:
        """It is in memory only: never written, and gone after a crash."""
        return False

    def index(self, info: Info) -> Index:
        """When it must be looked at, and where it waits: a pure function of the row."""
        raise NotImplementedError(f"{type(self).__name__} must say what is next")

    def weight(self) -> int:
        """About how many bytes it takes to keep."""
        return ROW_WEIGHT + _heavy(self)


ROW_WEIGHT = 100
"""What a row weighs beside its byte strings."""


def _heavy(value: msgspec.Struct) -> int:
    """The bytes of its byte strings."""
    weight = 0
    for name in _heavy_fields(type(value)):
        weight += len(getattr(value, name))
    return weight


@functools.cache
def _heavy_fields(row: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(row) if field.type is bytes)


R = TypeVar("R", bound=Row)


class Table(Generic[R]):
    """The rows of one kind: the settled ones, and what the running transaction lays over them."""

    __slots__ = ("_more", "changes", "growth", "settled")

    def __init__(self) -> None:
        self.settled: dict[Key, R] = {}
        self.changes: dict[Key, R | None] = {}
        self.growth = 0
        """By how many bytes the changes make it larger, or smaller."""
        self._more = 0
        """By how many rows the changes make it longer, or shorter; thousands of commands ask how long it is."""

    def get(self, key: Key) -> R | None:
        return self.changes[key] if key in self.changes else self.settled.get(key)

    def put(self, key: Key, row: R) -> None:
        before = self.get(key)
        if before is None:
            self._more += 1
        else:
            self.growth -= before.weight()
        self.growth += row.weight()
        self.changes[key] = row

    def remove(self, key: Key) -> None:
        before = self.get(key)
        if before is None:
            raise InvariantError(f"no row {key!r} to remove")
        self.growth -= before.weight()
        self._more -= 1
        self.changes[key] = None

    def items(self) -> Iterator[tuple[Key, R]]:
        """All rows, in the order of their making: the settled ones first."""
        for key, row in list(self.settled.items()):
            now = self.changes.get(key, row) if key in self.changes else row
            if now is not None:
                yield key, now
        for key, changed in list(self.changes.items()):
            if key not in self.settled and changed is not None:
                yield key, changed

    def __len__(self) -> int:
        return len(self.settled) + self._more

    def settle(self) -> None:
        for key, row in self.changes.items():
            if row is None:
                self.settled.pop(key, None)
            else:
                self.settled[key] = row
        self.discard()

    def discard(self) -> None:
        """What the running transaction laid over is thrown away."""
        self.changes.clear()
        self.growth = 0
        self._more = 0


class Change(NamedTuple):
    """One row before and after a transaction; None where it was not, or is no more."""

    kind: str
    key: Key
    before: Row | None
    after: Row | None


def lasting(changes: list[Change]) -> list[Change]:
    """Those of the changes that are to be written: to the disk, a volatile row is none."""
    written: list[Change] = []
    for kind, key, before, after in changes:
        was = None if before is None or before.volatile else before
        now = None if after is None or after.volatile else after
        if was is not None or now is not None:
            written.append(Change(kind, key, was, now))
    return written


class Execution:
    """One run of a workflow. Only `apply` (see `transaction`) changes it, and only within a transaction."""

    __slots__ = ("_saved", "_tables", "_weight", "id", "info")

    def __init__(self, id: int, info: Info) -> None:
        self.id = id
        """The backend's own number of the run: made one after another, so that neighbours in time lie together on
        disk.
        """
        self.info = info
        self._saved = copy.copy(info)
        self._tables: dict[str, Table[Row]] = {}
        self._weight = 0

    def of(self, row: type[R]) -> Table[R]:
        """The table of the rows of one kind."""
        table = self._tables.get(row.kind)
        if table is None:
            table = self._tables[row.kind] = Table()
        return cast("Table[R]", table)

    def rows(self) -> Iterator[tuple[str, Key, Row]]:
        """Every row, of every kind."""
        for kind, table in self._tables.items():
            for key, row in table.items():
                yield kind, key, row

    def changes(self) -> list[Change]:
        """What the running transaction has changed so far, leaving out rows that came and went within it."""
        return [
            Change(kind, key, before, after)
            for kind, table in self._tables.items()
            if table.changes
            for key, after in table.changes.items()
            if (before := table.settled.get(key)) is not None or after is not None
        ]

    def size(self) -> int:
        """About how many bytes the run takes without its history: its rows, memo and such, as they are just now."""
        return self._rows_size() + _heavy(self.info)

    def _rows_size(self) -> int:
        return self._weight + sum([table.growth for table in self._tables.values()])

    @property
    def relisted(self) -> bool:
        """Whether the running transaction changed the search attributes."""
        return self.info.search_attributes is not self._saved.search_attributes

    @property
    def info_changed(self) -> bool:
        """Whether the running transaction has changed the `info`."""
        return self.info != self._saved

    def settle(self) -> None:
        """The running transaction holds: what it changed is how things are."""
        self._weight = self._rows_size()
        for table in self._tables.values():
            if table.changes:
                table.settle()
        self._saved = copy.copy(self.info)

    def discard(self) -> None:
        """The running transaction never was."""
        for table in self._tables.values():
            table.discard()
        self.info = copy.copy(self._saved)
