"""Markers: what a workflow's code notes in its history for its own replay."""

from __future__ import annotations

import grpc
from temporalio.api.command.v1 import Command, RecordMarkerCommandAttributes
from temporalio.api.common.v1 import Header, Payload, Payloads
from temporalio.api.enums.v1 import CommandType, EventType, WorkflowTaskFailedCause
from temporalio.api.sdk.v1 import EventGroupMarker, UserMetadata

from tests.support.raw import Namespace, refusal
from tests.support.values import application_failure, complete_workflow, event_names, payload, payloads


def record_marker(name: str = "core_local_activity", size: int = 0, **more: object) -> Command:
    details = {"data": payloads({"seq": 1})}
    if size:
        details = {"data": Payloads(payloads=[Payload(data=b"x" * size)])}
    return Command(
        command_type=CommandType.COMMAND_TYPE_RECORD_MARKER,
        user_metadata=UserMetadata(summary=payload("a summary")),
        record_marker_command_attributes=RecordMarkerCommandAttributes(marker_name=name, details=details, **more),
    )


async def test_a_marker_is_recorded_as_it_is(orders: Namespace, workflow_id: str, queue: str) -> None:
    header, failure = Header(fields={"trace": payload("1")}), application_failure()
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(
        queue, record_marker(header=header, failure=failure), record_marker("Version"), complete_workflow()
    )
    events = await orders.history(workflow_id)
    assert event_names(events)[3:] == [
        "WORKFLOW_TASK_COMPLETED",
        "MARKER_RECORDED",
        "MARKER_RECORDED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    recorded = events[4].marker_recorded_event_attributes
    assert recorded.marker_name == "core_local_activity"
    assert dict(recorded.details) == {"data": payloads({"seq": 1})}
    assert (recorded.header, recorded.failure) == (header, failure)
    assert recorded.workflow_task_completed_event_id == 4
    assert events[4].user_metadata.summary == payload("a summary")
    assert events[5].marker_recorded_event_attributes.marker_name == "Version"


async def test_what_a_user_says_of_a_command_is_on_its_event(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    marked, closing = record_marker(), complete_workflow()
    group = EventGroupMarker(label=EventGroupMarker.Label(id="1", label=payload("packing")))
    for command in (marked, closing):
        command.user_metadata.CopyFrom(UserMetadata(summary=payload("done")))
        command.event_group_markers.append(group)
    await orders.run_workflow_task(queue, marked, closing)
    for event in (await orders.history(workflow_id))[4:]:
        assert event.user_metadata.summary == payload("done")
        assert list(event.event_group_markers) == [group]


async def test_a_marker_without_a_name_fails_the_task(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    for name, message in (("", "MarkerName is not set on RecordMarkerCommand."), ("n" * 1001, "exceeds length limit")):
        refused = await refusal(orders.run_workflow_task(queue, record_marker(name)))
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert message in refused.message
        if not name:
            failed = await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED)
            cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_RECORD_MARKER_ATTRIBUTES
            assert failed.workflow_task_failed_event_attributes.cause == cause


async def test_a_name_of_the_longest_kind_is_taken(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, record_marker("n" * 1000), complete_workflow())
    assert event_names(await orders.history(workflow_id))[4] == "MARKER_RECORDED"


async def test_details_under_the_limit_are_taken_and_over_it_end_the_workflow(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, record_marker(size=2 * 1024 * 1024 - 100), complete_workflow())
    assert event_names(await orders.history(workflow_id))[4] == "MARKER_RECORDED"
    large, queue = workflow_id + "-2", queue + "-2"
    await orders.start(large, queue)
    task = await orders.poll_workflow_task(queue)
    await refusal(orders.complete_workflow_task(task, record_marker(size=2 * 1024 * 1024 + 100)))
    closed = await orders.close_event(large)
    assert closed.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED
    assert "RecordMarkerCommandAttributes.Details exceeds size limit." in (
        closed.workflow_execution_terminated_event_attributes.reason
    )
