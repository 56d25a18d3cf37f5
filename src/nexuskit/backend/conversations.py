"""Who waits for an answer of a workflow's code: queries, and callers of updates. In memory only, gone after a crash.

The engine shows each settled transaction of an execution to its conversation (`follow`); whoever waits is woken when
it concerns him, looks at the execution, and waits for the disk before he answers his client.

A query reaches the code on one of two roads. While a workflow task waits or is with a worker, the query waits too, and
goes to the worker with a task: what was acknowledged before the query is then seen by it. With no task there is nothing
that the code has not seen, so the query goes to a task queue by itself, as a task of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from temporalio.api.query.v1 import WorkflowQueryResult
from temporalio.api.workflowservice.v1 import RespondQueryTaskCompletedRequest

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import workflow_task
from nexuskit.backend.history.update import Completed, Update

if TYPE_CHECKING:
    from temporalio.api.query.v1 import WorkflowQuery

    from nexuskit.backend.clock import Clock
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.history.state import Row
    from nexuskit.backend.history.transaction import Transaction, Verdict


class QueryKey(msgspec.Struct, frozen=True):
    """Key of a query in a task queue."""

    query_id: str


class Question:
    """A query that waits for its answer.

    Attributes:
        execution: the number of the execution that it asks.
        answer: what the worker said; None: the road that it waits on leads nowhere any more, it must take another.
    """

    def __init__(self, execution: int, query_id: str, query: WorkflowQuery) -> None:
        self.execution = execution
        self.query_id = query_id
        self.query = query
        self._ended = asyncio.get_running_loop().create_future()
        self.answer: WorkflowQueryResult | RespondQueryTaskCompletedRequest | None = None

    @property
    def key(self) -> QueryKey:
        """Under which it waits in a task queue."""
        return QueryKey(self.query_id)

    @property
    def ended(self) -> bool:
        """Nobody waits for the answer any more."""
        return self._ended.done()

    def end(self, answer: WorkflowQueryResult | RespondQueryTaskCompletedRequest | None) -> None:
        """There is an answer, or (None) there will be none on this road."""
        if not self._ended.done():
            self.answer = answer
            self._ended.set_result(None)

    def refuse(self, error: StatusError) -> None:
        """There will be no answer."""
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # whoever waits is told; nobody may wait

    async def wait(self, clock: Clock, until: int) -> bool:
        """Wait until it has ended, or the moment `until` (ns). Returns whether it has.

        Raises:
            StatusError: it was refused.
        """
        return await _either(clock, self._ended, until)


class Listener:
    """One who waits for what becomes of an update.

    Attributes:
        verdict: what became of it, if there is no trace.
    """

    def __init__(self, row: Row | None) -> None:
        self._row = row
        self._moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.verdict: Verdict | None = None
        self.ended = False

    def look(self, row: Row | None, verdict: Verdict | None, *, running: bool) -> None:
        """How the update is now; whoever waits is woken if that is not how it was."""
        self.verdict = verdict or self.verdict
        if row is not self._row or verdict is not None or not running:
            self._row = row
            self._wake()

    def end(self) -> None:
        """Nothing will be heard of it here any more."""
        self.ended = True
        self._wake()

    async def moved(self, clock: Clock, until: int) -> None:
        """Wait until it is otherwise than it was, or the moment `until` (ns)."""
        await _either(clock, self._moved, until)
        if self._moved.done():
            self._moved = asyncio.get_running_loop().create_future()

    def _wake(self) -> None:
        if not self._moved.done():
            self._moved.set_result(None)


class Conversation:
    """All who wait for an answer of one execution's code.

    Attributes:
        waiting: queries that wait for a workflow task to take them along, by id.
        asked: queries on the other road: in a task queue, or with a worker.
    """

    def __init__(self, resident: Resident) -> None:
        self._resident = resident
        self._listeners: dict[str, list[Listener]] = {}
        self.waiting: dict[str, Question] = {}
        self.asked: dict[str, Question] = {}

    @property
    def going_on(self) -> bool:
        """The execution must stay in memory: somebody waits, or there is what is nowhere else."""
        task = workflow_task.current(self._resident.execution)
        return bool(self._listeners or self.waiting or self.asked or (task is not None and task.volatile))

    def follow(self, tx: Transaction) -> None:
        """A transaction was settled."""
        for query_id, answer in tx.answers.items():
            question = self.waiting.get(query_id)
            if question is not None:
                question.end(answer)
        state = self._resident.execution
        if self.waiting and (not state.info.running or workflow_task.current(state) is None):
            for question in self.waiting.values():
                question.end(None)
        for update_id, listeners in self._listeners.items():
            row = state.of(Completed).get(update_id) or state.of(Update).get(update_id)
            for listener in listeners:
                listener.look(row, tx.verdicts.get(update_id), running=state.info.running)

    def end(self) -> None:
        """The execution in memory is no more, or the backend stops."""
        gone = StatusError(Code.UNAVAILABLE, "The workflow cannot be asked here any more; ask again.")
        for question in (*self.waiting.values(), *self.asked.values()):
            question.refuse(gone)
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.end()

    @contextmanager
    def listening(self, update_id: str) -> Generator[Listener]:
        """Hear of an update, for as long as the context lasts."""
        state = self._resident.execution
        listener = Listener(state.of(Completed).get(update_id) or state.of(Update).get(update_id))
        self._listeners.setdefault(update_id, []).append(listener)
        try:
            yield listener
        finally:
            listeners = self._listeners[update_id]
            listeners.remove(listener)
            if not listeners:
                del self._listeners[update_id]


def of(resident: Resident) -> Conversation:
    """The conversation of an execution that is in memory."""
    if resident.conversation is None:
        resident.conversation = Conversation(resident)
    return resident.conversation


def queries_for_task(resident: Resident) -> dict[str, WorkflowQuery]:
    """The queries that a workflow task takes along now, by id."""
    if resident.conversation is None:
        return {}
    return {key: question.query for key, question in resident.conversation.waiting.items() if not question.ended}


async def _either(clock: Clock, future: asyncio.Future[None], until: int) -> bool:
    """Wait for a future, or the moment `until` (ns), whichever comes first. Returns whether the future is done."""
    if not future.done():
        expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = clock.at(until, lambda: _expire(expired))
        try:
            await asyncio.wait((future, expired), return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
    if future.done():
        future.result()
        return True
    return False


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
