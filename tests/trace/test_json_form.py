"""The JSON form: its names are a promise, kept in docs/trace.md."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from nexuskit.trace import ChildWorkflow, Ref, State, Unreadable, to_json
from tests.trace.histories import START
from tests.trace.test_render import ORDER

DOCUMENT = (Path(__file__).parents[2] / "docs" / "trace.md").read_text(encoding="utf-8")

DECLINED = {
    "text": "CardDeclined: the bank refused",
    "chain": [{"kind": "application", "type": "CardDeclined", "message": "the bank refused"}],
}

PAYMENT_JSON = {
    "kind": "workflow",
    "namespace": "payments",
    "workflow_id": "payment-1",
    "run_id": "r2",
    "type": "ProcessPayment",
    "task_queue": "payments",
    "attempt": 1,
    "state": "failed",
    "start": "2026-01-02T03:04:05.100000Z",
    "end": "2026-01-02T03:04:06.500000Z",
    "duration_s": 1.4,
    "failure": DECLINED,
    "task_failure": None,
    "called_by": [],
    "steps": [
        {
            "kind": "timer",
            "event_id": 5,
            "timer_id": "1",
            "timeout_s": 1.0,
            "state": "fired",
            "start": "2026-01-02T03:04:05.100000Z",
            "end": "2026-01-02T03:04:06.100000Z",
            "duration_s": 1.0,
            "failure": None,
        },
        {
            "kind": "activity",
            "event_id": 9,
            "activity_id": "1",
            "type": "charge_card",
            "task_queue": "payments",
            "attempts": 3,
            "state": "failed",
            "start": "2026-01-02T03:04:06.100000Z",
            "end": "2026-01-02T03:04:06.112000Z",
            "duration_s": 0.012,
            "failure": DECLINED,
            "started": None,
        },
    ],
    "next_run": None,
}

CALL_JSON = {
    "kind": "nexus",
    "event_id": 5,
    "endpoint": "payments",
    "service": "PaymentService",
    "operation": "process",
    "mode": "async",
    "token": "t",
    "attempts": None,
    "cancel_requested": False,
    "state": "failed",
    "start": "2026-01-02T03:04:05.000000Z",
    "end": "2026-01-02T03:04:06.600000Z",
    "duration_s": 1.6,
    "failure": {
        "text": "CardDeclined: the bank refused",
        "chain": [{"kind": "nexus_operation", "type": None, "message": "unsuccessful"}, *DECLINED["chain"]],
    },
    "started": "2026-01-02T03:04:05.050000Z",
    "handler": {"namespace": "payments", "task_queue": "queue", "url": None},
    "links": [],
    "target": PAYMENT_JSON,
}


def test_a_whole_tree() -> None:
    form = to_json(ORDER)
    assert form["steps"] == [CALL_JSON]
    assert json.loads(json.dumps(form)) == form


def test_a_child_workflow_that_cannot_be_read() -> None:
    link = Ref(namespace="orders", kind="workflow", id="child", run_id="")
    target = Unreadable(link=link, reason="no")
    child = ChildWorkflow(state=State.SCHEDULED, start=START, event_id=5, type="Ship", link=link, target=target)
    [form] = to_json(replace(ORDER, steps=(child,), called_by=(link,)))["steps"]
    where = {"namespace": "orders", "to": "workflow", "id": "child", "run_id": None}
    assert form["link"] == where
    assert form["target"] == {"kind": "unreadable", **where, "reason": "no"}


def test_the_document_has_every_name_and_every_state() -> None:
    link = Ref(namespace="orders", kind="workflow", id="child", run_id="")
    child = ChildWorkflow(
        state=State.RUNNING, start=START, event_id=5, type="Ship", link=link, target=Unreadable(link=link, reason="no")
    )
    tree = to_json(replace(ORDER, steps=(*ORDER.steps, child), next_run=ORDER))
    names = {f"`{name}`" for name in _names(tree)} | {f"`{state}`" for state in State}
    assert not [name for name in sorted(names) if name not in DOCUMENT]


def _names(form: Any) -> set[str]:
    if isinstance(form, dict):
        return set(form) | {inner for value in form.values() for inner in _names(value)}
    if isinstance(form, list):
        return {inner for value in form for inner in _names(value)}
    return set()
