"""A Nexus operation that stands alone, by gRPC calls made by hand."""

from __future__ import annotations

from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import NexusOperationWaitStage
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import NexusOperationExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DeleteNexusOperationExecutionRequest,
    DescribeNexusOperationExecutionRequest,
    DescribeNexusOperationExecutionResponse,
    PollNexusOperationExecutionRequest,
    PollNexusOperationExecutionResponse,
    RequestCancelNexusOperationExecutionRequest,
    StartNexusOperationExecutionRequest,
    StartNexusOperationExecutionResponse,
    TerminateNexusOperationExecutionRequest,
)

from tests.support.raw import IDENTITY, Namespace


class Operation:
    """One Nexus operation that stands alone, and the endpoint that it calls."""

    def __init__(self, at: Namespace, operation_id: str, endpoint: str) -> None:
        self.at = at
        self.id = operation_id
        self.endpoint = endpoint
        self.run_id = ""

    async def start(self, **more: Any) -> StartNexusOperationExecutionResponse:
        given: dict[str, Any] = {
            "operation_id": self.id,
            "endpoint": self.endpoint,
            "service": "Payments",
            "operation": "charge",
            "identity": IDENTITY,
            **more,
        }
        answer = await self.at.service.StartNexusOperationExecution(
            StartNexusOperationExecutionRequest(namespace=self.at.name, **given)
        )
        self.run_id = answer.run_id
        return answer

    async def describe(self, **more: Any) -> DescribeNexusOperationExecutionResponse:
        return await self.at.service.DescribeNexusOperationExecution(
            DescribeNexusOperationExecutionRequest(
                namespace=self.at.name, operation_id=self.id, **{"run_id": self.run_id, **more}
            ),
            timeout=25,
        )

    async def info(self) -> NexusOperationExecutionInfo:
        return (await self.describe()).info

    async def poll(self, **more: Any) -> PollNexusOperationExecutionResponse:
        return await self.at.service.PollNexusOperationExecution(
            PollNexusOperationExecutionRequest(namespace=self.at.name, operation_id=self.id, **more), timeout=25
        )

    async def started(self) -> PollNexusOperationExecutionResponse:
        """Waits until it has started, or ended."""
        return await self.poll(wait_stage=NexusOperationWaitStage.NEXUS_OPERATION_WAIT_STAGE_STARTED)

    async def outcome(self) -> Payload | Failure:
        """Waits until it has ended."""
        polled = await self.poll()
        assert polled.WhichOneof("outcome"), "it has not ended"
        return polled.result if polled.HasField("result") else polled.failure

    async def cancel(self, **more: Any) -> None:
        await self.at.service.RequestCancelNexusOperationExecution(
            RequestCancelNexusOperationExecutionRequest(
                namespace=self.at.name, operation_id=self.id, **{"identity": "boss", "reason": "no need", **more}
            )
        )

    async def terminate(self, **more: Any) -> None:
        await self.at.service.TerminateNexusOperationExecution(
            TerminateNexusOperationExecutionRequest(
                namespace=self.at.name, operation_id=self.id, **{"identity": "boss", "reason": "enough", **more}
            )
        )

    async def delete(self, **more: Any) -> None:
        await self.at.service.DeleteNexusOperationExecution(
            DeleteNexusOperationExecutionRequest(namespace=self.at.name, operation_id=self.id, **more)
        )
