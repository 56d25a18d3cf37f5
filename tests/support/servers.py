"""The two kinds of server that the behaviour tests run against."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.support.real_server import missing_reason, real_server

Kind = Literal["embedded", "real"]

CALLERS = "orders"
HANDLERS = "payments"
"""The two namespaces of every shared server."""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    kind: Kind
    address: str
    """host:port of its gRPC interface."""
    http_url: str | None = None
    """URL of its HTTP interface, where that is known."""


@contextlib.asynccontextmanager
async def serve(kind: Kind, namespaces: Sequence[str]) -> AsyncIterator[Server]:
    """A server of this kind with these namespaces, for as long as the context lasts."""
    if kind == "real":
        async with real_server(["default", *namespaces]) as real:
            yield Server("real", real.address, f"http://{real.http_address}" if real.http_address else None)
        return
    # Only here, so that the behaviour tests can run against a real server where the backend cannot be imported.
    from nexuskit import backend

    # As `DYNAMIC_CONFIG` has it for the real server.
    outbound = {"allow": ["http://127.0.0.1:*"]}
    async with backend.serve(namespaces=list(namespaces), config={"outbound": outbound}) as embedded:
        yield Server("embedded", embedded.address, embedded.http_address)


def why_not(kind: Kind) -> str | None:
    """Why this kind of server cannot be used here, or None when it can."""
    return missing_reason() if kind == "real" else None
