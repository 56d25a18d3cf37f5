"""All machines together: whatever is asked, in whatever order, what must always hold does.

What is stored is kept beside the execution, as the store keeps it: the rows as bytes, and the index of each. After each
step the rows read back equal memory, the index computed anew equals the one kept, history replayed gives the same
execution as far as history can tell, and event ids have no gap.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Callback, Payload, RetryPolicy
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from nexuskit.backend.errors import StatusError
from nexuskit.backend.history import (
    activity,
    activity_control,
    activity_options,
    buffer,
    callback,
    nexus_operation,
    workflow_task,
)
from nexuskit.backend.history.activity_control import Which
from nexuskit.backend.history.rules import ROWS, RULES
from nexuskit.backend.history.state import NOTHING, Execution, Index, Info, Key
from nexuskit.backend.history.transaction import Transaction, replay
from nexuskit.backend.times import SECOND
from tests.support.world import (
    World,
    application_failure,
    cancel_activity,
    cancel_timer,
    complete_workflow,
    fail_workflow,
    record_marker,
    schedule_activity,
    schedule_operation,
    start_timer,
)

NAMES = ("a", "b", "c")
COMMANDS = st.one_of(
    st.builds(start_timer, st.sampled_from(NAMES), st.integers(0, 5)),
    st.builds(cancel_timer, st.sampled_from(NAMES)),
    st.builds(
        schedule_activity,
        st.sampled_from(NAMES),
        start_to_close=st.integers(0, 5),
        schedule_to_close=st.integers(0, 9),
        schedule_to_start=st.integers(0, 5),
        heartbeat=st.integers(0, 3),
        policy=st.sampled_from([None, RetryPolicy(maximum_attempts=2)]),
        eager=st.booleans(),
    ),
    st.builds(cancel_activity, st.integers(1, 30)),
    st.builds(
        schedule_operation,
        st.sampled_from(["payments", "payments", "nowhere"]),
        schedule_to_close=st.integers(0, 9),
        start_to_close=st.integers(0, 5),
    ),
    st.sampled_from([complete_workflow(), fail_workflow(), record_marker()]),
)


class Stored:
    """What the store would hold."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Key], bytes] = {}
        self.index: dict[tuple[str, Key], Index] = {}

    def write(self, execution: Execution) -> None:
        for change in execution.changes():
            place = (change.kind, change.key)
            if change.after is None:
                self.rows.pop(place, None)
                self.index.pop(place, None)
            else:
                self.rows[place] = msgspec.msgpack.encode(change.after)
                self.index[place] = change.after.index(execution.info)

    def read(self, info: Info) -> Execution:
        execution = Execution(1, msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=Info))
        for (kind, key), body in self.rows.items():
            execution.of(ROWS[kind]).put(key, msgspec.msgpack.decode(body, type=ROWS[kind]))
        execution.settle()
        return execution


class StoringWorld(World):
    """A world that writes what changed down, as the engine does, before it settles."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = Stored()

    def run(self, decide: Callable[[Transaction], Any]) -> Any:
        def noting(tx: Transaction) -> Any:
            answer = decide(tx)
            self.stored.write(tx.state)
            return answer

        return super().run(noting)


class Machines(RuleBasedStateMachine):
    """One workflow, a worker that may do anything, handlers that may answer anything, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = StoringWorld()
        self.closed_history: list[HistoryEvent] | None = None

    @property
    def execution(self) -> Execution:
        return self.world.execution

    @initialize(timeout=st.sampled_from([0, 0, 0, 30]), callbacks=st.integers(0, 2))
    def start(self, timeout: int, callbacks: int) -> None:
        options: dict[str, Any] = {"workflow_run_timeout": {"seconds": timeout}} if timeout else {}
        each = Callback(nexus=Callback.Nexus(url="temporal://system"))
        self.world.start(completion_callbacks=[each] * callbacks, **options)

    @rule()
    def take_the_task(self) -> None:
        self.world.take_task()

    def has_task(self) -> bool:
        task = workflow_task.current(self.execution)
        return task is not None and task.started

    @precondition(has_task)
    @rule(
        commands=st.lists(COMMANDS, max_size=4),
        sticky=st.sampled_from(["", "sticky"]),
        another=st.booleans(),
        take_next=st.booleans(),
    )
    def answer_the_task(self, commands: list[Any], sticky: str, another: bool, take_next: bool) -> None:
        before = list(self.world.history)
        try:
            self.world.complete_task(*commands, sticky=sticky, another=another, take_next=take_next)
        except StatusError:
            assert self.world.history == before

    @precondition(has_task)
    @rule()
    def fail_the_task(self) -> None:
        self.world.fail_task()

    @rule(which=st.integers(0, 5))
    def take_an_activity(self, which: int) -> None:
        keys = [key for key, _ in self.execution.of(activity.Activity).items()]
        if which < len(keys):
            self.world.take_activity(keys[which])

    @rule(name=st.sampled_from(NAMES))
    def somebody_completes_by_id(self, name: str) -> None:
        with contextlib.suppress(StatusError):
            self.world.run(
                lambda tx: activity.complete(tx, activity.find_by_id(tx.state, name, started=False), None, "somebody")
            )

    def running_activities(self) -> list[activity.Activity]:
        return [row for _, row in self.execution.of(activity.Activity).items() if row.started_time]

    @precondition(lambda self: bool(self.running_activities()))
    @rule(which=st.integers(0, 5), how=st.sampled_from(["complete", "fail", "fail for good", "beat", "cancel"]))
    def answer_an_activity(self, which: int, how: str) -> None:
        rows = self.running_activities()
        row = rows[which % len(rows)]
        if how == "complete":
            self.world.complete_activity(row.scheduled_id)
        elif how == "beat":
            self.world.run(lambda tx: activity.heartbeat(tx, row, None))
        elif how == "cancel" and row.cancel_requested:
            self.world.run(lambda tx: activity.cancelled(tx, row, None, "worker"))
        else:
            self.world.fail_activity(row.scheduled_id, application_failure("Oops", final=how == "fail for good"))

    @rule(
        which=st.sampled_from([Which(activity_id="a"), Which(activity_type="charge"), Which(all=True)]),
        how=st.sampled_from(["pause", "unpause", "reset", "reset and keep paused", "options", "restore"]),
        some=st.integers(0, 3),
        also=st.booleans(),
    )
    def an_operator_comes(self, which: Which, how: str, some: int, also: bool) -> None:
        originals = {
            event.event_id: activity_options.scheduled(event.activity_task_scheduled_event_attributes)
            for event in self.world.history
            if event.HasField("activity_task_scheduled_event_attributes")
        }
        longer = ActivityOptions(schedule_to_close_timeout={"seconds": some + 1})

        def decide(tx: Transaction) -> None:
            if how == "pause":
                activity_control.pause(tx, which, activity.Pause(tx.now, "operator", "why", str(some)))
            elif how == "unpause":
                activity_control.unpause(tx, which, reset_attempts=also, reset_heartbeat=also, jitter=some)
            elif how == "options":
                activity_control.update_options(tx, which, longer, ["schedule_to_close_timeout"])
            elif how == "restore":
                activity_control.restore_options(tx, which, originals)
            else:
                keep = how == "reset and keep paused"
                request = activity_control.ResetRequest(also, keep, some, originals if also else None)
                activity_control.reset(tx, which, request)

        before = list(self.world.history)
        with contextlib.suppress(StatusError):
            self.world.run(decide)
        assert self.world.history == before

    @invariant()
    def a_paused_activity_is_left_alone(self) -> None:
        for _, row in self.execution.of(activity.Activity).items():
            if row.pause is not None:
                assert row.index(self.execution.info) == NOTHING

    @rule(
        which=st.integers(0, 5),
        how=st.sampled_from(["result", "token", "failure", "cancelled", "away", "completion before the answer"]),
    )
    def a_handler_answers(self, which: int, how: str) -> None:
        rows = [row for _, row in self.execution.of(nexus_operation.NexusOperation).items() if not row.started_time]
        if which >= len(rows) or rows[which].ready > self.world.now:
            return
        row = rows[which]

        def decide(tx: Transaction) -> None:
            if how == "result":
                nexus_operation.complete(tx, row, Payload(data=b"1"))
            elif how == "token":
                nexus_operation.start(tx, row, "token", [])
            elif how == "failure":
                nexus_operation.fail(tx, row, application_failure("Declined"))
            elif how == "cancelled":
                nexus_operation.cancel(tx, row, Failure(message="cancelled"))
            elif how == "away":
                nexus_operation.attempt_failed(tx, row, Failure(message="away"))
            else:
                nexus_operation.start(tx, row, "", [], ended=True)
                nexus_operation.complete(tx, nexus_operation.find(tx.state, row.scheduled_id, row.request_id), None)

        self.world.run(decide)

    @rule(which=st.integers(0, 5))
    def a_completion_comes(self, which: int) -> None:
        rows = [row for _, row in self.execution.of(nexus_operation.NexusOperation).items() if row.started_time]
        if which < len(rows):
            self.world.run(lambda tx: nexus_operation.complete(tx, rows[which], None))

    @rule(which=st.integers(0, 1), delivered=st.booleans(), retryable=st.booleans())
    def a_callback_is_tried(self, which: int, delivered: bool, retryable: bool) -> None:
        row = self.execution.of(callback.Callback).get(which)
        if row is None or callback.attempted(self.execution, which, row.attempt) is None:
            return
        if delivered:
            self.world.run(lambda tx: callback.delivered(tx, row))
        else:
            self.world.run(lambda tx: callback.refused(tx, row, Failure(message="no"), retryable=retryable))

    @rule(span=st.sampled_from([1, SECOND // 2, SECOND, 3 * SECOND, 12 * SECOND]))
    def time_passes(self, span: int) -> None:
        self.world.pass_time(span)

    @rule()
    def the_process_dies(self) -> None:
        """Whatever comes next comes to what was read back from disk."""
        self.world.execution = self.world.stored.read(self.execution.info)

    @invariant()
    def event_ids_have_no_gap(self) -> None:
        assert [event.event_id for event in self.world.history] == list(range(1, self.execution.info.next_event_id))

    @invariant()
    def rows_on_disk_equal_memory(self) -> None:
        read = self.world.stored.read(self.execution.info)
        assert {(k, key): row for k, key, row in read.rows()} == {
            (k, key): row for k, key, row in self.execution.rows()
        }
        assert read.info == self.execution.info

    @invariant()
    def the_index_on_disk_equals_the_one_computed_anew(self) -> None:
        computed = {(kind, key): row.index(self.execution.info) for kind, key, row in self.execution.rows()}
        assert computed == self.world.stored.index

    @invariant()
    def a_closed_run_accepts_nothing_and_keeps_only_its_callbacks(self) -> None:
        if self.execution.info.running:
            return
        if self.closed_history is None:
            self.closed_history = list(self.world.history)
        assert self.world.history == self.closed_history
        assert {kind for kind, _, _ in self.execution.rows()} <= {callback.Callback.kind}
        closing = [event for event in self.world.history if event.event_type in CLOSING]
        assert closing == self.world.history[-1:]

    @invariant()
    def history_replayed_gives_the_same_execution(self) -> None:
        if buffer.waiting(self.execution).events:
            return
        info = self.execution.info
        again = Execution(1, Info(namespace_id=info.namespace_id, workflow_id=info.workflow_id, run_id=info.run_id))
        replay(RULES, again, self.world.history)
        assert told_by_history(again) == told_by_history(self.execution)

    @invariant()
    def a_pending_row_has_somewhere_to_go(self) -> None:
        """Nothing is forgotten: whatever waits is due, or waits where somebody can take it."""
        for kind, _, row in self.execution.rows():
            if kind in (workflow_task.WorkflowTask.kind, "timer"):
                assert row.index(self.execution.info) != NOTHING


CLOSING = frozenset({2, 3, 4, 27})
"""Event types that close a run: completed, failed, timed out, terminated."""


def told_by_history(execution: Execution) -> dict[str, Any]:
    """The part of an execution that its history determines."""
    info = execution.info
    told: dict[str, Any] = {
        "info": (
            info.workflow_type,
            info.status,
            info.start_time,
            info.close_time,
            info.next_event_id,
            info.history_size,
            info.previous_started_id,
            info.close_event_id,
        )
    }
    for kind, key, row in execution.rows():
        if isinstance(row, activity.Activity):
            told[f"{kind} {key}"] = (row.activity_id, row.activity_type, row.scheduled_time, row.cancel_requested)
        elif isinstance(row, nexus_operation.NexusOperation):
            told[f"{kind} {key}"] = (row.request_id, row.scheduled_time, row.started_time, row.token)
        elif isinstance(row, workflow_task.WorkflowTask):
            if not row.transient:
                told[f"{kind} {key}"] = (row.scheduled_id, row.started_id, row.started_time, row.request_id)
        elif kind not in (callback.Callback.kind, buffer.Buffered.kind):
            told[f"{kind} {key}"] = row
    return told


EXAMPLES = int(os.environ.get("NEXUSKIT_EXAMPLES", "60"))
"""How many walks; `make soak` asks for many more."""

Machines.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestMachines = Machines.TestCase
