"""The embedded backend: one process and one SQLite file that speak Temporal's gRPC API.

    async with nexuskit.backend.serve(namespaces=["orders"]) as backend:
        client = await backend.client("orders")

The official SDKs are its clients, unmodified. It is for laptops, CI and small servers; what outgrows one machine points
the same code at a Temporal cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexuskit.backend.errors import StartError
    from nexuskit.backend.server import Backend, serve

__all__ = ["Backend", "StartError", "serve"]


def __getattr__(name: str) -> Any:
    # On first use: a workflow's sandbox imports the workflow's module anew, and all that this module names at its top.
    if name == "StartError":
        from nexuskit.backend import errors

        return errors.StartError
    if name in __all__:
        from nexuskit.backend import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
