"""The system endpoint: what a workflow may ask of the backend itself, as a Nexus operation.

There is one such operation, signal with start. Its input is the request of that name, as a Temporal SDK writes it; what
a request says of who sends it is said by the backend (temporalio/temporal: chasm/lib/workflow/nexus_service.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from temporalio.api.workflowservice.v1 import SignalWithStartWorkflowExecutionRequest

if TYPE_CHECKING:
    from temporalio.api.common.v1 import Payload

SYSTEM_ENDPOINT = "__temporal_system"
"""Its name, which no endpoint of the registry can have."""
SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
OPERATION = "SignalWithStartWorkflowExecution"


class SystemCallError(ValueError):
    """What is wrong with a call of the system endpoint."""


def read(service: str, operation: str, given: Payload, namespace: str) -> SignalWithStartWorkflowExecutionRequest:
    """The request of a call of the system endpoint.

    Args:
        service: as the command names it.
        operation: likewise.
        given: the input.
        namespace: the caller's; there is no other that it may name.

    Raises:
        SystemCallError: There is no such operation, or that is no such request.
    """
    if service != SERVICE:
        raise SystemCallError(f"service {service!r} not found: {SYSTEM_ENDPOINT} has {SERVICE!r}")
    if operation != OPERATION:
        raise SystemCallError(f"operation {operation!r} not found: {SYSTEM_ENDPOINT} has {OPERATION!r}")
    request = _decoded(given)
    request.namespace = request.namespace or namespace
    if request.namespace != namespace:
        raise SystemCallError(
            f"Namespace in request {request.namespace!r} does not match namespace in context {namespace!r}"
        )
    if request.request_id:
        raise SystemCallError("RequestID should not be set on the request")
    if request.links:
        raise SystemCallError("Links should not be set on the request")
    return request


def _decoded(given: Payload) -> SignalWithStartWorkflowExecutionRequest:
    wanted = SignalWithStartWorkflowExecutionRequest.DESCRIPTOR.full_name
    encoding = given.metadata.get("encoding", b"")
    try:
        if encoding == b"binary/protobuf":
            return SignalWithStartWorkflowExecutionRequest.FromString(given.data)
        if encoding == b"json/protobuf":
            return json_format.Parse(given.data, SignalWithStartWorkflowExecutionRequest())
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError):
        raise SystemCallError(f"failed to decode input: these {len(given.data)} bytes are no {wanted}") from None
    raise SystemCallError(
        f"failed to decode input: the encoding must be binary/protobuf or json/protobuf, of a {wanted}, not"
        f" {encoding.decode(errors='replace')[:100]!r}"
    )
