"""The operations of the system endpoint: calls of this very API that a workflow makes as Nexus operations.

They are made with the operation's own request id, so one that was made before a crash is made once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusrpc import HandlerErrorType
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure, ServerFailureInfo

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.frontend import signals
from nexuskit.backend.frontend.call import Call
from nexuskit.backend.history import system_endpoint
from nexuskit.backend.nexus.failures import handler_error
from nexuskit.backend.nexus.operations import Answer, Refused, Succeeded, SystemCall

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from nexuskit.backend.services import Services

_RETRIED = frozenset(
    {Code.ABORTED, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.UNKNOWN}
)


async def start_system_operation(services: Services, call: SystemCall) -> Answer:
    """Carry out a call of the system endpoint."""
    try:
        request = system_endpoint.read(call.service, call.operation, call.input, call.namespace)
    except system_endpoint.SystemCallError as error:
        return Refused(handler_error(HandlerErrorType.BAD_REQUEST, str(error)), retryable=False)
    request.request_id = call.request_id
    request.links.append(call.link)
    try:
        answer = await signals.signal_with_start(services, Call(call.operation), request)
    except StatusError as error:
        again = error.code in _RETRIED
        there = error.code == Code.ALREADY_EXISTS
        name = "WorkflowExecutionAlreadyStarted" if there else error.code.name.title().replace("_", "")
        info = ServerFailureInfo(non_retryable=not again)
        return Refused(Failure(message=f"{name}: {error.message}", server_failure_info=info), retryable=again)
    return Succeeded(_payload(answer), [answer.signal_link])


def _payload(answer: Message) -> Payload:
    metadata = {"encoding": b"binary/protobuf", "messageType": answer.DESCRIPTOR.full_name.encode()}
    return Payload(metadata=metadata, data=answer.SerializeToString())
