"""One request's work on one execution: the only road by which an execution changes.

A `decide` function reads the execution, and says what happens by adding events and records to a transaction. Each is
applied as it is added, through the tables in `rules`, so that the second command of a workflow task sees what the first
one did. Until the transaction is settled it can be discarded, and then nothing was changed. Events go into history;
records are what history does not hold: an attempt was started, a retry is due.

There is no clock, no randomness and no I/O in here or in any machine: the moment and the draw come in, and what comes
out is data for the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from temporalio.api.history.v1 import HistoryEvent

from nexuskit.backend.settings import Limits
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from temporalio.api.command.v1 import Command
    from temporalio.api.common.v1 import Link
    from temporalio.api.failure.v1 import Failure
    from temporalio.api.protocol.v1 import Message
    from temporalio.api.query.v1 import WorkflowQueryResult
    from temporalio.api.sdk.v1 import UserMetadata

    from nexuskit.backend.errors import StatusError
    from nexuskit.backend.history.route import Route
    from nexuskit.backend.history.state import Execution


class Draw(Protocol):
    """Where ids and jitter come from."""

    def uuid(self) -> str:
        """A fresh UUID, as text."""
        ...

    def run_id(self, now: int) -> str:
        """A fresh UUID that sorts by `now` (ns)."""
        ...

    def jitter(self, span: int, share: float = 0.2) -> int:
        """`span` (ns), less a random part of at most `share` of it."""
        ...


class Catalogue(Protocol):
    """What a namespace is called, and which custom search attributes it has: name → `IndexedValueType`."""

    @property
    def name(self) -> str: ...

    @property
    def search_attributes(self) -> Mapping[str, int]: ...


class Verdict(NamedTuple):
    """What becomes of an update of which no trace stays: the failure it was rejected with, or why it was given up."""

    failure: Failure | None = None
    error: StatusError | None = None


class Record(msgspec.Struct, frozen=True):
    """Base of the internal records: what happened to an execution and is not in its history."""


@dataclass(frozen=True)
class Rules:
    """The tables of the core, as `nexuskit.backend.history.rules` puts them together.

    Attributes:
        events: event type → what it does to an execution.
        records: record type → what it does to an execution.
        commands: command type → what a workflow's command decides; gets the id of the workflow task's completed event.
        due: row kind → what is to be done with a row whose time has come.
        holds_back: whether an event of this type must wait for the workflow task in flight.
        hold: the record that puts a serialised event with the waiting ones.
        placed: event type → what an event that waited does to an execution once it has its id.
        first: writes what must be in history before an event of this type.
    """

    events: Mapping[int, Callable[[Execution, HistoryEvent], None]]
    records: Mapping[type[Record], Callable[[Execution, Any], None]]
    commands: Mapping[int, Callable[[Transaction, Any, int], None]]
    due: Mapping[str, Callable[[Transaction, Any], None]]
    holds_back: Callable[[Execution, int], bool]
    hold: Callable[[bytes], Record]
    placed: Mapping[int, Callable[[Execution, HistoryEvent], None]]
    first: Callable[[Transaction, int], None]


class Successor(NamedTuple):
    """A run that begins because another one ended.

    Attributes:
        run_id: its id.
        begin: what makes it begin, on an execution of which nothing is known but its ids.
    """

    run_id: str
    begin: Callable[[Transaction], None]


class Transaction:
    """Events and records of one request, on one execution.

    Attributes:
        state: the execution, with what was added so far applied.
        now: the moment of the request (ns).
        draw: where ids and jitter come from.
        endpoints: name of each Nexus endpoint → its id, as they are at this moment.
        namespaces: name of each namespace → its id, as they are at this moment.
        successor: the run that follows this one, which has just ended; it begins in the same commit.
        catalogues: id of each namespace → what search attributes it has.
        limits: of this backend.
        events: the events that go into history, in order.
        messages: what the worker sent with its commands, in its order; each is taken out when it is carried out.
        verdicts: id of each update of which no trace stays → what its waiters are told.
        answers: id of each query that the worker answered → its answer.
        command: the one that is being carried out, until its event is there: that says what the user said of it.
    """

    __slots__ = (
        "answers",
        "catalogues",
        "command",
        "draw",
        "endpoints",
        "events",
        "limits",
        "messages",
        "namespaces",
        "now",
        "rules",
        "state",
        "successor",
        "verdicts",
    )

    def __init__(
        self,
        rules: Rules,
        state: Execution,
        now: int,
        draw: Draw,
        limits: Limits,
        endpoints: Mapping[str, Route] | None = None,
        namespaces: Mapping[str, str] | None = None,
        catalogues: Mapping[str, Catalogue] | None = None,
    ) -> None:
        self.rules = rules
        self.limits = limits
        self.catalogues: Mapping[str, Catalogue] = catalogues or {}
        self.endpoints: Mapping[str, Route] = endpoints or {}
        self.namespaces: Mapping[str, str] = namespaces or {}
        self.successor: Successor | None = None
        self.state = state
        self.now = now
        self.draw = draw
        self.events: list[HistoryEvent] = []
        self.messages: list[Message] = []
        self.verdicts: dict[str, Verdict] = {}
        self.answers: Mapping[str, WorkflowQueryResult] = {}
        self.command: Command | None = None

    def add(
        self,
        event_type: int,
        *,
        links: list[Link] | None = None,
        user_metadata: UserMetadata | None = None,
        worker_may_ignore: bool = False,
        later: bool = False,
        **attributes: Any,
    ) -> int:
        """Add an event: into history, or to the waiting ones if it must not come while a workflow task is in flight.

        Args:
            event_type: a value of `EventType`.
            links: links to the other sides of a call.
            user_metadata: what the user said of what is done.
            worker_may_ignore: an SDK that does not know the event goes on without it.
            later: what a command brings at once. It waits until all commands are carried out: an SDK counts the events
                that its commands make.
            attributes: the event's attributes, under their field name in `HistoryEvent`.

        Returns:
            The event's id; 0 for one that waits and has none yet.
        """
        event = HistoryEvent(event_type=event_type, links=links, user_metadata=user_metadata, **attributes)  # type: ignore[arg-type]
        if worker_may_ignore:
            event.worker_may_ignore = True
        if self.command is not None:
            if self.command.HasField("user_metadata"):
                event.user_metadata.CopyFrom(self.command.user_metadata)
            event.event_group_markers.extend(self.command.event_group_markers)
            self.command = None
        event.event_time.seconds, event.event_time.nanos = divmod(self.now, SECOND)
        return self.put(event, later=later)

    def put(self, event: HistoryEvent, *, later: bool = False) -> int:
        """Add an event that has its time already. Returns its id, 0 for one that waits."""
        self.rules.first(self, event.event_type)
        if later or self.rules.holds_back(self.state, event.event_type):
            self.note(self.rules.hold(event.SerializeToString()))
            self.rules.events[event.event_type](self.state, event)
            return 0
        self.place(event)
        self.rules.events[event.event_type](self.state, event)
        return event.event_id

    def note(self, record: Record) -> None:
        """Add a record: apply what history does not hold."""
        self.rules.records[type(record)](self.state, record)

    def place(self, event: HistoryEvent) -> int:
        """Give an event the next id and a place in history; what it means is applied elsewhere. Returns the id."""
        event.event_id = self.state.info.next_event_id
        count(self.state, event)
        self.events.append(event)
        return event.event_id

    def copy(self, event: HistoryEvent) -> None:
        """Add an event of another run's history, at the same place and with the same meaning."""
        count(self.state, event)
        self.events.append(event)
        self.rules.events[event.event_type](self.state, event)

    def reset(self) -> None:
        """Forget all that was added so far."""
        self.events.clear()
        self.successor = None
        self.messages = []
        self.verdicts = {}
        self.answers = {}
        self.command = None
        self.state.discard()


def count(state: Execution, event: HistoryEvent) -> None:
    """An event has its place in history: the next one comes after it."""
    state.info.next_event_id = event.event_id + 1
    state.info.history_size += event.ByteSize()


def replay(rules: Rules, state: Execution, events: list[HistoryEvent]) -> None:
    """Apply a history to an execution, as far as history determines it."""
    for event in events:
        count(state, event)
        rules.events[event.event_type](state, event)
    state.settle()
