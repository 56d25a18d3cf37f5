"""Activities answered by their ids, by somebody who has no task token."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import EventType, RetryState
from temporalio.api.errordetails.v1 import NotFoundFailure
from temporalio.api.workflowservice.v1 import (
    RecordActivityTaskHeartbeatByIdRequest,
    RecordActivityTaskHeartbeatByIdResponse,
    RespondActivityTaskCanceledByIdRequest,
    RespondActivityTaskCompletedByIdRequest,
    RespondActivityTaskFailedByIdRequest,
    RespondActivityTaskFailedByIdResponse,
)

from tests.support.raw import Namespace, refusal, refusals
from tests.support.values import (
    application_failure,
    cancel_activity,
    complete_workflow,
    event_names,
    payloads,
    result_of,
    retry_policy,
    schedule_activity,
    start_timer,
)

SOMEBODY = "somebody"
TOO_LARGE = Payloads(payloads=[Payload(data=b"x" * (2 * 1024 * 1024 + 1))])


class ById:
    """Answers the activity `reserve` of a workflow."""

    def __init__(self, at: Namespace, workflow_id: str, run_id: str = "", activity_id: str = "reserve") -> None:
        self._service = at.service
        self._ids: dict[str, str] = {
            "namespace": at.name,
            "workflow_id": workflow_id,
            "run_id": run_id,
            "activity_id": activity_id,
            "identity": SOMEBODY,
        }

    async def complete(self, result: Payloads | None = None) -> None:
        await self._service.RespondActivityTaskCompletedById(
            RespondActivityTaskCompletedByIdRequest(**self._ids, result=result)
        )

    async def fail(self, **more: Any) -> RespondActivityTaskFailedByIdResponse:
        return await self._service.RespondActivityTaskFailedById(
            RespondActivityTaskFailedByIdRequest(
                **self._ids, failure=more.pop("failure", application_failure()), **more
            )
        )

    async def cancel(self, details: Payloads | None = None) -> None:
        await self._service.RespondActivityTaskCanceledById(
            RespondActivityTaskCanceledByIdRequest(**self._ids, details=details)
        )

    async def heartbeat(self, details: Payloads | None = None) -> RecordActivityTaskHeartbeatByIdResponse:
        return await self._service.RecordActivityTaskHeartbeatById(
            RecordActivityTaskHeartbeatByIdRequest(**self._ids, details=details)
        )


async def scheduled(orders: Namespace, workflow_id: str, queue: str, **options: Any) -> str:
    """Starts a workflow that schedules the activity `reserve`; answers with the run id."""
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue, **options))
    return run_id


@pytest.mark.parametrize("named", [True, False], ids=["with the run id", "without"])
async def test_an_activity_is_completed_by_its_ids(
    orders: Namespace, workflow_id: str, queue: str, named: bool
) -> None:
    run_id = await scheduled(orders, workflow_id, queue)
    await orders.poll_activity_task(queue)
    await ById(orders, workflow_id, run_id if named else "").complete(payloads({"shelf": 3}))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[5:7] == ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED"]
    assert result_of(woken.history.events[6]) == {"shelf": 3}
    assert woken.history.events[6].activity_task_completed_event_attributes.identity == SOMEBODY
    await orders.complete_workflow_task(woken, complete_workflow())


async def test_an_activity_that_no_worker_has_can_be_completed_by_its_ids(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue)
    await ById(orders, workflow_id).complete(payloads("by hand"))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[4:7] == [
        "ACTIVITY_TASK_SCHEDULED",
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
    ]
    started = woken.history.events[5].activity_task_started_event_attributes
    assert (started.identity, started.request_id, started.attempt) == (SOMEBODY, "", 1)
    completed = woken.history.events[6].activity_task_completed_event_attributes
    assert (completed.scheduled_event_id, completed.started_event_id) == (5, 6)
    await orders.complete_workflow_task(woken, complete_workflow())


async def test_an_activity_that_no_worker_has_cannot_be_failed_or_beat_by_its_ids(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue)
    by_id = ById(orders, workflow_id)
    for refused in await refusals(by_id.fail(), by_id.heartbeat(), by_id.cancel()):
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert "invalid activityID or activity already timed out" in refused.message
        refused.detail(NotFoundFailure)
    await by_id.complete()


async def test_an_activity_is_failed_by_its_ids(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(attempts=2))
    by_id = ById(orders, workflow_id)
    await orders.poll_activity_task(queue)
    await by_id.fail(failure=application_failure("first"), last_heartbeat_details=payloads("half"))
    second = await orders.poll_activity_task(queue)
    assert (second.attempt, second.heartbeat_details) == (2, payloads("half"))
    await by_id.fail(failure=application_failure("second"))
    woken = await orders.poll_workflow_task(queue)
    failed = woken.history.events[6].activity_task_failed_event_attributes
    assert failed.failure == application_failure("second")
    assert failed.retry_state == RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
    await orders.complete_workflow_task(woken, complete_workflow())


async def test_an_activity_beats_and_is_cancelled_by_its_ids(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue), start_timer("short", 0.01))
    await orders.poll_activity_task(queue)
    by_id = ById(orders, workflow_id)
    assert not (await by_id.heartbeat(payloads("half"))).cancel_requested
    early = await refusal(by_id.cancel())
    assert early.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "unable to mark activity as canceled without activity being request canceled first" in early.message
    await orders.run_workflow_task(queue, cancel_activity(5))
    assert (await by_id.heartbeat()).cancel_requested
    await by_id.cancel(payloads("stopped"))
    woken = await orders.poll_workflow_task(queue)
    cancelled = next(
        event for event in woken.history.events if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED
    )
    attributes = cancelled.activity_task_canceled_event_attributes
    assert (attributes.details, attributes.identity) == (payloads("stopped"), SOMEBODY)
    await orders.complete_workflow_task(woken, complete_workflow())


async def test_what_the_ids_do_not_name_is_not_found(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue)
    other = ById(orders, workflow_id, activity_id="other")
    for refused in await refusals(other.complete(), other.fail(), other.cancel(), other.heartbeat()):
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert "cannot find pending activity with ActivityID other" in refused.message
    nobody = ById(orders, workflow_id + "-2")
    for refused in await refusals(nobody.complete(), nobody.fail(), nobody.cancel(), nobody.heartbeat()):
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert workflow_id + "-2" in refused.message
    unnamed = ById(orders, workflow_id, activity_id="")
    for refused in await refusals(unnamed.complete(), unnamed.fail(), unnamed.cancel(), unnamed.heartbeat()):
        assert (refused.code, refused.message) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "ActivityId is not set on request.",
        )


async def test_an_activity_of_a_closed_workflow_is_not_found_by_its_ids(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue), start_timer("short", 0.01))
    await orders.run_workflow_task(queue, complete_workflow())
    for named in ("", run_id):
        by_id = ById(orders, workflow_id, named)
        for refused in await refusals(by_id.complete(), by_id.fail(), by_id.cancel(), by_id.heartbeat()):
            assert refused.code == grpc.StatusCode.NOT_FOUND
            assert "workflow execution already completed" in refused.message


async def test_what_is_too_large_by_ids_fails_the_activity(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue)
    await orders.poll_activity_task(queue)
    assert (await ById(orders, workflow_id).heartbeat(TOO_LARGE)).cancel_requested
    woken = await orders.poll_workflow_task(queue)
    failed = woken.history.events[6].activity_task_failed_event_attributes
    assert failed.failure.message == "Heartbeat details exceed size limit."
    assert failed.failure.server_failure_info.non_retryable
    assert failed.retry_state == RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE
    await orders.complete_workflow_task(woken, complete_workflow())
