"""A failure with very many causes: the history it gets into can still be read."""

from __future__ import annotations

import pytest
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure

from tests.support.raw import Namespace
from tests.support.values import complete_workflow, retry_policy, schedule_activity


@pytest.mark.usefixtures("embedded_only")
async def test_an_activity_that_fails_with_very_many_causes_leaves_a_history_that_can_be_read(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    failure = Failure(message="outermost", application_failure_info=ApplicationFailureInfo(type="Deep"))
    last = failure
    for number in range(90):
        last = last.cause
        last.message = f"cause {number}"
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("a", queue, retry=retry_policy(attempts=1)))
    await orders.fail_activity(await orders.poll_activity_task(queue), failure)
    task = await orders.poll_workflow_task(queue)
    failed = task.history.events[6].activity_task_failed_event_attributes
    assert failed.failure.message == "outermost"
    await orders.complete_workflow_task(task, complete_workflow())
