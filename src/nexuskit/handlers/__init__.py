"""What a team writes to answer operations: builders that take a line each, and functions where a line is not enough."""

from nexusrpc.handler import sync_operation

from nexuskit.contract.operation_ids import operation_id
from nexuskit.handlers.activities import run_activity
from nexuskit.handlers.context import OperationContext, caller_info, operation_context
from nexuskit.handlers.messages import query_workflow, signal_with_start, signal_workflow, update_workflow
from nexuskit.handlers.raw import RawCancel, RawHandler, RawRequest, RawResult, RawToken, raw_service
from nexuskit.handlers.service import HandlerDefinitionError, service_handler
from nexuskit.handlers.workflows import run_workflow

__all__ = [
    "HandlerDefinitionError",
    "OperationContext",
    "RawCancel",
    "RawHandler",
    "RawRequest",
    "RawResult",
    "RawToken",
    "caller_info",
    "operation_context",
    "operation_id",
    "query_workflow",
    "raw_service",
    "run_activity",
    "run_workflow",
    "service_handler",
    "signal_with_start",
    "signal_workflow",
    "sync_operation",
    "update_workflow",
]
