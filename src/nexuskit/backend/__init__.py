"""The embedded backend: one process and one SQLite file that speak Temporal's gRPC API.

    async with nexuskit.backend.serve(namespaces=["orders"]) as backend:
        client = await backend.client("orders")

The official SDKs are its clients, unmodified. It is for laptops, CI and small servers; what outgrows one machine points
the same code at a Temporal cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from nexuskit.backend.clock import Clock
    from nexuskit.backend.draw import Draw
    from nexuskit.backend.errors import StartError
    from nexuskit.backend.server import Backend

__all__ = ["Backend", "StartError", "serve"]


def serve(
    db: str | os.PathLike[str] = ":memory:",
    *,
    namespaces: Iterable[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    http_port: int = 0,
    clock: Clock | None = None,
    draw: Draw | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
) -> AbstractAsyncContextManager[Backend]:
    """Run a backend inside the current event loop, for as long as the `async with` lasts.

    Args:
        db: the database file, made if there is none; ":memory:" keeps nothing.
        namespaces: namespaces to make, beside "default".
        host: the address to listen on.
        port: for gRPC; 0 for a free one.
        http_port: for HTTP; 0 for a free one.
        clock: time; the machine's by default.
        draw: randomness; the system's by default.
        config: limits other than the defaults, and where requests may go: a TOML file, or what would be in it; see
            docs/configuration.md.

    Raises:
        StartError: a port is in use, the database is held by another process or is of a newer version, or no namespace
            may be called that; the configuration names a limit that is none, or a value that makes no sense.
    """
    # Here and not above: a workflow's sandbox imports the workflow's module anew, with all that it imports at its top,
    # and neither gRPC nor a web server has any business in there.
    from nexuskit.backend.configuration import configured
    from nexuskit.backend.server import running

    configuration = configured(config)
    return running(
        db,
        namespaces=namespaces,
        host=host,
        port=port,
        http_port=http_port,
        clock=clock,
        draw=draw,
        limits=configuration.limits,
        outbound=configuration.outbound,
    )


def __getattr__(name: str) -> Any:
    if name == "StartError":
        from nexuskit.backend.errors import StartError

        return StartError
    if name == "Backend":
        from nexuskit.backend.server import Backend

        return Backend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
