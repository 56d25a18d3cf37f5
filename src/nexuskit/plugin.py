"""One line that installs nexuskit into the Temporal SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from nexuskit.handlers.context import know_cluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from temporalio.worker import Worker, WorkflowRunner

PASSED_THROUGH = ("nexuskit", "msgspec")
"""Modules that workflows share with the process around them: nothing in them depends on when or where they run."""


class Plugin(SimplePlugin):
    """nexuskit for a client and every worker made from it: `Client.connect(..., plugins=[nexuskit.Plugin()])`.

    Workflows and activities may take and give pydantic models, and workflows import `nexuskit` without a copy of it
    for each run. A data converter, a codec or a runner of your own stays as it is.
    """

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """See the SDK. Learns what server the worker has, which decides whether it can be believed about callers."""
        await know_cluster(worker.client.service_client)
        await super().run_worker(worker, next)

    def __init__(self) -> None:
        super().__init__("nexuskit", data_converter=_converter, workflow_runner=_runner)  # pyright: ignore[reportUnknownMemberType], the SDK leaves a type open


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
