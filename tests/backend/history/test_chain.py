"""Runs that follow runs, signals and children, decided by the core alone."""

from __future__ import annotations

import pytest
from temporalio.api.common.v1 import Callback, RetryPolicy
from temporalio.api.enums.v1 import ParentClosePolicy, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent, SignalExternalWorkflowExecutionInitiatedEventAttributes

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import attach, callback, cancel, child, external, signal, start, workflow, workflow_task
from nexuskit.backend.history.state import Execution, Info
from nexuskit.backend.history.transaction import Transaction
from nexuskit.backend.times import MINUTE, SECOND
from tests.support.world import (
    World,
    cancel_external,
    complete_workflow,
    continue_as_new,
    fail_workflow,
    seconds,
    signal_external,
    start_child,
    start_timer,
)

CALLBACK = Callback(nexus=Callback.Nexus(url="temporal://system"))
CAUSE = WorkflowTaskFailedCause


class Chain(World):
    """A world that goes on with the run that follows."""

    def run(self, decide):
        followed: list[Transaction] = []

        def noting(tx: Transaction) -> object:
            answer = decide(tx)
            if tx.successor is not None:
                followed.append(tx)
            return answer

        answer = super().run(noting)
        for tx in followed:
            assert tx.successor is not None
            info = Info(namespace_id="ns", workflow_id="order-1", run_id=tx.successor.run_id)
            self.execution, self.history = Execution(2, info), []
            begin = tx.successor.begin
            super().run(begin)
        return answer


def started_of(world: World):
    return world.history[0].workflow_execution_started_event_attributes


# --- pauses


def test_a_run_with_a_delay_gets_its_first_task_when_that_is_over() -> None:
    world = World()
    world.start(workflow_start_delay=seconds(60))
    assert world.event_types() == ["WORKFLOW_EXECUTION_STARTED"]
    world.pass_time(MINUTE - 1)
    assert world.event_types() == ["WORKFLOW_EXECUTION_STARTED"]
    world.pass_time(1)
    assert world.event_types() == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]
    assert len(world.execution.of(start.FirstTask)) == 0


def test_a_signal_waits_for_the_delay_and_one_with_a_start_does_not() -> None:
    world = World()
    world.start(workflow_start_delay=seconds(60))
    world.send("one")
    assert workflow_task.current(world.execution) is None
    world.send("two", wake=signal.Wake.NOW)
    assert workflow_task.current(world.execution) is not None
    world.pass_time(MINUTE)
    assert world.event_types().count("WORKFLOW_TASK_SCHEDULED") == 1


def test_the_time_of_a_run_begins_after_its_delay_and_that_of_the_workflow_does_not() -> None:
    world = World()
    world.start(workflow_start_delay=seconds(60), workflow_run_timeout=seconds(60))
    assert world.execution.info.run_deadline == world.now + 2 * MINUTE
    world = World()
    world.start(workflow_start_delay=seconds(60), workflow_execution_timeout=seconds(90))
    assert world.execution.info.run_deadline == world.now + 90 * SECOND


# --- chains


def test_a_chain_goes_round_once_a_second_at_most() -> None:
    world = Chain()
    world.start()
    world.pass_time(SECOND // 4)
    world.turn(continue_as_new())
    assert world.execution.info.execution_time == world.now + SECOND * 3 // 4
    world.pass_time(5 * SECOND)
    world.turn(continue_as_new())
    assert world.execution.info.execution_time == world.now


def test_callbacks_go_along_and_are_delivered_once() -> None:
    world = Chain()
    world.start(completion_callbacks=[CALLBACK])
    for _ in range(3):
        world.pass_time(2 * SECOND)
        world.turn(continue_as_new())
        assert [row.state for _, row in world.execution.of(callback.Callback).items()] == [callback.State.STANDBY]
    world.pass_time(2 * SECOND)
    world.turn(complete_workflow())
    assert [row.state for _, row in world.execution.of(callback.Callback).items()] == [callback.State.SCHEDULED]


def test_a_cron_workflow_calls_back_at_the_end_of_the_chain_alone() -> None:
    """A real server drops the callbacks of a run that its schedule follows; here whoever waits is told."""
    world = Chain()
    world.start(cron_schedule="@every 10s", completion_callbacks=[CALLBACK])
    world.pass_time(10 * SECOND)
    world.turn(complete_workflow())
    assert [row.state for _, row in world.execution.of(callback.Callback).items()] == [callback.State.STANDBY]
    world.run(lambda tx: workflow.terminate(tx, "enough", "somebody"))
    assert [row.state for _, row in world.execution.of(callback.Callback).items()] == [callback.State.SCHEDULED]


def test_attempts_count_up_and_the_schedule_begins_anew() -> None:
    world = Chain()
    policy = RetryPolicy(initial_interval=seconds(2), backoff_coefficient=2, maximum_attempts=3)
    world.start(retry_policy=policy, cron_schedule="@every 60s")
    attempts = []
    for _ in range(4):
        world.pass_time(2 * MINUTE)
        attempts.append(
            (started_of(world).attempt, world.execution.info.execution_time - world.execution.info.start_time)
        )
        world.turn(fail_workflow())
    assert [attempt for attempt, _ in attempts] == [1, 2, 3, 1]
    assert [pause for _, pause in attempts[1:3]] == [2 * SECOND, 4 * SECOND]


def test_a_last_result_outlives_failed_attempts() -> None:
    """A real server forgets it when an attempt fails; here a cron workflow does not lose what it had."""
    world = Chain()
    world.start(cron_schedule="@every 10s", retry_policy=RetryPolicy(maximum_attempts=2))
    world.pass_time(10 * SECOND)
    world.turn(complete_workflow("one"))
    result = started_of(world).last_completion_result
    assert result.payloads[0].data == b"one"
    world.pass_time(10 * SECOND)
    world.turn(fail_workflow())
    assert started_of(world).attempt == 2
    assert started_of(world).last_completion_result == result


def test_a_run_that_is_ended_from_outside_has_none_after_it() -> None:
    world = Chain()
    world.start(cron_schedule="@every 10s", retry_policy=RetryPolicy())
    world.run(lambda tx: workflow.terminate(tx, "enough", "somebody"))
    assert world.execution.info.run_id == "run-1"
    assert not world.execution.info.running


# --- a run that ends under its workflow task


def test_a_run_that_is_ended_under_its_task_fails_the_task_and_keeps_what_waited() -> None:
    world = World()
    world.start()
    world.take_task()
    world.send("paid")
    world.run(lambda tx: cancel.request(tx, cancel.CancelRequest("enough", "somebody")))
    world.run(lambda tx: workflow.terminate(tx, "enough", "somebody"))
    assert world.event_types()[3:] == [
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "WORKFLOW_EXECUTION_TERMINATED",
    ]
    cause = world.history[3].workflow_task_failed_event_attributes.cause
    assert cause == CAUSE.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND


def test_a_repeated_task_leaves_no_trace_of_the_forced_end() -> None:
    world = World()
    world.start()
    world.take_task()
    world.fail_task()
    world.take_task()
    world.send("paid")
    world.run(lambda tx: workflow.terminate(tx, "enough", "somebody"))
    assert world.event_types()[3:] == [
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_TERMINATED",
    ]


# --- limits


def test_a_run_takes_so_many_signals_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.SIGNALS == 10_000
    monkeypatch.setattr(limits, "SIGNALS", 3)
    world = World()
    world.start()
    for number in range(3):
        world.send("paid", request_id=f"{number}")
    with pytest.raises(StatusError, match="exceeded workflow execution limit for signal events") as refused:
        world.send("paid", request_id="one too many")
    assert refused.value.code == Code.INVALID_ARGUMENT
    world.send("paid", request_id="2")  # that one is there
    assert world.execution.info.signals == 3


@pytest.mark.parametrize(
    ("limit", "command", "cause"),
    [
        ("PENDING_CHILDREN", start_child, CAUSE.WORKFLOW_TASK_FAILED_CAUSE_PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED),
        ("PENDING_SIGNALS", signal_external, CAUSE.WORKFLOW_TASK_FAILED_CAUSE_PENDING_SIGNALS_LIMIT_EXCEEDED),
        (
            "PENDING_CANCEL_REQUESTS",
            cancel_external,
            CAUSE.WORKFLOW_TASK_FAILED_CAUSE_PENDING_REQUEST_CANCEL_LIMIT_EXCEEDED,
        ),
    ],
)
def test_so_many_may_be_pending_and_no_more(
    monkeypatch: pytest.MonkeyPatch, limit: str, command: object, cause: int
) -> None:
    assert callable(command)
    assert getattr(limits, limit) == 2_000
    monkeypatch.setattr(limits, limit, 3)
    world = World()
    world.start()
    world.turn(*(command(f"other-{number}") for number in range(3)))
    world.send("wake")
    answer = world.turn(command("one too many"))
    assert answer.error is not None
    assert "per-workflow limit of 3" in answer.error.message
    failed = next(event for event in world.history if event.HasField("workflow_task_failed_event_attributes"))
    assert failed.workflow_task_failed_event_attributes.cause == cause


def test_so_many_callbacks_may_be_attached_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALLBACKS", 2)
    world = World()
    world.start(completion_callbacks=[CALLBACK])
    world.run(lambda tx: attach.attach(tx, "one", [CALLBACK], []))
    with pytest.raises(StatusError, match="cannot attach more than 2 callbacks") as refused:
        world.run(lambda tx: attach.attach(tx, "two", [CALLBACK], []))
    assert refused.value.code == Code.FAILED_PRECONDITION
    world.run(lambda tx: attach.attach(tx, "one", [CALLBACK], []))  # that one is there
    assert len(world.execution.of(callback.Callback)) == 2


# --- what is pending, and where it waits


def test_what_is_between_two_runs_waits_to_be_carried_out() -> None:
    world = World()
    world.start()
    world.turn(start_child("child"), signal_external("other"), cancel_external("another"))
    waits = {row.index(world.execution.info).destination for _, _, row in world.execution.rows()}
    assert {place.kind for place in waits if place} == {"child", "external_signal", "external_cancel"}
    row = child.waiting(world.execution, 5)
    assert row is not None
    world.run(lambda tx: child.started(tx, row, "a run", None))
    assert child.waiting(world.execution, 5) is None
    left = world.execution.of(child.Child).get(5)
    assert left is not None
    assert left.index(world.execution.info).destination is None
    given = SignalExternalWorkflowExecutionInitiatedEventAttributes()
    world.run(lambda tx: external.signalled(tx, 6, given))
    assert len(world.execution.of(external.ExternalSignal)) == 0


def test_a_child_that_begins_and_ends_under_a_task_gets_both_its_ids_after_it() -> None:
    world = World()
    world.start()
    world.turn(start_child("child"))
    world.send("wake")
    world.take_task()
    row = world.execution.of(child.Child).get(5)
    assert row is not None
    world.run(lambda tx: child.started(tx, row, "a run", None))
    running = child.find(world.execution, 5, "child", "a run")
    assert running is not None
    assert child.find(world.execution, 5, "child", "another's run") is None
    closed = HistoryEvent(workflow_execution_completed_event_attributes={})
    world.run(lambda tx: child.ended(tx, running, "a run", closed))
    assert child.find(world.execution, 5, "child", "a run") is None
    world.complete_task(start_timer("wait", 60))
    completed = next(e for e in world.history if e.HasField("child_workflow_execution_completed_event_attributes"))
    began = completed.child_workflow_execution_completed_event_attributes.started_event_id
    assert world.history[began - 1].HasField("child_workflow_execution_started_event_attributes")


@pytest.mark.parametrize(
    ("policy", "seen_to"),
    [
        (ParentClosePolicy.PARENT_CLOSE_POLICY_TERMINATE, True),
        (ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL, True),
        (ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON, False),
    ],
)
def test_children_of_a_run_that_closes_are_seen_to(policy: int, seen_to: bool) -> None:
    world = World()
    world.start()
    world.turn(start_child("begun", policy), start_child("not begun", policy))
    row = world.execution.of(child.Child).get(5)
    assert row is not None
    world.run(lambda tx: child.started(tx, row, "a run", None))
    world.turn(complete_workflow())
    orphans = [each.workflow_id for _, each in world.execution.of(child.Orphan).items()]
    assert orphans == (["begun"] if seen_to else [])
    assert len(world.execution.of(child.Child)) == 0
