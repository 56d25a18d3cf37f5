"""Completions: an operation whose handler said "later" ends, by the token that its call carried.

Whoever completes it, a run of this very database or somebody by HTTP, shows that token. It is signed, and names the run
that made the call, the operation and its request id: so nobody ends what he was not asked to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.common.v1 import Link, Payload
from temporalio.api.enums.v1 import TimeoutType, WorkflowExecutionStatus
from temporalio.api.failure.v1 import Failure, TerminatedFailureInfo, TimeoutFailureInfo

from nexuskit.backend import tokens
from nexuskit.backend.errors import Code, StatusError, not_found
from nexuskit.backend.history import nexus_operation

if TYPE_CHECKING:
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.history.workflow import Outcome

SYSTEM_CALLBACK_URL = "temporal://system"
"""Where completions of a worker's operations go: into this backend, by their token."""
CALLBACK_TOKEN_HEADER = "temporal-callback-token"
"""Names the operation of the caller, in our own words."""


class Completion(NamedTuple):
    """What is told of an operation that has ended.

    Attributes:
        outcome: how it ended, in the terms of a run.
        began: since when it was under way (ns).
        links: to what it was.
        operation_token: names it at its handler; empty where that is not said.
    """

    outcome: Outcome
    began: int
    links: Sequence[Link]
    operation_token: str


class Completions:
    """Ends operations by their tokens."""

    def __init__(self, engine: Engine, key: bytes) -> None:
        self._engine = engine
        self._key = key

    def headers(self, token: tokens.CallbackToken) -> dict[str, str]:
        """What a call carries, so that its handler can complete it later."""
        return {CALLBACK_TOKEN_HEADER: tokens.sign(token, self._key)}

    def verify(self, headers: Mapping[str, str]) -> tokens.CallbackToken:
        """The token that a completion shows.

        Raises:
            StatusError: INVALID_ARGUMENT, if it is none that was given out here.
        """
        return tokens.verify(header(headers, CALLBACK_TOKEN_HEADER), self._key)

    async def caller(self, token: tokens.CallbackToken) -> Resident:
        """The run that made the call, or the one that goes on where that one was reset.

        Raises:
            StatusError: NOT_FOUND, if it is not there.
        """
        try:
            caller = await self._engine.get(token.execution)
        except StatusError as error:
            raise _gone() if error.code == Code.NOT_FOUND else error from None
        if caller.execution.info.run_id != token.run_id:
            raise _gone()
        while (run_id := caller.execution.info.reset_run_id) and not caller.execution.info.running:
            info = caller.execution.info
            caller = await self._engine.find(info.namespace_id, info.workflow_id, run_id)
        return caller

    def complete(self, caller: Resident, token: tokens.CallbackToken, completion: Completion) -> None:
        """End the operation that the token names; what the caller gains by it joins the open commit group.

        Args:
            caller: what `caller` answered to the token; one that is out of date by now is refused.
            token: names the operation.
            completion: how it ended.

        Raises:
            StatusError: NOT_FOUND, if it does not run any more.
        """
        if caller.removed:
            raise _gone()
        outcome, began, links, operation_token = completion

        def complete(tx: Transaction) -> None:
            row = nexus_operation.find(tx.state, token.key, token.request_id)
            if not row.started_time:
                # The handler was quicker than its answer, or the answer was lost: the operation starts with its end.
                nexus_operation.start(tx, row, operation_token, list(links), at=began, ended=True)
                row = nexus_operation.find(tx.state, token.key, token.request_id)
            _end(tx, row, outcome)

        self._engine.run(caller, complete)


def _gone() -> StatusError:
    return not_found("operation not found: whatever waited for it was deleted")


def _end(tx: Transaction, row: nexus_operation.NexusOperation, outcome: Outcome) -> None:
    told = told_of(outcome)
    if isinstance(told, Failure) and is_canceled(outcome):
        nexus_operation.cancel(tx, row, told)
    elif isinstance(told, Failure):
        nexus_operation.fail(tx, row, told)
    else:
        nexus_operation.complete(tx, row, told or Payload())


def told_of(outcome: Outcome) -> Payload | Failure | None:
    """What of a run's end its operation's caller is told: the result, if there is one, or the failure."""
    match outcome.status:
        case WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED:
            # A workflow has one result; an operation's is that, or nothing.
            return next(iter(outcome.result.payloads), None) if outcome.result is not None else None
        case WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
            timeout = TimeoutFailureInfo(timeout_type=TimeoutType.TIMEOUT_TYPE_UNSPECIFIED)
            return Failure(message="operation exceeded internal timeout", timeout_failure_info=timeout)
        case WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED:
            return Failure(message="operation terminated", terminated_failure_info=TerminatedFailureInfo())
        case _:
            return outcome.failure or Failure(message="operation failed")


def is_canceled(outcome: Outcome) -> bool:
    """Whether its operation ends as one that was cancelled."""
    canceled = outcome.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED
    return canceled and outcome.failure is not None


def header(headers: Mapping[str, str], wanted: str) -> str:
    """The value of a header, whose name may be written in any case; empty where there is none."""
    return next((value for name, value in headers.items() if name.lower() == wanted), "")
