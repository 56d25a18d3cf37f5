"""Executions in memory: all that somebody works on or waits for, and the ones used last, up to a number and a size."""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    import asyncio

    from nexuskit.backend.conversations import Conversation
    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.settings import Limits
    from nexuskit.backend.store.group import Batch
    from nexuskit.backend.store.store import Ticket

LOOKED_THROUGH = 16
"""How many of the oldest are looked at for one that can go: some may be in use."""


class Resident:
    """An execution in memory, with its newest events and those who wait for more."""

    __slots__ = (
        "__weakref__",
        "conversation",
        "copied",
        "events",
        "events_size",
        "execution",
        "last_watchers",
        "lost",
        "new",
        "removed",
        "size",
        "ticket",
        "watchers",
    )

    def __init__(self, execution: Execution, *, new: bool = False) -> None:
        self.execution = execution
        self.new = new
        self.lost = False
        self.removed = False
        self.ticket: Ticket | None = None
        self.size = 0
        """Bytes that it is counted with among those that are kept."""
        self.copied: list[Batch] = []
        """Of a run that is still being made: its history so far."""
        self.events: deque[Batch] = deque()
        self.events_size = 0
        # Sets, but in the order of coming: nothing here depends on the order of hashes.
        self.watchers: dict[asyncio.Future[None], None] = {}
        self.last_watchers: dict[asyncio.Future[None], None] = {}
        self.conversation: Conversation | None = None
        """Those who wait for an answer of the workflow's code; None until there is one."""

    @property
    def settled(self) -> bool:
        """All that happened to it is on disk."""
        return self.ticket is None or self.ticket.done

    @property
    def watched(self) -> bool:
        """Somebody waits for its events, or for an answer of its code."""
        talking = self.conversation is not None and self.conversation.going_on
        return talking or bool(self.watchers or self.last_watchers)

    def remember(self, written: list[Batch], size: int) -> None:
        """Keep newly written events at hand, and let the oldest go when they are more than `size` bytes."""
        self.events.extend(written)
        self.events_size += sum(len(each.body) for each in written)
        while self.events_size > size and len(self.events) > 1:
            self.events_size -= len(self.events.popleft().body)


class Residents:
    """Those that are kept, least recently used first, and those that have left but are still in use."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: OrderedDict[int, Resident] = OrderedDict()
        self._size = 0
        # An execution that is kept no more while somebody works on it is found again, never loaded a second time.
        self._alive: WeakValueDictionary[int, Resident] = WeakValueDictionary()
        self._by_run: WeakValueDictionary[str, Resident] = WeakValueDictionary()

    def __contains__(self, number: int) -> bool:
        return number in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, number: int) -> Resident | None:
        """The execution of that number if it is in memory; it is the last one used now."""
        resident = self._kept.get(number)
        if resident is not None:
            self._kept.move_to_end(number)
            return resident
        resident = self._alive.get(number)
        if resident is not None:
            self.keep(resident)
        return resident

    def of_run(self, run_id: str) -> Resident | None:
        """The execution of that run if it is in memory."""
        return self._by_run.get(run_id)

    def unsettled(self, number: int) -> bool:
        """Whether that execution is in memory and not all of it on disk."""
        resident = self._kept.get(number)
        return resident is not None and not resident.settled

    def in_use(self) -> list[Resident]:
        """All that are in memory."""
        return list(self._alive.values())

    def keep(self, resident: Resident) -> None:
        """An execution was loaded, made or changed: it stays, and others that nobody uses may have to go."""
        execution = resident.execution
        if execution.id not in self._kept:
            self._kept[execution.id] = self._alive[execution.id] = self._by_run[execution.info.run_id] = resident
        size = execution.size() + resident.events_size
        self._size += size - resident.size
        resident.size = size
        if self._full:
            self._make_room(resident)

    @property
    def _full(self) -> bool:
        return len(self._kept) > self._limits.CACHED_EXECUTIONS or self._size > self._limits.CACHED_SIZE

    def _make_room(self, wanted: Resident) -> None:
        spare = max(len(self._kept) - self._limits.CACHED_EXECUTIONS, 0)
        for number, oldest in list(islice(self._kept.items(), spare + LOOKED_THROUGH)):
            if not self._full:
                return
            if oldest.settled and not oldest.watched and oldest is not wanted:
                self._forget(number)

    def drop(self, number: int) -> Resident | None:
        """That execution in memory is not how things are any more. Returns it, if it was there."""
        self._forget(number)
        resident = self._alive.pop(number, None)
        if resident is not None:
            self._by_run.pop(resident.execution.info.run_id, None)
        return resident

    def _forget(self, number: int) -> None:
        resident = self._kept.pop(number, None)
        if resident is not None:
            self._size -= resident.size
            resident.size = 0
