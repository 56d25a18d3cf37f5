"""A small world for the core: one execution, a clock that is a number, ids that count up.

No port, no sleep, no database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import (
    CancelTimerCommandAttributes,
    CancelWorkflowExecutionCommandAttributes,
    Command,
    CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
    ModifyWorkflowPropertiesCommandAttributes,
    RecordMarkerCommandAttributes,
    RequestCancelActivityTaskCommandAttributes,
    RequestCancelExternalWorkflowExecutionCommandAttributes,
    RequestCancelNexusOperationCommandAttributes,
    ScheduleActivityTaskCommandAttributes,
    ScheduleNexusOperationCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes,
    StartTimerCommandAttributes,
    UpsertWorkflowSearchAttributesCommandAttributes,
)
from temporalio.api.common.v1 import ActivityType, Payload, Payloads, RetryPolicy, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import CommandType, EventType, ParentClosePolicy
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.protocol.v1 import Message
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import Input, Meta, Request
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from nexuskit.backend.history import activity, signal, start, task_completion, update, workflow_task
from nexuskit.backend.history.route import Route
from nexuskit.backend.history.rules import RULES
from nexuskit.backend.history.state import Execution, Info, Key
from nexuskit.backend.history.transaction import Transaction, Verdict
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from nexuskit.backend.visibility.search_attributes import INT, KEYWORD
from nexuskit.identity.allowed_callers import AllowedCallers

T = TypeVar("T")

NOW = 1_000_000 * SECOND
ENDPOINTS = {
    "payments": Route("6b7a2c1e-0000-4000-8000-000000000001"),
    "guarded": Route("6b7a2c1e-0000-4000-8000-000000000002", AllowedCallers(frozenset({"somebody-else"}))),
}


@dataclass(frozen=True)
class Catalogue:
    """A namespace, as far as search attributes go."""

    name: str
    search_attributes: Mapping[str, int]


CATALOGUES = {"ns": Catalogue("orders", {"Customer": KEYWORD, "Amount": INT})}


class CountingDraw:
    """Ids that count up, and no jitter."""

    def __init__(self) -> None:
        self._count = 0

    def uuid(self) -> str:
        self._count += 1
        return f"id-{self._count}"

    def run_id(self, now: int) -> str:
        return self.uuid()

    def jitter(self, span: int, share: float = 0.2) -> int:
        return span


class World:
    """One execution and its history."""

    def __init__(self) -> None:
        self.now = NOW
        self.draw = CountingDraw()
        self.execution = Execution(1, Info(namespace_id="ns", workflow_id="order-1", run_id="run-1"))
        self.history: list[HistoryEvent] = []
        self.verdicts: dict[str, Verdict] = {}

    def run(self, decide: Callable[[Transaction], T]) -> T:
        tx = Transaction(RULES, self.execution, self.now, self.draw, DEFAULTS, ENDPOINTS, catalogues=CATALOGUES)
        try:
            answer = decide(tx)
        except BaseException:
            self.execution.discard()
            raise
        self.history.extend(tx.events)
        self.verdicts.update(tx.verdicts)
        self.execution.settle()
        return answer

    def send(self, name: str, *, request_id: str = "", wake: signal.Wake = signal.Wake.AFTER_PAUSE) -> None:
        """Somebody sends a signal."""
        sent = signal.Signal(name, None, None, "somebody", request_id)
        self.run(lambda tx: signal.take(tx, sent, wake=wake))

    def start(self, **options: object) -> None:
        request = StartWorkflowExecutionRequest(
            workflow_id="order-1",
            request_id="request-1",
            workflow_type=WorkflowType(name="PlaceOrder"),
            task_queue=TaskQueue(name="orders"),
            **options,
        )
        self.run(lambda tx: start.begin(tx, start.from_request(request, tx.now, limits=DEFAULTS)))

    def take_task(self) -> workflow_task.StartedTask | None:
        waiting = workflow_task.current(self.execution)
        stamp = waiting.stamp if waiting is not None else 0
        return self.run(lambda tx: update.deliver(tx, workflow_task.Start(stamp, "worker")))

    def complete_task(
        self,
        *commands: Command,
        sticky: str = "",
        another: bool = False,
        take_next: bool = False,
        messages: Sequence[Message] = (),
        discards_events: bool = False,
    ) -> task_completion.CompletedTask:
        task = workflow_task.current(self.execution)
        assert task is not None
        request = task_completion.CompleteTask(
            scheduled_id=task.scheduled_id,
            attempt=task.attempt,
            started_time=task.started_time,
            commands=commands,
            identity="worker",
            sdk_metadata=None,
            worker_version=None,
            sticky_queue=sticky,
            sticky_timeout=5 * SECOND if sticky else 0,
            another=another,
            take_next=take_next,
            messages=messages,
            discards_events=discards_events,
        )
        return self.run(lambda tx: task_completion.decide(tx, request))

    def turn(self, *commands: Command) -> task_completion.CompletedTask:
        """A worker takes the task that waits, and answers with these commands."""
        assert self.take_task() is not None
        return self.complete_task(*commands)

    def admit(self, update_id: str, name: str = "add") -> None:
        """A client asks for an update."""
        self.run(lambda tx: update.admit(tx, update_request(update_id, name)))

    def fail_task(self) -> None:
        task = workflow_task.current(self.execution)
        assert task is not None
        self.run(lambda tx: workflow_task.fail(tx, task, 1, None, "worker"))

    def take_activity(self, key: Key) -> activity.Activity | None:
        row = self.execution.of(activity.Activity).get(key)
        stamp = row.stamp if row is not None else 0
        return self.run(lambda tx: activity.start(tx, activity.Start(int(key), stamp, "worker")))

    def activity(self, key: Key) -> activity.Activity:
        row = self.execution.of(activity.Activity).get(key)
        assert row is not None
        return row

    def complete_activity(self, key: Key, result: str = "done") -> None:
        row = self.activity(key)
        self.run(lambda tx: activity.complete(tx, row, payloads(result), "worker"))

    def fail_activity(self, key: Key, failure: Failure | None = None) -> None:
        row = self.activity(key)
        self.run(lambda tx: activity.fail(tx, row, failure or application_failure("Oops"), "worker"))

    def pass_time(self, span: int) -> None:
        """Time passes, and every row whose moment comes is looked at, earliest first, as the engine does."""
        end = self.now + span
        while True:
            dues = [
                (row.index(self.execution.info).due, kind, key)
                for kind, key, row in self.execution.rows()
                if row.index(self.execution.info).due
            ]
            dues = [due for due in dues if due[0] <= end]
            if not dues:
                break
            when, kind, key = min(dues, key=lambda due: (due[0], due[1], str(due[2])))
            self.now = max(self.now, when)
            row = next(row for k, each, row in self.execution.rows() if (k, each) == (kind, key))
            self.run(lambda tx, kind=kind, row=row: RULES.due[kind](tx, row))
        self.now = end

    def event_types(self) -> list[str]:
        return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in self.history]


def seconds(value: float) -> Duration:
    return Duration(seconds=int(value), nanos=int(value % 1 * SECOND))


def payloads(*values: str) -> Payloads:
    return Payloads(payloads=[Payload(data=value.encode()) for value in values])


def application_failure(kind: str, *, final: bool = False) -> Failure:
    return Failure(message="it failed", application_failure_info=ApplicationFailureInfo(type=kind, non_retryable=final))


def start_timer(timer_id: str, after: float = 1) -> Command:
    attributes = StartTimerCommandAttributes(timer_id=timer_id, start_to_fire_timeout=seconds(after))
    return Command(
        command_type=CommandType.COMMAND_TYPE_START_TIMER,
        start_timer_command_attributes=attributes,
    )


def cancel_timer(timer_id: str) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_CANCEL_TIMER,
        cancel_timer_command_attributes=CancelTimerCommandAttributes(timer_id=timer_id),
    )


def schedule_activity(
    activity_id: str,
    *,
    start_to_close: float = 10,
    schedule_to_close: float = 0,
    schedule_to_start: float = 0,
    heartbeat: float = 0,
    policy: RetryPolicy | None = None,
    eager: bool = False,
) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
        schedule_activity_task_command_attributes=ScheduleActivityTaskCommandAttributes(
            activity_id=activity_id,
            activity_type=ActivityType(name="charge"),
            task_queue=TaskQueue(name="work"),
            start_to_close_timeout=seconds(start_to_close) if start_to_close else None,
            schedule_to_close_timeout=seconds(schedule_to_close) if schedule_to_close else None,
            schedule_to_start_timeout=seconds(schedule_to_start) if schedule_to_start else None,
            heartbeat_timeout=seconds(heartbeat) if heartbeat else None,
            retry_policy=policy,
            request_eager_execution=eager,
        ),
    )


def record_marker(name: str = "Version") -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_RECORD_MARKER,
        record_marker_command_attributes=RecordMarkerCommandAttributes(marker_name=name),
    )


def cancel_activity(scheduled_id: int) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK,
        request_cancel_activity_task_command_attributes=RequestCancelActivityTaskCommandAttributes(
            scheduled_event_id=scheduled_id
        ),
    )


def schedule_operation(
    endpoint: str = "payments", *, schedule_to_close: float = 0, start_to_close: float = 0, schedule_to_start: float = 0
) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION,
        schedule_nexus_operation_command_attributes=ScheduleNexusOperationCommandAttributes(
            endpoint=endpoint,
            service="PaymentService",
            operation="process",
            schedule_to_close_timeout=seconds(schedule_to_close) if schedule_to_close else None,
            schedule_to_start_timeout=seconds(schedule_to_start) if schedule_to_start else None,
            start_to_close_timeout=seconds(start_to_close) if start_to_close else None,
        ),
    )


def cancel_operation(scheduled_id: int) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION,
        request_cancel_nexus_operation_command_attributes=RequestCancelNexusOperationCommandAttributes(
            scheduled_event_id=scheduled_id
        ),
    )


def upsert_attribute(name: str, value: object) -> Command:
    attributes = UpsertWorkflowSearchAttributesCommandAttributes()
    attributes.search_attributes.indexed_fields[name].CopyFrom(json_payload(value))
    return Command(
        command_type=CommandType.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        upsert_workflow_search_attributes_command_attributes=attributes,
    )


def modify_memo(name: str, value: object) -> Command:
    attributes = ModifyWorkflowPropertiesCommandAttributes()
    attributes.upserted_memo.fields[name].CopyFrom(json_payload(value))
    return Command(
        command_type=CommandType.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES,
        modify_workflow_properties_command_attributes=attributes,
    )


def json_payload(value: object) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())


def complete_workflow(result: str = "done") -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
        complete_workflow_execution_command_attributes=CompleteWorkflowExecutionCommandAttributes(
            result=payloads(result)
        ),
    )


def fail_workflow() -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
        fail_workflow_execution_command_attributes=FailWorkflowExecutionCommandAttributes(
            failure=application_failure("OrderFailed")
        ),
    )


def cancel_workflow() -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION,
        cancel_workflow_execution_command_attributes=CancelWorkflowExecutionCommandAttributes(),
    )


def continue_as_new() -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION,
        continue_as_new_workflow_execution_command_attributes=ContinueAsNewWorkflowExecutionCommandAttributes(),
    )


def start_child(workflow_id: str, policy: ParentClosePolicy.ValueType | int = 0) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION,
        start_child_workflow_execution_command_attributes=StartChildWorkflowExecutionCommandAttributes(
            workflow_id=workflow_id,
            workflow_type=WorkflowType(name="Ship"),
            parent_close_policy=ParentClosePolicy.ValueType(policy),
        ),
    )


def signal_external(workflow_id: str) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION,
        signal_external_workflow_execution_command_attributes=SignalExternalWorkflowExecutionCommandAttributes(
            execution=WorkflowExecution(workflow_id=workflow_id), signal_name="paid"
        ),
    )


def cancel_external(workflow_id: str) -> Command:
    attributes = RequestCancelExternalWorkflowExecutionCommandAttributes(workflow_id=workflow_id)
    return Command(
        command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION,
        request_cancel_external_workflow_execution_command_attributes=attributes,
    )


def ids(events: Sequence[HistoryEvent]) -> list[int]:
    return [event.event_id for event in events]


def update_request(update_id: str, name: str = "add", value: str = "a book") -> Request:
    return Request(meta=Meta(update_id=update_id, identity="a-client"), input=Input(name=name, args=payloads(value)))
