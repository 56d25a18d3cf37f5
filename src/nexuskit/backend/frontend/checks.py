"""Checks that many calls share: what a request may hold, and which of its fields are honoured.

A field that is set and not honoured is refused by name: a program must not believe that something holds which does not.
Fields that are harmless to ignore stand in one table, with the reason why.
"""

from __future__ import annotations

import logging
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.enums.v1 import ArchivalState, WorkerVersioningMode

from nexuskit.backend.errors import invalid_argument, unimplemented
from nexuskit.backend.history import queue_name
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import fault, span
from nexuskit.identity.callers import EMBEDDED_CLUSTER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from temporalio.api.workflowservice.v1 import (
        PollActivityTaskQueueRequest,
        PollNexusTaskQueueRequest,
        PollWorkflowTaskQueueRequest,
        StartActivityExecutionRequest,
        StartWorkflowExecutionRequest,
    )

    TaskQueueRequest = (
        PollActivityTaskQueueRequest
        | PollNexusTaskQueueRequest
        | PollWorkflowTaskQueueRequest
        | StartActivityExecutionRequest
        | StartWorkflowExecutionRequest
    )

log = logging.getLogger("nexuskit.backend.frontend")

TOO_LARGE = "Blob data size exceeds limit."
"""What the real server says of a payload over its limit."""


class Named(NamedTuple):
    """Whose payload it is: the namespace's name, and the id of the workflow or activity in it."""

    namespace: str
    id: str


HARMLESS: Mapping[str, str] = MappingProxyType(
    {
        "binary_checksum": "names the worker's build; nothing here depends on it",
        "deployment": "names the worker's build; nothing here depends on it",
        "include_system_workers": "there are none",
        "inherit_build_id": "all workers of a queue are of one version",
        "poller_group_id": "a hint for spreading pollers over servers; there is one",
        "resource_id": "a hint for routing to a server; there is one",
        "security_token": "for a hook of the real server that is not there",
        "skip_archival": "there is no archive",
        "worker_control_task_queue": "for commands to workers, which are not sent",
        "worker_version": "names the worker's build; nothing here depends on it",
        "DescribeNamespaceRequest.weak_consistency": "allows an older answer; it gets the newest",
        "Message.command_index": "messages are carried out where a command names them, the others in their order",
        "PollWorkflowExecutionUpdateRequest.identity": "waiting leaves no trace",
        "RecordWorkerHeartbeatRequest.identity": "each heartbeat names its worker",
        "RequestCancelWorkflowExecutionRequest.request_id": "a workflow that was asked before is not asked again",
        "ResetActivityExecutionRequest.identity": "not in any history",
        "ResetActivityExecutionRequest.request_id": "a repetition does the same again",
        "ResetActivityRequest.identity": "not in any history",
        "RespondActivityTaskFailedByIdRequest.cause": "tells failures apart in metrics; the failure itself says more",
        "RespondActivityTaskFailedRequest.cause": "tells failures apart in metrics; the failure itself says more",
        "RespondNexusTaskCompletedRequest.identity": "not in any history",
        "RespondNexusTaskFailedRequest.identity": "not in any history",
        "RespondQueryTaskCompletedRequest.cause": "says why a query failed; the failure itself says more",
        "RespondWorkflowTaskCompletedRequest.metering_metadata": "for billing, which there is none of",
        "RespondWorkflowTaskCompletedRequest.worker_instance_key": "names the worker for commands, which are not sent",
        "ShutdownWorkerRequest.reason": "told to nobody",
        "ShutdownWorkerRequest.task_queue": "the worker's key finds its polls in all queues",
        "ShutdownWorkerRequest.task_queue_types": "the worker's key finds its polls in all queues",
        "SignalWithStartWorkflowExecutionRequest.control": "an old note to oneself that no event shows",
        "SignalWorkflowExecutionRequest.control": "an old note to oneself that no event shows",
        "StartActivityExecutionRequest.request_eager_execution": "a hint; the activity is given out by its queue",
        "TaskQueue.normal_name": "the execution knows the queue that is behind its sticky one",
        "TaskQueueVersionSelection.unversioned": "asks for what is told anyway",
        "UnpauseActivityExecutionRequest.identity": "not in any history",
        "UnpauseActivityExecutionRequest.reason": "told to nobody",
        "UnpauseActivityExecutionRequest.request_id": "a repetition does the same again",
        "UnpauseActivityRequest.identity": "not in any history",
        "UpdateActivityExecutionOptionsRequest.identity": "not in any history",
        "UpdateActivityExecutionOptionsRequest.request_id": "a repetition does the same again",
        "UpdateActivityOptionsRequest.identity": "not in any history",
        "WorkerDeploymentOptions.build_id": "names the worker's build; nothing here depends on it",
        "WorkerDeploymentOptions.deployment_name": "names the worker's build; nothing here depends on it",
        "WorkerVersionCapabilities.build_id": "names the worker's build; nothing here depends on it",
        "WorkerVersionCapabilities.deployment_series_name": "names the worker's build; nothing here depends on it",
        "WorkflowExecutionFilter.run_id": "the real server goes by the workflow's id alone, too",
    }
)
"""Field that is ignored → why that harms nobody; with its message, or else wherever it occurs."""

REFUSED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ActivityOptions": frozenset({"start_delay"}),
        "Callback": frozenset({"nexus_handler"}),
        "ClusterReplicationConfig": frozenset({"cluster_name", "replication_ramp_duration"}),
        "ContinueAsNewWorkflowExecutionCommandAttributes": frozenset({"initial_versioning_behavior"}),
        "DeleteNamespaceRequest": frozenset({"namespace_delete_delay"}),
        "DescribeTaskQueueRequest": frozenset({"report_task_reachability"}),
        "NamespaceConfig": frozenset(
            {
                "bad_binaries",
                "custom_search_attribute_aliases",
                "history_archival_state",
                "history_archival_uri",
                "visibility_archival_state",
                "visibility_archival_uri",
            }
        ),
        "PostResetOperation": frozenset({"update_workflow_options"}),
        "RegisterNamespaceRequest": frozenset(
            {
                "active_cluster_name",
                "history_archival_state",
                "history_archival_uri",
                "is_global_namespace",
                "visibility_archival_state",
                "visibility_archival_uri",
            }
        ),
        "RespondWorkflowTaskCompletedRequest": frozenset({"intermediate_page", "page_number", "versioning_behavior"}),
        "RespondWorkflowTaskFailedRequest": frozenset({"messages"}),
        "SignalWithStartWorkflowExecutionRequest": frozenset({"time_skipping_config", "versioning_override"}),
        "StartChildWorkflowExecutionCommandAttributes": frozenset({"versioning_override"}),
        "StartWorkflowExecutionRequest": frozenset({"time_skipping_config", "versioning_override"}),
        "TaskQueueVersionSelection": frozenset({"all_active", "build_ids"}),
        "UpdateNamespaceRequest": frozenset({"delete_bad_binary", "promote_namespace", "replication_config"}),
        "UpdateTaskQueueConfigRequest": frozenset(
            {
                "set_fairness_weight_overrides",
                "unset_fairness_weight_overrides",
                "update_fairness_key_rate_limit_default",
            }
        ),
        "WorkerDeploymentOptions": frozenset({"worker_versioning_mode"}),
        "WorkerVersionCapabilities": frozenset({"use_versioning"}),
        "WorkerVersionStamp": frozenset({"use_versioning"}),
    }
)
"""Message → its fields that mean something we do not do, wherever in a request it is."""

ACCEPTED: Mapping[str, object] = MappingProxyType(
    {
        "ClusterReplicationConfig.cluster_name": EMBEDDED_CLUSTER,
        "NamespaceConfig.history_archival_state": ArchivalState.ARCHIVAL_STATE_DISABLED,
        "NamespaceConfig.visibility_archival_state": ArchivalState.ARCHIVAL_STATE_DISABLED,
        "RegisterNamespaceRequest.active_cluster_name": EMBEDDED_CLUSTER,
        "RegisterNamespaceRequest.history_archival_state": ArchivalState.ARCHIVAL_STATE_DISABLED,
        "RegisterNamespaceRequest.visibility_archival_state": ArchivalState.ARCHIVAL_STATE_DISABLED,
        "WorkerDeploymentOptions.worker_versioning_mode": WorkerVersioningMode.WORKER_VERSIONING_MODE_UNVERSIONED,
    }
)
"""Field that is refused → the one value that may be set, because it asks for what is so anyway."""


def check_fields(request: Message) -> None:
    """No field may be set that is not honoured, in the request itself or in a message that is in it.

    Raises:
        StatusError: UNIMPLEMENTED, with the field's name.
    """
    refused, inner = _looked_at(request.DESCRIPTOR)
    for field in refused:
        name = f"{request.DESCRIPTOR.name}.{field.name}"
        if _is_set(request, field) and getattr(request, field.name) != ACCEPTED.get(name):
            raise unimplemented(f"{name} is set, and not served by this backend")
    for field in inner:
        if field.is_repeated:
            for each in getattr(request, field.name):
                check_fields(each)
        elif request.HasField(field.name):
            check_fields(getattr(request, field.name))


def _is_set(message: Message, field: FieldDescriptor) -> bool:
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))


@cache
def _looked_at(message: Descriptor) -> tuple[tuple[FieldDescriptor, ...], tuple[FieldDescriptor, ...]]:
    """The refused fields of a message, and those in whose messages there are such."""
    names = REFUSED.get(message.name, frozenset())
    refused = tuple(field for field in message.fields if field.name in names)
    inner = tuple(
        field
        for field in message.fields
        if field.name not in names and field.message_type is not None and _holds_refused(field.message_type, set())
    )
    return refused, inner


def _holds_refused(message: Descriptor, seen: set[str]) -> bool:
    """Whether a refused field can be in it, however deep. Values of maps are what users wrote, and hold none."""
    if message.full_name in seen or message.GetOptions().map_entry:
        return False
    seen.add(message.full_name)
    inner = (field.message_type for field in message.fields if field.message_type is not None)
    return message.name in REFUSED or any(_holds_refused(each, seen) for each in inner)


def check_text(field: str, value: str, limits: Limits, *, required: bool = True) -> None:
    """An id or name is there, and no longer than the limit.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    if required and not value:
        raise invalid_argument(f"{field} is not set on request.")
    check_id_length(f"{field} length exceeds limit.", value, limits)


def check_id_length(refusal: str, value: str, limits: Limits) -> None:
    """An id or name is no longer than the limit; `refusal` is what the real server says of a longer one.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    size = len(value.encode())
    if size > limits.ID_LENGTH:
        raise invalid_argument(f"{refusal} {size} bytes, at most {limits.ID_LENGTH}.")


def check_allowed_length(field: str, value: str, limits: Limits) -> None:
    """The same, in the words that the real server has where it starts a workflow.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    size = len(value.encode())
    if size > limits.ID_LENGTH:
        raise invalid_argument(f"{field} exceeds maximum allowed length ({size}/{limits.ID_LENGTH})")


def check_queue(request: TaskQueueRequest, limits: Limits) -> None:
    """A request names a task queue, which may be called that.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    if not request.HasField("task_queue"):
        raise invalid_argument("taskQueue is not set")
    queue_name.check(request.task_queue.name, limits)


def check_size(
    field: str, message: Message, limits: Limits, of: Named, *, limit: int = 0, refusal: str = TOO_LARGE
) -> None:
    """A payload is within its limit; 0 for the one of payloads. Logs one that is large.

    Args:
        field: which one.
        message: it.
        limits: those of this backend.
        of: whose it is, for the log.
        limit: in bytes.
        refusal: what the real server says of a larger one.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    size = message.ByteSize()
    limit = limit or limits.PAYLOAD_SIZE
    if size > limit:
        raise invalid_argument(f"{refusal} {field} is {size} bytes, at most {limit}.")
    if size > limits.PAYLOAD_WARN_SIZE:
        log.warning(
            "%s of %r in namespace %r is %d bytes, more than %d; refused above %d",
            field,
            of.id,
            of.namespace,
            size,
            limits.PAYLOAD_WARN_SIZE,
            limit,
        )


def check_span(field: str, length: Duration) -> int:
    """A timeout is none that cannot be. Returns it in ns.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    wrong = fault(length)
    if wrong:
        raise invalid_argument(f"An invalid {field} is set on request. cause: {wrong}")
    return span(length)
