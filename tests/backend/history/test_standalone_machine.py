"""An activity that stands alone, whatever is asked of it in whatever order: what must always hold does."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import ActivityType, Callback, RetryPolicy
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartActivityExecutionRequest

from nexuskit.backend.errors import StatusError
from nexuskit.backend.history import activity, activity_options, callback, standalone
from nexuskit.backend.history.rules import RULES
from nexuskit.backend.history.state import ACTIVITY, NOTHING, Execution, Info
from nexuskit.backend.history.transaction import Transaction, replay
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from tests.backend.history.test_machines import EXAMPLES
from tests.support.storing import StoringWorld
from tests.support.world import application_failure, payloads, seconds

KEY = standalone.SCHEDULED_ID


def fresh() -> Info:
    return Info(namespace_id="ns", workflow_id="a", run_id="run-1", archetype=ACTIVITY)


class Alone(RuleBasedStateMachine):
    """One activity, a worker that may do anything, somebody who ends it, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = StoringWorld()
        self.world.execution = Execution(1, fresh())
        self.closed: list[HistoryEvent] | None = None

    @initialize(
        whole=st.integers(0, 20),
        run=st.integers(1, 8),
        wait=st.integers(0, 5),
        beat=st.integers(0, 3),
        delay=st.integers(0, 3),
        attempts=st.integers(0, 3),
    )
    def start(self, whole: int, run: int, wait: int, beat: int, delay: int, attempts: int) -> None:
        options = activity_options.checked(
            ActivityOptions(
                task_queue=TaskQueue(name="work"),
                schedule_to_close_timeout=seconds(whole),
                schedule_to_start_timeout=seconds(wait),
                start_to_close_timeout=seconds(run),
                heartbeat_timeout=seconds(beat),
                retry_policy=RetryPolicy(maximum_attempts=attempts),
            ),
            "a",
            "charge",
            limits=DEFAULTS,
        )
        request = StartActivityExecutionRequest(
            activity_id="a",
            activity_type=ActivityType(name="charge"),
            request_id="request-1",
            start_delay=seconds(delay),
            completion_callbacks=[Callback(nexus=Callback.Nexus(url="temporal://system"))],
        )
        self.world.run(lambda tx: standalone.start(tx, request, options))

    @rule()
    def a_worker_takes_it(self) -> None:
        self.world.take_activity(KEY)

    @rule(how=st.sampled_from(["complete", "complete by id", "fail", "fail for good", "beat", "cancelled"]))
    def it_is_answered(self, how: str) -> None:
        def decide(tx: Transaction) -> None:
            row = activity.find_by_id(tx.state, "a", started=how != "complete by id")
            if how in ("complete", "complete by id"):
                activity.complete(tx, row, payloads("done"), "worker")
            elif how == "beat":
                activity.heartbeat(tx, row, payloads("half"))
            elif how == "cancelled":
                activity.cancelled(tx, row, None, "worker")
            else:
                activity.fail(tx, row, application_failure("Oops", final=how == "fail for good"), "worker")

        self.attempt(decide)

    @rule(how=st.sampled_from(["cancel", "terminate", "attach"]), request_id=st.sampled_from(["one", "two"]))
    def somebody_asks(self, how: str, request_id: str) -> None:
        if how == "cancel":
            self.attempt(lambda tx: standalone.request_cancel(tx, standalone.Asked(request_id, "boss", "why")))
        elif how == "terminate":
            self.attempt(lambda tx: standalone.terminate(tx, request_id, "boss", "why"))
        elif self.world.execution.info.running:
            self.attempt(lambda tx: standalone.attach(tx, request_id, [], []))

    def attempt(self, decide: object) -> None:
        before = list(self.world.history)
        try:
            self.world.run(decide)
        except StatusError:
            assert self.world.history == before

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
    def it_waits_runs_or_is_closed_and_then_nothing_happens(self) -> None:
        execution = self.world.execution
        if not self.world.history:
            return
        row = standalone.alone(execution)
        if execution.info.running:
            assert not row.ended
            assert row.index(execution.info) != NOTHING
            return
        assert row.ended
        assert row.index(execution.info) == NOTHING
        if self.closed is None:
            self.closed = list(self.world.history)
        assert self.world.history == self.closed
        told = execution.of(callback.Callback).get(0)
        assert told is not None
        assert told.state == callback.State.SCHEDULED
        outcome = standalone.outcome(execution, self.world.history[-1])
        assert outcome.WhichOneof("value") is not None

    @invariant()
    def history_replayed_ends_in_the_same_way(self) -> None:
        again, info = Execution(1, fresh()), self.world.execution.info
        replay(RULES, again, self.world.history)
        assert (again.info.status, again.info.close_time) == (info.status, info.close_time)


Alone.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
TestAlone = Alone.TestCase
