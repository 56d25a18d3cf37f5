"""Which function serves which call.

A call of Temporal's API that is not in here answers UNIMPLEMENTED, with its name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from nexuskit.backend.frontend import (
    activities,
    activity_control,
    activity_lists,
    activity_tasks,
    deletion,
    describe,
    endpoints,
    histories,
    multi_operations,
    namespaces,
    nexus_tasks,
    operation_lists,
    operations,
    queries,
    resets,
    search_attributes,
    signals,
    system,
    task_queues,
    updates,
    visibility,
    workers,
    workflow_tasks,
    workflows,
)

Handler = Callable[..., Awaitable[Any]]
"""Takes the services, the call and the request message; answers with the response message or raises `StatusError`."""

WORKFLOW_SERVICE: Mapping[str, Handler] = MappingProxyType(
    {
        "GetSystemInfo": system.get_system_info,
        "GetClusterInfo": system.get_cluster_info,
        "RegisterNamespace": namespaces.register,
        "DescribeNamespace": namespaces.describe,
        "ListNamespaces": namespaces.list_all,
        "UpdateNamespace": namespaces.update,
        "DeprecateNamespace": namespaces.deprecate,
        "StartWorkflowExecution": workflows.start,
        "SignalWorkflowExecution": signals.signal_workflow,
        "SignalWithStartWorkflowExecution": signals.signal_with_start,
        "RequestCancelWorkflowExecution": signals.request_cancel,
        "TerminateWorkflowExecution": signals.terminate,
        "ResetWorkflowExecution": resets.reset_workflow,
        "GetWorkflowExecutionHistoryReverse": histories.get_reverse,
        "DeleteWorkflowExecution": deletion.delete_workflow,
        "DescribeWorkflowExecution": describe.describe,
        "ListWorkflowExecutions": visibility.list_all,
        "ScanWorkflowExecutions": visibility.scan,
        "ListOpenWorkflowExecutions": visibility.list_open,
        "ListClosedWorkflowExecutions": visibility.list_closed,
        "CountWorkflowExecutions": visibility.count,
        "GetSearchAttributes": visibility.get_search_attributes,
        "GetWorkflowExecutionHistory": histories.get,
        "PollWorkflowTaskQueue": workflow_tasks.poll,
        "RespondWorkflowTaskCompleted": workflow_tasks.complete,
        "ExecuteMultiOperation": multi_operations.execute,
        "QueryWorkflow": queries.query,
        "RespondQueryTaskCompleted": queries.respond,
        "UpdateWorkflowExecution": updates.update_workflow,
        "PollWorkflowExecutionUpdate": updates.poll,
        "RespondWorkflowTaskFailed": workflow_tasks.fail,
        "ResetStickyTaskQueue": workflow_tasks.reset_sticky,
        "ShutdownWorker": workers.shut_down,
        "RecordWorkerHeartbeat": workers.record_heartbeat,
        "ListWorkers": workers.list_all,
        "CountWorkers": workers.count,
        "DescribeWorker": workers.describe,
        "DescribeTaskQueue": task_queues.describe,
        "ListTaskQueuePartitions": task_queues.list_partitions,
        "UpdateTaskQueueConfig": task_queues.configure,
        "PollActivityTaskQueue": activity_tasks.poll,
        "RespondActivityTaskCompleted": activity_tasks.complete,
        "RespondActivityTaskFailed": activity_tasks.fail,
        "RespondActivityTaskCanceled": activity_tasks.cancelled,
        "RecordActivityTaskHeartbeat": activity_tasks.heartbeat,
        "RespondActivityTaskCompletedById": activity_tasks.complete_by_id,
        "RespondActivityTaskFailedById": activity_tasks.fail_by_id,
        "RespondActivityTaskCanceledById": activity_tasks.cancelled_by_id,
        "RecordActivityTaskHeartbeatById": activity_tasks.heartbeat_by_id,
        "StartActivityExecution": activities.start,
        "DescribeActivityExecution": activities.describe,
        "PollActivityExecution": activities.poll,
        "RequestCancelActivityExecution": activities.request_cancel,
        "TerminateActivityExecution": activities.terminate,
        "ListActivityExecutions": activity_lists.list_all,
        "CountActivityExecutions": activity_lists.count,
        "DeleteActivityExecution": activities.delete,
        "PauseActivity": activity_control.pause,
        "PauseActivityExecution": activity_control.pause_execution,
        "UnpauseActivity": activity_control.unpause,
        "UnpauseActivityExecution": activity_control.unpause_execution,
        "ResetActivity": activity_control.reset,
        "ResetActivityExecution": activity_control.reset_execution,
        "UpdateActivityOptions": activity_control.update_options,
        "UpdateActivityExecutionOptions": activity_control.update_execution_options,
        "StartNexusOperationExecution": operations.start,
        "DescribeNexusOperationExecution": operations.describe,
        "PollNexusOperationExecution": operations.poll,
        "RequestCancelNexusOperationExecution": operations.request_cancel,
        "TerminateNexusOperationExecution": operations.terminate,
        "ListNexusOperationExecutions": operation_lists.list_all,
        "CountNexusOperationExecutions": operation_lists.count,
        "DeleteNexusOperationExecution": operations.delete,
        "PollNexusTaskQueue": nexus_tasks.poll,
        "RespondNexusTaskCompleted": nexus_tasks.complete,
        "RespondNexusTaskFailed": nexus_tasks.fail,
    }
)
"""temporal.api.workflowservice.v1.WorkflowService"""

OPERATOR_SERVICE: Mapping[str, Handler] = MappingProxyType(
    {
        "AddSearchAttributes": search_attributes.add,
        "ListSearchAttributes": search_attributes.list_all,
        "RemoveSearchAttributes": search_attributes.remove,
        "CreateNexusEndpoint": endpoints.create,
        "GetNexusEndpoint": endpoints.get,
        "ListNexusEndpoints": endpoints.list_all,
        "UpdateNexusEndpoint": endpoints.update,
        "DeleteNexusEndpoint": endpoints.delete,
        "DeleteNamespace": deletion.delete_namespace,
    }
)
"""temporal.api.operatorservice.v1.OperatorService"""
