"""What is set for task queues: their rate limits. Few and small, so all of them are in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.taskqueue.v1 import TaskQueueConfig

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history.state import Destination
from nexuskit.backend.settings import Limits

if TYPE_CHECKING:
    from nexuskit.backend.matching.queues import Matching
    from nexuskit.backend.store.store import Store, Ticket

PUT = "INSERT OR REPLACE INTO task_queues (namespace, kind, queue, body) VALUES (?, ?, ?, ?)"
FORGET = "DELETE FROM task_queues WHERE namespace = ?"


class TaskQueues:
    """The configuration of task queues, by namespace id, kind ("workflow", "activity", "nexus") and name."""

    def __init__(self, store: Store, matching: Matching[object], limits: Limits) -> None:
        self._limits = limits
        self._store = store
        self._matching = matching
        self._configs: dict[Destination, TaskQueueConfig] = {}

    def load(self, rows: list[tuple[str, str, str, bytes]]) -> None:
        """Take what is on disk."""
        for namespace, kind, queue, body in rows:
            self._set(Destination(kind, namespace, queue), TaskQueueConfig.FromString(body))

    def get(self, queue: Destination) -> TaskQueueConfig | None:
        """What is set for a queue; None if nothing was ever."""
        return self._configs.get(queue)

    def change(self, queue: Destination, config: TaskQueueConfig) -> Ticket:
        """From now on this is set. The ticket tells when it is on disk.

        Raises:
            StatusError: RESOURCE_EXHAUSTED, if it is one queue too many.
        """
        before = self._configs.get(queue)
        if before is None and len(self._configs) >= self._limits.CONFIGURED_QUEUES:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED, f"{self._limits.CONFIGURED_QUEUES} task queues are configured, no more can be."
            )
        self._set(queue, config)
        group, ticket = self._store.group()
        body = config.SerializeToString()
        group.add(PUT, (queue.namespace, queue.kind, queue.queue, body), undo=lambda: self._revert(queue, before))
        return ticket

    def forget(self, namespace_id: str) -> None:
        """A namespace is no more; written with what else is."""
        for queue in [queue for queue in self._configs if queue.namespace == namespace_id]:
            self._revert(queue, None)
        self._store.group()[0].add(FORGET, (namespace_id,))

    def _revert(self, queue: Destination, before: TaskQueueConfig | None) -> None:
        if before is not None:
            self._set(queue, before)
        else:
            self._configs.pop(queue, None)
            self._matching.set_rate(queue, None)

    def _set(self, queue: Destination, config: TaskQueueConfig) -> None:
        self._configs[queue] = config
        limited = config.queue_rate_limit.HasField("rate_limit")
        rate = config.queue_rate_limit.rate_limit.requests_per_second
        self._matching.set_rate(queue, rate if limited else None)
