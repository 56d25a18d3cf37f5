"""Events that come while a workflow task is with a worker: their meaning holds at once, their place in history waits.

The worker's commands carry event ids that it counted up by itself, so nothing may come between a task's start and its
completion. Temporal does the same (temporalio/temporal: service/history/historybuilder).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from temporalio.api.history.v1 import HistoryEvent

from nexuskit.backend.history.state import NOTHING, Index, Info, Row
from nexuskit.backend.history.transaction import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

ONLY = 0
"""The key of the one row."""

_STARTED_BEFORE = {
    "activity_task_completed_event_attributes": "scheduled_event_id",
    "activity_task_failed_event_attributes": "scheduled_event_id",
    "activity_task_timed_out_event_attributes": "scheduled_event_id",
    "activity_task_canceled_event_attributes": "scheduled_event_id",
    "child_workflow_execution_completed_event_attributes": "initiated_event_id",
    "child_workflow_execution_failed_event_attributes": "initiated_event_id",
    "child_workflow_execution_canceled_event_attributes": "initiated_event_id",
    "child_workflow_execution_timed_out_event_attributes": "initiated_event_id",
    "child_workflow_execution_terminated_event_attributes": "initiated_event_id",
}
"""Attributes that name the started event of an activity or a child, which may wait in the same buffer and get its id
with them → the field that says of which activity or child.
"""
_STARTED = {
    "activity_task_started_event_attributes": "scheduled_event_id",
    "child_workflow_execution_started_event_attributes": "initiated_event_id",
}
"""Attributes of those started events, likewise."""


NEXUS_ENDS = frozenset(
    {
        "nexus_operation_completed_event_attributes",
        "nexus_operation_failed_event_attributes",
        "nexus_operation_canceled_event_attributes",
        "nexus_operation_timed_out_event_attributes",
    }
)
"""Attributes of the events that end a Nexus operation."""
_LAST = frozenset(_STARTED_BEFORE) | NEXUS_ENDS
"""Attributes of the events that end an activity, a child or a Nexus operation: they take their places after all others,
so that a workflow gets its signals before it can close for what has ended.
"""


class Buffered(Row, frozen=True, omit_defaults=True):
    """The waiting events, serialised `HistoryEvent`s without ids, in the order in which they came."""

    kind = "buffered"
    events: tuple[bytes, ...] = ()
    size: int = 0
    """Bytes of all of them."""

    def index(self, info: Info) -> Index:
        return NOTHING

    def weight(self) -> int:
        return self.size


class Held(Record, frozen=True):
    """An event was put with the waiting ones."""

    event: bytes


class Released(Record, frozen=True):
    """The waiting events were taken out, to be given their places."""


class Withdrawn(Record, frozen=True):
    """A waiting event is taken back: what it told is not to be told any more."""

    place: int


def apply_withdrawn(state: Execution, record: Withdrawn) -> None:
    events = waiting(state).events
    left = (*events[: record.place], *events[record.place + 1 :])
    state.of(Buffered).put(ONLY, Buffered(left, sum(map(len, left))))


def apply_held(state: Execution, record: Held) -> None:
    table = state.of(Buffered)
    waiting = table.get(ONLY) or Buffered()
    row = msgspec.structs.replace(
        waiting, events=(*waiting.events, record.event), size=waiting.size + len(record.event)
    )
    table.put(ONLY, row)


def apply_released(state: Execution, _: Released) -> None:
    state.of(Buffered).remove(ONLY)


def waiting(state: Execution) -> Buffered:
    """The waiting events; an empty row where there are none."""
    return state.of(Buffered).get(ONLY) or Buffered()


def in_order(state: Execution) -> list[HistoryEvent]:
    """The waiting events as they will be placed: in the order in which they came, but for those that are to be last."""
    events = [HistoryEvent.FromString(raw) for raw in waiting(state).events]
    events.sort(key=lambda event: event.WhichOneof("attributes") in _LAST)
    return events


def full(tx: Transaction) -> bool:
    """Whether more events wait, or longer ones, than one workflow task may hold up."""
    held = waiting(tx.state)
    return len(held.events) > tx.limits.BUFFERED_EVENTS or held.size > tx.limits.BUFFERED_EVENTS_SIZE


def withdraw(tx: Transaction, wanted: Callable[[HistoryEvent], bool]) -> HistoryEvent | None:
    """Take back the first waiting event that is wanted, and answer with it; None if there is none."""
    for place, raw in enumerate(waiting(tx.state).events):
        event = HistoryEvent.FromString(raw)
        if wanted(event):
            tx.note(Withdrawn(place))
            return event
    return None


def release(tx: Transaction) -> bool:
    """Give the waiting events their place in history, after all that is there. Returns whether there were any."""
    if tx.state.of(Buffered).get(ONLY) is None:
        return False
    events = in_order(tx.state)
    tx.note(Released())
    started: dict[int, int] = {}
    for event in events:
        name = event.WhichOneof("attributes") or ""
        attributes: Any = getattr(event, name, None)
        if name in _STARTED_BEFORE:
            whose = getattr(attributes, _STARTED_BEFORE[name])
            attributes.started_event_id = started.get(whose, attributes.started_event_id)
        tx.place(event)
        if name in _STARTED:
            started[getattr(attributes, _STARTED[name])] = event.event_id
        placed = tx.rules.placed.get(event.event_type)
        if placed is not None:
            placed(tx.state, event)
    return bool(events)
