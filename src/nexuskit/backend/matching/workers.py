"""Workers as they describe themselves: their newest heartbeats, in memory, for as long as they come.

A worker that says it has shut down is forgotten at once, one that says nothing after a while.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.enums.v1 import WorkerStatus

from nexuskit.backend.errors import invalid_argument, not_found
from nexuskit.backend.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from temporalio.api.worker.v1 import WorkerHeartbeat

    from nexuskit.backend.clock import Clock


class _Heard(NamedTuple):
    time: int
    heartbeat: WorkerHeartbeat
    size: int


class Workers:
    """The workers of all namespaces, by namespace id and the key of their instance."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._limits = limits
        self._clock = clock
        self._heard: OrderedDict[tuple[str, str], _Heard] = OrderedDict()
        """Who was heard of longest ago comes first."""
        self._size = 0
        """Bytes of all of them."""

    def record(self, namespace_id: str, heartbeats: Iterable[WorkerHeartbeat]) -> None:
        """What workers say of themselves.

        Raises:
            StatusError: INVALID_ARGUMENT for one that is too large; those before it are kept.
        """
        now = self._clock.now()
        for heartbeat in heartbeats:
            size = heartbeat.ByteSize()
            if size > self._limits.WORKER_HEARTBEAT_SIZE:
                raise invalid_argument(
                    f"WorkerHeartbeat exceeds size limit: {size} bytes, at most {self._limits.WORKER_HEARTBEAT_SIZE}."
                )
            place = (namespace_id, heartbeat.worker_instance_key)
            self._drop(place)
            if heartbeat.status != WorkerStatus.WORKER_STATUS_SHUTDOWN:
                self._heard[place] = _Heard(now, heartbeat, size)
                self._size += size
        self._forget(now)

    def all(self, namespace_id: str) -> list[WorkerHeartbeat]:
        """The workers of a namespace, by the keys of their instances."""
        self._forget(self._clock.now())
        return [heard.heartbeat for place, heard in sorted(self._heard.items()) if place[0] == namespace_id]

    def get(self, namespace_id: str, key: str) -> WorkerHeartbeat:
        """One worker.

        Raises:
            StatusError: NOT_FOUND.
        """
        self._forget(self._clock.now())
        heard = self._heard.get((namespace_id, key))
        if heard is None:
            raise not_found(f"Worker {key[: self._limits.ID_LENGTH // 4]} not found")
        return heard.heartbeat

    def _forget(self, now: int) -> None:
        while self._heard:
            place, heard = next(iter(self._heard.items()))
            fits = len(self._heard) <= self._limits.WORKERS_LISTED and self._size <= self._limits.WORKERS_LISTED_SIZE
            if fits and heard.time > now - self._limits.WORKER_REMEMBERED:
                return
            self._drop(place)

    def _drop(self, place: tuple[str, str]) -> None:
        heard = self._heard.pop(place, None)
        if heard is not None:
            self._size -= heard.size
