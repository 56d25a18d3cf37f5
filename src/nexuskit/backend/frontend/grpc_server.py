"""The gRPC server: assembled from the services' descriptors and the table of handlers, so that no call is forgotten.

Messages are decoded here and not by gRPC, so that bytes which are no message get a status that says so. One access line
is logged for each request, at debug level, without anything of what the request carried.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from temporalio.api.common.v1 import GrpcStatus
from temporalio.api.operatorservice.v1 import service_pb2 as operator_service
from temporalio.api.workflowservice.v1 import service_pb2 as workflow_service

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StartError, StatusError, unimplemented
from nexuskit.backend.frontend.call import Call
from nexuskit.backend.frontend.checks import check_fields
from nexuskit.backend.frontend.table import OPERATOR_SERVICE, WORKFLOW_SERVICE
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

    from nexuskit.backend.frontend.table import Handler
    from nexuskit.backend.services import Services

log = logging.getLogger("nexuskit.backend.frontend")
access = logging.getLogger("nexuskit.backend.access")

STATUS = {code.value[0]: code for code in grpc.StatusCode}
DETAILS = "grpc-status-details-bin"
"""Trailer in which the SDKs look for typed details."""


async def _check_health(services: Services, _: Call, request: health_pb2.HealthCheckRequest) -> Message:
    if request.service not in SERVED:
        raise StatusError(Code.NOT_FOUND, f"unknown service {request.service!r}")
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


_HEALTH: Mapping[str, Handler] = {"Check": _check_health}
SERVICES: tuple[tuple[ServiceDescriptor, Mapping[str, Handler]], ...] = (
    (workflow_service.DESCRIPTOR.services_by_name["WorkflowService"], WORKFLOW_SERVICE),
    (operator_service.DESCRIPTOR.services_by_name["OperatorService"], OPERATOR_SERVICE),
    (cast("ServiceDescriptor", health_pb2.DESCRIPTOR.services_by_name["Health"]), _HEALTH),
)
SERVED = frozenset({"", *(service.full_name for service, _ in SERVICES)})


async def start_grpc(services: Services, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """Start serving. Returns the server and its port, a free one where `port` is 0.

    Raises:
        StartError: the port is in use, or the host is none of ours.
    """
    server = grpc.aio.server(
        options=[
            # Without this a second server would bind the same port without a word, and take half of the requests.
            ("grpc.so_reuseport", 0),
            # Else of a burst of more than a thousand calls some are answered CANCELLED, which no client tries again.
            ("grpc.server.max_pending_requests", services.limits.GRPC_CALLS_WAITING),
            ("grpc.server.max_pending_requests_hard_limit", services.limits.GRPC_CALLS_WAITING),
            ("grpc.max_receive_message_length", services.limits.GRPC_MESSAGE_SIZE),
            # A task with the updates that wait is as large as they are together: no limit but theirs, as at Temporal.
            ("grpc.max_send_message_length", -1),
        ]
    )
    for service, handlers in SERVICES:
        methods = {method.name: _method(services, method, handlers.get(method.name)) for method in service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, methods),))
    server.add_generic_rpc_handlers((_Unknown(),))
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise StartError(
            f"The gRPC port {host}:{port} cannot be used: it is in use, or {host} is not an address of this machine."
        ) from error
    await server.start()
    return server, bound


class _Unknown(grpc.GenericRpcHandler):
    """Answers every call that is in no table, with its name."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        name = handler_call_details.method

        async def refuse(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            return await _refuse(context, unimplemented(f"unknown call {name}: it is none of Temporal's API"))

        return grpc.unary_unary_rpc_method_handler(refuse)


def _method(
    services: Services, method: MethodDescriptor, handler: Handler | None
) -> grpc.RpcMethodHandler[bytes, bytes]:
    request_class = GetMessageClass(method.input_type)
    name = method.name
    clock = services.clock

    async def serve(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        began = time.perf_counter()
        code = Code.OK
        try:
            if handler is None:
                raise unimplemented(f"{name} is not served by this backend")
            left = context.time_remaining()
            # No deadline is a very long one on the wire, and None in gRPC's Python.
            deadline = clock.now() + int(left * SECOND) if left and left < services.limits.DEADLINE_MAX_S else 0
            message = _decode(request_class, raw, name)
            services.namespaces.check_state(name, getattr(message, "namespace", ""))
            check_fields(message)
            answer = await handler(services, Call(name, tuple(context.invocation_metadata() or ()), deadline), message)
            return answer.SerializeToString()
        except StatusError as error:
            code = error.code
            return await _refuse(context, error)
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        except Exception as error:
            code = Code.INTERNAL
            log.exception("%s failed", name)
            return await _refuse(
                context,
                StatusError(Code.INTERNAL, f"{name} failed: {type(error).__name__}; the backend's log says more"),
            )
        finally:
            if access.isEnabledFor(logging.DEBUG):
                access.debug("%s %s %.1f ms %s", name, code.name, (time.perf_counter() - began) * 1e3, context.peer())

    return grpc.unary_unary_rpc_method_handler(serve)


def _decode(request_class: type[Message], raw: bytes, method: str) -> Message:
    try:
        return request_class.FromString(raw)
    except DecodeError:
        # INTERNAL is what gRPC servers in Go, and so the real server, answer here.
        what = request_class.DESCRIPTOR.full_name
        raise StatusError(Code.INTERNAL, f"grpc: error unmarshalling request: {method} wants a {what}") from None


async def _refuse(context: grpc.aio.ServicerContext[Any, Any], error: StatusError) -> bytes:
    trailers: list[tuple[str, str | bytes]] = []
    if error.details:
        details: list[AnyProto] = []
        for each in error.details:
            packed = AnyProto()
            packed.Pack(each)
            details.append(packed)
        status = GrpcStatus(code=int(error.code), message=error.message[: limits.MESSAGE_LENGTH], details=details)
        trailers.append((DETAILS, status.SerializeToString()))
    # Headers have a limit of 8 KiB in gRPC, and the message travels in one, %-encoded.
    message = (
        error.message if len(error.message) <= limits.MESSAGE_LENGTH else error.message[: limits.MESSAGE_LENGTH] + "…"
    )
    await context.abort(STATUS[int(error.code)], message, tuple(trailers))
    raise AssertionError("abort raises")
