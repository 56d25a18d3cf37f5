"""The HTTP server: `/health` for whoever watches the process, and Nexus for whoever calls by HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.responses import JSONResponse, PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from nexuskit.backend.errors import StartError
from nexuskit.backend.frontend.http_doors import HttpDoors
from nexuskit.backend.frontend.http_guards import framed_twice
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlette.responses import Response
    from uvicorn.server import ServerState

    from nexuskit.backend.services import Services
    from nexuskit.protocol.serving import Receive, Scope, Send


WATCHING = ("GET", "HEAD")
"""Methods that `/health` answers."""

_wire = logging.getLogger("nexuskit.backend.frontend.http")


def _only_at_debug(record: logging.LogRecord) -> bool:
    """A request that is none costs its sender nothing, so it must not fill the log."""
    return record.levelno != logging.WARNING or _wire.isEnabledFor(logging.DEBUG)


_wire.addFilter(_only_at_debug)


class _Protocol(H11Protocol):  # which bounds the header of a request
    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _wire


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to the program that we run in."""
        yield


class HttpServer:
    """Serves until it is stopped.

    Attributes:
        port: the port that it listens on.
    """

    def __init__(self, services: Services, listener: socket.socket, database: str) -> None:
        self._services = services
        self._database = database
        self._socket = listener
        self.port: int = listener.getsockname()[1]
        self._doors = HttpDoors(services)
        self._server = _Server(
            uvicorn.Config(
                self._serve,
                interface="asgi3",
                http=_Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                # What a caller says of its own address is not believed.
                proxy_headers=False,
                server_header=False,
                limit_concurrency=services.limits.HTTP_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; requests are answered from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http server")

    async def stop(self) -> None:
        """Answer what is under way, then close."""
        self._doors.stop()
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/health" or framed_twice(scope):
            await self._doors(scope, receive, send)
        elif scope["method"] in WATCHING:
            await self._health()(scope, receive, send)
        else:
            refused = PlainTextResponse("Method Not Allowed", status_code=405, headers={"allow": ", ".join(WATCHING)})
            await refused(scope, receive, send)

    def _health(self) -> Response:
        store = self._services.engine.store
        uptime = (self._services.clock.now() - self._services.started) / SECOND
        body = {
            "status": "error" if store.last_error else "ok",
            "version": self._services.version,
            "uptime_s": round(uptime, 3),
            "database": {"path": self._database, "error": store.last_error or None},
        }
        return JSONResponse(body, status_code=503 if store.last_error else 200)


def bind(host: str, port: int, what: str) -> socket.socket:
    """A socket that listens there, for `what`.

    Raises:
        StartError: the address or the port cannot be used.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, number)
    except OSError as error:
        raise StartError(f"The {what} address {host}:{port} cannot be used: {error.strerror or error}.") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # at once: a port that is bound and not listened on can be bound again
        bound.setblocking(False)  # noqa: FBT003, the standard library takes it no other way
    except OSError as error:
        bound.close()
        raise StartError(f"The {what} port {host}:{port} cannot be used: {error.strerror or error}.") from error
    return bound
