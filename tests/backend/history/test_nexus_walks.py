"""Walks through the life of Nexus operations: a handler that may say anything at any time, and a process that dies.

What must hold: a completion that was acknowledged is in history; an operation ends once; what has ended stays so; and a
completion that came before the start's answer is kept, and starts the operation.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from nexuskit.backend.errors import StatusError
from nexuskit.backend.history import buffer, nexus_cancellation, nexus_operation, workflow_task
from nexuskit.backend.history.nexus_cancellation import NexusCancellation
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.history.state import NOTHING
from nexuskit.backend.history.transaction import Transaction
from nexuskit.backend.times import SECOND
from tests.support.storing import StoringWorld
from tests.support.world import cancel_operation, schedule_operation

ENDS = ("completed", "failed", "canceled", "timed_out")
OPERATIONS = 4
EXAMPLES = int(os.environ.get("NEXUSKIT_EXAMPLES", "60"))


class Walks(RuleBasedStateMachine):
    """One workflow that calls and cancels, and handlers that know each call by its request id alone."""

    def __init__(self) -> None:
        super().__init__()
        self.world = StoringWorld()
        self.calls: dict[int, str] = {}
        """Scheduled event → request id, of every operation that ever was."""
        self.acknowledged: dict[int, str] = {}
        """Scheduled event → how a completion that was taken said that it ended."""

    @initialize()
    def start(self) -> None:
        self.world.start()

    def operation(self, which: int) -> NexusOperation | None:
        rows = [row for _, row in self.world.execution.of(NexusOperation).items()]
        return rows[which] if which < len(rows) else None

    @rule(
        timeouts=st.tuples(st.sampled_from([0, 0, 3]), st.sampled_from([0, 0, 2]), st.sampled_from([0, 0, 2])),
        cancels=st.lists(st.integers(0, OPERATIONS), max_size=2, unique=True),
        calls=st.integers(0, 2),
    )
    def the_workflow_goes_on(self, timeouts: tuple[int, int, int], cancels: list[int], calls: int) -> None:
        task = workflow_task.current(self.world.execution)
        if task is None:
            return
        if not task.started:
            self.world.take_task()
        to_close, to_start, run = timeouts
        known = sorted(self.calls)
        commands = [cancel_operation(known[each]) for each in cancels if each < len(known)]
        call = schedule_operation(schedule_to_close=to_close, schedule_to_start=to_start, start_to_close=run)
        commands += [call] * min(calls, OPERATIONS - len(self.world.execution.of(NexusOperation)))
        self.world.complete_task(*commands)
        for key, row in self.world.execution.of(NexusOperation).items():
            self.calls.setdefault(int(key), row.request_id)

    @rule()
    def a_worker_takes_the_task(self) -> None:
        task = workflow_task.current(self.world.execution)
        if task is not None and not task.started:
            self.world.take_task()

    @rule(which=st.integers(0, OPERATIONS), token=st.booleans(), stale=st.booleans())
    def a_start_is_answered(self, which: int, token: bool, stale: bool) -> None:
        """By the attempt that waits, or by one that was given up: that is dropped."""
        row = self.operation(which)
        if row is None:
            return
        attempt = row.attempt - 1 if stale else row.attempt
        waits = nexus_operation.attempted(self.world.execution, row.scheduled_id, attempt)
        assert (waits is not None) == (not stale and not row.started_time)
        if waits is not None and token:
            self.world.run(lambda tx: nexus_operation.start(tx, waits, "token", []))
        elif waits is not None:
            self.world.run(lambda tx: nexus_operation.complete(tx, waits, Payload(data=b"sync")))
            self.acknowledged[row.scheduled_id] = "completed"

    @rule(which=st.integers(0, OPERATIONS), why=st.sampled_from(["away", "nobody there", "too slow"]))
    def an_attempt_fails(self, which: int, why: str) -> None:
        row = self.operation(which)
        if row is not None and not row.started_time:
            awaits = "handlers/work" if why == "nobody there" else ""
            self.world.run(
                lambda tx: nexus_operation.attempt_failed(tx, row, Failure(), awaits, too_slow=why == "too slow")
            )

    @rule(which=st.integers(0, 12), how=st.sampled_from(["completed", "failed", "canceled"]))
    def a_completion_comes(self, which: int, how: str) -> None:
        """For any operation that ever was, started or not, over or not."""
        known = sorted(self.calls)
        if which >= len(known):
            return
        key = known[which]
        pending = self.world.execution.of(NexusOperation).get(key) is not None

        def complete(tx: Transaction) -> None:
            row = nexus_operation.find(tx.state, key, self.calls[key])
            if not row.started_time:
                nexus_operation.start(tx, row, "token", [], ended=True)
                row = nexus_operation.find(tx.state, key, self.calls[key])
            if how == "completed":
                nexus_operation.complete(tx, row, Payload(data=b"async"))
            elif how == "failed":
                nexus_operation.fail(tx, row, Failure(message="no"))
            else:
                nexus_operation.cancel(tx, row, Failure(message="stopped"))

        try:
            self.world.run(complete)
        except StatusError:
            assert not pending
        else:
            assert pending
            assert key not in self.acknowledged
            self.acknowledged[key] = how

    @rule(which=st.integers(0, OPERATIONS), how=st.sampled_from(["told", "away", "refused"]))
    def a_handler_is_told_to_stop(self, which: int, how: str) -> None:
        rows = [row for _, row in self.world.execution.of(NexusCancellation).items()]
        if which >= len(rows):
            return
        row = nexus_cancellation.attempted(self.world.execution, rows[which].scheduled_id, rows[which].attempt)
        operation = self.world.execution.of(NexusOperation).get(rows[which].scheduled_id)
        assert operation is not None
        if row is None:
            return
        assert operation.token
        if how == "told":
            self.world.run(lambda tx: nexus_cancellation.complete(tx, row))
        elif how == "away":
            self.world.run(lambda tx: nexus_cancellation.attempt_failed(tx, row, Failure()))
        else:
            self.world.run(lambda tx: nexus_cancellation.fail(tx, row, Failure(message="not mine")))

    @rule(span=st.sampled_from([SECOND, 2 * SECOND]))
    def time_passes(self, span: int) -> None:
        with contextlib.suppress(StatusError):
            self.world.pass_time(span)

    @rule()
    def the_process_dies(self) -> None:
        self.world.execution = self.world.stored.read(self.world.execution.info)

    def events(self) -> list[HistoryEvent]:
        """History, and what waits for its place in it."""
        waiting = buffer.waiting(self.world.execution).events
        return [*self.world.history, *map(HistoryEvent.FromString, waiting)]

    @invariant()
    def every_operation_ends_once_and_as_was_acknowledged(self) -> None:
        ends: Counter[int] = Counter()
        for event in self.events():
            for how in ENDS:
                name = f"nexus_operation_{how}_event_attributes"
                if event.HasField(name):
                    key = getattr(event, name).scheduled_event_id
                    ends[key] += 1
                    assert self.acknowledged.setdefault(key, how) == how
        assert all(count == 1 for count in ends.values())
        assert set(self.acknowledged) == set(ends)
        assert not set(ends) & {int(key) for key, _ in self.world.execution.of(NexusOperation).items()}

    @invariant()
    def an_operation_starts_at_most_once_and_before_its_end(self) -> None:
        seen: dict[int, str] = {}
        for event in self.world.history:
            name = event.WhichOneof("attributes") or ""
            if not name.startswith("nexus_operation_") or name.startswith("nexus_operation_cancel_request"):
                continue
            what = name.removeprefix("nexus_operation_").removesuffix("_event_attributes")
            if what == "scheduled":
                seen[event.event_id] = what
                continue
            key = getattr(event, name).scheduled_event_id
            assert what != "started" or seen[key] == "scheduled"
            assert seen[key] in ("scheduled", "started")
            seen[key] = what

    @invariant()
    def what_is_pending_has_somewhere_to_go(self) -> None:
        info = self.world.execution.info
        for _, row in self.world.execution.of(NexusOperation).items():
            assert row.started_time or row.index(info).destination is not None
        for key, row in self.world.execution.of(NexusCancellation).items():
            operation = self.world.execution.of(NexusOperation).get(key)
            assert operation is not None
            over = row.state in (nexus_cancellation.State.SUCCEEDED, nexus_cancellation.State.FAILED)
            to_be_told = bool(operation.started_time) and not over
            assert (row.index(info) != NOTHING) == to_be_told


Walks.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestWalks = Walks.TestCase
