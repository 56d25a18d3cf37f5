"""Workflows, activities and Nexus handlers as users write them, run by temporalio's own worker.

Nothing but temporalio and nexusrpc is imported here: the workflow sandbox loads this module anew for each workflow.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import nexusrpc
import nexusrpc.handler
from temporalio import activity, nexus, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, NexusOperationError


@dataclass(frozen=True)
class Payment:
    """What a caller sends."""

    order: str
    cents: int = 100
    card: str = "good"


@dataclass(frozen=True)
class Receipt:
    """What a caller gets."""

    order: str
    charged: int


@dataclass(frozen=True)
class Link:
    """One error of a chain of causes, as the workflow that caught it saw it."""

    kind: str
    message: str
    type: str | None = None
    retryable: bool | None = None
    details: list[Any] = field(default_factory=list)


@nexusrpc.service
class Payments:
    """The operations of the payments team."""

    quote: nexusrpc.Operation[Payment, int]
    """Answers at once."""
    process: nexusrpc.Operation[Payment, Receipt]
    """A workflow answers."""
    misbehave: nexusrpc.Operation[str, str]
    """Fails at once, in the way that the input names."""
    misbehave_later: nexusrpc.Operation[str, str]
    """A workflow fails in the way that the input names."""
    hold: nexusrpc.Operation[str, None]
    """A workflow of that id waits until it is cancelled."""
    touch: nexusrpc.Operation[tuple[str, str], int]
    """Does to a basket of that id what the second word says, and tells how often it was touched."""


@workflow.defn
class ProcessPayment:
    """Charges the card, waits, and gives a receipt."""

    @workflow.run
    async def run(self, payment: Payment) -> Receipt:
        charged = await workflow.execute_activity(
            charge, payment, start_to_close_timeout=timedelta(seconds=10), retry_policy=RetryPolicy(maximum_attempts=1)
        )
        await asyncio.sleep(0.01)
        return Receipt(payment.order, charged)


@workflow.defn
class Misbehave:
    """Ends in the way that its input names."""

    @workflow.run
    async def run(self, way: str) -> str:
        match way:
            case "application error":
                raise ApplicationError("card declined", {"reason": "no money"}, type="CardDeclined")
            case "non-retryable application error":
                raise ApplicationError("card declined", type="CardDeclined", non_retryable=True)
            case "activity failed":
                payment = Payment("an order", card="declined")
                return str(
                    await workflow.execute_activity(charge, payment, start_to_close_timeout=timedelta(seconds=10))
                )
            case "run timeout":
                await asyncio.sleep(3600)
                return "unreachable"
            case _:
                return way


@activity.defn
async def charge(payment: Payment) -> int:
    """Takes the money unless the card is bad."""
    if payment.card == "declined":
        raise ApplicationError("card declined", {"reason": "no money"}, type="CardDeclined", non_retryable=True)
    return payment.cents


@workflow.defn
class Hold:
    """Waits until it is cancelled."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


@workflow.defn
class Basket:
    """Counts how often it was touched."""

    def __init__(self) -> None:
        self._touched = 0

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def signal(self) -> None:
        self._touched += 1

    @workflow.query
    def query(self) -> int:
        return self._touched

    @workflow.update
    def update(self) -> int:
        self._touched += 1
        return self._touched


@workflow.defn
class FillBasket:
    """Signals a basket of its own namespace, and starts it where there is none."""

    @workflow.run
    async def run(self, basket: str, queue: str) -> str:
        handle = await workflow.signal_with_start_workflow(
            Basket.run, id=basket, task_queue=queue, signal=Basket.signal
        )
        return handle.run_id or ""


@nexusrpc.handler.service_handler(service=Payments)
class PaymentsHandler:
    """The handlers of the payments team."""

    @nexusrpc.handler.sync_operation
    async def quote(self, ctx: nexusrpc.handler.StartOperationContext, payment: Payment) -> int:
        return payment.cents // 50

    @nexus.workflow_run_operation
    async def process(self, ctx: nexus.WorkflowRunOperationContext, payment: Payment) -> nexus.WorkflowHandle[Receipt]:
        return await ctx.start_workflow(ProcessPayment.run, payment, id=f"payment-{payment.order}")

    @nexusrpc.handler.sync_operation
    async def misbehave(self, ctx: nexusrpc.handler.StartOperationContext, way: str) -> str:
        match way:
            case "operation failed":
                raise nexusrpc.OperationError("no money", state=nexusrpc.OperationErrorState.FAILED)
            case "operation failed, with a cause":
                raise nexusrpc.OperationError(
                    "no money", state=nexusrpc.OperationErrorState.FAILED
                ) from ApplicationError("card declined", {"reason": "no money"}, type="CardDeclined")
            case "operation cancelled":
                raise nexusrpc.OperationError("called off", state=nexusrpc.OperationErrorState.CANCELED)
            case "non-retryable application error":
                raise ApplicationError("card declined", {"reason": "no money"}, type="CardDeclined", non_retryable=True)
            case "internal, not to be retried":
                raise nexusrpc.HandlerError(
                    "broken for good", type=nexusrpc.HandlerErrorType.INTERNAL, retryable_override=False
                )
            case _:
                raise nexusrpc.HandlerError("refused", type=nexusrpc.HandlerErrorType[way])

    @nexus.workflow_run_operation
    async def hold(self, ctx: nexus.WorkflowRunOperationContext, workflow_id: str) -> nexus.WorkflowHandle[None]:
        return await ctx.start_workflow(Hold.run, id=workflow_id)

    @nexusrpc.handler.sync_operation
    async def touch(self, ctx: nexusrpc.handler.StartOperationContext, what: tuple[str, str]) -> int:
        workflow_id, way = what
        basket = nexus.client().get_workflow_handle_for(Basket.run, workflow_id)
        if way == "signal":
            await basket.signal(Basket.signal)
        if way == "update":
            return await basket.execute_update(Basket.update)
        return await basket.query(Basket.query)

    @nexus.workflow_run_operation
    async def misbehave_later(self, ctx: nexus.WorkflowRunOperationContext, way: str) -> nexus.WorkflowHandle[str]:
        timeout = timedelta(seconds=1) if way == "run timeout" else None
        return await ctx.start_workflow(Misbehave.run, way, id=f"misbehave-{ctx.request_id}", run_timeout=timeout)


@workflow.defn
class PlaceOrder:
    """Asks for a quote, then for the payment."""

    @workflow.run
    async def run(self, endpoint: str, payment: Payment) -> Receipt:
        payments = workflow.create_nexus_client(service=Payments, endpoint=endpoint)
        timeout = timedelta(seconds=30)
        quote = await payments.execute_operation(Payments.quote, payment, schedule_to_close_timeout=timeout)
        receipt = await payments.execute_operation(Payments.process, payment, schedule_to_close_timeout=timeout)
        return Receipt(receipt.order, receipt.charged + quote)


@workflow.defn
class CatchError:
    """Runs one operation that fails, and tells what it caught."""

    @workflow.run
    async def run(self, endpoint: str, operation: str, way: str, service: str = "Payments") -> list[Link]:
        client: Any = workflow.create_nexus_client(service=service, endpoint=endpoint)
        try:
            await client.execute_operation(
                operation, way, output_type=str, schedule_to_close_timeout=timedelta(seconds=30)
            )
        except NexusOperationError as error:
            return chain(error)
        return []


@workflow.defn
class CallOff:
    """Starts an operation that would never end, calls it off, and tells what it caught; stays until it may leave."""

    def __init__(self) -> None:
        self._may_leave = False

    @workflow.signal
    def leave(self) -> None:
        self._may_leave = True

    @workflow.run
    async def run(self, endpoint: str, workflow_id: str, cancellation: str) -> list[Link]:
        payments = workflow.create_nexus_client(service=Payments, endpoint=endpoint)
        handle = await payments.start_operation(
            Payments.hold, workflow_id, cancellation_type=workflow.NexusOperationCancellationType[cancellation]
        )
        handle.cancel()
        caught: list[Link] = []
        try:
            await handle
        except NexusOperationError as error:
            caught = chain(error)
        await workflow.wait_condition(lambda: self._may_leave)
        return caught


@workflow.defn
class TouchBasket:
    """Touches a basket of the payments team, with a word for whoever looks at it."""

    @workflow.run
    async def run(self, endpoint: str, workflow_id: str, way: str) -> int:
        payments = workflow.create_nexus_client(service=Payments, endpoint=endpoint)
        return await payments.execute_operation(Payments.touch, (workflow_id, way), summary=f"a {way} for the basket")


@workflow.defn
class CatchActivityError:
    """Runs one activity that fails, and tells what it caught."""

    @workflow.run
    async def run(self, attempts: int) -> list[Link]:
        policy = RetryPolicy(maximum_attempts=attempts, initial_interval=timedelta(milliseconds=10))
        try:
            await workflow.execute_activity(
                always_fails, start_to_close_timeout=timedelta(seconds=10), retry_policy=policy
            )
        except ActivityError as error:
            return chain(error)
        return []


@activity.defn
async def always_fails() -> None:
    """Says in its error which attempt it was."""
    raise ApplicationError(f"attempt {activity.info().attempt}", type="OutOfStock")


@workflow.defn
class WaitThenAnswer:
    """Waits as long as it is told, then gives the value back."""

    @workflow.run
    async def run(self, seconds: float, value: Any) -> Any:
        await asyncio.sleep(seconds)
        return value


@workflow.defn
class LargeResults:
    """Runs activities whose results together are larger than one gRPC message may be."""

    @workflow.run
    async def run(self, count: int, size: int) -> int:
        total = 0
        for _ in range(count):
            total += len(await workflow.execute_activity(pad, size, start_to_close_timeout=timedelta(seconds=30)))
        return total


@activity.defn
async def pad(size: int) -> str:
    """As many letters as asked for."""
    return "x" * size


@workflow.defn
class ManyTimers:
    """Waits for many timers at once, again and again."""

    @workflow.run
    async def run(self, rounds: int, timers: int) -> int:
        for _ in range(rounds):
            await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(timers)))
        return rounds * timers


def chain(error: BaseException | None) -> list[Link]:
    """An error and its causes."""
    links: list[Link] = []
    while error is not None:
        links.append(
            Link(
                kind=type(error).__name__,
                message=error.message if isinstance(error, FailureError | nexusrpc.HandlerError) else str(error),
                type=_type_of(error),
                retryable=error.retryable if isinstance(error, nexusrpc.HandlerError) else None,
                details=list(error.details) if isinstance(error, ApplicationError) else [],
            )
        )
        error = error.__cause__
    return links


def _type_of(error: BaseException) -> str | None:
    found = getattr(error, "type", None)
    return getattr(found, "name", found)


WORKFLOWS = [
    ProcessPayment,
    Hold,
    Basket,
    FillBasket,
    CallOff,
    TouchBasket,
    Misbehave,
    PlaceOrder,
    CatchError,
    CatchActivityError,
    WaitThenAnswer,
    LargeResults,
    ManyTimers,
]
ACTIVITIES = [charge, always_fails, pad]
