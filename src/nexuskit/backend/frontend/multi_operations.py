"""ExecuteMultiOperation: an update of a workflow that is started for it, if it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage
from temporalio.api.enums.v1 import WorkflowIdConflictPolicy
from temporalio.api.errordetails.v1 import MultiOperationExecutionFailure
from temporalio.api.failure.v1 import MultiOperationExecutionAborted
from temporalio.api.update.v1 import Outcome, UpdateRef
from temporalio.api.workflowservice.v1 import (
    ExecuteMultiOperationRequest,
    ExecuteMultiOperationResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
    UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
)

from nexuskit.backend import starting
from nexuskit.backend.errors import Code, StatusError, invalid_argument
from nexuskit.backend.frontend import updates, workflows
from nexuskit.backend.history import reuse, start, update
from nexuskit.backend.history.update import Completed
from nexuskit.backend.times import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.namespaces import Namespace
    from nexuskit.backend.services import Services

_USE_EXISTING = WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
_Answers = tuple[StartWorkflowExecutionResponse, UpdateWorkflowExecutionResponse]


async def execute(
    services: Services, call: Call, request: ExecuteMultiOperationRequest
) -> ExecuteMultiOperationResponse:
    """ExecuteMultiOperation: start, then update, and nothing else. The start and the admission are one step.

    An update that a closing workflow sheds is asked for once more, for then another run may be started.

    Raises:
        StatusError: with a `MultiOperationExecutionFailure` that says what became of each of the two.
    """
    namespace = services.namespaces.get(request.namespace)
    kinds = [each.WhichOneof("operation") for each in request.operations]
    if kinds != ["start_workflow", "update_workflow"]:
        raise invalid_argument("Operations have to be exactly [Start, Update].")
    beginning, asked = request.operations[0].start_workflow, request.operations[1].update_workflow
    _check(services, namespace, beginning, asked)
    beginning.request_id = beginning.request_id or services.draw.uuid()
    try:
        started, updated = await _execute(services, call, namespace, beginning, asked)
    except _ShedError:
        try:
            started, updated = await _execute(services, call, namespace, beginning, asked)
        except _ShedError as error:
            again = StatusError(Code.ABORTED, error.shed.message)
            raise _failed(_aborted(), again) from error
    answer = ExecuteMultiOperationResponse()
    answer.responses.add().start_workflow.CopyFrom(started)
    answer.responses.add().update_workflow.CopyFrom(updated)
    return answer


class _ShedError(Exception):
    """A workflow that was there already closed before it accepted the update."""

    def __init__(self, shed: StatusError) -> None:
        super().__init__(shed.message)
        self.shed = shed


async def _execute(
    services: Services,
    call: Call,
    namespace: Namespace,
    beginning: StartWorkflowExecutionRequest,
    asked: UpdateWorkflowExecutionRequest,
) -> _Answers:
    engine = services.engine
    there = await starting.newest(engine, namespace.id, beginning.workflow_id)
    # Nothing is awaited from here until the update is admitted.
    if there is not None:
        if there.execution.of(Completed).get(asked.request.meta.update_id) is not None:
            return await _completed(services, namespace, there, asked)
        if _is_meant(there, beginning, asked):
            started = workflows.respond(namespace, there, started=False)
            try:
                return started, await updates.perform(services, call, there, asked)
            except StatusError as error:
                if error.message == update.ABORTED_BY_CLOSING:
                    raise _ShedError(error) from error
                raise _failed(_aborted(), error) from error
    instead_of = None
    if there is not None:
        try:
            info = there.execution.info
            verdict = reuse.resolve(info, beginning.workflow_id_reuse_policy, beginning.workflow_id_conflict_policy)
        except StatusError as error:
            await engine.durable(there)
            raise _failed(error, _aborted()) from error
        instead_of = there if verdict is reuse.Verdict.TERMINATE else None
    run = start.from_request(beginning, services.clock.now(), services.limits)
    resident = starting.begin(engine, namespace.id, beginning.workflow_id, run, instead_of=instead_of)
    started = workflows.respond(namespace, resident, started=True)
    try:
        return started, await updates.perform(services, call, resident, asked)
    except StatusError as error:
        raise _failed(None, error) from error


def _is_meant(there: Resident, beginning: StartWorkflowExecutionRequest, asked: UpdateWorkflowExecutionRequest) -> bool:
    """Whether the run that is there is to be updated, and none started."""
    info = there.execution.info
    if not info.running:
        return False
    return (
        info.start_request_id == beginning.request_id
        or update.status(there.execution, asked.request.meta.update_id) is not None
        or beginning.workflow_id_conflict_policy == _USE_EXISTING
    )


async def _completed(
    services: Services, namespace: Namespace, there: Resident, asked: UpdateWorkflowExecutionRequest
) -> _Answers:
    """The update has its outcome already, and nothing is to be done."""
    started = workflows.respond(namespace, there, started=False)
    update_id = asked.request.meta.update_id
    reached = await updates.completed(services, there, update_id)
    reference = UpdateRef(update_id=update_id)
    reference.workflow_execution.workflow_id = there.execution.info.workflow_id
    reference.workflow_execution.run_id = there.execution.info.run_id
    outcome = reached.outcome or Outcome()
    return started, UpdateWorkflowExecutionResponse(update_ref=reference, outcome=outcome, stage=reached.stage)


def _check(
    services: Services,
    namespace: Namespace,
    beginning: StartWorkflowExecutionRequest,
    asked: UpdateWorkflowExecutionRequest,
) -> None:
    wrong: list[StatusError | None] = [None, None]
    for place, check in enumerate((lambda: _check_start(services, beginning), lambda: _check_update(services, asked))):
        operation = (beginning, asked)[place]
        try:
            if operation.namespace not in ("", namespace.name):
                raise invalid_argument("Operation namespace did not match request's namespace.")
            operation.namespace = namespace.name
            check()
        except StatusError as error:
            wrong[place] = error
    if not any(wrong) and beginning.workflow_id != asked.workflow_execution.workflow_id:
        wrong[1] = invalid_argument("WorkflowId is not consistent with previous operation(s).")
    if any(wrong):
        raise _failed(*(error or _aborted() for error in wrong))


def _check_start(services: Services, request: StartWorkflowExecutionRequest) -> None:
    workflows.check_start(services, request)
    if request.cron_schedule:
        raise invalid_argument("CronSchedule is not allowed.")
    if request.request_eager_execution:
        raise invalid_argument("RequestEagerExecution is not supported.")
    if span(request.workflow_start_delay):
        raise invalid_argument("WorkflowStartDelay is not supported.")


def _check_update(services: Services, request: UpdateWorkflowExecutionRequest) -> None:
    updates.check(services, request)
    if request.first_execution_run_id:
        raise invalid_argument("FirstExecutionRunId is not allowed.")
    if request.workflow_execution.run_id:
        raise invalid_argument("RunId is not allowed.")


def _aborted() -> StatusError:
    return StatusError(Code.ABORTED, "Operation was aborted.", [MultiOperationExecutionAborted()])


def _failed(*errors: StatusError | None) -> StatusError:
    """The refusal as a whole: its code is that of the first operation that is to blame. None: that one went well."""
    code = next((each.code for each in errors if each is not None and each.code != Code.ABORTED), Code.ABORTED)
    failure = MultiOperationExecutionFailure(statuses=[_status(each) for each in errors])
    return StatusError(code, "Update-with-Start could not be executed.", [failure])


def _status(error: StatusError | None) -> MultiOperationExecutionFailure.OperationStatus:
    if error is None:
        return MultiOperationExecutionFailure.OperationStatus()
    details: Sequence[AnyMessage] = [AnyMessage() for _ in error.details]
    for packed, detail in zip(details, error.details, strict=True):
        packed.Pack(detail)
    return MultiOperationExecutionFailure.OperationStatus(code=int(error.code), message=error.message, details=details)
