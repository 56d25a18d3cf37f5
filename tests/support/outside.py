"""Handlers and receivers outside of Temporal: services on a port of this machine, and endpoints that route to them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette

from nexuskit.protocol.asgi import NexusApp
from nexuskit.protocol.values import HttpResponse
from tests.protocol.loopback import Scripted, served
from tests.protocol.services import PaymentsHandler
from tests.support.raw import Namespace, wait_until_callable
from tests.support.servers import Server

SERVICE = "Payments"
PATH = "/nexus"


@contextlib.asynccontextmanager
async def handler_at_a_url(handler: PaymentsHandler | None = None) -> AsyncIterator[tuple[PaymentsHandler, str]]:
    """The service of `tests.protocol.services` on a port: its handler, and the URL."""
    handler = handler or PaymentsHandler()
    app = Starlette()
    app.mount(PATH, NexusApp([handler]))
    async with served(app) as url:
        yield handler, url + PATH


@contextlib.asynccontextmanager
async def answering(*answers: HttpResponse) -> AsyncIterator[tuple[Scripted, str]]:
    """Somebody who answers what he was told to, the last answer for ever: what he was asked, and the URL."""
    script = Scripted(*answers)
    async with served(script) as url:
        yield script, url


async def routes_to(server: Server, orders: Namespace, name: str, url: str) -> str:
    """Registers an endpoint that routes to a URL, ready to be called; answers with its name."""
    await orders.create_external_endpoint(name, url)
    if server.kind == "real":
        await wait_until_callable(orders, name)
    return name


def json_answer(status: int, body: bytes, **headers: Any) -> HttpResponse:
    """An answer with JSON in it."""
    return HttpResponse(status, (("content-type", "application/json"), *headers.items()), body)
