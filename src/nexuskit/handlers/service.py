"""A class of handlers for a contract: what it has to have, and what happens around each of its handlers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

import nexusrpc
import nexusrpc.handler
from nexusrpc import Operation
from nexusrpc.handler import OperationHandler, StartOperationResultAsync, StartOperationResultSync
from temporalio.common import RawValue

from nexuskit.contract import InvalidValueError, service_contract
from nexuskit.contract.names import encoded
from nexuskit.contract.payloads import from_payload, to_payload
from nexuskit.handlers.context import cancelling, starting
from nexuskit.handlers.outcomes import raise_outcome, refuse_input, refuse_output

if TYPE_CHECKING:
    from nexusrpc.handler import CancelOperationContext, StartOperationContext

    from nexuskit.contract import OperationContract, ServiceContract

T = TypeVar("T")

Factory = Callable[[Any], OperationHandler[Any, Any]]
"""Makes the handler of an operation, given the instance of its class."""


class HandlerDefinitionError(TypeError):
    """A class that cannot handle its contract.

    Attributes:
        faults: all that is wrong with it.
    """

    def __init__(self, what: str, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"{what} does not handle its contract:" + "".join(f"\n  - {fault}" for fault in faults))


@runtime_checkable
class Builder(Protocol):
    """What stands in a class of handlers for an operation, and makes its handler."""

    operation: Operation[Any, Any]
    """The operation of the contract that it is for."""

    def build(self, contract: OperationContract) -> OperationHandler[Any, Any]:
        """The handler."""
        ...


def service_handler(service: type[Any]) -> Callable[[type[T]], type[T]]:
    """A class that handles the operations of a contract::

        @nexuskit.service_handler(PaymentService)
        class Payments:
            process = nexuskit.run_workflow(PaymentService.process, ProcessPayment.run, id=lambda payment: payment.id)

            @nexuskit.sync_operation
            async def quote(self, ctx: StartOperationContext, payment: Payment) -> Quote: ...

    Each operation of the contract is an attribute of the same name: a builder, or a method with one of nexusrpc's
    decorators. An instance goes into a worker's `nexus_service_handlers`. Inputs are checked before a handler sees
    them, and outputs before they are sent; what goes wrong in a handler stays with the handler's team.

    Args:
        service: the class of the contract, made by `nexuskit.service` or `nexusrpc.service`.

    Raises:
        HandlerDefinitionError: operations are missing, unknown or of other types; says all of it.
        ContractError: the service is no contract.
    """
    contract = service_contract(service)

    def decorate(cls: type[T]) -> type[T]:
        found = _implementations(cls, contract)
        wire: dict[str, Operation[Any, Any]] = {}
        for each in contract.operations.values():
            # A server of Temporal's sends the encoded name, HTTP the public one.
            for attribute, name in {
                f"{each.attribute}__encoded": encoded(each.name),
                each.attribute: each.name,
            }.items():
                if attribute != each.attribute and name == each.name:
                    continue
                entry = _Entry(each, attribute, name, found[each.attribute], cls.__dict__.get(attribute))
                setattr(cls, attribute, entry)
                wire[attribute] = Operation(name=name, input_type=RawValue, output_type=RawValue)
        raw = nexusrpc.service(name=encoded(contract.name))(type(cls.__name__, (), wire))
        return nexusrpc.handler.service_handler(service=raw)(cls)

    return decorate


class _Entry:
    """Where nexusrpc finds the handler of an operation; on an instance, what the team wrote there."""

    def __init__(
        self, contract: OperationContract, attribute: str, name: str, factory: Factory, written: object
    ) -> None:
        self._contract = contract
        self._factory = factory
        self._written = written
        operation: Operation[Any, Any] = Operation(name=name, input_type=RawValue, output_type=RawValue)
        operation.method_name = attribute
        nexusrpc.set_operation(self, operation)

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Any:
        if instance is None or not hasattr(self._written, "__get__"):
            return self
        return cast("Any", self._written).__get__(instance, owner)

    def __call__(self, instance: object) -> OperationHandler[Any, Any]:
        handler = self._factory(instance)
        checked = _Checked if inspect.iscoroutinefunction(handler.start) else _CheckedInThread
        return checked(self._contract, handler)


class _Checked(OperationHandler[RawValue, RawValue]):
    """A handler whose input and output are what the contract says, or it is told what is wrong."""

    def __init__(self, contract: OperationContract, handler: OperationHandler[Any, Any]) -> None:
        self._contract = contract
        self._handler = handler

    async def start(
        self, ctx: StartOperationContext, input: RawValue
    ) -> StartOperationResultSync[RawValue] | StartOperationResultAsync:
        value = _input(self._contract, input)
        with starting(self._contract, ctx):
            try:
                result = await cast("Any", self._handler.start(ctx, value))
            except Exception as error:  # noqa: BLE001, a handler may raise anything
                raise_outcome(self._contract, error)
        return _output(self._contract, result)

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        with cancelling(self._contract, ctx, token):
            try:
                done = self._handler.cancel(ctx, token)
                if inspect.isawaitable(done):
                    await done
            except Exception as error:  # noqa: BLE001, a handler may raise anything
                raise_outcome(self._contract, error)


class _CheckedInThread(_Checked):
    """The same of a plain function, which runs in the worker's executor."""

    def start(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, ctx: StartOperationContext, input: RawValue
    ) -> StartOperationResultSync[RawValue] | StartOperationResultAsync:
        value = _input(self._contract, input)
        with starting(self._contract, ctx):
            try:
                result = self._handler.start(ctx, value)
            except Exception as error:  # noqa: BLE001, a handler may raise anything
                raise_outcome(self._contract, error)
        return _output(self._contract, cast("Any", result))


def _input(contract: OperationContract, raw: RawValue) -> Any:
    try:
        return from_payload(contract.input_type, raw.payload)
    except InvalidValueError as error:
        refuse_input(contract, error)


def _output(
    contract: OperationContract, result: StartOperationResultSync[Any] | StartOperationResultAsync
) -> StartOperationResultSync[RawValue] | StartOperationResultAsync:
    if isinstance(result, StartOperationResultAsync):
        return result
    try:
        return StartOperationResultSync(RawValue(to_payload(contract.output_type, result.value)))
    except InvalidValueError as error:
        refuse_output(contract, error)


def _implementations(cls: type[Any], contract: ServiceContract) -> dict[str, Factory]:
    faults: list[str] = []
    found: dict[str, Factory] = {}
    for each in contract.operations.values():
        written = inspect.getattr_static(cls, each.attribute, None)
        if written is None:
            faults.append(
                f"{each}: nothing in {cls.__name__} is called {each.attribute!r}. Put a builder or a method there"
            )
        elif isinstance(written, Builder):
            if written.operation.name != each.name:
                faults.append(f"{each}: the builder there is for {written.operation.name!r}. Give it {each}")
            else:
                found[each.attribute] = _built(written, each)
        elif (factory := getattr(written, "__nexus_operation_factory__", None) or _itself(written)) is not None:
            faults += _type_faults(each, nexusrpc.get_operation(factory))
            found[each.attribute] = factory
        else:
            faults.append(
                f"{each}: {cls.__name__}.{each.attribute} is neither a builder nor decorated."
                " Put @nexuskit.sync_operation above it"
            )
    known = [each.attribute for each in contract.operations.values()]
    for name, value in vars(cls).items():
        if name not in known and (isinstance(value, Builder) or hasattr(value, "__nexus_operation_factory__")):
            faults.append(
                f"{cls.__name__}.{name}: {contract.name} has no operation of that attribute; it has {', '.join(known)}"
            )
    if faults:
        raise HandlerDefinitionError(f"{cls.__module__}.{cls.__qualname__}", faults)
    return found


def _built(builder: Builder, contract: OperationContract) -> Factory:
    return lambda _: builder.build(contract)


def _itself(written: Any) -> Factory | None:
    """A method with `@nexusrpc.handler.operation_handler` is a factory."""
    return cast("Factory", written) if callable(written) and nexusrpc.get_operation(written) is not None else None


def _type_faults(contract: OperationContract, operation: Operation[Any, Any] | None) -> list[str]:
    if operation is None:
        return []
    return [
        f"{contract}: its {what} is {wanted}, and the handler's is {said}. Write the contract's type"
        for what, wanted, said in (
            ("input", contract.input_type, operation.input_type),
            ("output", contract.output_type, operation.output_type),
        )
        if said is not None and said != wanted
    ]
