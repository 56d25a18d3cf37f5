"""Nexus task calls: workers poll for requests, and answer them."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, cast

from temporalio.api.failure.v1 import Failure
from temporalio.api.workflowservice.v1 import (
    PollNexusTaskQueueRequest,
    PollNexusTaskQueueResponse,
    RespondNexusTaskCompletedRequest,
    RespondNexusTaskCompletedResponse,
    RespondNexusTaskFailedRequest,
    RespondNexusTaskFailedResponse,
)

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.frontend import polls
from nexuskit.backend.frontend.checks import check_queue, check_text
from nexuskit.backend.history.nexus_operation import polled_queue
from nexuskit.backend.history.state import Destination
from nexuskit.backend.nexus import failures
from nexuskit.backend.nexus.tasks import NexusTask

if TYPE_CHECKING:
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services


async def poll(services: Services, call: Call, request: PollNexusTaskQueueRequest) -> PollNexusTaskQueueResponse:
    """PollNexusTaskQueue: the next request for this queue, or nothing after a while."""
    namespace = services.namespaces.get(request.namespace)
    check_queue(request, services.limits)
    check_text("Identity", request.identity, services.limits, required=False)
    until = call.until(services.limits.LONG_POLL, services.clock.now(), services.limits.POLL_MARGIN)
    destination = Destination("nexus", namespace.id, request.task_queue.name)
    services.workers.record(namespace.id, request.worker_heartbeat)
    services.engine.agenda.wake(polled_queue(namespace.id, request.task_queue.name))
    while (taken := await services.engine.tasks.take(destination, until, polls.poller(services, request))) is not None:
        key, task = taken[0], cast("NexusTask", taken[1])
        if not services.nexus_tasks.waits(task):
            continue
        # A poller that goes away just now is heard of here, and not after the answer, where the task would be lost.
        with services.engine.handing(destination, key, task):
            await asyncio.sleep(0)
        if services.nexus_tasks.waits(task):
            return PollNexusTaskQueueResponse(task_token=task.number.encode(), request=services.nexus_tasks.give(task))
    return PollNexusTaskQueueResponse()


async def complete(
    services: Services, _: Call, request: RespondNexusTaskCompletedRequest
) -> RespondNexusTaskCompletedResponse:
    """RespondNexusTaskCompleted."""
    namespace = services.namespaces.get(request.namespace)
    services.nexus_tasks.settle(_number(request.task_token), namespace.id, request.response)
    if request.response.start_operation.HasField("async_success"):
        # The operation has failed because of it; on a real server it is tried again, after the request timeout.
        success = request.response.start_operation.async_success
        token = success.operation_token or success.operation_id
        size, limit = len(token.encode()), services.limits.NEXUS_TOKEN_SIZE
        if not token:
            raise invalid_argument("missing operation token in response")
        if size > limit:
            raise invalid_argument(f"operation token length exceeds allowed limit ({size}/{limit})")
    return RespondNexusTaskCompletedResponse()


async def fail(services: Services, _: Call, request: RespondNexusTaskFailedRequest) -> RespondNexusTaskFailedResponse:
    """RespondNexusTaskFailed, in either form."""
    namespace = services.namespaces.get(request.namespace)
    if request.HasField("failure"):
        if not request.failure.HasField("nexus_handler_failure_info"):
            raise invalid_argument("request.Failure must have a NexusHandlerFailureInfo: it is a handler error.")
        failure: Failure = request.failure
    elif request.HasField("error"):
        failure = failures.from_handler_error(request.error)
    else:
        raise invalid_argument("request must contain error or failure.")
    services.nexus_tasks.settle(_number(request.task_token), namespace.id, failure)
    return RespondNexusTaskFailedResponse()


def _number(token: bytes) -> str:
    if not token:
        raise invalid_argument("Task token not set on request.")
    try:
        return str(uuid.UUID(token.decode("ascii")))
    except ValueError:
        raise invalid_argument(
            "Error deserializing task token: it was not given out by this backend for that."
        ) from None
