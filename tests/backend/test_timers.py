"""Timers: they fire once, not early, in order, and not at all when they are cancelled."""

from datetime import timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from tests.support.raw import IDENTITY, Namespace
from tests.support.values import cancel_timer, complete_workflow, event_names, schedule_activity, start_timer

FIRED = EventType.EVENT_TYPE_TIMER_FIRED


def fired(events: list[HistoryEvent]) -> list[str]:
    """The ids of the timers that fired, in order."""
    return [event.timer_fired_event_attributes.timer_id for event in events if event.event_type == FIRED]


async def test_a_timer_fires_when_its_time_is_over_and_wakes_the_workflow(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("settle", 0.2))
    task = await orders.poll_workflow_task(queue)
    assert event_names(task.history.events)[3:] == [
        "WORKFLOW_TASK_COMPLETED",
        "TIMER_STARTED",
        "TIMER_FIRED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    started, over = task.history.events[4], task.history.events[5]
    attributes = started.timer_started_event_attributes
    assert (attributes.timer_id, attributes.workflow_task_completed_event_id) == ("settle", 4)
    assert attributes.start_to_fire_timeout.ToTimedelta() == timedelta(seconds=0.2)
    assert over.timer_fired_event_attributes.timer_id == "settle"
    assert over.timer_fired_event_attributes.started_event_id == started.event_id
    assert over.event_time.ToDatetime() - started.event_time.ToDatetime() >= timedelta(seconds=0.2)
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_timer_without_length_fires_at_once(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("now", 0))
    task = await orders.poll_workflow_task(queue)
    assert fired(list(task.history.events)) == ["now"]
    await orders.complete_workflow_task(task, complete_workflow())


async def test_timers_fire_in_the_order_of_their_times(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    await orders.complete_workflow_task(task, start_timer("late", 2.5), start_timer("early", 0.05))
    task = await orders.poll_workflow_task(queue)
    assert fired(list(task.history.events)) == ["early"]
    await orders.complete_workflow_task(task)
    task = await orders.poll_workflow_task(queue)
    assert fired(list(task.history.events)) == ["early", "late"]
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_cancelled_timer_never_fires(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("dropped", 0.8), schedule_activity("reserve", queue))
    await orders.complete_activity(await orders.poll_activity_task(queue))
    task = await orders.poll_workflow_task(queue)
    await orders.complete_workflow_task(task, cancel_timer("dropped"), start_timer("longer", 1.2))
    task = await orders.poll_workflow_task(queue)
    assert fired(list(task.history.events)) == ["longer"]
    cancelled = next(e for e in task.history.events if e.event_type == EventType.EVENT_TYPE_TIMER_CANCELED)
    assert cancelled.timer_canceled_event_attributes.timer_id == "dropped"
    assert cancelled.timer_canceled_event_attributes.started_event_id == 5
    assert cancelled.timer_canceled_event_attributes.identity == IDENTITY
    await orders.complete_workflow_task(task, complete_workflow())


async def test_an_id_is_free_again_after_its_timer_was_cancelled_in_the_same_task(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("same", 3600), cancel_timer("same"), start_timer("same", 0.01))
    task = await orders.poll_workflow_task(queue)
    assert fired(list(task.history.events)) == ["same"]
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_timer_of_a_closed_workflow_leaves_its_history_alone(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("pending", 0.05), complete_workflow())
    closed = await orders.history(workflow_id)
    await orders.start(workflow_id + "-clock", queue)
    await orders.run_workflow_task(queue, start_timer("longer", 0.3))
    await orders.run_workflow_task(queue, complete_workflow())
    assert await orders.history(workflow_id) == closed
    assert event_names(closed)[-1] == "WORKFLOW_EXECUTION_COMPLETED"


async def test_a_timer_that_fires_while_a_task_runs_wakes_the_workflow_after_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("soon", 0.3), schedule_activity("reserve", queue))
    await orders.complete_activity(await orders.poll_activity_task(queue))
    slow = await orders.poll_workflow_task(queue)
    await orders.start(workflow_id + "-clock", queue + "-clock")
    await orders.run_workflow_task(queue + "-clock", start_timer("longer", 1.5))
    await orders.run_workflow_task(queue + "-clock", complete_workflow())
    await orders.complete_workflow_task(slow)
    task = await orders.poll_workflow_task(queue)
    names = event_names(task.history.events)
    assert fired(list(task.history.events)) == ["soon"]
    assert names.index("TIMER_FIRED") > names.index("WORKFLOW_TASK_COMPLETED", 5)
    assert [event.event_id for event in task.history.events] == list(range(1, len(names) + 1))
    await orders.complete_workflow_task(task, complete_workflow())
