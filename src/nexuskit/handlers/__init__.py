"""What a team writes to answer operations: builders that take a line each, and functions where a line is not enough."""

from nexusrpc.handler import sync_operation

from nexuskit.handlers.builders import run_workflow
from nexuskit.handlers.service import HandlerDefinitionError, service_handler

__all__ = ["HandlerDefinitionError", "run_workflow", "service_handler", "sync_operation"]
