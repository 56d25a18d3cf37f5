"""What polls for tasks have in common: who asks, and the execution that a task belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest

from nexuskit.backend.errors import Code, StatusError, invalid_argument
from nexuskit.backend.frontend.checks import check_text
from nexuskit.backend.matching.queues import Poller

if TYPE_CHECKING:
    from collections.abc import Hashable

    from temporalio.api.workflowservice.v1 import PollNexusTaskQueueRequest, PollWorkflowTaskQueueRequest

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.history.state import Destination
    from nexuskit.backend.services import Services

    PollRequest = PollWorkflowTaskQueueRequest | PollActivityTaskQueueRequest | PollNexusTaskQueueRequest


def poller(services: Services, request: PollRequest) -> Poller:
    """Who polls, and what for.

    Raises:
        StatusError: INVALID_ARGUMENT, for ids that are too long, and a rate that is none.
    """
    check_text("WorkerInstanceKey", request.worker_instance_key, services.limits, required=False)
    rate = None
    if isinstance(request, PollActivityTaskQueueRequest):
        metadata = request.task_queue_metadata
        rate = metadata.max_tasks_per_second.value if metadata.HasField("max_tasks_per_second") else None
        if rate is not None and not rate >= 0:  # nor is it one that is no number
            raise invalid_argument(f"TaskQueueMetadata.MaxTasksPerSecond must not be negative, got {rate:g}.")
    sticky = request.task_queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY
    return Poller(request.identity, request.worker_instance_key, rate, sticky)


async def execution(services: Services, destination: Destination, key: Hashable, waiting: Waiting) -> Resident | None:
    """The execution that a task belongs to; None if it is gone, and the task with it.

    Should it not be found out, or the poller go away meanwhile, the task is given back.
    """
    resident = services.engine.at_hand(waiting.execution)
    if resident is not None:
        return resident
    try:
        with services.engine.handing(destination, key, waiting):
            return await services.engine.get(waiting.execution)
    except StatusError as error:
        if error.code != Code.NOT_FOUND:
            raise
        return None
