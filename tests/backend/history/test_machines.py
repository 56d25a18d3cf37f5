"""All machines together: whatever is asked, in whatever order, what must always hold does.

What is stored is kept beside the execution, as the store keeps it: the rows as bytes, and the index of each. After each
step the rows read back equal memory, the index computed anew equals the one kept, history replayed gives the same
execution as far as history can tell, and event ids have no gap.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Callback, Payload, RetryPolicy, WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import (
    HistoryEvent,
    RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
    SignalExternalWorkflowExecutionInitiatedEventAttributes,
    StartChildWorkflowExecutionInitiatedEventAttributes,
    WorkflowExecutionStartedEventAttributes,
)
from temporalio.api.protocol.v1 import Message

from nexuskit.backend import limits
from nexuskit.backend.errors import StatusError
from nexuskit.backend.history import (
    activity,
    activity_control,
    activity_options,
    attach,
    buffer,
    callback,
    cancel,
    child,
    external,
    nexus_cancellation,
    nexus_operation,
    signal,
    start,
    update,
    workflow,
    workflow_task,
)
from nexuskit.backend.history.activity_control import Which
from nexuskit.backend.history.rules import RULES
from nexuskit.backend.history.state import NOTHING, Execution, Info
from nexuskit.backend.history.transaction import Transaction, replay
from nexuskit.backend.times import SECOND
from tests.support.messages import acceptance, place_of, rejection, response
from tests.support.storing import StoringWorld, told_by_history
from tests.support.world import (
    application_failure,
    cancel_activity,
    cancel_external,
    cancel_operation,
    cancel_timer,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    fail_workflow,
    modify_memo,
    record_marker,
    schedule_activity,
    schedule_operation,
    signal_external,
    start_child,
    start_timer,
    upsert_attribute,
)

NAMES = ("a", "b", "c")
COMMANDS = st.one_of(
    st.builds(start_timer, st.sampled_from(NAMES), st.integers(0, 5)),
    st.builds(cancel_timer, st.sampled_from(NAMES)),
    st.builds(upsert_attribute, st.sampled_from(["Customer", "Amount", "Nothing"]), st.sampled_from(["x", 5, None])),
    st.builds(modify_memo, st.sampled_from(NAMES), st.sampled_from(["x", None])),
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
    st.builds(cancel_operation, st.integers(1, 30)),
    st.builds(start_child, st.sampled_from(NAMES), st.integers(0, 3)),
    st.builds(signal_external, st.sampled_from(NAMES)),
    st.builds(cancel_external, st.sampled_from(NAMES)),
    st.sampled_from(
        [complete_workflow(), fail_workflow(), cancel_workflow(), continue_as_new(), record_marker()],
    ),
)
WAKES = [signal.Wake.AFTER_PAUSE, signal.Wake.NOW]
CLOSE_EVENTS = [
    HistoryEvent(workflow_execution_completed_event_attributes={}),
    HistoryEvent(workflow_execution_failed_event_attributes={}),
    HistoryEvent(workflow_execution_canceled_event_attributes={}),
    HistoryEvent(workflow_execution_timed_out_event_attributes={}),
    HistoryEvent(workflow_execution_terminated_event_attributes={}),
]
"""Ways in which a child may end."""


class Machines(RuleBasedStateMachine):
    """One workflow, a worker that may do anything, handlers that may answer anything, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = StoringWorld()
        self.closed_history: list[HistoryEvent] | None = None
        self.brought: tuple[Message, ...] = ()
        self.acknowledged: dict[str, int] = {}
        self.taken: Counter[str] = Counter()
        """Signals that were taken."""
        self.callbacks = 0

    @property
    def execution(self) -> Execution:
        return self.world.execution

    @initialize(
        timeout=st.sampled_from([0, 0, 0, 30]),
        whole=st.sampled_from([0, 0, 0, 40]),
        callbacks=st.integers(0, 2),
        again=st.sampled_from(["", "", "retry", "cron", "both"]),
        delay=st.sampled_from([0, 0, 2]),
        is_child=st.booleans(),
    )
    def start(self, timeout: int, whole: int, callbacks: int, again: str, delay: int, is_child: bool) -> None:
        attributes = WorkflowExecutionStartedEventAttributes(
            workflow_type={"name": "PlaceOrder"},
            task_queue={"name": "orders"},
            workflow_run_timeout={"seconds": timeout} if timeout else None,
            workflow_execution_timeout={"seconds": whole} if whole else None,
            completion_callbacks=[CALLBACK] * callbacks,
            retry_policy=RetryPolicy(initial_interval={"seconds": 1}, backoff_coefficient=1, maximum_attempts=2)
            if again in ("retry", "both")
            else None,
            cron_schedule="@every 3s" if again in ("cron", "both") else "",
            first_workflow_task_backoff={"seconds": delay} if delay else None,
        )
        if is_child:
            attributes.parent_workflow_execution.CopyFrom(WorkflowExecution(workflow_id="parent", run_id="run"))
            attributes.root_workflow_execution.CopyFrom(WorkflowExecution(workflow_id="parent", run_id="run"))
            attributes.parent_initiated_event_id = 5
        self.callbacks = callbacks
        self.world.run(lambda tx: start.begin(tx, start.StartRun(attributes, "request-1")))

    @rule()
    def take_the_task(self) -> None:
        before = len(self.world.history)
        started = self.world.take_task()
        if started is not None:
            self.brought = started.messages
            assert not started.task.speculative or started.messages
            assert not started.task.speculative or len(self.world.history) == before

    @rule(name=st.sampled_from(NAMES))
    def an_update_comes(self, name: str) -> None:
        before = list(self.world.history)
        with contextlib.suppress(StatusError):
            self.world.admit(name)
        assert self.world.history == before
        status = update.status(self.execution, name)
        assert status is not None or not self.execution.info.running or failing(self.execution)

    def has_task(self) -> bool:
        task = workflow_task.current(self.execution)
        return task is not None and task.started

    @precondition(has_task)
    @rule(
        commands=st.lists(COMMANDS, max_size=4),
        sticky=st.sampled_from(["", "sticky"]),
        another=st.booleans(),
        take_next=st.booleans(),
        says=st.lists(st.sampled_from(["accept", "reject", "complete", "nothing"]), min_size=3, max_size=3),
        more=st.sampled_from(["", "", *NAMES]),
    )
    def answer_the_task(
        self, commands: list[Any], sticky: str, another: bool, take_next: bool, says: list[str], more: str
    ) -> None:
        before = list(self.world.history)
        task = workflow_task.current(self.execution)
        assert task is not None
        messages: list[Message] = []
        for request, word in zip(self.brought, says, strict=False):
            if word in ("accept", "complete"):
                messages.append(acceptance(request))
            if word == "complete":
                messages.append(response(request.protocol_instance_id))
            if word == "reject":
                messages.append(rejection(request))
        if more:
            messages.append(response(more))
        places = [place_of(message) for message in messages if not message.id.endswith("reject")]
        only_rejections = not places and not commands and not another
        try:
            outcome = self.world.complete_task(
                *places, *commands, sticky=sticky, another=another, take_next=take_next, messages=messages,
                discards_events=True,
            )  # fmt: skip
        except StatusError:
            assert self.world.history == before
            return
        self.brought = outcome.next_task.messages if outcome.next_task is not None else ()
        shown = task.scheduled_id - self.execution.info.previous_started_id
        if outcome.error is None and task.speculative and only_rejections and shown < limits.DISCARDED_EVENTS:
            assert self.world.history == before
            assert outcome.reset_to or not self.execution.info.previous_started_id

    @rule(really=st.integers(0, 9))
    def it_is_terminated(self, really: int) -> None:
        if self.execution.info.running and not really:
            self.world.run(lambda tx: workflow.terminate(tx, "enough", "a-client"))

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

    @rule(which=st.integers(0, 5), how=st.sampled_from(["told", "away", "refused"]))
    def a_handler_is_told_to_stop(self, which: int, how: str) -> None:
        rows = [row for _, row in self.execution.of(nexus_cancellation.NexusCancellation).items()]
        if which < len(rows) and nexus_cancellation.attempted(self.execution, rows[which].scheduled_id, 0) is not None:
            if how == "told":
                self.world.run(lambda tx: nexus_cancellation.complete(tx, rows[which]))
            elif how == "away":
                self.world.run(lambda tx: nexus_cancellation.attempt_failed(tx, rows[which], Failure(message="away")))
            else:
                self.world.run(lambda tx: nexus_cancellation.fail(tx, rows[which], Failure(message="no")))

    @rule(which=st.integers(0, 1), delivered=st.booleans(), retryable=st.booleans())
    def a_callback_is_tried(self, which: int, delivered: bool, retryable: bool) -> None:
        row = self.execution.of(callback.Callback).get(which)
        if row is None or callback.attempted(self.execution, which, row.attempt) is None:
            return
        if delivered:
            self.world.run(lambda tx: callback.delivered(tx, row))
        else:
            self.world.run(lambda tx: callback.refused(tx, row, Failure(message="no"), retryable=retryable))

    @rule(name=st.sampled_from(NAMES), request_id=st.sampled_from(["", "", "x", "y"]), wake=st.sampled_from(WAKES))
    def a_signal_comes(self, name: str, request_id: str, wake: signal.Wake) -> None:
        known = request_id and self.execution.of(signal.SignalRequest).get(request_id) is not None
        try:
            self.world.send(name, request_id=request_id, wake=wake)
        except StatusError:
            assert not self.execution.info.running
        else:
            self.taken[name] += not known

    @rule()
    def somebody_wants_it_to_stop(self) -> None:
        running = self.execution.info.running
        self.world.run(lambda tx: cancel.request(tx, cancel.CancelRequest("enough", "somebody")))
        assert self.execution.info.cancel_requested or not running

    @precondition(lambda self: self.execution.info.running)
    @rule(request_id=st.sampled_from(["", "x", "y", "request-1"]), callbacks=st.integers(0, 1))
    def a_start_is_attached(self, request_id: str, callbacks: int) -> None:
        known = request_id == "request-1" or (
            request_id and self.execution.of(attach.Attached).get(request_id) is not None
        )
        self.world.run(lambda tx: attach.attach(tx, request_id, [CALLBACK] * callbacks, []))
        self.callbacks += 0 if known else callbacks

    @precondition(lambda self: self.execution.info.running)
    @rule(dice=st.integers(0, 4))
    def somebody_ends_it(self, dice: int) -> None:
        if dice == 0:  # seldom, for nothing comes after it
            self.world.run(lambda tx: workflow.terminate(tx, "enough", "somebody"))

    def children(self, *, started: bool) -> list[child.Child]:
        return [row for _, row in self.execution.of(child.Child).items() if bool(row.run_id) == started]

    @precondition(lambda self: bool(self.children(started=False)))
    @rule(which=st.integers(0, 5), can=st.booleans())
    def a_child_is_to_be_started(self, which: int, can: bool) -> None:
        rows = self.children(started=False)
        row = rows[which % len(rows)]
        assert child.waiting(self.execution, row.initiated_id) == row
        if can:
            self.world.run(lambda tx: child.started(tx, row, "the child's run", None))
        else:
            initiated = StartChildWorkflowExecutionInitiatedEventAttributes()
            self.world.run(lambda tx: child.start_failed(tx, row, 1, initiated))

    @precondition(lambda self: bool(self.children(started=True)))
    @rule(which=st.integers(0, 5), event=st.sampled_from(CLOSE_EVENTS))
    def a_child_ends(self, which: int, event: HistoryEvent) -> None:
        rows = self.children(started=True)
        row = rows[which % len(rows)]
        assert child.find(self.execution, row.initiated_id, row.workflow_id, row.run_id) == row
        self.world.run(lambda tx: child.ended(tx, row, "the child's last run", event))

    @rule(which=st.integers(0, 5), arrived=st.booleans())
    def a_signal_to_another_one_is_sent(self, which: int, arrived: bool) -> None:
        keys = [row.initiated_id for _, row in self.execution.of(external.ExternalSignal).items()]
        if which < len(keys):
            given = SignalExternalWorkflowExecutionInitiatedEventAttributes()
            if arrived:
                self.world.run(lambda tx: external.signalled(tx, keys[which], given))
            else:
                self.world.run(lambda tx: external.signal_failed(tx, keys[which], given, 1))

    @rule(which=st.integers(0, 5), arrived=st.booleans())
    def another_one_is_asked_to_stop(self, which: int, arrived: bool) -> None:
        keys = [row.initiated_id for _, row in self.execution.of(external.ExternalCancel).items()]
        if which < len(keys):
            given = RequestCancelExternalWorkflowExecutionInitiatedEventAttributes()
            if arrived:
                self.world.run(lambda tx: external.cancel_requested(tx, keys[which], given))
            else:
                self.world.run(lambda tx: external.cancel_failed(tx, keys[which], given, 1))

    @precondition(lambda self: not self.execution.info.running)
    @rule()
    def what_it_left_behind_is_seen_to(self) -> None:
        for key, _ in list(self.execution.of(child.Orphan).items()):
            self.world.run(lambda tx, key=key: tx.note(child.Treated(int(key))))
        if self.execution.of(child.Report).get(child.ONLY) is not None:
            self.world.run(lambda tx: tx.note(child.Reported()))

    @rule(span=st.sampled_from([1, SECOND // 2, SECOND, 3 * SECOND, 12 * SECOND]))
    def time_passes(self, span: int) -> None:
        self.world.pass_time(span)

    @rule()
    def the_process_dies(self) -> None:
        """Whatever comes next comes to what was read back from disk."""
        task = workflow_task.current(self.execution)
        if task is not None and task.volatile:
            self.brought = ()
        self.world.execution = self.world.stored.read(self.execution.info)

    @invariant()
    def event_ids_have_no_gap(self) -> None:
        assert [event.event_id for event in self.world.history] == list(range(1, self.execution.info.next_event_id))

    @invariant()
    def rows_on_disk_equal_memory(self) -> None:
        read = self.world.stored.read(self.execution.info)
        assert {(k, key): row for k, key, row in read.rows()} == {
            (k, key): row for k, key, row in self.execution.rows() if not row.volatile
        }
        assert read.info == self.execution.info

    @invariant()
    def the_index_on_disk_equals_the_one_computed_anew(self) -> None:
        computed = {
            (kind, key): row.index(self.execution.info) for kind, key, row in self.execution.rows() if not row.volatile
        }
        assert computed == self.world.stored.index

    @invariant()
    def the_size_that_was_kept_equals_the_one_computed_anew(self) -> None:
        alone = Execution(1, self.execution.info).size()
        assert self.execution.size() == alone + sum(row.weight() for _, _, row in self.execution.rows())

    @invariant()
    def a_closed_run_accepts_nothing_and_keeps_only_its_callbacks_and_updates(self) -> None:
        if self.execution.info.running:
            return
        if self.closed_history is None:
            self.closed_history = list(self.world.history)
        assert self.world.history == self.closed_history
        assert all(row.outlives for _, _, row in self.execution.rows())
        assert not any(row.volatile for _, _, row in self.execution.rows())
        if self.execution.info.new_run_id:
            assert self.world.handed_on == self.callbacks
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
    def an_acknowledged_update_is_in_history_and_found_again(self) -> None:
        for event in self.world.history:
            if event.HasField("workflow_execution_update_accepted_event_attributes"):
                name = event.workflow_execution_update_accepted_event_attributes.protocol_instance_id
                assert self.acknowledged.setdefault(name, event.event_id) == event.event_id
        for name in self.acknowledged:
            status = update.status(self.execution, name)
            assert status is not None
            if status.completed_id:
                completed = self.world.history[status.completed_id - 1]
                assert completed.workflow_execution_update_completed_event_attributes.meta.update_id == name

    @invariant()
    def what_waits_for_the_code_is_brought_to_it(self) -> None:
        task = workflow_task.current(self.execution)
        assert task is not None or not update.waits(self.execution)

    @invariant()
    def at_most_one_task_is_in_flight(self) -> None:
        open_tasks = 0
        for event in self.world.history:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                open_tasks += 1
            if event.event_type in TASK_ENDS and event.event_type != EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
                open_tasks -= 1
            if event.workflow_task_timed_out_event_attributes.started_event_id:
                open_tasks -= 1
            assert open_tasks in (0, 1)

    @invariant()
    def an_acknowledged_signal_is_in_history_or_waits_for_its_place(self) -> None:
        waiting = [HistoryEvent.FromString(raw) for raw in buffer.waiting(self.execution).events]
        found = Counter(
            event.workflow_execution_signaled_event_attributes.signal_name
            for event in [*self.world.history, *waiting]
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        )
        assert found == self.taken
        assert self.execution.info.signals == found.total()
        assert self.execution.info.running or not waiting

    @invariant()
    def the_start_of_a_child_comes_before_its_end_which_names_it(self) -> None:
        began: dict[int, int] = {}
        for event in self.world.history:
            name = event.WhichOneof("attributes") or ""
            attributes = getattr(event, name)
            if name == "child_workflow_execution_started_event_attributes":
                began[attributes.initiated_event_id] = event.event_id
            elif name.startswith("child_workflow_execution_"):
                assert attributes.started_event_id == began.pop(attributes.initiated_event_id)

    @invariant()
    def a_pending_row_has_somewhere_to_go(self) -> None:
        """Nothing is forgotten: whatever waits is due, or waits where somebody can take it."""
        for kind, _, row in self.execution.rows():
            if kind in (workflow_task.WorkflowTask.kind, "timer"):
                assert row.index(self.execution.info) != NOTHING


TASK_ENDS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    }
)


def failing(execution: Execution) -> bool:
    """Whether the workflow's task has failed so often that it gets no updates."""
    task = workflow_task.current(execution)
    return task is not None and task.attempt >= update.FAILING_FROM


CLOSING = frozenset(workflow.CLOSED_BY)
"""Event types that close a run."""
CALLBACK = Callback(nexus=Callback.Nexus(url="temporal://system"))


EXAMPLES = int(os.environ.get("NEXUSKIT_EXAMPLES", "60"))
"""How many walks; `make soak` asks for many more."""

Machines.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestMachines = Machines.TestCase
