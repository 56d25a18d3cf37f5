"""What a worker says to updates: protocol messages, and the commands that give them their place."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message as AnyBody
from temporalio.api.command.v1 import Command, ProtocolMessageCommandAttributes
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import CommandType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.protocol.v1 import Message
from temporalio.api.update.v1 import Acceptance, Meta, Outcome, Rejection, Request, Response


def request_of(message: Message) -> Request:
    """The request that a message brings to the worker."""
    request = Request()
    assert message.body.Unpack(request), message.body.type_url
    return request


def acceptance(request: Message, *, bring: bool = True) -> Message:
    """The worker accepts an update that a message brought; with `bring` the request comes back with it, as SDKs do."""
    body = Acceptance(
        accepted_request_message_id=request.id,
        accepted_request_sequencing_event_id=request.event_id,
        accepted_request=request_of(request) if bring else None,
    )
    return _message(request.protocol_instance_id, "accept", body)


def rejection(request: Message, reason: str = "no") -> Message:
    """The worker rejects an update that a message brought."""
    body = Rejection(
        rejected_request_message_id=request.id,
        rejected_request_sequencing_event_id=request.event_id,
        rejected_request=request_of(request),
        failure=Failure(message=reason, application_failure_info=ApplicationFailureInfo(type="Invalid")),
    )
    return _message(request.protocol_instance_id, "reject", body)


def response(update_id: str, result: bytes = b'"done"') -> Message:
    """The worker answers an update that it accepted."""
    payload = Payload(metadata={"encoding": b"json/plain"}, data=result)
    body = Response(meta=Meta(update_id=update_id), outcome=Outcome(success=Payloads(payloads=[payload])))
    return _message(update_id, "complete", body)


def place_of(message: Message) -> Command:
    """The command that gives a message its place among the others."""
    return Command(
        command_type=CommandType.COMMAND_TYPE_PROTOCOL_MESSAGE,
        protocol_message_command_attributes=ProtocolMessageCommandAttributes(message_id=message.id),
    )


def _message(update_id: str, what: str, body: AnyBody) -> Message:
    packed = AnyMessage()
    packed.Pack(body)
    return Message(id=f"{update_id}/{what}", protocol_instance_id=update_id, body=packed)
