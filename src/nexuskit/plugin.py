"""One line that installs nexuskit into the Temporal SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

if TYPE_CHECKING:
    from temporalio.worker import WorkflowRunner

PASSED_THROUGH = ("nexuskit", "msgspec")
"""Modules that workflows share with the process around them: nothing in them depends on when or where they run."""


class Plugin(SimplePlugin):
    """nexuskit for a client and every worker made from it: `Client.connect(..., plugins=[nexuskit.Plugin()])`.

    Workflows and activities may take and give pydantic models, and workflows import `nexuskit` without a copy of it
    for each run. A data converter, a codec or a runner of your own stays as it is.
    """

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
