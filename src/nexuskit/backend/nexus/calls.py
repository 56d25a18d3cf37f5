"""What every call to a handler needs, to start an operation or to cancel one: where it goes, and with which headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.failure.v1 import Failure

from nexuskit.backend.nexus.failures import HandlerErrorType, handler_error
from nexuskit.backend.nexus.headers import SOURCE_NAMESPACE, handed_on
from nexuskit.backend.times import MILLISECOND

if TYPE_CHECKING:
    from temporalio.api.nexus.v1 import Request, Response

    from nexuskit.backend.namespaces import Namespaces
    from nexuskit.backend.nexus.endpoints import Endpoints
    from nexuskit.backend.nexus.tasks import NexusTasks


class Target(NamedTuple):
    """Where an endpoint routes to: the task queue of a namespace."""

    endpoint: str
    namespace_id: str
    namespace: str
    queue: str


class Calls:
    """Sends requests to the workers behind endpoints."""

    def __init__(self, namespaces: Namespaces, endpoints: Endpoints, tasks: NexusTasks) -> None:
        self._namespaces = namespaces
        self._endpoints = endpoints
        self._tasks = tasks

    def target(self, endpoint_id: str) -> Target | Failure:
        """Where that endpoint routes to at this moment; a handler error that asking again cannot help, if nowhere."""
        if endpoint_id not in self._endpoints.ids.values():
            return handler_error(HandlerErrorType.NOT_FOUND, "endpoint not registered")
        spec = self._endpoints.get(endpoint_id).spec
        worker = spec.target.worker
        if not self._namespaces.has(worker.namespace):
            message = f"target namespace {worker.namespace} of endpoint {spec.name} is not found"
            return handler_error(HandlerErrorType.NOT_FOUND, message)
        namespace = self._namespaces.get(worker.namespace)
        return Target(spec.name, namespace.id, namespace.name, worker.task_queue)

    def namespace(self, namespace_id: str) -> str:
        """The name of a caller's namespace."""
        return self._namespaces.get_by_id(namespace_id).name

    def headers(self, given: Mapping[str, str], namespace_id: str, time_left: int) -> dict[str, str]:
        """What a handler gets of the caller's headers, and what this backend says by itself.

        Args:
            given: as the caller set them.
            namespace_id: the caller's.
            time_left: for this attempt (ns).
        """
        said = {SOURCE_NAMESPACE: self.namespace(namespace_id), "request-timeout": milliseconds(time_left)}
        return handed_on(given) | said

    async def ask(self, target: Target, request: Request, until: int) -> Response | Failure:
        """Send a request to a worker and wait for its answer, at most until that moment (ns)."""
        return await self._tasks.ask(target.namespace_id, target.queue, request, until)


def milliseconds(span: int) -> str:
    """A span (ns) as Nexus headers write it (specification, "Operation-Timeout"): whole milliseconds, rounded down."""
    return f"{max(span, 0) // MILLISECOND}ms"
