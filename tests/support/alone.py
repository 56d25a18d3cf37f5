"""An activity that stands alone, by gRPC calls made by hand."""

from __future__ import annotations

from typing import Any

from temporalio.api.activity.v1 import ActivityExecutionOutcome
from temporalio.api.common.v1 import ActivityType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeActivityExecutionRequest,
    DescribeActivityExecutionResponse,
    PollActivityExecutionRequest,
    PollActivityExecutionResponse,
    RequestCancelActivityExecutionRequest,
    StartActivityExecutionRequest,
    StartActivityExecutionResponse,
    TerminateActivityExecutionRequest,
)

from tests.support.raw import IDENTITY, Namespace
from tests.support.values import duration


class Alone:
    """One activity that stands alone, and its task queue."""

    def __init__(self, at: Namespace, activity_id: str, queue: str) -> None:
        self.at = at
        self.id = activity_id
        self.queue = queue
        self.run_id = ""

    async def start(self, **more: Any) -> StartActivityExecutionResponse:
        given: dict[str, Any] = {
            "activity_type": ActivityType(name="reserve"),
            "task_queue": TaskQueue(name=self.queue),
            "start_to_close_timeout": duration(30),
            "identity": IDENTITY,
            **more,
        }
        answer = await self.at.service.StartActivityExecution(
            StartActivityExecutionRequest(namespace=self.at.name, activity_id=self.id, **given)
        )
        self.run_id = answer.run_id
        return answer

    async def describe(self, **more: Any) -> DescribeActivityExecutionResponse:
        return await self.at.service.DescribeActivityExecution(
            DescribeActivityExecutionRequest(
                namespace=self.at.name, activity_id=self.id, **{"run_id": self.run_id, **more}
            ),
            timeout=25,
        )

    async def poll(self, **more: Any) -> PollActivityExecutionResponse:
        return await self.at.service.PollActivityExecution(
            PollActivityExecutionRequest(namespace=self.at.name, activity_id=self.id, **more), timeout=25
        )

    async def outcome(self) -> ActivityExecutionOutcome:
        return (await self.poll()).outcome

    async def cancel(self, **more: Any) -> None:
        await self.at.service.RequestCancelActivityExecution(
            RequestCancelActivityExecutionRequest(
                namespace=self.at.name, activity_id=self.id, **{"identity": "boss", "reason": "no need", **more}
            )
        )

    async def terminate(self, **more: Any) -> None:
        await self.at.service.TerminateActivityExecution(
            TerminateActivityExecutionRequest(
                namespace=self.at.name, activity_id=self.id, **{"identity": "boss", "reason": "enough", **more}
            )
        )
