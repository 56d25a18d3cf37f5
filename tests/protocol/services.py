"""A service whose operations end in every way that there is, and the applications that serve it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import nexusrpc
from nexusrpc import HandlerError, HandlerErrorType, Link, Operation, OperationError, OperationErrorState
from nexusrpc.handler import (
    CancelOperationContext,
    OperationHandler,
    StartOperationContext,
    StartOperationResultAsync,
    StartOperationResultSync,
    operation_handler,
    service_handler,
    sync_operation,
)
from pydantic import BaseModel, Field

from nexuskit.protocol.values import Callback

LINK = Link(url="https://payments.example/records/1?a=b%2Cc", type="example.Record")


class Payment(BaseModel):
    order: str
    cents: int = Field(gt=0)


class Receipt(BaseModel):
    order: str
    charged: int


class Wanted(BaseModel):
    """How a call is to end."""

    kind: str
    type: str = "INTERNAL"
    retryable: bool | None = None


@nexusrpc.service
class Payments:
    process: Operation[Payment, Receipt] = Operation(name="process/now")
    echo: Operation[bytes, bytes]
    nothing: Operation[None, None]
    seen: Operation[None, dict[str, Any]]
    end: Operation[Wanted, str]
    later: Operation[Payment, Receipt]
    hang: Operation[None, None]


class Later(OperationHandler[Payment, Receipt]):
    """Starts operations that the test completes."""

    def __init__(self) -> None:
        self.started: list[tuple[str, Callback | None, StartOperationContext]] = []
        self.cancelled: list[tuple[str, CancelOperationContext]] = []

    async def start(self, ctx: StartOperationContext, input: Payment) -> StartOperationResultAsync:
        token = f"token {input.order}"
        self.started.append((token, Callback.of(ctx), ctx))
        ctx.outbound_links.append(LINK)
        return StartOperationResultAsync(token)

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        if not token.startswith("token"):
            raise HandlerError(f"no operation {token}", type=HandlerErrorType.NOT_FOUND)
        self.cancelled.append((token, ctx))


@service_handler(service=Payments)
class PaymentsHandler:
    def __init__(self) -> None:
        self.waiting = Later()
        self.hanging = asyncio.Event()
        self.let_go = asyncio.Event()
        self.contexts: list[StartOperationContext] = []

    @sync_operation
    async def process(self, ctx: StartOperationContext, payment: Payment) -> Receipt:
        """Takes a payment at once."""
        ctx.outbound_links.append(LINK)
        return Receipt(order=payment.order, charged=payment.cents)

    @sync_operation
    async def echo(self, ctx: StartOperationContext, data: bytes) -> bytes:
        return data

    @sync_operation
    async def nothing(self, ctx: StartOperationContext, nothing: None) -> None:
        return None

    @sync_operation
    async def seen(self, ctx: StartOperationContext, nothing: None) -> dict[str, Any]:
        self.contexts.append(ctx)
        return {
            "headers": dict(ctx.headers),
            "request_id": ctx.request_id,
            "callback_url": ctx.callback_url,
            "callback_headers": dict(ctx.callback_headers),
            "links": [[link.url, link.type] for link in ctx.inbound_links],
        }

    @sync_operation
    async def end(self, ctx: StartOperationContext, wanted: Wanted) -> str:
        match wanted.kind:
            case "failed" | "canceled":
                raise OperationError(f"it {wanted.kind}", state=OperationErrorState(wanted.kind))
            case "handler":
                error = HandlerErrorType.__members__.get(wanted.type, wanted.type)
                raise HandlerError(f"said {wanted.type}", type=error, retryable_override=wanted.retryable)
            case "caused":
                try:
                    raise HandlerError("inner", type=HandlerErrorType.NOT_FOUND)
                except HandlerError as error:
                    raise OperationError("outer", state=OperationErrorState.FAILED) from error
            case "unexpected":
                raise RuntimeError("secret 4711")
            case _:
                return wanted.kind

    @operation_handler
    def later(self) -> OperationHandler[Payment, Receipt]:
        return self.waiting

    @sync_operation
    async def hang(self, ctx: StartOperationContext, nothing: None) -> None:
        self.contexts.append(ctx)
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.let_go.set()


class Answering(OperationHandler[None, None]):
    """Answers with what it is told to, even with what no handler may answer with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def start(self, ctx: StartOperationContext, input: None) -> StartOperationResultSync[None]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        await self.start(None, None)


@asynccontextmanager
async def http_to(app: Any, base_url: str = "http://test") -> AsyncIterator[httpx.AsyncClient]:
    """An httpx client whose requests go into an application, without a socket."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
        yield client


def scope(path: str = "/Payments/hang", **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "root_path": "",
        **more,
    }


async def never(message: Any) -> None:
    raise AssertionError(f"nobody is there to be sent {message}")
