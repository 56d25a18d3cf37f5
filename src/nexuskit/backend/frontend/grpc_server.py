"""The gRPC server: assembled from the services' descriptors and the table of handlers, so that no call is forgotten.

One access line is logged for each request, at debug level, without anything of what the request carried.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from temporalio.api.common.v1 import GrpcStatus
from temporalio.api.operatorservice.v1 import service_pb2 as operator_service
from temporalio.api.workflowservice.v1 import service_pb2 as workflow_service

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError, unimplemented
from nexuskit.backend.frontend import health
from nexuskit.backend.frontend.call import Call
from nexuskit.backend.frontend.checks import check_fields
from nexuskit.backend.frontend.table import OPERATOR_SERVICE, WORKFLOW_SERVICE
from nexuskit.backend.rpc.messages import answered, refused
from nexuskit.backend.rpc.server import Server
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

    from nexuskit.backend.frontend.table import Handler
    from nexuskit.backend.rpc.messages import Answer, Head
    from nexuskit.backend.services import Services

log = logging.getLogger("nexuskit.backend.frontend")
access = logging.getLogger("nexuskit.backend.access")

DETAILS = "grpc-status-details-bin"
"""Trailer in which the SDKs look for typed details."""

_TEMPORAL: tuple[tuple[ServiceDescriptor, Mapping[str, Handler]], ...] = (
    (workflow_service.DESCRIPTOR.services_by_name["WorkflowService"], WORKFLOW_SERVICE),
    (operator_service.DESCRIPTOR.services_by_name["OperatorService"], OPERATOR_SERVICE),
)
SERVICES = (*_TEMPORAL, health.service(service.full_name for service, _ in _TEMPORAL))


async def start_grpc(services: Services, listener: socket.socket) -> Server:
    """Serve the calls that come to a socket which listens."""
    methods: dict[str, Callable[[Head, bytes, str], Awaitable[Answer]]] = {
        f"/{service.full_name}/{method.name}": _method(services, method, handlers.get(method.name))
        for service, handlers in SERVICES
        for method in service.methods
    }

    async def serve(head: Head, raw: bytes, peer: str) -> Answer:
        method = methods.get(head.path)
        if method is None:
            return _refused(unimplemented(f"unknown call {head.path}: it is none of Temporal's API"))
        return await method(head, raw, peer)

    server = Server(
        serve,
        message_size=services.limits.GRPC_MESSAGE_SIZE,
        fields_size=services.limits.GRPC_METADATA_SIZE,
        streams=services.limits.GRPC_CALLS_AT_ONCE,
    )
    await server.start(listener)
    return server


def _method(
    services: Services, method: MethodDescriptor, handler: Handler | None
) -> Callable[[Head, bytes, str], Awaitable[Answer]]:
    request_class = GetMessageClass(method.input_type)
    name = method.name
    clock = services.clock

    async def serve(head: Head, raw: bytes, peer: str) -> Answer:
        began = time.perf_counter()
        code = Code.OK
        try:
            if handler is None:
                raise unimplemented(f"{name} is not served by this backend")
            watched = 0 < head.timeout < services.limits.DEADLINE_MAX_S * SECOND
            deadline = clock.now() + head.timeout if watched else 0
            message = _decode(request_class, raw, name)
            services.namespaces.check_state(name, getattr(message, "namespace", ""))
            check_fields(message)
            answer = await handler(services, Call(name, head.pairs, deadline), message)
            return answered(answer.SerializeToString())
        except StatusError as error:
            code = error.code
            return _refused(error)
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        except Exception as error:
            code = Code.INTERNAL
            log.exception("%s failed", name)
            return _refused(
                StatusError(Code.INTERNAL, f"{name} failed: {type(error).__name__}; the backend's log says more")
            )
        finally:
            if access.isEnabledFor(logging.DEBUG):
                access.debug("%s %s %.1f ms %s", name, code.name, (time.perf_counter() - began) * 1e3, peer)

    return serve


def _decode(request_class: type[Message], raw: bytes, method: str) -> Message:
    try:
        return request_class.FromString(raw)
    except DecodeError:
        # INTERNAL is what gRPC servers in Go, and so the real server, answer here.
        what = request_class.DESCRIPTOR.full_name
        raise StatusError(Code.INTERNAL, f"grpc: error unmarshalling request: {method} wants a {what}") from None


def _refused(error: StatusError) -> Answer:
    trailers: list[tuple[str, bytes]] = []
    if error.details:
        details: list[AnyProto] = []
        for each in error.details:
            packed = AnyProto()
            packed.Pack(each)
            details.append(packed)
        status = GrpcStatus(code=int(error.code), message=error.message[: limits.MESSAGE_LENGTH], details=details)
        trailers.append((DETAILS, status.SerializeToString()))
    # Clients bound the headers that they take, and the message travels in one, %-encoded.
    message = (
        error.message if len(error.message) <= limits.MESSAGE_LENGTH else error.message[: limits.MESSAGE_LENGTH] + "…"
    )
    return refused(int(error.code), message, trailers)
