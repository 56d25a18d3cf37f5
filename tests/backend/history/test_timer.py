"""The timer's machine."""

from __future__ import annotations

from temporalio.api.command.v1 import Command

from nexuskit.backend.history.rules import RULES
from nexuskit.backend.history.state import Execution, Info
from nexuskit.backend.history.timer import Timer
from nexuskit.backend.history.transaction import replay
from nexuskit.backend.times import SECOND
from tests.support.world import World, cancel_timer, start_timer


def timers(execution: Execution) -> dict[object, int]:
    return {key: row.started_id for key, row in execution.of(Timer).items()}


def replayed(world: World) -> Execution:
    info = world.execution.info
    again = Execution(1, Info(namespace_id=info.namespace_id, workflow_id=info.workflow_id, run_id=info.run_id))
    replay(RULES, again, list(world.history))
    return again


def fires_while_a_task_is_under_way(*commands: Command) -> World:
    """Timer `t` fires while a worker has a task, and the worker answers that with these commands."""
    world = World()
    world.start()
    world.turn(start_timer("t", 1), start_timer("sooner", 0.5))
    world.pass_time(SECOND // 2)
    assert world.take_task() is not None
    world.pass_time(SECOND)
    world.complete_task(*commands)
    return world


def test_it_fires_at_its_moment_and_is_gone() -> None:
    world = World()
    world.start()
    world.turn(start_timer("t", 1))
    world.pass_time(SECOND - 1)
    assert "TIMER_FIRED" not in world.event_types()
    world.pass_time(1)
    assert world.event_types()[-2:] == ["TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED"]
    assert timers(world.execution) == {}


def test_its_id_may_be_used_again_before_history_says_that_it_fired() -> None:
    world = fires_while_a_task_is_under_way(start_timer("t", 1))
    assert world.event_types()[-3:] == ["TIMER_STARTED", "TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED"]
    again = world.history[-3].event_id
    assert timers(world.execution) == {"t": again}
    assert timers(replayed(world)) == {"t": again}


def test_the_second_of_that_id_may_be_cancelled_while_the_first_one_is_still_told() -> None:
    world = fires_while_a_task_is_under_way(start_timer("t", 1), cancel_timer("t"))
    assert world.event_types()[-4:] == ["TIMER_STARTED", "TIMER_CANCELED", "TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED"]
    assert timers(world.execution) == {}
    assert timers(replayed(world)) == {}


def test_one_that_fired_while_a_task_was_under_way_can_still_be_cancelled_by_it() -> None:
    world = fires_while_a_task_is_under_way(cancel_timer("t"))
    assert world.event_types()[-1] == "TIMER_CANCELED"
    assert "TIMER_FIRED" not in world.event_types()[-3:]
    assert timers(world.execution) == timers(replayed(world)) == {}
