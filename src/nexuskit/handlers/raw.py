"""Handlers that decode nothing: for proxies, gateways and whoever must pass on what it cannot read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexusrpc import HandlerError, HandlerErrorType, OperationDefinition, ServiceDefinition
from nexusrpc.handler import (
    CancelOperationContext,
    OperationHandler,
    StartOperationContext,
    StartOperationResultAsync,
    StartOperationResultSync,
)
from nexusrpc.handler._core import ServiceHandler  # which a worker takes, and which is exported nowhere else
from temporalio.common import RawValue

from nexuskit.contract import OperationContract
from nexuskit.contract.names import decoded, encoded
from nexuskit.handlers.context import cancelling, starting
from nexuskit.handlers.outcomes import NO_TRACE, raise_outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from nexusrpc import Link
    from temporalio.api.common.v1 import Payload


@dataclass(frozen=True)
class RawRequest:
    """A call, as it came.

    Attributes:
        service: the service that was called.
        operation: the operation that was called, whichever name it has.
        payload: the input, metadata and bytes; a codec of the worker's data converter has been applied.
        headers: all that came with it.
        request_id: the same for each attempt of one call.
        deadline: until when the answer has to be there (UTC).
        callback_url: where a completion is to go.
        callback_headers: what is to go with it.
        links: what the caller wants to be linked to.
    """

    service: str
    operation: str
    payload: Payload
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    request_id: str = ""
    deadline: datetime | None = None
    callback_url: str | None = None
    callback_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class RawCancel:
    """A wish that an operation be cancelled.

    Attributes:
        service: the service that was called.
        operation: the operation.
        token: the one that its start answered with.
        headers: all that came with it.
    """

    service: str
    operation: str
    token: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class RawResult:
    """The operation is done.

    Attributes:
        payload: its result, which goes out as it is. Through Temporal, its metadata is all that goes beside its bytes.
        links: what the caller is to be linked to.
    """

    payload: Payload
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class RawToken:
    """The operation goes on, and whoever goes on with it completes the callback.

    Attributes:
        token: the handler's name for it.
        links: what the caller is to be linked to.
    """

    token: str
    links: Sequence[Link] = ()


class RawHandler(ABC):
    """Answers every operation of a service; see `raw_service`."""

    @abstractmethod
    async def start(self, request: RawRequest) -> RawResult | RawToken:
        """Answer a call.

        Raises:
            nexusrpc.HandlerError, nexusrpc.OperationError: as in any handler. Anything else is INTERNAL for the caller.
        """

    async def cancel(self, request: RawCancel) -> None:
        """Cancel an operation; refused where a handler does not say otherwise."""
        raise HandlerError(
            f"{request.service}.{request.operation} cannot be cancelled",
            type=HandlerErrorType.NOT_IMPLEMENTED,
            stack_trace=NO_TRACE,
        )


def raw_service(name: str, handler: RawHandler) -> ServiceHandler:
    """A handler for every operation of a service, whichever name it has, for a worker's `nexus_service_handlers`.

    Args:
        name: the service's name.
        handler: what answers.
    """
    operations = _AnyOperation()
    return ServiceHandler(
        service=ServiceDefinition(encoded(name), operations), operation_handlers=_AnyHandler(_RawOperation(handler))
    )


class _RawOperation(OperationHandler[RawValue, RawValue]):
    def __init__(self, handler: RawHandler) -> None:
        self._handler = handler

    async def start(
        self, ctx: StartOperationContext, input: RawValue
    ) -> StartOperationResultSync[RawValue] | StartOperationResultAsync:
        contract = _contract(ctx)
        request = RawRequest(
            service=contract.service,
            operation=contract.name,
            payload=input.payload,
            headers=dict(ctx.headers),
            request_id=ctx.request_id,
            deadline=ctx.request_deadline,
            callback_url=ctx.callback_url,
            callback_headers=dict(ctx.callback_headers),
            links=tuple(ctx.inbound_links),
        )
        with starting(contract, ctx):
            try:
                answer = await self._handler.start(request)
            except Exception as error:  # noqa: BLE001, a handler may raise anything
                raise_outcome(contract, error)
        ctx.outbound_links.extend(answer.links)
        if isinstance(answer, RawToken):
            return StartOperationResultAsync(answer.token)
        return StartOperationResultSync(RawValue(answer.payload))

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        contract = _contract(ctx)
        with cancelling(contract, ctx, token):
            try:
                await self._handler.cancel(RawCancel(contract.service, contract.name, token, dict(ctx.headers)))
            except Exception as error:  # noqa: BLE001, a handler may raise anything
                raise_outcome(contract, error)


class _AnyOperation(dict[str, OperationDefinition[Any, Any]]):
    """Has an operation of every name. It lists none, as nobody knows them."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> OperationDefinition[Any, Any]:
        return OperationDefinition(name, name, RawValue, RawValue)


class _AnyHandler(dict[str, OperationHandler[Any, Any]]):
    """Has one handler for every name."""

    def __init__(self, handler: OperationHandler[Any, Any]) -> None:
        super().__init__()
        self._handler = handler

    def get(self, name: str, default: object = None) -> OperationHandler[Any, Any]:
        """The handler, whatever the name."""
        return self._handler

    def values(self) -> Iterator[OperationHandler[Any, Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What a worker without an executor looks at, to see that no function would block it."""
        return iter((self._handler,))


def _contract(ctx: StartOperationContext | CancelOperationContext) -> OperationContract:
    name = decoded(ctx.operation)
    return OperationContract(
        service=decoded(ctx.service), name=name, attribute=name, input_type=RawValue, output_type=RawValue
    )
