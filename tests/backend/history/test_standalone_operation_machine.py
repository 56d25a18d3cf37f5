"""A Nexus operation that stands alone, whatever is asked of it and answered in whatever order.

What must hold: a completion that was acknowledged is how it ended; it ends once; what has ended stays so; and a
completion that came before the start's answer is kept, and starts it.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from temporalio.api.common.v1 import Callback, Link, Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import StartNexusOperationExecutionRequest

from nexuskit.backend.errors import StatusError
from nexuskit.backend.history import callback, nexus_cancellation, nexus_operation, standalone, standalone_operation
from nexuskit.backend.history.nexus_cancellation import NexusCancellation
from nexuskit.backend.history.rules import RULES
from nexuskit.backend.history.standalone import SCHEDULED_ID
from nexuskit.backend.history.state import NOTHING, OPERATION, Execution, Info
from nexuskit.backend.history.transaction import Transaction, replay
from nexuskit.backend.times import SECOND
from tests.backend.history.test_machines import EXAMPLES
from tests.support.storing import StoringWorld
from tests.support.world import ENDPOINTS, application_failure, seconds

KEY = SCHEDULED_ID
ENDS = ("completed", "failed", "canceled", "timed_out")


def fresh() -> Info:
    return Info(namespace_id="ns", workflow_id="op", run_id="run-1", archetype=OPERATION)


class Alone(RuleBasedStateMachine):
    """One operation, a handler that may say anything at any time, somebody who ends it, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = StoringWorld()
        self.world.execution = Execution(1, fresh())
        self.closed: list[HistoryEvent] | None = None
        self.acknowledged = ""
        """How it ended, as somebody was told."""
        self.request_id = ""

    @initialize(whole=st.integers(0, 20), wait=st.integers(0, 5), run=st.integers(0, 8))
    def start(self, whole: int, wait: int, run: int) -> None:
        request = StartNexusOperationExecutionRequest(
            operation_id="op",
            endpoint="payments",
            service="Payments",
            operation="charge",
            request_id="request-1",
            schedule_to_close_timeout=seconds(whole),
            schedule_to_start_timeout=seconds(wait),
            start_to_close_timeout=seconds(run),
            completion_callbacks=[Callback(nexus=Callback.Nexus(url="temporal://system"))],
        )
        self.world.run(lambda tx: standalone_operation.start(tx, request, ENDPOINTS["payments"].id, {}))
        self.request_id = standalone_operation.alone(self.world.execution).request_id

    @rule(answer=st.sampled_from(["token", "result", "failure", "cancelled"]), stale=st.booleans())
    def a_start_is_answered(self, answer: str, stale: bool) -> None:
        """By the attempt that waits, or by one that was given up: that is dropped."""
        there = standalone_operation.alone(self.world.execution)
        row = nexus_operation.attempted(self.world.execution, KEY, there.attempt - stale)
        assert (row is not None) == (self.world.execution.info.running and not there.started_time and not stale)
        if row is None:
            return
        if answer == "token":
            self.world.run(lambda tx: nexus_operation.start(tx, row, "token", [Link()]))
        elif answer == "result":
            self.world.run(lambda tx: nexus_operation.complete(tx, row, Payload(data=b"sync")))
            self.acknowledged = "completed"
        elif answer == "failure":
            self.world.run(lambda tx: nexus_operation.fail(tx, row, application_failure("Oops")))
            self.acknowledged = "failed"
        else:
            self.world.run(lambda tx: nexus_operation.cancel(tx, row, Failure(message="stopped")))
            self.acknowledged = "canceled"

    @rule(why=st.sampled_from(["away", "nobody there", "too slow"]))
    def an_attempt_fails(self, why: str) -> None:
        row = standalone_operation.alone(self.world.execution)
        if self.world.execution.info.running and not row.started_time:
            awaits = "handlers/work" if why == "nobody there" else ""
            self.world.run(
                lambda tx: nexus_operation.attempt_failed(tx, row, Failure(), awaits, too_slow=why == "too slow")
            )

    @rule(how=st.sampled_from(["completed", "failed", "canceled"]), own=st.booleans())
    def a_completion_comes(self, how: str, own: bool) -> None:
        """For this operation or another one of the id, started or not, over or not."""
        running = self.world.execution.info.running

        def complete(tx: Transaction) -> None:
            row = nexus_operation.find(tx.state, KEY, self.request_id if own else "another")
            if not row.started_time:
                nexus_operation.start(tx, row, "early", [], ended=True)
                row = nexus_operation.find(tx.state, KEY, self.request_id)
            if how == "completed":
                nexus_operation.complete(tx, row, Payload(data=b"async"))
            elif how == "failed":
                nexus_operation.fail(tx, row, Failure(message="no"))
            else:
                nexus_operation.cancel(tx, row, Failure(message="stopped"))

        assert self.attempt(complete) == (running and own)
        if running and own:
            assert not self.acknowledged
            self.acknowledged = how

    @rule(how=st.sampled_from(["told", "away", "refused"]))
    def a_handler_is_told_to_stop(self, how: str) -> None:
        there = self.world.execution.of(NexusCancellation).get(KEY)
        if there is None:
            return
        row = nexus_cancellation.attempted(self.world.execution, KEY, there.attempt)
        if row is None:
            return
        assert standalone_operation.alone(self.world.execution).token
        if how == "told":
            self.world.run(lambda tx: nexus_cancellation.complete(tx, row))
        elif how == "away":
            self.world.run(lambda tx: nexus_cancellation.attempt_failed(tx, row, Failure()))
        else:
            self.world.run(lambda tx: nexus_cancellation.fail(tx, row, Failure(message="not mine")))

    @rule(how=st.sampled_from(["cancel", "terminate", "attach"]), request_id=st.sampled_from(["one", "two"]))
    def somebody_asks(self, how: str, request_id: str) -> None:
        running = self.world.execution.info.running
        if how == "cancel":
            self.attempt(
                lambda tx: standalone_operation.request_cancel(tx, standalone.Asked(request_id, "boss", "why"))
            )
        elif how == "terminate":
            taken = self.attempt(lambda tx: standalone_operation.terminate(tx, request_id, "boss", "why"))
            if running:
                assert taken
                self.acknowledged = "failed"
        elif running:
            self.attempt(lambda tx: standalone.attach(tx, request_id, [], []))

    def attempt(self, decide: object) -> bool:
        """Whether it was taken."""
        before = list(self.world.history)
        try:
            self.world.run(decide)
        except StatusError:
            assert self.world.history == before
            return False
        return True

    @rule(span=st.sampled_from([1, SECOND // 2, SECOND, 3 * SECOND, 12 * SECOND]))
    def time_passes(self, span: int) -> None:
        self.world.pass_time(span)

    @rule()
    def the_process_dies(self) -> None:
        self.world.execution = self.world.stored.read(self.world.execution.info)

    @invariant()
    def rows_on_disk_equal_memory_and_so_do_their_indexes(self) -> None:
        execution = self.world.execution
        read = self.world.stored.read(execution.info)
        rows = {(kind, key): row for kind, key, row in execution.rows()}
        assert {(kind, key): row for kind, key, row in read.rows()} == rows
        assert {place: row.index(execution.info) for place, row in rows.items()} == self.world.stored.index

    @invariant()
    def no_workflow_task_is_made_of_it(self) -> None:
        assert not any("WORKFLOW" in name for name in self.world.event_types())

    @invariant()
    def event_ids_have_no_gap(self) -> None:
        ids = [event.event_id for event in self.world.history]
        assert ids == list(range(1, self.world.execution.info.next_event_id))

    @invariant()
    def it_ends_once_and_as_was_acknowledged(self) -> None:
        ends = [
            how
            for event in self.world.history
            for how in ENDS
            if event.HasField(f"nexus_operation_{how}_event_attributes")
        ]
        assert len(ends) == (0 if self.world.execution.info.running else 1)
        if self.acknowledged:
            assert ends == [self.acknowledged]
        elif ends:
            assert ends == ["timed_out"]

    @invariant()
    def it_waits_runs_or_is_closed_and_then_nothing_happens(self) -> None:
        execution = self.world.execution
        if not self.world.history:
            return
        row = standalone_operation.alone(execution)
        cancellation = execution.of(NexusCancellation).get(KEY)
        if execution.info.running:
            assert not row.ended
            assert row.started_time or row.index(execution.info).destination is not None
            return
        assert row.ended
        assert row.index(execution.info) == NOTHING
        assert cancellation is None or cancellation.index(execution.info) == NOTHING
        if self.closed is None:
            self.closed = list(self.world.history)
        assert self.world.history == self.closed
        told = execution.of(callback.Callback).get(0)
        assert told is not None
        assert told.state == callback.State.SCHEDULED
        standalone_operation.outcome(self.world.history[-1])

    @invariant()
    def history_replayed_ends_in_the_same_way(self) -> None:
        again, info = Execution(1, fresh()), self.world.execution.info
        replay(RULES, again, self.world.history)
        assert (again.info.status, again.info.close_time) == (info.status, info.close_time)


Alone.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
TestAlone = Alone.TestCase
