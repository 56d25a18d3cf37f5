"""gRPC's health service (grpc/grpc: doc/health-checking.md), for clients that ask before they call.

Its two messages are made here, in a pool of their own: the package that has them brings gRPC's whole library along, and
a program that has it too must not meet the same names twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from nexuskit.backend.errors import Code, StatusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.descriptor import ServiceDescriptor
    from google.protobuf.message import Message

    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.frontend.table import Handler
    from nexuskit.backend.services import Services

PACKAGE = "grpc.health.v1"
SERVING = 1


def _file() -> FileDescriptorProto:
    """`grpc/health/v1/health.proto`, without the call that streams: nothing here changes its state and goes on."""
    file = FileDescriptorProto(name="grpc/health/v1/health.proto", package=PACKAGE, syntax="proto3")
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(
        name="service",
        number=1,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    response = file.message_type.add(name="HealthCheckResponse")
    statuses = response.enum_type.add(name="ServingStatus")
    for number, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        statuses.value.add(name=name, number=number)
    response.field.add(
        name="status",
        number=1,
        type=FieldDescriptorProto.TYPE_ENUM,
        type_name=f".{PACKAGE}.HealthCheckResponse.ServingStatus",
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    file.service.add(name="Health").method.add(
        name="Check", input_type=f".{PACKAGE}.HealthCheckRequest", output_type=f".{PACKAGE}.HealthCheckResponse"
    )
    return file


def service(served: Iterable[str]) -> tuple[ServiceDescriptor, Mapping[str, Handler]]:
    """The health service of a server.

    Args:
        served: the full names of its services; with "", all of them together, they are what can be asked for.
    """
    pool = DescriptorPool()
    pool.Add(_file())
    found: ServiceDescriptor = pool.FindServiceByName(f"{PACKAGE}.Health")
    answer = GetMessageClass(found.methods_by_name["Check"].output_type)
    known = frozenset({"", *served, found.full_name})

    async def check(_services: Services, _call: Call, request: Any) -> Message:
        if request.service not in known:
            raise StatusError(Code.NOT_FOUND, f"unknown service {request.service!r}")
        return answer(status=SERVING)

    return found, {"Check": check}
