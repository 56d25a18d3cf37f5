"""Calls by HTTP: a request to start or to cancel an operation becomes a Nexus task, and a worker's answer the answer.

Nothing of it is written: the request waits in memory for a worker, as long as its caller waits. What a handler gets are
the caller's header fields without those that only a server can say, and the caller's address as `x-forwarded-for`. A
caller by HTTP has no namespace as long as nobody proves one (temporalio/temporal: service/frontend/nexus_handler.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import nexusrpc
from nexusrpc import HandlerError, HandlerErrorType, OperationError, OperationErrorState
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import CancelOperationRequest, Request, StartOperationRequest
from temporalio.api.nexus.v1 import Link as NexusLink

from nexuskit.backend.frontend.http_paths import ToEndpoint
from nexuskit.backend.frontend.nexus_http_limits import check_headers, check_links, check_name, check_token
from nexuskit.backend.history import queue_name
from nexuskit.backend.nexus import operations, wire_failures
from nexuskit.backend.nexus.calls import Handler, Target
from nexuskit.backend.nexus.headers import handed_on, milliseconds
from nexuskit.backend.nexus.payloads import from_content, to_content
from nexuskit.backend.times import MILLISECOND, timestamp
from nexuskit.protocol.errors import LocalProtocolError, SerializerError
from nexuskit.protocol.failures import error_from_failure
from nexuskit.protocol.handling import (
    bad_request,
    parse_request,
    write_cancel_accepted,
    write_error,
    write_started,
    write_succeeded,
)
from nexuskit.protocol.headers import REQUEST_TIMEOUT
from nexuskit.protocol.links import format_link
from nexuskit.protocol.values import HttpRequest, HttpResponse, StartRequest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from temporalio.api.nexus.v1 import Response

    from nexuskit.backend.frontend.http_paths import ToQueue
    from nexuskit.backend.nexus.calls import Reply
    from nexuskit.backend.services import Services
    from nexuskit.backend.settings import Limits
    from nexuskit.protocol.values import CancelRequest

FORWARDED_FOR = "x-forwarded-for"
"""The caller's address, said by the server and by nobody else."""
_NOBODY = None
"""The namespace of a caller by HTTP: nothing shows it."""
FAILURE_SUPPORT = "temporal-nexus-failure-support"
"""The caller reads the failure of an operation inside the operation error of the specification; older ones read it
alone, beside the state in a header field.
"""
FAILURE_SOURCE = ("temporal-nexus-failure-source", "worker")
"""Said with what a worker answered, so that a caller can tell it from what the server says by itself."""


class NexusCall:
    """A call to an endpoint or a task queue by one who may call it, whose body has not been read yet.

    Attributes:
        size: bytes that its body may have.

    Args:
        services: the backend.
        route: what its path leads to.
        caller: the caller's address.

    Raises:
        HandlerError: BAD_REQUEST or NOT_FOUND, if there is nothing to be called; UNAUTHORIZED, if the caller may not.
        StatusError: it names a namespace or a queue that cannot be.
    """

    waits = True
    """Its caller may go away, and then nobody wants the answer."""

    def __init__(self, services: Services, route: ToEndpoint | ToQueue, caller: str) -> None:
        self._services = services
        self._below = route.below
        self._caller = caller
        self._target = _to_endpoint(services, route) if isinstance(route, ToEndpoint) else _to_queue(services, route)
        self.size = services.limits.PAYLOAD_SIZE

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Hand the request to a worker, and answer what that answers.

        Raises:
            HandlerError: the request is wrong, or nobody answered in time.
        """
        _, question, query = request.target.partition("?")
        asked = parse_request(
            HttpRequest(request.method, self._below + question + query, request.headers, request.body)
        )
        limits, now = self._services.limits, self._services.clock.now()
        check_name("service", asked.service, limits)
        check_name("operation", asked.operation, limits)
        timeout = _timeout(asked.request_timeout, limits)
        task = Request(
            header=self._headers(asked, timeout),
            scheduled_time=timestamp(now),
            capabilities=Request.Capabilities(temporal_failure_responses=True),
            endpoint=self._target.endpoint,
        )
        if isinstance(asked, StartRequest):
            task.start_operation.CopyFrom(self._start(asked))
        else:
            check_token(asked.token, limits)
            task.cancel_operation.CopyFrom(_cancel(asked))
        reply = await self._services.calls.ask(self._target, task, now + timeout, _always)
        return self._answered(asked, reply, timeout)

    def _headers(self, asked: StartRequest | CancelRequest, timeout: int) -> dict[str, str]:
        headers = handed_on(asked.headers)
        check_headers(headers, self._services.limits)
        return headers | {FORWARDED_FOR: self._caller, REQUEST_TIMEOUT: milliseconds(timeout)}

    def _start(self, asked: StartRequest) -> StartOperationRequest:
        limits = self._services.limits
        check_headers(asked.callback_headers, limits)
        links = [NexusLink(url=link.url, type=link.type) for link in asked.links]
        check_links(links, limits)
        try:
            payload = from_content(asked.content)
        except SerializerError as error:
            raise bad_request(f"invalid input: {error}") from error
        size = payload.ByteSize()
        if size > limits.PAYLOAD_SIZE:
            raise bad_request(f"input exceeds size limit: {size} bytes, at most {limits.PAYLOAD_SIZE}")
        return StartOperationRequest(
            service=asked.service,
            operation=asked.operation,
            # Handlers know a repeated start by it; who sends none does not repeat.
            request_id=asked.request_id or self._services.draw.uuid(),
            callback=asked.callback_url or "",
            callback_header=asked.callback_headers,
            payload=payload,
            links=links,
        )

    def _answered(self, asked: StartRequest | CancelRequest, reply: Reply, timeout: int) -> HttpResponse:
        if reply.handler == Handler.ANSWERED:
            response = _by_worker(asked, reply.answer, self._services.limits)
            if response.status >= 400:
                return HttpResponse(response.status, (*response.headers, FAILURE_SOURCE), response.body)
            return response
        kind = HandlerErrorType.UPSTREAM_TIMEOUT
        match reply.handler:
            case Handler.AWAY:
                raise HandlerError("upstream timeout: no worker polls the task queue that was called", type=kind)
            case Handler.BUSY:
                given = milliseconds(timeout)
                message = f"upstream timeout: the request had {given}, which were over before a worker took it"
                raise HandlerError(message, type=kind)
            case _:
                raise HandlerError("upstream timeout: the handler did not answer in time", type=kind)


def _to_endpoint(services: Services, route: ToEndpoint) -> Target:
    endpoint = services.endpoints.resolve(route.endpoint)
    if endpoint is None:
        raise HandlerError(
            "nexus endpoint not found: no endpoint has that id, name or instance URI",
            type=HandlerErrorType.NOT_FOUND,
            retryable_override=False,
        )
    if refused := services.endpoints.refusal(endpoint, _NOBODY):
        raise HandlerError(refused, type=HandlerErrorType.UNAUTHORIZED)
    if not endpoint.spec.target.HasField("worker"):
        # A caller by HTTP could reach from here what he cannot reach by himself.
        raise bad_request("invalid endpoint target: calls by HTTP go to endpoints of workers only")
    target = services.calls.target(endpoint.id)
    if isinstance(target, Failure):
        # The namespace may be made again; who calls learns nothing of its name.
        raise HandlerError("invalid endpoint target", type=HandlerErrorType.NOT_FOUND, retryable_override=True)
    return target


def _to_queue(services: Services, route: ToQueue) -> Target:
    queue_name.check(route.queue, services.limits)
    services.namespaces.check_state("PollNexusTaskQueue", route.namespace)
    namespace = services.namespaces.get(route.namespace)
    if refused := services.endpoints.refusal_of_queue(namespace.name, route.queue):
        raise HandlerError(refused, type=HandlerErrorType.UNAUTHORIZED)
    return Target("", namespace.id, namespace.name, route.queue)


def _timeout(asked: timedelta | None, limits: Limits) -> int:
    """How long the call may take (ns)."""
    if asked is None:
        return limits.NEXUS_REQUEST_TIMEOUT
    return min(int(asked.total_seconds() * 1_000) * MILLISECOND, limits.NEXUS_REQUEST_TIMEOUT_MAX)


def _cancel(asked: CancelRequest) -> CancelOperationRequest:
    return CancelOperationRequest(
        service=asked.service, operation=asked.operation, operation_id=asked.token, operation_token=asked.token
    )


def _by_worker(asked: StartRequest | CancelRequest, answer: Response | Failure, limits: Limits) -> HttpResponse:
    """The answer of the specification that a worker's answer is.

    Raises:
        HandlerError: INTERNAL, for one that HTTP cannot carry.
    """
    try:
        if isinstance(answer, Failure):
            return _refused(answer)
        if not isinstance(asked, StartRequest):
            return write_cancel_accepted()
        start = answer.start_operation
        match operations.read_answer(answer, limits):
            case operations.Succeeded(result, _):
                return write_succeeded(to_content(result), _links(start.sync_success.links))
            case operations.Accepted(token, _):
                return write_started(token, _links(start.async_success.links))
            case operations.Failed(failure):
                state = OperationErrorState.FAILED
                if failure.HasField("canceled_failure_info"):
                    state = OperationErrorState.CANCELED
                if start.HasField("operation_error"):
                    wire = wire_failures.from_older(start.operation_error.failure)
                else:
                    wire = wire_failures.to_wire(failure)
                if asked.headers.get(FAILURE_SUPPORT) == "true":
                    return write_error(wire_failures.operation_error(wire, state))
                return write_error(OperationError(failure.message, state=state, original_failure=wire))
            case operations.Refused(failure, _):
                return _refused(failure)
    except LocalProtocolError as error:
        raise HandlerError(
            f"the handler's answer cannot travel by HTTP: {error}", type=HandlerErrorType.INTERNAL
        ) from error


def _refused(failure: Failure) -> HttpResponse:
    error = error_from_failure(wire_failures.to_wire(failure))
    return write_error(
        error if isinstance(error, HandlerError) else HandlerError(failure.message, type=HandlerErrorType.INTERNAL)
    )


def _links(links: Iterable[NexusLink]) -> list[nexusrpc.Link]:
    """Those that can travel: a link is a pointer for people, and a bad one is no reason to fail a call."""
    travelling: list[nexusrpc.Link] = []
    for link in links:
        made = nexusrpc.Link(url=link.url, type=link.type)
        try:
            format_link(made)
        except LocalProtocolError:
            continue
        travelling.append(made)
    return travelling


def _always() -> bool:
    return True
