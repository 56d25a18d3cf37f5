"""What the frontend's handlers work with: the parts of one backend, put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexuskit.backend.conversations import Question
from nexuskit.backend.errors import Code, StatusError, not_found
from nexuskit.backend.history import workflow_task

if TYPE_CHECKING:
    from nexuskit.backend import tokens
    from nexuskit.backend.clock import Clock
    from nexuskit.backend.draw import Draw
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.state import Destination
    from nexuskit.backend.matching.workers import Workers
    from nexuskit.backend.namespaces import Namespaces
    from nexuskit.backend.nexus.calls import Calls
    from nexuskit.backend.nexus.completions import Completions
    from nexuskit.backend.nexus.endpoints import Endpoints
    from nexuskit.backend.nexus.lanes import Lanes
    from nexuskit.backend.nexus.outward import Outward
    from nexuskit.backend.nexus.tasks import NexusTasks
    from nexuskit.backend.removal import Remover
    from nexuskit.backend.settings import Limits
    from nexuskit.backend.task_queues import TaskQueues


@dataclass(frozen=True)
class Services:
    """The parts of one backend.

    Attributes:
        version: of nexuskit.
        cluster_id: names this database, for as long as it exists.
        started: when this process opened it (ns).
    """

    version: str
    cluster_id: str
    started: int
    clock: Clock
    draw: Draw
    engine: Engine
    namespaces: Namespaces
    endpoints: Endpoints
    nexus_tasks: NexusTasks
    lanes: Lanes
    calls: Calls
    outward: Outward
    completions: Completions
    task_queues: TaskQueues
    workers: Workers
    remover: Remover

    @property
    def limits(self) -> Limits:
        """Its limits."""
        return self.engine.limits

    async def resident(self, token: tokens.TaskToken) -> Resident:
        """The execution that a task token names.

        Raises:
            StatusError: NOT_FOUND, if it is not there, or is another one by now.
        """
        resident = await self.engine.get(token.execution)
        info = resident.execution.info
        if info.run_id != token.run_id or info.namespace_id != token.namespace_id:
            raise not_found(
                f"workflow execution not found: the task token names run {token.run_id}, which is not there"
            )
        return resident

    async def abandon_sticky_queue(self, destination: Destination) -> None:
        """Nobody polls a sticky queue any more: what waits in it goes to the workflow's own queue at once."""
        for waiting in self.engine.tasks.forget(destination):
            if isinstance(waiting, Question):
                waiting.end(None)
                continue
            try:
                resident = await self.engine.get(waiting.execution)
            except StatusError as error:
                if error.code != Code.NOT_FOUND:
                    raise
                continue  # it is gone, and its task with it
            self.engine.run(resident, workflow_task.unstick)
