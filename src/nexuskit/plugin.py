"""One line that installs nexuskit into the Temporal SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nexusrpc import OutputT
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.exceptions import ApplicationError
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    Interceptor,
    StartNexusOperationInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from nexuskit.callers.workflow import MISSING_TIMEOUT
from nexuskit.handlers.context import know_cluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from temporalio.worker import Worker, WorkflowRunner
    from temporalio.workflow import NexusOperationHandle

PASSED_THROUGH = ("nexuskit", "msgspec")
"""Modules that workflows share with the process around them: nothing in them depends on when or where they run."""


class Plugin(SimplePlugin):
    """nexuskit for a client and every worker made from it: `Client.connect(..., plugins=[nexuskit.Plugin()])`.

    Workflows and activities may take and give pydantic models, and workflows import `nexuskit` without a copy of it
    for each run. A data converter, a codec or a runner of your own stays as it is.
    """

    def __init__(self, *, require_timeout: bool = False) -> None:
        """Make it.

        Args:
            require_timeout: whether a call from a workflow without a schedule-to-close timeout is an error, and not a
                warning; of the SDK's own Nexus client too.
        """
        super().__init__(  # pyright: ignore[reportUnknownMemberType], the SDK leaves a type open
            "nexuskit",
            data_converter=_converter,
            interceptors=[_RequireTimeouts()] if require_timeout else [],
            workflow_runner=_runner,
        )

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """See the SDK. Learns what server the worker has, which decides whether it can be believed about callers."""
        await know_cluster(worker.client.service_client)
        await super().run_worker(worker, next)


class _RequireTimeouts(Interceptor):
    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        return _Workflow


class _Workflow(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class _Outbound(WorkflowOutboundInterceptor):
    async def start_nexus_operation(
        self, input: StartNexusOperationInput[Any, OutputT]
    ) -> NexusOperationHandle[OutputT]:
        if input.schedule_to_close_timeout is None:
            raise ApplicationError(
                f"{input.service}.{input.operation_name} at endpoint {input.endpoint!r} is called without a"
                " schedule-to-close timeout, which Plugin(require_timeout=True) refuses. Give the operation a deadline"
                " in its contract, or the call a schedule_to_close_timeout",
                type=MISSING_TIMEOUT,
                non_retryable=True,
            )
        return await self.next.start_nexus_operation(input)


def _converter(existing: DataConverter | None) -> DataConverter:
    converter = existing or DataConverter.default
    if converter.payload_converter_class is not DefaultPayloadConverter:
        return converter
    return replace(converter, payload_converter_class=PydanticPayloadConverter)


def _runner(existing: WorkflowRunner | None) -> WorkflowRunner:
    runner = existing or SandboxedWorkflowRunner()
    if not isinstance(runner, SandboxedWorkflowRunner):
        return runner
    return replace(runner, restrictions=runner.restrictions.with_passthrough_modules(*PASSED_THROUGH))
