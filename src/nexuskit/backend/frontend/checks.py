"""Checks that many calls share: what a request may hold, and which of its fields are honoured.

A field that is set and not honoured is refused by name: a program must not believe that something holds which does not.
Fields that are harmless to ignore stand in one table, with the reason why.
"""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import WorkerVersioningMode
from temporalio.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollNexusTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
)

from nexuskit.backend.errors import invalid_argument, unimplemented
from nexuskit.backend.settings import DEFAULTS, Limits
from nexuskit.backend.times import span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message

PollRequest = PollWorkflowTaskQueueRequest | PollActivityTaskQueueRequest | PollNexusTaskQueueRequest
_VERSIONED = WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED

log = logging.getLogger("nexuskit.backend.frontend")

HARMLESS: Mapping[str, str] = MappingProxyType(
    {
        "binary_checksum": "names the worker's build; nothing here depends on it",
        "capabilities": "says what the client understands beyond what we send",
        "deployment": "names the worker's build; nothing here depends on it",
        "include_system_workers": "there are none",
        "deployment_options": "names the worker's build; a poll that asks for versioning in it is refused",
        "eager_worker_deployment_options": "versioning is not offered",
        "last_heartbeat_details": "kept where the attempt is retried",
        "metering_metadata": "for billing, which there is none of",
        "cause": "says why a query failed; the failure itself says more",
        "poller_group_id": "a hint for spreading pollers over servers; there is one",
        "request_eager_execution": "a hint; the activity is given out by its queue where it is not honoured",
        "resource_id": "a hint for routing to a server; there is one",
        "security_token": "for a hook of the real server that is not there",
        "skip_archival": "there is no archive",
        "worker_control_task_queue": "for commands to workers, which are not sent",
        "worker_version": "versioning is not offered",
        "worker_version_capabilities": "names the worker's build; a poll that asks for versioning in it is refused",
    }
)
"""Field that is ignored wherever it occurs → why that harms nobody."""

REFUSED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "StartWorkflowExecutionRequest": frozenset(
            {
                "time_skipping_config",
                "versioning_override",
            }
        ),
        "RespondWorkflowTaskCompletedRequest": frozenset({"versioning_behavior", "page_number", "intermediate_page"}),
        "RespondWorkflowTaskFailedRequest": frozenset({"messages"}),
        "DescribeTaskQueueRequest": frozenset({"report_task_reachability"}),
        "UpdateTaskQueueConfigRequest": frozenset(
            {
                "update_fairness_key_rate_limit_default",
                "set_fairness_weight_overrides",
                "unset_fairness_weight_overrides",
            }
        ),
        "DeleteNamespaceRequest": frozenset({"namespace_delete_delay"}),
        "RegisterNamespaceRequest": frozenset(
            {"history_archival_uri", "visibility_archival_uri", "is_global_namespace"}
        ),
        "UpdateNamespaceRequest": frozenset({"replication_config", "delete_bad_binary", "promote_namespace"}),
    }
)
"""Request → its fields that mean something we do not do yet."""


def check_fields(request: Message) -> None:
    """No field may be set that is not honoured.

    Raises:
        StatusError: UNIMPLEMENTED, with the field's name.
    """
    refused = REFUSED.get(request.DESCRIPTOR.name)
    if refused is None:
        return
    for field, _ in request.ListFields():
        if field.name in refused:
            raise unimplemented(f"{request.DESCRIPTOR.name}.{field.name} is set, and not served by this backend")


def check_unversioned(request: PollRequest) -> None:
    """The worker does not ask to be given only what is pinned to its build, which nothing here would keep.

    Raises:
        StatusError: UNIMPLEMENTED.
    """
    name = request.DESCRIPTOR.name
    if request.worker_version_capabilities.use_versioning:
        raise unimplemented(
            f"{name}.worker_version_capabilities.use_versioning is set, and not served by this backend: start the"
            " worker without versioning"
        )
    if request.deployment_options.worker_versioning_mode == _VERSIONED:
        raise unimplemented(
            f"{name}.deployment_options.worker_versioning_mode VERSIONED is set, and not served by this backend: start"
            " the worker without versioning"
        )


def check_text(field: str, value: str, limits: Limits = DEFAULTS, *, required: bool = True) -> None:
    """An id or name is there, and no longer than the limit.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    if required and not value:
        raise invalid_argument(f"{field} is not set on request.")
    size = len(value.encode())
    if size > limits.ID_LENGTH:
        raise invalid_argument(f"{field} length exceeds limit: {size} bytes, at most {limits.ID_LENGTH}.")


def check_size(field: str, message: Message, limits: Limits = DEFAULTS, limit: int = 0) -> None:
    """A payload is within its limit; 0 for the one of payloads.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    size = message.ByteSize()
    limit = limit or limits.PAYLOAD_SIZE
    if size > limit:
        raise invalid_argument(f"Blob data size exceeds limit: {field} is {size} bytes, at most {limit}.")
    if size > limits.PAYLOAD_WARN_SIZE:
        log.warning("%s is %d bytes, more than %d; refused from %d on", field, size, limits.PAYLOAD_WARN_SIZE, limit)


def check_span(field: str, length: Duration) -> int:
    """A timeout is not negative. Returns it in ns.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    value = span(length)
    if value < 0:
        raise invalid_argument(f"An invalid {field} is set on request: negative, {value / 1e9:g} s.")
    return value
