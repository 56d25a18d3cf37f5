"""Applications served by uvicorn on a free port of this machine, and one that answers from a list."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from typing import Any

import uvicorn

from nexuskit.protocol import HttpRequest, HttpResponse
from nexuskit.protocol.serving import http_request, respond


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # the test's process has its own


class Listener:
    """A port that connections can be made to before anything answers there."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(100)
        self.port: int = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def serve(self, app: Any) -> AsyncIterator[str]:
        """Answers there, for as long as the context lasts."""
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(config)
        running = asyncio.create_task(server.serve([self.socket]))
        try:
            yield self.url
        finally:
            server.should_exit = True
            await running
            self.socket.close()


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """An application on a free port: its URL."""
    async with Listener().serve(app) as url:
        yield url


class Switch:
    """An ASGI application that is another one, so that a server need not be started for each test."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class Scripted:
    """An ASGI application that answers from a list, the last answer for ever, and keeps what it was asked."""

    def __init__(self, *answers: HttpResponse) -> None:
        self.answers = list(answers)
        self.requests: list[HttpRequest] = []
        self.callers: list[tuple[str, int]] = []
        self.came = asyncio.Event()
        """Set once somebody has asked."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.callers.append(tuple(scope["client"]))
        self.requests.append(http_request(scope, body))
        self.came.set()
        await respond(send, self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
