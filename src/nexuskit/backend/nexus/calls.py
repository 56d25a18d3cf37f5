"""What every call to a handler needs, to start an operation or to cancel one: where it goes, and with which headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from nexusrpc import HandlerErrorType
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import Response

from nexuskit.backend.nexus.breaker import Fault, Verdict
from nexuskit.backend.nexus.completions import SYSTEM_CALLBACK_URL
from nexuskit.backend.nexus.failures import handler_error, retryable
from nexuskit.backend.nexus.headers import handed_on, milliseconds
from nexuskit.backend.nexus.lanes import NOTHING_SAID, Said
from nexuskit.backend.settings import Limits
from nexuskit.identity.callers import SOURCE_NAMESPACE
from nexuskit.protocol.headers import REQUEST_TIMEOUT

if TYPE_CHECKING:
    from temporalio.api.nexus.v1 import Request

    from nexuskit.backend.namespaces import Namespaces
    from nexuskit.backend.nexus.endpoints import Endpoints
    from nexuskit.backend.nexus.http_calls import HttpCalls
    from nexuskit.backend.nexus.outward import Outward
    from nexuskit.backend.nexus.tasks import NexusTasks


class Target(NamedTuple):
    """Where an endpoint routes to: the task queue of a namespace, or a URL.

    Attributes:
        endpoint: its name.
        namespace_id: of the queue; empty if it routes to a URL, and so are the next two.
        namespace: its name.
        queue: the queue's name.
        url: where handlers are that no worker of this backend is; empty if it routes to a queue.
    """

    endpoint: str
    namespace_id: str = ""
    namespace: str = ""
    queue: str = ""
    url: str = ""


class Handler(Enum):
    """Whether there was somebody to answer."""

    ANSWERED = "a worker got the request, and answered"
    TOO_SLOW = "a worker got the request, or it went to a URL, and no answer came in time"
    BUSY = "workers poll, and none got to it in time; or too much else was on its way to URLs"
    AWAY = "no worker polls"
    UNASKED = "the request was not sent, and never will be as it is"


class Reply(NamedTuple):
    """What came of a request: a worker's answer or our own that none came, and whether there was a worker."""

    answer: Response | Failure
    handler: Handler


MESSAGE_SHOWN = 200
"""Characters of a failure's message that a breaker shows."""


class Calls:
    """Sends requests to the handlers behind endpoints."""

    def __init__(
        self,
        namespaces: Namespaces,
        endpoints: Endpoints,
        tasks: NexusTasks,
        http: HttpCalls,
        outward: Outward,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._namespaces = namespaces
        self._endpoints = endpoints
        self._tasks = tasks
        self._http = http
        self._outward = outward

    def target(self, endpoint_id: str) -> Target | Failure:
        """Where that endpoint routes to at this moment; a handler error that asking again cannot help, if nowhere."""
        endpoint = self._endpoints.find(endpoint_id)
        if endpoint is None:
            return handler_error(HandlerErrorType.NOT_FOUND, "endpoint not registered")
        spec = endpoint.spec
        if spec.target.HasField("external"):
            return Target(spec.name, url=spec.target.external.url)
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
        said = {SOURCE_NAMESPACE: self.namespace(namespace_id), REQUEST_TIMEOUT: milliseconds(time_left)}
        return handed_on(given) | said

    def refusal(self, endpoint_id: str, namespace_id: str) -> Failure | None:
        """Why that namespace may not call that endpoint at this moment; None if it may, or there is no endpoint."""
        endpoint = self._endpoints.find(endpoint_id)
        refused = self._endpoints.refusal(endpoint, self.namespace(namespace_id)) if endpoint is not None else ""
        return handler_error(HandlerErrorType.UNAUTHORIZED, refused) if refused else None

    def callback_url(self, target: Target) -> str:
        """Where a handler there sends its completion: to our HTTP address if it is not of this backend."""
        return self._outward.callback_url if target.url else SYSTEM_CALLBACK_URL

    def polled(self, target: Target) -> bool:
        """Whether a worker polls there, or did lately. At a URL nobody needs to."""
        if target.url:
            return True
        return self._tasks.polled(target.namespace_id, target.queue, self._limits.NEXUS_POLLED_WITHIN)

    async def ask(self, target: Target, request: Request, until: int, wanted: Callable[[], bool]) -> Reply:
        """Send a request to a handler and wait for its answer, at most until that moment (ns).

        Args:
            target: where to.
            request: what the worker is given.
            until: when to give up.
            wanted: asked before a worker gets it: whether the caller still wants that.
        """
        if target.url:
            return await self._http.ask(target.url, request, until)
        taken = False

        def take() -> None:
            nonlocal taken
            taken = True

        answer = await self._tasks.ask(target.namespace_id, target.queue, request, until, wanted=wanted, taken=take)
        late = answer is None
        if answer is None:
            answer = handler_error(HandlerErrorType.UPSTREAM_TIMEOUT, "upstream timeout")
        if not taken:
            return Reply(answer, Handler.BUSY if self.polled(target) else Handler.AWAY)
        return Reply(answer, Handler.TOO_SLOW if late else Handler.ANSWERED)


def said(whose: str, reply: Reply) -> Said:
    """What a call says of its destination: a handler that answers is well, unless it says to ask again.

    Args:
        whose: who called, by the id of the workflow, or of the operation that stands alone.
        reply: what came.
    """
    if reply.handler in (Handler.BUSY, Handler.AWAY, Handler.UNASKED):
        return NOTHING_SAID
    if not isinstance(reply.answer, Failure) or not retryable(reply.answer):
        return Said(Verdict.WELL)
    kind = reply.answer.nexus_handler_failure_info.type
    why = f"{kind}: {reply.answer.message}" if kind else reply.answer.message
    return Said(Verdict.UNWELL, Fault(whose, why[:MESSAGE_SHOWN]))
