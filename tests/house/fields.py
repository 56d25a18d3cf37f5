"""Every field of every request that the backend serves, sorted: honoured, harmless to ignore, or refused.

A field of a newer `temporalio` is in none of the three, and fails the test until somebody has sorted it in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from nexuskit.backend.frontend.checks import HARMLESS, REFUSED
from nexuskit.backend.frontend.grpc_server import SERVICES

PREFIX = "temporal.api."

CARRIED: Mapping[str, str] = {
    "common.v1.Header": "for the user's own code",
    "common.v1.Link": "shown where the event is shown",
    "common.v1.Memo": "the user's own",
    "common.v1.Payload": "the user's own",
    "common.v1.Payloads": "the user's own",
    "common.v1.Priority": "kept, shown, and handed on; queues go by the order of coming",
    "common.v1.SearchAttributes": "each is checked, indexed and shown by its name",
    "failure.v1.Failure": "shown as it was reported",
    "nexus.v1.Link": "handed to the other side",
    "nexus.v1.PropagatedSerializationContext": "handed on along a chain",
    "query.v1.WorkflowQuery": "given to the worker",
    "query.v1.WorkflowQueryResult": "given to who asked",
    "sdk.v1.EventGroupMarker": "on the event that the command makes",
    "sdk.v1.UserMetadata": "on the event, and in what describes",
    "sdk.v1.WorkflowTaskCompletedMetadata": "on the event",
    "update.v1.Input": "given to the worker, and on the event",
    "worker.v1.WorkerHeartbeat": "shown as it was sent",
}
"""Message that is kept and given back whole, with all of its fields → what for."""

HONOURED: Mapping[str, str] = {
    "activity.v1.ActivityOptions": (
        "task_queue schedule_to_close_timeout schedule_to_start_timeout start_to_close_timeout heartbeat_timeout "
        "retry_policy priority"
    ),
    "command.v1.CancelTimerCommandAttributes": "timer_id",
    "command.v1.CancelWorkflowExecutionCommandAttributes": "details",
    "command.v1.Command": (
        "command_type user_metadata event_group_markers schedule_activity_task_command_attributes "
        "start_timer_command_attributes complete_workflow_execution_command_attributes "
        "fail_workflow_execution_command_attributes request_cancel_activity_task_command_attributes "
        "cancel_timer_command_attributes cancel_workflow_execution_command_attributes "
        "request_cancel_external_workflow_execution_command_attributes record_marker_command_attributes "
        "continue_as_new_workflow_execution_command_attributes start_child_workflow_execution_command_attributes "
        "signal_external_workflow_execution_command_attributes "
        "upsert_workflow_search_attributes_command_attributes protocol_message_command_attributes "
        "modify_workflow_properties_command_attributes schedule_nexus_operation_command_attributes "
        "request_cancel_nexus_operation_command_attributes"
    ),
    "command.v1.CompleteWorkflowExecutionCommandAttributes": "result",
    "command.v1.ContinueAsNewWorkflowExecutionCommandAttributes": (
        "workflow_type task_queue input workflow_run_timeout workflow_task_timeout backoff_start_interval "
        "retry_policy initiator failure last_completion_result cron_schedule header memo search_attributes"
    ),
    "command.v1.FailWorkflowExecutionCommandAttributes": "failure",
    "command.v1.ModifyWorkflowPropertiesCommandAttributes": "upserted_memo",
    "command.v1.ProtocolMessageCommandAttributes": "message_id",
    "command.v1.RecordMarkerCommandAttributes": "marker_name details header failure",
    "command.v1.RequestCancelActivityTaskCommandAttributes": "scheduled_event_id",
    "command.v1.RequestCancelExternalWorkflowExecutionCommandAttributes": (
        "namespace workflow_id run_id control child_workflow_only reason"
    ),
    "command.v1.RequestCancelNexusOperationCommandAttributes": "scheduled_event_id",
    "command.v1.ScheduleActivityTaskCommandAttributes": (
        "activity_id activity_type task_queue header input schedule_to_close_timeout schedule_to_start_timeout "
        "start_to_close_timeout heartbeat_timeout retry_policy request_eager_execution use_workflow_build_id "
        "priority"
    ),
    "command.v1.ScheduleNexusOperationCommandAttributes": (
        "endpoint service operation input schedule_to_close_timeout nexus_header schedule_to_start_timeout "
        "start_to_close_timeout"
    ),
    "command.v1.SignalExternalWorkflowExecutionCommandAttributes": (
        "namespace execution signal_name input control child_workflow_only header"
    ),
    "command.v1.StartChildWorkflowExecutionCommandAttributes": (
        "namespace workflow_id workflow_type task_queue input workflow_execution_timeout workflow_run_timeout "
        "workflow_task_timeout parent_close_policy control workflow_id_reuse_policy retry_policy cron_schedule "
        "header memo search_attributes priority"
    ),
    "command.v1.StartTimerCommandAttributes": "timer_id start_to_fire_timeout",
    "command.v1.UpsertWorkflowSearchAttributesCommandAttributes": "search_attributes",
    "common.v1.ActivityType": "name",
    "common.v1.Callback": "nexus internal links",
    "common.v1.Callback.Internal": "data",
    "common.v1.Callback.Nexus": "url header",
    "common.v1.OnConflictOptions": "attach_request_id attach_completion_callbacks attach_links",
    "common.v1.RetryPolicy": (
        "initial_interval backoff_coefficient maximum_interval maximum_attempts non_retryable_error_types"
    ),
    "common.v1.WorkerVersionStamp": "build_id",
    "common.v1.WorkflowExecution": "workflow_id run_id",
    "common.v1.WorkflowType": "name",
    "filter.v1.StartTimeFilter": "earliest_time latest_time",
    "filter.v1.StatusFilter": "status",
    "filter.v1.WorkflowExecutionFilter": "workflow_id",
    "filter.v1.WorkflowTypeFilter": "name",
    "namespace.v1.NamespaceConfig": "workflow_execution_retention_ttl",
    "namespace.v1.NamespaceFilter": "include_deleted",
    "namespace.v1.UpdateNamespaceInfo": "description owner_email data state",
    "nexus.v1.EndpointSpec": "name description target",
    "nexus.v1.EndpointTarget": "worker external",
    "nexus.v1.EndpointTarget.External": "url",
    "nexus.v1.EndpointTarget.Worker": "namespace task_queue",
    "nexus.v1.Failure": "message stack_trace metadata details cause",
    "nexus.v1.HandlerError": "error_type failure retry_behavior",
    "nexus.v1.Response": "start_operation cancel_operation",
    "nexus.v1.StartOperationResponse": "sync_success async_success operation_error failure",
    "nexus.v1.StartOperationResponse.Async": "operation_id links operation_token",
    "nexus.v1.StartOperationResponse.Sync": "payload links",
    "nexus.v1.UnsuccessfulOperationError": "operation_state failure",
    "nexusoperation.v1.OnConflictOptions": "attach_request_id attach_completion_callbacks attach_links",
    "operatorservice.v1.AddSearchAttributesRequest": "search_attributes namespace",
    "operatorservice.v1.CreateNexusEndpointRequest": "spec",
    "operatorservice.v1.DeleteNamespaceRequest": "namespace namespace_id",
    "operatorservice.v1.DeleteNexusEndpointRequest": "id version",
    "operatorservice.v1.GetNexusEndpointRequest": "id",
    "operatorservice.v1.ListNexusEndpointsRequest": "page_size next_page_token name",
    "operatorservice.v1.ListSearchAttributesRequest": "namespace",
    "operatorservice.v1.RemoveSearchAttributesRequest": "search_attributes namespace",
    "operatorservice.v1.UpdateNexusEndpointRequest": "id version spec",
    "protocol.v1.Message": "id protocol_instance_id event_id body",
    "taskqueue.v1.RateLimit": "requests_per_second",
    "taskqueue.v1.StickyExecutionAttributes": "worker_task_queue schedule_to_start_timeout",
    "taskqueue.v1.TaskQueue": "name kind",
    "taskqueue.v1.TaskQueueMetadata": "max_tasks_per_second",
    "update.v1.Meta": "update_id identity",
    "update.v1.Request": ("meta input request_id links propagated_nexus_serialization_context completion_callbacks"),
    "update.v1.UpdateRef": "workflow_execution update_id",
    "update.v1.WaitPolicy": "lifecycle_stage",
    "workflow.v1.OnConflictOptions": "attach_request_id attach_completion_callbacks attach_links",
    "workflow.v1.PostResetOperation": "signal_workflow",
    "workflow.v1.PostResetOperation.SignalWorkflow": "signal_name input header links",
    "workflowservice.v1.CountActivityExecutionsRequest": "namespace query",
    "workflowservice.v1.CountNexusOperationExecutionsRequest": "namespace query",
    "workflowservice.v1.CountWorkersRequest": "namespace query",
    "workflowservice.v1.CountWorkflowExecutionsRequest": "namespace query",
    "workflowservice.v1.DeleteActivityExecutionRequest": "namespace activity_id run_id",
    "workflowservice.v1.DeleteNexusOperationExecutionRequest": "namespace operation_id run_id",
    "workflowservice.v1.DeleteWorkflowExecutionRequest": "namespace workflow_execution",
    "workflowservice.v1.DeprecateNamespaceRequest": "namespace",
    "workflowservice.v1.DescribeActivityExecutionRequest": (
        "namespace activity_id run_id include_input include_outcome long_poll_token include_heartbeat_details "
        "include_last_failure"
    ),
    "workflowservice.v1.DescribeNamespaceRequest": "namespace id",
    "workflowservice.v1.DescribeNexusOperationExecutionRequest": (
        "namespace operation_id run_id include_input include_outcome long_poll_token"
    ),
    "workflowservice.v1.DescribeTaskQueueRequest": (
        "namespace task_queue task_queue_type report_stats report_config include_task_queue_status api_mode "
        "versions task_queue_types report_pollers"
    ),
    "workflowservice.v1.DescribeWorkerRequest": "namespace worker_instance_key",
    "workflowservice.v1.DescribeWorkflowExecutionRequest": "namespace execution",
    "workflowservice.v1.ExecuteMultiOperationRequest": "namespace operations",
    "workflowservice.v1.ExecuteMultiOperationRequest.Operation": "start_workflow update_workflow",
    "workflowservice.v1.GetWorkflowExecutionHistoryRequest": (
        "namespace execution maximum_page_size next_page_token wait_new_event history_event_filter_type"
    ),
    "workflowservice.v1.GetWorkflowExecutionHistoryReverseRequest": (
        "namespace execution maximum_page_size next_page_token"
    ),
    "workflowservice.v1.ListActivityExecutionsRequest": "namespace page_size next_page_token query",
    "workflowservice.v1.ListClosedWorkflowExecutionsRequest": (
        "namespace maximum_page_size next_page_token start_time_filter execution_filter type_filter status_filter"
    ),
    "workflowservice.v1.ListNamespacesRequest": "page_size next_page_token namespace_filter",
    "workflowservice.v1.ListNexusOperationExecutionsRequest": "namespace page_size next_page_token query",
    "workflowservice.v1.ListOpenWorkflowExecutionsRequest": (
        "namespace maximum_page_size next_page_token start_time_filter execution_filter type_filter"
    ),
    "workflowservice.v1.ListTaskQueuePartitionsRequest": "namespace task_queue",
    "workflowservice.v1.ListWorkersRequest": "namespace page_size next_page_token query",
    "workflowservice.v1.ListWorkflowExecutionsRequest": "namespace page_size next_page_token query",
    "workflowservice.v1.PauseActivityExecutionRequest": (
        "namespace workflow_id activity_id run_id identity reason request_id"
    ),
    "workflowservice.v1.PauseActivityRequest": "namespace execution identity id type reason request_id",
    "workflowservice.v1.PollActivityExecutionRequest": "namespace activity_id run_id",
    "workflowservice.v1.PollActivityTaskQueueRequest": (
        "namespace task_queue identity worker_instance_key task_queue_metadata worker_version_capabilities "
        "deployment_options"
    ),
    "workflowservice.v1.PollNexusOperationExecutionRequest": "namespace operation_id run_id wait_stage",
    "workflowservice.v1.PollNexusTaskQueueRequest": (
        "namespace task_queue identity worker_instance_key worker_version_capabilities deployment_options "
        "worker_heartbeat"
    ),
    "workflowservice.v1.PollWorkflowExecutionUpdateRequest": "namespace update_ref wait_policy",
    "workflowservice.v1.PollWorkflowTaskQueueRequest": (
        "namespace task_queue identity worker_instance_key worker_version_capabilities deployment_options"
    ),
    "workflowservice.v1.QueryWorkflowRequest": "namespace execution query query_reject_condition",
    "workflowservice.v1.RecordActivityTaskHeartbeatByIdRequest": (
        "namespace workflow_id run_id activity_id details identity"
    ),
    "workflowservice.v1.RecordActivityTaskHeartbeatRequest": "task_token details identity namespace",
    "workflowservice.v1.RecordWorkerHeartbeatRequest": "namespace worker_heartbeat",
    "workflowservice.v1.RegisterNamespaceRequest": (
        "namespace description owner_email workflow_execution_retention_period clusters data"
    ),
    "workflowservice.v1.RequestCancelActivityExecutionRequest": (
        "namespace activity_id run_id identity request_id reason"
    ),
    "workflowservice.v1.RequestCancelNexusOperationExecutionRequest": (
        "namespace operation_id run_id identity request_id reason"
    ),
    "workflowservice.v1.RequestCancelWorkflowExecutionRequest": (
        "namespace workflow_execution identity first_execution_run_id reason links"
    ),
    "workflowservice.v1.ResetActivityExecutionRequest": (
        "namespace workflow_id activity_id run_id keep_paused jitter restore_original_options reset_heartbeat"
    ),
    "workflowservice.v1.ResetActivityRequest": (
        "namespace execution id type match_all reset_heartbeat keep_paused jitter restore_original_options"
    ),
    "workflowservice.v1.ResetStickyTaskQueueRequest": ("namespace execution"),
    "workflowservice.v1.ResetWorkflowExecutionRequest": (
        "namespace workflow_execution reason workflow_task_finish_event_id request_id reset_reapply_type "
        "reset_reapply_exclude_types post_reset_operations identity"
    ),
    "workflowservice.v1.RespondActivityTaskCanceledByIdRequest": (
        "namespace workflow_id run_id activity_id details identity deployment_options"
    ),
    "workflowservice.v1.RespondActivityTaskCanceledRequest": "task_token details identity namespace deployment_options",
    "workflowservice.v1.RespondActivityTaskCompletedByIdRequest": (
        "namespace workflow_id run_id activity_id result identity"
    ),
    "workflowservice.v1.RespondActivityTaskCompletedRequest": "task_token result identity namespace deployment_options",
    "workflowservice.v1.RespondActivityTaskFailedByIdRequest": (
        "namespace workflow_id run_id activity_id failure identity last_heartbeat_details"
    ),
    "workflowservice.v1.RespondActivityTaskFailedRequest": (
        "task_token failure identity namespace last_heartbeat_details deployment_options"
    ),
    "workflowservice.v1.RespondNexusTaskCompletedRequest": "namespace task_token response",
    "workflowservice.v1.RespondNexusTaskFailedRequest": "namespace task_token error failure",
    "workflowservice.v1.RespondQueryTaskCompletedRequest": (
        "task_token completed_type query_result error_message namespace failure"
    ),
    "workflowservice.v1.RespondWorkflowTaskCompletedRequest": (
        "task_token commands identity sticky_attributes return_new_workflow_task force_create_new_workflow_task "
        "query_results namespace worker_version_stamp messages sdk_metadata capabilities deployment_options"
    ),
    "workflowservice.v1.RespondWorkflowTaskCompletedRequest.Capabilities": (
        "discard_speculative_workflow_task_with_events"
    ),
    "workflowservice.v1.RespondWorkflowTaskFailedRequest": (
        "task_token cause failure identity namespace deployment_options"
    ),
    "workflowservice.v1.ScanWorkflowExecutionsRequest": "namespace page_size next_page_token query",
    "workflowservice.v1.ShutdownWorkerRequest": (
        "namespace sticky_task_queue identity worker_heartbeat worker_instance_key"
    ),
    "workflowservice.v1.SignalWithStartWorkflowExecutionRequest": (
        "namespace workflow_id workflow_type task_queue input workflow_execution_timeout workflow_run_timeout "
        "workflow_task_timeout identity request_id workflow_id_reuse_policy workflow_id_conflict_policy "
        "signal_name signal_input retry_policy cron_schedule memo search_attributes header workflow_start_delay "
        "user_metadata links priority"
    ),
    "workflowservice.v1.SignalWorkflowExecutionRequest": (
        "namespace workflow_execution signal_name input identity request_id header links"
    ),
    "workflowservice.v1.StartActivityExecutionRequest": (
        "namespace identity request_id activity_id activity_type task_queue schedule_to_close_timeout "
        "schedule_to_start_timeout start_to_close_timeout heartbeat_timeout retry_policy input id_reuse_policy "
        "id_conflict_policy search_attributes header user_metadata priority completion_callbacks links "
        "on_conflict_options start_delay propagated_nexus_serialization_context"
    ),
    "workflowservice.v1.StartNexusOperationExecutionRequest": (
        "namespace identity request_id operation_id endpoint service operation schedule_to_close_timeout "
        "schedule_to_start_timeout start_to_close_timeout input id_reuse_policy id_conflict_policy "
        "search_attributes nexus_header user_metadata links completion_callbacks on_conflict_options"
    ),
    "workflowservice.v1.StartWorkflowExecutionRequest": (
        "namespace workflow_id workflow_type task_queue input workflow_execution_timeout workflow_run_timeout "
        "workflow_task_timeout identity request_id workflow_id_reuse_policy workflow_id_conflict_policy "
        "retry_policy cron_schedule memo search_attributes header request_eager_execution continued_failure "
        "last_completion_result workflow_start_delay completion_callbacks user_metadata links on_conflict_options "
        "priority eager_worker_deployment_options propagated_nexus_serialization_context"
    ),
    "workflowservice.v1.TerminateActivityExecutionRequest": "namespace activity_id run_id identity request_id reason",
    "workflowservice.v1.TerminateNexusOperationExecutionRequest": (
        "namespace operation_id run_id identity request_id reason"
    ),
    "workflowservice.v1.TerminateWorkflowExecutionRequest": (
        "namespace workflow_execution reason details identity first_execution_run_id links"
    ),
    "workflowservice.v1.UnpauseActivityExecutionRequest": "namespace workflow_id activity_id run_id jitter",
    "workflowservice.v1.UnpauseActivityRequest": (
        "namespace execution id type unpause_all reset_attempts reset_heartbeat jitter"
    ),
    "workflowservice.v1.UpdateActivityExecutionOptionsRequest": (
        "namespace workflow_id activity_id run_id activity_options update_mask restore_original"
    ),
    "workflowservice.v1.UpdateActivityOptionsRequest": (
        "namespace execution activity_options update_mask id type match_all restore_original"
    ),
    "workflowservice.v1.UpdateNamespaceRequest": "namespace update_info config",
    "workflowservice.v1.UpdateTaskQueueConfigRequest": (
        "namespace identity task_queue task_queue_type update_queue_rate_limit"
    ),
    "workflowservice.v1.UpdateTaskQueueConfigRequest.RateLimitUpdate": "rate_limit reason",
    "workflowservice.v1.UpdateWorkflowExecutionRequest": (
        "namespace workflow_execution first_execution_run_id wait_policy request"
    ),
}
"""Message → its fields that make a difference."""


def name_of(message: Descriptor) -> str:
    """Its full name, without what all have in common."""
    return message.full_name.removeprefix(PREFIX)


def harmless(message: Descriptor, field: str) -> bool:
    """Whether the field is in the table of those that are ignored."""
    return field in HARMLESS or f"{message.name}.{field}" in HARMLESS


def refused(message: Descriptor, field: str) -> bool:
    """Whether the field is in the table of those that are refused."""
    return field in REFUSED.get(message.name, ())


def inner(field: FieldDescriptor) -> Descriptor | None:
    """The message that a field holds; of a map, its values'."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return message.fields_by_name["value"].message_type
    return message


def reachable() -> Mapping[str, Descriptor]:
    """The messages that can be in a request of a call that is served, but those that are carried whole or refused."""
    found: dict[str, Descriptor] = {}
    waiting = [
        method.input_type
        for service, handlers in SERVICES
        for method in service.methods
        if service.full_name.startswith(PREFIX) and method.name in handlers
    ]
    while waiting:
        message = waiting.pop()
        if name_of(message) in found or name_of(message) in CARRIED or not message.full_name.startswith(PREFIX):
            continue
        found[name_of(message)] = message
        waiting += [child for field in looked_into(message) if (child := inner(field)) is not None]
    return found


def looked_into(message: Descriptor) -> Iterator[FieldDescriptor]:
    """Its fields that are neither ignored nor refused as a whole."""
    for field in message.fields:
        if not harmless(message, field.name) and not refused(message, field.name):
            yield field
