"""What a handler can ask about the call that it answers."""

from __future__ import annotations

import contextlib
import logging
import weakref
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from temporalio import nexus
from temporalio.api.workflowservice.v1 import GetClusterInfoRequest

from nexuskit.contract.operation_ids import OPERATION_ID, operation_id
from nexuskit.identity.callers import CallerInfo, caller_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, MutableMapping, Sequence
    from datetime import datetime

    from nexusrpc import Link
    from nexusrpc.handler import CancelOperationContext, StartOperationContext
    from temporalio.client import Client
    from temporalio.common import MetricMeter
    from temporalio.converter import DataConverter
    from temporalio.service import ServiceClient

    from nexuskit.contract import OperationContract

TRACE_CONTEXT = ("traceparent", "tracestate", "baggage")
"""Headers of W3C Trace Context and Baggage."""

_log = logging.getLogger("nexuskit.handlers")
_current: ContextVar[OperationContext] = ContextVar("nexuskit.operation")
_clusters: weakref.WeakKeyDictionary[ServiceClient, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class OperationContext:
    """The call that is being answered; see `operation_context`.

    Attributes:
        operation: what the contract says of it.
        headers: all that came with it, with names in lower case.
        request_id: the same for each attempt of one call; "" in a cancel, and where the caller gave none.
        deadline: until when the answer has to be there (UTC).
        links: what the caller wants to be linked to.
        operation_id: the id that the caller chose; in a cancel, where it chose none, the one inside the token.
    """

    operation: OperationContract
    headers: Mapping[str, str]
    request_id: str = ""
    deadline: datetime | None = None
    links: Sequence[Link] = field(default_factory=tuple["Link", ...])
    operation_id: str | None = None

    @property
    def client(self) -> Client:
        """The client of the worker that handles it.

        Raises:
            RuntimeError: it does not come through Temporal.
        """
        _need_worker(self.operation, "client")
        return nexus.client()

    @property
    def data_converter(self) -> DataConverter:
        """The data converter of that client."""
        return self.client.data_converter

    @property
    def metric_meter(self) -> MetricMeter:
        """A meter whose metrics carry the operation's name, service and endpoint.

        Raises:
            RuntimeError: it does not come through Temporal.
        """
        _need_worker(self.operation, "metric meter")
        return nexus.metric_meter()

    @property
    def endpoint(self) -> str:
        """The endpoint that was called; "" where the call came straight to a task queue, or not through Temporal."""
        return nexus.info().endpoint if nexus.in_operation() else ""

    @property
    def namespace(self) -> str:
        """The handler's own namespace; "" where the call does not come through Temporal."""
        return nexus.info().namespace if nexus.in_operation() else ""

    @property
    def task_queue(self) -> str:
        """The task queue that the call came by; "" where it does not come through Temporal."""
        return nexus.info().task_queue if nexus.in_operation() else ""

    @property
    def trace_context(self) -> dict[str, str]:
        """`traceparent`, `tracestate` and `baggage`, as far as they came."""
        return {name: self.headers[name] for name in TRACE_CONTEXT if name in self.headers}

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records have the call's names as `nexus_...` attributes; none of them is a value of it."""
        return _Logger(
            _log,
            {
                "nexus_service": self.operation.service,
                "nexus_operation": self.operation.name,
                "nexus_endpoint": self.endpoint,
                "nexus_request_id": self.request_id,
                "nexus_operation_id": self.operation_id or "",
            },
        )

    @property
    def caller(self) -> CallerInfo | None:
        """Who called, where that is proven: today by the embedded backend, which names the namespace of each caller."""
        if not nexus.in_operation():
            return None
        return caller_of(_clusters.get(nexus.client().service_client, ""), self.headers)


class _Logger(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def operation_context() -> OperationContext:
    """The call that is being answered.

    Raises:
        RuntimeError: none is: this is no handler of a class made by `nexuskit.service_handler`.
    """
    found = _current.get(None)
    if found is None:
        raise RuntimeError(
            "No Nexus operation is being handled here. Ask inside a handler of a class under"
            " @nexuskit.service_handler, in the task or thread that it runs in"
        )
    return found


def caller_info() -> CallerInfo | None:
    """Who called, where that is proven; None where it is not.

    Raises:
        RuntimeError: no operation is being handled here.
    """
    return operation_context().caller


@contextlib.contextmanager
def starting(contract: OperationContract, ctx: StartOperationContext) -> Generator[OperationContext]:
    """Around the start of an operation."""
    headers = {name.lower(): value for name, value in ctx.headers.items()}
    with _set(
        OperationContext(
            operation=contract,
            headers=headers,
            request_id=ctx.request_id,
            deadline=ctx.request_deadline,
            links=tuple(ctx.inbound_links),
            operation_id=headers.get(OPERATION_ID),
        )
    ) as found:
        yield found


@contextlib.contextmanager
def cancelling(contract: OperationContract, ctx: CancelOperationContext, token: str) -> Generator[OperationContext]:
    """Around the cancel of an operation."""
    headers = {name.lower(): value for name, value in ctx.headers.items()}
    with _set(
        OperationContext(
            operation=contract,
            headers=headers,
            deadline=ctx.request_deadline,
            operation_id=headers.get(OPERATION_ID) or operation_id(token),
        )
    ) as found:
        yield found


async def know_cluster(client: ServiceClient) -> None:
    """Ask a server once what it calls itself, before a worker of it handles anything."""
    if client not in _clusters:
        _clusters[client] = (await client.workflow_service.get_cluster_info(GetClusterInfoRequest())).cluster_name


@contextlib.contextmanager
def _set(context: OperationContext) -> Generator[OperationContext]:
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def _need_worker(contract: OperationContract, what: str) -> None:
    if not nexus.in_operation():
        raise RuntimeError(f"{contract} was not called through Temporal, and so has no {what}")
