"""The workflow task's machine."""

from __future__ import annotations

import pytest
from temporalio.api.command.v1 import Command
from temporalio.api.enums.v1 import WorkflowTaskFailedCause

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import buffer, task_events, workflow_task
from nexuskit.backend.times import MINUTE, SECOND
from tests.support.world import World, complete_workflow, schedule_activity, start_timer


@pytest.fixture
def world() -> World:
    world = World()
    world.start()
    return world


def test_a_start_leaves_a_task_that_waits_in_the_workflows_queue(world: World) -> None:
    task = workflow_task.current(world.execution)
    assert task is not None
    index = task.index(world.execution.info)
    assert index.destination == ("workflow", "ns", "orders")
    assert index.due == 0
    assert world.event_types() == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_TASK_SCHEDULED"]


def test_a_task_is_taken_once(world: World) -> None:
    assert world.take_task() is not None
    assert world.take_task() is None


def test_a_stale_hint_takes_nothing(world: World) -> None:
    assert world.run(lambda tx: workflow_task.start(tx, workflow_task.Start(12345, "worker"))) is None
    assert len(world.history) == 2


def test_a_task_that_fails_waits_again_and_only_the_first_failure_is_in_history(world: World) -> None:
    world.take_task()
    world.fail_task()
    assert world.event_types()[2:] == ["WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED"]
    written = len(world.history)
    for attempt in range(2, 6):
        started = world.take_task()
        assert started is not None
        assert started.task.attempt == attempt
        assert [event.event_id for event in started.transient] == [written + 1, written + 2]
        world.fail_task()
    assert len(world.history) == written


def test_a_repeat_that_succeeds_takes_its_place_in_history_at_the_ids_that_the_worker_was_shown(world: World) -> None:
    world.take_task()
    world.fail_task()
    started = world.take_task()
    assert started is not None
    world.complete_task(start_timer("t"))
    assert world.event_types()[4:] == [
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "TIMER_STARTED",
    ]
    assert list(started.transient) == world.history[4:6]


def test_a_repeat_after_new_events_is_a_first_attempt(world: World) -> None:
    world.turn(schedule_activity("a"), start_timer("t", 1))
    world.pass_time(2 * SECOND)
    world.take_task()
    world.take_activity(5)
    world.fail_task()
    world.complete_activity(5)
    started = world.take_task()
    assert started is not None
    assert started.task.attempt == 1
    assert started.transient == ()
    assert world.event_types()[-2:] == ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]


def test_a_worker_that_does_not_answer_loses_the_task(world: World) -> None:
    world.take_task()
    world.pass_time(11 * SECOND)
    assert world.event_types()[-1] == "WORKFLOW_TASK_TIMED_OUT"
    task = workflow_task.current(world.execution)
    assert task is not None
    assert (task.attempt, task.started) == (2, False)


def test_the_time_for_a_task_grows_when_it_keeps_failing() -> None:
    spans = [task_events.attempt_timeout(10 * SECOND, attempt) // SECOND for attempt in (1, 2, 3, 4, 5)]
    assert spans == [10, 10, 15, 20, 30]
    assert task_events.attempt_timeout(10 * SECOND, 10_000) == 610 * SECOND


def test_a_sticky_task_that_nobody_takes_goes_to_the_workflows_own_queue(world: World) -> None:
    world.take_task()
    world.complete_task(start_timer("t", 1), sticky="sticky-1")
    world.pass_time(1 * SECOND)
    task = workflow_task.current(world.execution)
    assert task is not None
    assert task.index(world.execution.info).destination == ("workflow", "ns", "sticky-1")
    world.pass_time(6 * SECOND)
    task = workflow_task.current(world.execution)
    assert task is not None
    assert task.index(world.execution.info).destination == ("workflow", "ns", "orders")
    started = world.take_task()
    assert started is not None
    assert started.history_from == 1


def test_a_sticky_worker_gets_only_what_is_new(world: World) -> None:
    world.take_task()
    world.complete_task(start_timer("t", 1), sticky="sticky-1")
    world.pass_time(1 * SECOND)
    started = world.take_task()
    assert started is not None
    assert (started.history_from, started.history_to) == (4, 8)


def test_what_comes_while_a_task_runs_waits_and_makes_the_next_task(world: World) -> None:
    world.turn(schedule_activity("a"), schedule_activity("b"))
    world.take_activity(5)
    world.take_activity(6)
    world.complete_activity(5)
    world.take_task()
    world.complete_activity(6)
    assert len(buffer.waiting(world.execution).events) == 2
    world.complete_task(start_timer("t"))
    assert world.event_types()[10:] == [
        "WORKFLOW_TASK_COMPLETED",
        "TIMER_STARTED",
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    completed = world.history[13].activity_task_completed_event_attributes
    assert completed.started_event_id == world.history[12].event_id


def test_a_workflow_cannot_close_while_events_wait_that_it_has_not_seen(world: World) -> None:
    world.turn(schedule_activity("a"), start_timer("t", 1))
    world.pass_time(1 * SECOND)
    world.take_activity(5)
    world.take_task()
    world.complete_activity(5)
    outcome = world.complete_task(complete_workflow())
    assert outcome.error is not None
    assert outcome.error.message == "UnhandledCommand"
    assert world.execution.info.running
    assert world.event_types()[-4:] == [
        "WORKFLOW_TASK_FAILED",
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
    ]


def test_an_answer_to_a_task_that_is_over_is_not_found_and_changes_nothing(world: World) -> None:
    world.take_task()
    task = workflow_task.current(world.execution)
    assert task is not None
    world.complete_task(start_timer("t"))
    before = len(world.history)
    with pytest.raises(StatusError) as refused:
        world.run(lambda tx: workflow_task.find(tx.state, task.scheduled_id, task.attempt, task.started_time))
    assert refused.value.code == Code.NOT_FOUND
    assert len(world.history) == before


def test_a_heartbeat_of_a_long_task_gets_the_next_task_with_its_answer(world: World) -> None:
    world.take_task()
    outcome = world.complete_task(another=True, take_next=True)
    assert outcome.next_task is not None
    assert outcome.next_task.task.started


def test_a_repeat_that_has_not_seen_everything_is_followed_by_a_task_at_once(world: World) -> None:
    world.turn(schedule_activity("a"), start_timer("t", 1))
    world.pass_time(1 * SECOND)
    world.take_activity(5)
    world.take_task()
    world.fail_task()
    world.take_task()
    world.complete_activity(5)
    outcome = world.complete_task(complete_workflow())
    assert outcome.error is not None
    task = workflow_task.current(world.execution)
    assert task is not None
    assert not task.started


def test_a_repeat_whose_command_is_wrong_is_left_to_time_out(world: World) -> None:
    """It would fail again at once, and worker and server would do nothing else."""
    world.take_task()
    world.fail_task()
    world.take_task()
    outcome = world.complete_task(start_timer(""))
    assert outcome.error is not None
    task = workflow_task.current(world.execution)
    assert task is not None
    assert task.started


def test_a_task_is_not_waited_for_by_more_than_it_may_hold_up(world: World) -> None:
    count = limits.BUFFERED_EVENTS // 2 + 1
    world.turn(start_timer("t", 1), *(schedule_activity(f"a{number}") for number in range(count)))
    world.pass_time(1 * SECOND)
    world.take_task()
    for key in range(6, 6 + count):
        world.take_activity(key)
        world.complete_activity(key)
    assert buffer.waiting(world.execution).events == ()
    failed = [event for event in world.history if event.HasField("workflow_task_failed_event_attributes")]
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND
    assert [event.workflow_task_failed_event_attributes.cause for event in failed] == [cause]
    assert world.event_types().count("ACTIVITY_TASK_COMPLETED") == count


def test_a_command_of_no_known_type_is_refused_and_the_task_stays(world: World) -> None:
    world.take_task()
    with pytest.raises(StatusError) as refused:
        world.complete_task(Command(command_type=99))
    assert refused.value.code == Code.INVALID_ARGUMENT
    assert world.event_types()[-1] == "WORKFLOW_TASK_STARTED"


def kept_alive(world: World, span: int) -> None:
    """A worker takes the task, and for so long only says that it is still at it."""
    end = world.now + span
    world.take_task()
    while world.now < end:
        world.pass_time(min(5 * SECOND, end - world.now))
        world.complete_task(another=True, take_next=True, sticky="sticky-1")


def test_a_task_is_kept_alive_for_half_an_hour_and_not_longer(world: World) -> None:
    began = world.now
    kept_alive(world, 30 * MINUTE)
    task = workflow_task.current(world.execution)
    assert task is not None
    assert (task.started, task.original_scheduled_time) == (True, began)
    world.pass_time(1 * SECOND)
    outcome = world.complete_task(another=True, take_next=True, sticky="sticky-1")
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == (Code.NOT_FOUND, "workflow task heartbeat timeout")
    assert world.event_types()[-1] == "WORKFLOW_TASK_TIMED_OUT"
    task = workflow_task.current(world.execution)
    assert task is not None
    assert (task.started, task.attempt, task.queue) == (False, 2, "orders")


def test_commands_begin_a_new_half_hour(world: World) -> None:
    kept_alive(world, 20 * MINUTE)
    world.complete_task(start_timer("t", 3600), another=True, take_next=True)
    task = workflow_task.current(world.execution)
    assert task is not None
    assert task.original_scheduled_time == world.now


@pytest.mark.parametrize(("limit", "suggested"), [(3, True), (4, False)])
def test_it_is_suggested_to_continue_as_new_from_so_many_events_on(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: int, *, suggested: bool
) -> None:
    monkeypatch.setattr(limits, "SUGGEST_CONTINUE_AS_NEW_EVENTS", limit)
    world.take_task()
    started = world.history[2].workflow_task_started_event_attributes
    assert started.suggest_continue_as_new == suggested


@pytest.mark.parametrize(("more", "suggested"), [(0, True), (1, False)])
def test_it_is_suggested_to_continue_as_new_from_so_many_bytes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, more: int, *, suggested: bool
) -> None:
    monkeypatch.setattr(limits, "SUGGEST_CONTINUE_AS_NEW_SIZE", world.execution.info.history_size + more)
    world.take_task()
    started = world.history[2].workflow_task_started_event_attributes
    assert started.suggest_continue_as_new == suggested
    assert started.history_size_bytes == world.execution.info.history_size - world.history[2].ByteSize()
