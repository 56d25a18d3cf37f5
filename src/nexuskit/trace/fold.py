"""Folds one history into one `Workflow`: pure, so that it can be tested from a handful of events.

A step is born by one kind of event (`_OPENS`), may be started by another (`_STARTS`) and is ended by one of several
(`_CLOSES`); the later two name the first by its event id. An event that is in no table changes nothing in a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from nexuskit.trace.failures import read_failure
from nexuskit.trace.model import Activity, ChildWorkflow, Failure, NexusCall, Ref, State, Step, Timer, Workflow


def fold(events: Iterable[HistoryEvent], *, namespace: str, workflow_id: str, run_id: str = "") -> Workflow:
    """One run of a workflow from its whole history, first event first.

    Links are collected, not followed: every `target` and `next_run` is None.

    Args:
        events: The history. A beginning of it gives the workflow as it was then.
        namespace: Where it ran; history does not say.
        workflow_id: Its id; history does not say.
        run_id: Its run; taken from the history if empty.

    Raises:
        ValueError: The history does not begin with the event that starts a workflow.
    """
    history = iter(events)
    first = next(history, None)
    if first is None or first.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
        came = "nothing" if first is None else EventType.Name(first.event_type)
        raise ValueError(f"a history begins with EVENT_TYPE_WORKFLOW_EXECUTION_STARTED; this one with {came}")
    folding = _Folding(first, namespace, workflow_id, run_id)
    for event in history:
        folding.add(event)
    return replace(folding.workflow, steps=tuple(folding.steps.values()))


class _Folding:
    """A workflow that grows: its steps by the id of the event that made them."""

    def __init__(self, first: HistoryEvent, namespace: str, workflow_id: str, run_id: str) -> None:
        started = first.workflow_execution_started_event_attributes
        callbacks = started.completion_callbacks
        self.steps: dict[int, Step] = {}
        self.workflow = Workflow(
            state=State.RUNNING,
            start=_time(first),
            namespace=namespace,
            workflow_id=workflow_id,
            run_id=run_id or started.original_execution_run_id,
            type=started.workflow_type.name,
            task_queue=started.task_queue.name,
            attempt=started.attempt or 1,
            called_by=_refs([*first.links, *(link for callback in callbacks for link in callback.links)]),
        )

    def add(self, event: HistoryEvent) -> None:
        attributes = _attributes(event)
        kind = event.event_type
        if kind in _OPENS:
            self.steps[event.event_id] = _OPENS[kind](self.workflow.namespace, event, attributes)
        elif kind in _STARTS:
            made_by, start = _STARTS[kind]
            self._change(getattr(attributes, made_by), lambda step: start(step, event, attributes))
        elif kind in _CLOSES:
            made_by, state = _CLOSES[kind]
            self._change(getattr(attributes, made_by), lambda step: _close(step, state, event, attributes))
        elif kind in _ENDS:
            self._end(_ENDS[kind], event, attributes)
        elif kind in _TASK_FAILURES:
            self.workflow = replace(self.workflow, task_failure=_task_failure(attributes))
        elif kind == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            self.workflow = replace(self.workflow, task_failure=None)
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED:
            # A later call can attach itself to a run that is there already (conflict policy USE_EXISTING).
            self._attach(event, attributes)

    def _change(self, event_id: int, change: Callable[[Step], Step]) -> None:
        # A step whose beginning lies outside the history that was given is passed over.
        if event_id in self.steps:
            self.steps[event_id] = change(self.steps[event_id])

    def _end(self, state: State, event: HistoryEvent, attributes: Any) -> None:
        workflow = self.workflow
        next_run_id = getattr(attributes, "new_execution_run_id", "")
        following = Ref(namespace=workflow.namespace, kind="workflow", id=workflow.workflow_id, run_id=next_run_id)
        self.workflow = replace(
            workflow,
            state=state,
            end=_time(event),
            failure=_failure(attributes),
            task_failure=None,
            next_link=following if next_run_id else None,
        )

    def _attach(self, event: HistoryEvent, attributes: Any) -> None:
        callbacks = attributes.attached_completion_callbacks
        added = _refs([*event.links, *(link for callback in callbacks for link in callback.links)])
        self.workflow = replace(self.workflow, called_by=(*self.workflow.called_by, *added))


def _open_activity(namespace: str, event: HistoryEvent, attributes: Any) -> Activity:
    return Activity(
        state=State.SCHEDULED,
        start=_time(event),
        event_id=event.event_id,
        activity_id=attributes.activity_id,
        type=attributes.activity_type.name,
        task_queue=attributes.task_queue.name,
    )


def _open_timer(namespace: str, event: HistoryEvent, attributes: Any) -> Timer:
    return Timer(
        state=State.RUNNING,
        start=_time(event),
        event_id=event.event_id,
        timer_id=attributes.timer_id,
        timeout_s=attributes.start_to_fire_timeout.ToTimedelta().total_seconds(),
    )


def _open_nexus_call(namespace: str, event: HistoryEvent, attributes: Any) -> NexusCall:
    return NexusCall(
        state=State.SCHEDULED,
        start=_time(event),
        event_id=event.event_id,
        endpoint=attributes.endpoint,
        service=attributes.service,
        operation=attributes.operation,
    )


def _open_child(namespace: str, event: HistoryEvent, attributes: Any) -> ChildWorkflow:
    return ChildWorkflow(
        state=State.SCHEDULED,
        start=_time(event),
        event_id=event.event_id,
        type=attributes.workflow_type.name,
        link=Ref(namespace=attributes.namespace or namespace, kind="workflow", id=attributes.workflow_id, run_id=""),
    )


def _start_activity(step: Step, event: HistoryEvent, attributes: Any) -> Step:
    if not isinstance(step, Activity):
        return step
    failure = read_failure(attributes.last_failure) if attributes.HasField("last_failure") else None
    return replace(step, state=State.RUNNING, started=_time(event), attempts=attributes.attempt, failure=failure)


def _start_nexus_call(step: Step, event: HistoryEvent, attributes: Any) -> Step:
    if not isinstance(step, NexusCall):
        return step
    token = attributes.operation_token or attributes.operation_id or None
    return replace(step, state=State.RUNNING, started=_time(event), token=token, links=_refs(event.links))


def _cancel_nexus_call(step: Step, event: HistoryEvent, attributes: Any) -> Step:
    return replace(step, cancel_requested=True) if isinstance(step, NexusCall) else step


def _start_child(step: Step, event: HistoryEvent, attributes: Any) -> Step:
    if not isinstance(step, ChildWorkflow):
        return step
    link = replace(step.link, run_id=attributes.workflow_execution.run_id)
    return replace(step, state=State.RUNNING, link=link)


def _close(step: Step, state: State, event: HistoryEvent, attributes: Any) -> Step:
    closed = replace(step, state=state, end=_time(event), failure=_failure(attributes))
    if isinstance(closed, NexusCall) and not closed.links:
        # A handler that answers at once, or whose start was never recorded, gives its links with the outcome.
        return replace(closed, links=_refs(event.links))
    return closed


_OPENS: dict[int, Callable[[str, HistoryEvent, Any], Step]] = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: _open_activity,
    EventType.EVENT_TYPE_TIMER_STARTED: _open_timer,
    EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: _open_nexus_call,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: _open_child,
}

_STARTS: dict[int, tuple[str, Callable[[Step, HistoryEvent, Any], Step]]] = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: ("scheduled_event_id", _start_activity),
    EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED: ("scheduled_event_id", _start_nexus_call),
    EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED: ("scheduled_event_id", _cancel_nexus_call),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED: ("initiated_event_id", _start_child),
}

_CLOSES: dict[int, tuple[str, State]] = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: ("scheduled_event_id", State.COMPLETED),
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: ("scheduled_event_id", State.FAILED),
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: ("scheduled_event_id", State.TIMED_OUT),
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: ("scheduled_event_id", State.CANCELLED),
    EventType.EVENT_TYPE_TIMER_FIRED: ("started_event_id", State.FIRED),
    EventType.EVENT_TYPE_TIMER_CANCELED: ("started_event_id", State.CANCELLED),
    EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED: ("scheduled_event_id", State.COMPLETED),
    EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED: ("scheduled_event_id", State.FAILED),
    EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT: ("scheduled_event_id", State.TIMED_OUT),
    EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED: ("scheduled_event_id", State.CANCELLED),
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: ("initiated_event_id", State.FAILED),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: ("initiated_event_id", State.COMPLETED),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED: ("initiated_event_id", State.FAILED),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: ("initiated_event_id", State.TIMED_OUT),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: ("initiated_event_id", State.CANCELLED),
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: ("initiated_event_id", State.TERMINATED),
}

_ENDS: dict[int, State] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: State.COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: State.FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: State.TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: State.CANCELLED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: State.TERMINATED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: State.CONTINUED_AS_NEW,
}

_TASK_FAILURES = frozenset({EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT})


def _attributes(event: HistoryEvent) -> Any:
    """The one message of attributes that is set: its type depends on the type of the event."""
    name = event.WhichOneof("attributes")
    return getattr(event, name) if name else None


def _failure(attributes: Any) -> Failure | None:
    """The failure of an event that has one; a terminated workflow has a reason instead."""
    if "failure" in attributes.DESCRIPTOR.fields_by_name:
        return read_failure(attributes.failure) if attributes.HasField("failure") else None
    reason = getattr(attributes, "reason", "")
    return Failure(kind="terminated", message=reason) if reason else None


def _task_failure(attributes: Any) -> Failure:
    return _failure(attributes) or Failure(kind="timeout", message="no worker completed the workflow task in time")


def _refs(links: Iterable[Link]) -> tuple[Ref, ...]:
    """The links that name something that runs, without repeats."""
    found = dict.fromkeys(ref for link in links if (ref := _ref(link)))
    return tuple(found)


def _ref(link: Link) -> Ref | None:
    match link.WhichOneof("variant"):
        case "workflow_event":
            to = link.workflow_event
            return Ref(namespace=to.namespace, kind="workflow", id=to.workflow_id, run_id=to.run_id)
        case "workflow":
            to = link.workflow
            return Ref(namespace=to.namespace, kind="workflow", id=to.workflow_id, run_id=to.run_id)
        case "activity":
            to = link.activity
            return Ref(namespace=to.namespace, kind="activity", id=to.activity_id, run_id=to.run_id)
        case "nexus_operation":
            to = link.nexus_operation
            return Ref(namespace=to.namespace, kind="nexus_operation", id=to.operation_id, run_id=to.run_id)
        case _:
            return None


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)
