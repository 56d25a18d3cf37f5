"""Durable calls between teams: Nexus in Python, on one machine or on a Temporal cluster.

A contract is what two teams agree on (`service`, `operation`, `DeclaredError`); one team handles it (`service_handler`
and the builders), the other calls it (`caller`), and both give `Plugin` to their clients.
`nexuskit.backend` runs workflows and routes calls inside this process; see `nexuskit.backend.serve`.
`nexuskit.protocol` speaks Nexus over HTTP, with Temporal or without.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nexuskit import backend as backend
    from nexuskit import protocol as protocol
    from nexuskit.callers import NexusCallError as NexusCallError
    from nexuskit.callers import NexusCancelledError as NexusCancelledError
    from nexuskit.callers import NexusHandlerError as NexusHandlerError
    from nexuskit.callers import NexusInvalidInputError as NexusInvalidInputError
    from nexuskit.callers import NexusInvalidOutputError as NexusInvalidOutputError
    from nexuskit.callers import NexusNotFoundError as NexusNotFoundError
    from nexuskit.callers import NexusOperationFailedError as NexusOperationFailedError
    from nexuskit.callers import NexusTimeoutError as NexusTimeoutError
    from nexuskit.callers import NexusTimeoutWarning as NexusTimeoutWarning
    from nexuskit.callers import NexusUnauthorizedError as NexusUnauthorizedError
    from nexuskit.callers import caller as caller
    from nexuskit.contract import DeclaredError as DeclaredError
    from nexuskit.contract import operation as operation
    from nexuskit.contract import service as service
    from nexuskit.handlers import OperationContext as OperationContext
    from nexuskit.handlers import RawCancel as RawCancel
    from nexuskit.handlers import RawHandler as RawHandler
    from nexuskit.handlers import RawRequest as RawRequest
    from nexuskit.handlers import RawResult as RawResult
    from nexuskit.handlers import RawToken as RawToken
    from nexuskit.handlers import caller_info as caller_info
    from nexuskit.handlers import operation_context as operation_context
    from nexuskit.handlers import operation_id as operation_id
    from nexuskit.handlers import query_workflow as query_workflow
    from nexuskit.handlers import raw_service as raw_service
    from nexuskit.handlers import run_activity as run_activity
    from nexuskit.handlers import run_workflow as run_workflow
    from nexuskit.handlers import service_handler as service_handler
    from nexuskit.handlers import signal_with_start as signal_with_start
    from nexuskit.handlers import signal_workflow as signal_workflow
    from nexuskit.handlers import sync_operation as sync_operation
    from nexuskit.handlers import update_workflow as update_workflow
    from nexuskit.plugin import Plugin as Plugin

_HOMES = {
    "nexuskit.callers": (
        "NexusCallError",
        "NexusCancelledError",
        "NexusHandlerError",
        "NexusInvalidInputError",
        "NexusInvalidOutputError",
        "NexusNotFoundError",
        "NexusOperationFailedError",
        "NexusTimeoutError",
        "NexusTimeoutWarning",
        "NexusUnauthorizedError",
        "caller",
    ),
    "nexuskit.contract": ("DeclaredError", "operation", "service"),
    "nexuskit.handlers": (
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
    ),
    "nexuskit.plugin": ("Plugin",),
    "nexuskit": ("backend", "protocol"),
}
"""Where each public name lives. It is imported on first use: whoever needs the version alone pays for nothing else."""
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DeclaredError",
    "NexusCallError",
    "NexusCancelledError",
    "NexusHandlerError",
    "NexusInvalidInputError",
    "NexusInvalidOutputError",
    "NexusNotFoundError",
    "NexusOperationFailedError",
    "NexusTimeoutError",
    "NexusTimeoutWarning",
    "NexusUnauthorizedError",
    "OperationContext",
    "Plugin",
    "RawCancel",
    "RawHandler",
    "RawRequest",
    "RawResult",
    "RawToken",
    "__version__",
    "backend",
    "caller",
    "caller_info",
    "operation",
    "operation_context",
    "operation_id",
    "protocol",
    "query_workflow",
    "raw_service",
    "run_activity",
    "run_workflow",
    "service",
    "service_handler",
    "signal_with_start",
    "signal_workflow",
    "sync_operation",
    "update_workflow",
]

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _HOME:
            raise AttributeError(f"module 'nexuskit' has no attribute {name!r}")
        from importlib import import_module

        home = _HOME[name]
        found = import_module(f"nexuskit.{name}") if home == "nexuskit" else getattr(import_module(home), name)
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *__all__})
