"""Whether a new run may have the workflow id of another one: Temporal's reuse and conflict policies.

The conflict policy speaks of a run that is open, the reuse policy of one that has closed
(temporalio/temporal: service/history/api/workflow_id_dedup.go).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import WorkflowExecutionStatus, WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure

from nexuskit.backend.errors import Code, StatusError, invalid_argument

if TYPE_CHECKING:
    from nexuskit.backend.history.state import Info

_REUSE = WorkflowIdReusePolicy
_CONFLICT = WorkflowIdConflictPolicy
_UNSUCCESSFUL = frozenset(
    {
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
    }
)

TERMINATED_FOR_NEW = "TerminateIfRunning WorkflowIdReusePolicy"
"""The reason in the history of a run that had to make room."""


class Verdict(Enum):
    """What becomes of the run that has the id."""

    START = "the new run starts"
    TERMINATE = "the open run is terminated and the new one starts"
    USE = "the open run is what the request gets"


def check(reuse: int, conflict: int) -> None:
    """The two policies can go together.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    conflicting = conflict != _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_UNSPECIFIED
    if reuse == _REUSE.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING and conflicting:
        raise invalid_argument(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be used together with"
            " a WorkflowIDConflictPolicy."
        )
    if (
        reuse == _REUSE.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
        and conflict == _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
    ):
        raise invalid_argument(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be used together with"
            " WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING"
        )


def resolve(there: Info, reuse: int, conflict: int) -> Verdict:
    """What the policies say, given the newest run of the id.

    Raises:
        StatusError: ALREADY_EXISTS, with `WorkflowExecutionAlreadyStartedFailure`.
    """
    if there.running:
        if (
            conflict == _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
            or reuse == _REUSE.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING
        ):
            return Verdict.TERMINATE
        if conflict == _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING:
            return Verdict.USE
        raise _taken(there, "Workflow execution is already running.")
    if reuse == _REUSE.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE:
        said = " Workflow Id reuse policy: reject duplicate workflow Id."
        raise _taken(there, "Workflow execution already finished.", said)
    only_failed = reuse == _REUSE.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
    if only_failed and there.status not in _UNSUCCESSFUL:
        said = " Workflow Id reuse policy: allow duplicate workflow Id if last run failed."
        raise _taken(there, "Workflow execution already finished successfully.", said)
    return Verdict.START


def _taken(there: Info, message: str, more: str = "") -> StatusError:
    detail = WorkflowExecutionAlreadyStartedFailure(
        start_request_id=there.start_request_id, run_id=there.run_id, first_execution_run_id=there.first_run_id
    )
    text = f"{message} WorkflowId: {there.workflow_id}, RunId: {there.run_id}.{more}"
    return StatusError(Code.ALREADY_EXISTS, text, [detail])
