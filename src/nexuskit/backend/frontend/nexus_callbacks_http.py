"""Completions by HTTP: whoever was given a callback tells how the operation ended.

The token in the callback's header fields says whose operation it is, and is looked at before the body is read. The
answer leaves when the end is on disk. An operation that has ended, or never was, is NOT_FOUND; a token that was not
given out here, or for another namespace than the path names, is BAD_REQUEST
(temporalio/temporal: service/frontend/nexus_completion_http_handler.go).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nexusrpc import Content, HandlerError, HandlerErrorType, OperationError
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.nexus.v1 import Link as NexusLink

from nexuskit.backend.errors import StatusError
from nexuskit.backend.frontend.nexus_http_limits import check_links, check_token
from nexuskit.backend.history import activity_failures
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.workflow import Outcome
from nexuskit.backend.nexus import links, wire_failures
from nexuskit.backend.nexus.completions import Completion
from nexuskit.backend.nexus.payloads import from_content
from nexuskit.backend.times import SECOND
from nexuskit.protocol.completion import parse_completion, write_completion_accepted
from nexuskit.protocol.errors import SerializerError
from nexuskit.protocol.failures import failure_from_error
from nexuskit.protocol.handling import bad_request
from nexuskit.protocol.values import OperationState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from temporalio.api.failure.v1 import Failure

    from nexuskit.backend.frontend.http_paths import ToCallback
    from nexuskit.backend.services import Services
    from nexuskit.backend.settings import Limits
    from nexuskit.protocol.values import HttpRequest, HttpResponse

_STATUS = {
    OperationState.SUCCEEDED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED,
    OperationState.FAILED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
    OperationState.CANCELED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NexusCompletion:
    """A completion whose body has not been read yet.

    Attributes:
        size: bytes that its body may have.

    Args:
        services: the backend.
        route: what its path leads to.
        headers: its header fields, with names in lower case.

    Raises:
        HandlerError: BAD_REQUEST, if its token was not given out here, or for another namespace; NOT_FOUND, if the
            namespace is gone.
    """

    waits = False
    """What has come is carried out, even if its sender goes away meanwhile."""

    def __init__(self, services: Services, route: ToCallback, headers: Mapping[str, str]) -> None:
        self._services = services
        self.size = services.limits.PAYLOAD_SIZE
        try:
            self._token = services.completions.verify(headers)
        except StatusError:
            raise bad_request("invalid callback token: it is not one that this backend gave out") from None
        namespace = services.namespaces.by_id.get(self._token.namespace_id)
        if namespace is None:
            raise HandlerError("the namespace of the callback token is not found", type=HandlerErrorType.NOT_FOUND)
        if route.namespace not in (None, namespace.name):
            raise bad_request("invalid callback token: it is not for the namespace in the path")

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """End the operation.

        Raises:
            HandlerError: BAD_REQUEST, if the request is wrong.
            StatusError: NOT_FOUND, if the operation does not run; UNAVAILABLE, if its end could not be written.
        """
        completion = self._completion(request)
        caller = await self._services.completions.caller(self._token)
        self._services.completions.complete(caller, self._token, completion)
        await self._services.engine.durable(caller)
        return write_completion_accepted()

    def _completion(self, request: HttpRequest) -> Completion:
        limits, now = self._services.limits, self._services.clock.now()
        told = parse_completion(request, received=_EPOCH + timedelta(microseconds=now // 1_000))
        check_token(told.operation_token, limits)
        sent = [NexusLink(url=link.url, type=link.type) for link in told.links]
        check_links(sent, limits)
        if isinstance(told.outcome, Content):
            outcome = Outcome(_STATUS[told.state], result=_result(told.outcome, limits))
        else:
            outcome = Outcome(_STATUS[told.state], failure=_failure(told.outcome, limits))
        began = now if told.start_time is None else int((told.start_time - _EPOCH).total_seconds()) * SECOND
        # Nobody began before time did, or will have begun.
        return Completion(outcome, min(max(began, 1), now), links.all_from_nexus(sent), told.operation_token)


def _result(content: Content, limits: Limits) -> Payloads:
    try:
        payload = from_content(content)
    except SerializerError as error:
        raise bad_request(f"invalid result content: {error}") from error
    size = payload.ByteSize()
    if size > limits.PAYLOAD_SIZE:
        raise bad_request(f"result exceeds size limit: {size} bytes, at most {limits.PAYLOAD_SIZE}")
    return Payloads(payloads=[payload])


def _failure(error: OperationError, limits: Limits) -> Failure:
    """The failure behind the error; who knows nothing of operation errors sends it alone."""
    told = error if error.original_failure is not None else error.__cause__ or error
    failure = wire_failures.from_wire(wire_failures.unwrapped(failure_from_error(told)))
    cut_causes(failure, limits)
    if failure.ByteSize() > limits.PAYLOAD_SIZE:
        return activity_failures.truncated(failure, limits.FAILURE_SIZE_LARGE)
    return failure
