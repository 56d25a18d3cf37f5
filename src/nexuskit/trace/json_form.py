"""The JSON form of a trace, documented in docs/trace.md: a new name may come, none goes or changes its meaning."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

from nexuskit.trace.model import (
    Activity,
    ChildWorkflow,
    Failure,
    Handler,
    NexusCall,
    Node,
    Ref,
    Span,
    Step,
    Timer,
    Unreadable,
)

JSONObject: TypeAlias = dict[str, Any]


def to_json(node: Node) -> JSONObject:
    """A tree of objects that `json.dumps` takes. Times are ISO 8601 in UTC, durations are seconds."""
    if isinstance(node, Unreadable):
        return {"kind": "unreadable", **_ref(node.link), "reason": node.reason}
    return {
        "kind": "workflow",
        "namespace": node.namespace,
        "workflow_id": node.workflow_id,
        "run_id": node.run_id,
        "type": node.type,
        "task_queue": node.task_queue,
        "attempt": node.attempt,
        **_span(node),
        "task_failure": _failure(node.task_failure),
        "called_by": [_ref(ref) for ref in node.called_by],
        "steps": [_step(step) for step in node.steps],
        "next_run": to_json(node.next_run) if node.next_run else None,
    }


def _step(step: Step) -> JSONObject:
    match step:
        case Activity():
            return {
                "kind": "activity",
                "event_id": step.event_id,
                "activity_id": step.activity_id,
                "type": step.type,
                "task_queue": step.task_queue,
                "attempts": step.attempts,
                **_span(step),
                "started": _time(step.started),
            }
        case Timer():
            return {
                "kind": "timer",
                "event_id": step.event_id,
                "timer_id": step.timer_id,
                "timeout_s": step.timeout_s,
                **_span(step),
            }
        case NexusCall():
            return {
                "kind": "nexus",
                "event_id": step.event_id,
                "endpoint": step.endpoint,
                "service": step.service,
                "operation": step.operation,
                "mode": step.mode,
                "token": step.token,
                "attempts": step.attempts,
                "cancel_requested": step.cancel_requested,
                **_span(step),
                "started": _time(step.started),
                "handler": _handler(step.handler),
                "links": [_ref(ref) for ref in step.links],
                "target": to_json(step.target) if step.target else None,
            }
        case ChildWorkflow():
            return {
                "kind": "child_workflow",
                "event_id": step.event_id,
                "type": step.type,
                **_span(step),
                "link": _ref(step.link),
                "target": to_json(step.target) if step.target else None,
            }


def _span(span: Span) -> JSONObject:
    return {
        "state": span.state.value,
        "start": _time(span.start),
        "end": _time(span.end),
        "duration_s": span.duration_s,
        "failure": _failure(span.failure),
    }


def _failure(failure: Failure | None) -> JSONObject | None:
    if failure is None:
        return None
    causes = [{"kind": each.kind, "type": each.type, "message": each.message} for each in failure.chain]
    return {"text": failure.text, "chain": causes}


def _handler(handler: Handler | None) -> JSONObject | None:
    if handler is None:
        return None
    return {"namespace": handler.namespace, "task_queue": handler.task_queue, "url": handler.url}


def _ref(ref: Ref) -> JSONObject:
    return {"namespace": ref.namespace, "to": ref.kind, "id": ref.id, "run_id": ref.run_id or None}


def _time(time: datetime | None) -> str | None:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z") if time else None
