"""What calls about executions that stand alone, activities and Nexus operations, have in common.

A start may leave what it brings with an execution that runs already; and who wants to know waits.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from nexuskit.backend import tokens
from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found
from nexuskit.backend.frontend.link_checks import check_links
from nexuskit.backend.history import standalone
from nexuskit.backend.history.state import ACTIVITY, OPERATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from temporalio.api.workflowservice.v1 import StartActivityExecutionRequest, StartNexusOperationExecutionRequest

    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.services import Services

    Start = StartActivityExecutionRequest | StartNexusOperationExecutionRequest
    State = tokens.ActivityState | tokens.OperationState


_CALLED = MappingProxyType({ACTIVITY: "activity", OPERATION: "operation"})


def check_attaching(services: Services, request: Start) -> None:
    """A start's links, and what it would leave with an execution that is there, are such as can be.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    check_links(services.limits, request.links, request.completion_callbacks)
    wanted = request.on_conflict_options
    if wanted.attach_completion_callbacks and not wanted.attach_request_id:
        raise invalid_argument("on_conflict_options: attach_completion_callbacks requires attach_request_id to be set")
    if wanted.attach_request_id and not request.completion_callbacks and not request.links:
        raise invalid_argument(
            "on_conflict_options: attach_request_id requires at least one completion callback or link"
        )


def attach(services: Services, there: Resident, request: Start) -> None:
    """Leave with an execution that runs what a start brings and wants left there.

    Raises:
        StatusError: FAILED_PRECONDITION, if it would have more than it may.
    """
    wanted = request.on_conflict_options
    callbacks = list(request.completion_callbacks) if wanted.attach_completion_callbacks else []
    links = list(request.links) if wanted.attach_links else []
    if callbacks or links:
        services.engine.run(there, lambda tx: standalone.attach(tx, request.request_id, callbacks, links))


async def changed(services: Services, call: Call, resident: Resident, kind: type[State], raw: bytes) -> Resident | None:
    """The execution once it is another than the token of that kind saw; None after a while.

    Raises:
        StatusError: INVALID_ARGUMENT, if the token was not given out for this execution.
    """
    try:
        token = tokens.read(kind, raw, "long poll token")
    except StatusError:
        raise invalid_argument("invalid long poll token") from None
    if (token.execution, token.run_id) != (resident.execution.id, resident.execution.info.run_id):
        raise invalid_argument("long poll token does not match execution")
    return await until(services, call, resident, lambda execution: execution.info.transitions > token.transitions)


async def until(
    services: Services, call: Call, resident: Resident, reached: Callable[[Execution], bool], *, last: bool = False
) -> Resident | None:
    """The execution once it is so; None after a while. With `last` that is not so before it is closed.

    Raises:
        StatusError: NOT_FOUND, if somebody deletes it meanwhile.
    """
    number, info = resident.execution.id, resident.execution.info
    moment = call.until(services.limits.HISTORY_LONG_POLL, services.clock.now(), services.limits.POLL_MARGIN)
    while not reached(resident.execution):
        if services.clock.now() >= moment or services.engine.stopping:
            return None
        await services.engine.more_events(resident, moment, last=last)
        try:
            resident = await services.engine.get(number)
        except StatusError as error:
            if error.code != Code.NOT_FOUND:
                raise
            raise not_found(f"{_CALLED[info.archetype]} not found for ID: {info.workflow_id}, it was deleted") from None
    return resident
