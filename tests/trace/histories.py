"""Small histories, made by hand, and the answers of a server that has them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class History:
    """A history that grows by one event at a time; each has the next id."""

    def __init__(self, **started: Any) -> None:
        self.events: list[HistoryEvent] = []
        started = {"workflow_type": {"name": "PlaceOrder"}, "task_queue": {"name": "orders"}, "attempt": 1, **started}
        self.add("WORKFLOW_EXECUTION_STARTED", original_execution_run_id="run-1", **started)

    def add(self, kind: str, at_s: float = 0, links: Sequence[Link] = (), **attributes: Any) -> int:
        """Add an event `at_s` seconds after the start; answers its id."""
        event = HistoryEvent(
            event_id=len(self.events) + 1,
            event_type=EventType.Value(f"EVENT_TYPE_{kind}"),
            links=links,
            **{f"{kind.lower()}_event_attributes": attributes},
        )
        event.event_time.FromDatetime(START + timedelta(seconds=at_s))
        self.events.append(event)
        return event.event_id

    def nexus_call(self, operation: str = "process", at_s: float = 0) -> int:
        return self.add(
            "NEXUS_OPERATION_SCHEDULED", at_s, endpoint="payments", service="PaymentService", operation=operation
        )

    def activity(self, at_s: float = 0) -> int:
        return self.add(
            "ACTIVITY_TASK_SCHEDULED",
            at_s,
            activity_id="1",
            activity_type={"name": "charge_card"},
            task_queue={"name": "payments"},
        )


def link_to(namespace: str, workflow_id: str, run_id: str = "run-2") -> Link:
    return Link(workflow_event=Link.WorkflowEvent(namespace=namespace, workflow_id=workflow_id, run_id=run_id))


def application_failure(message: str = "the bank refused", type: str = "CardDeclined") -> dict[str, Any]:
    return {"message": message, "application_failure_info": {"type": type}, "stack_trace": "File secret.py"}
