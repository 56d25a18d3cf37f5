"""Orders and payments for the crash tests, with short timeouts: a task that died with the backend is soon given again.

Nothing but temporalio and nexusrpc is imported here: the workflow sandbox loads this module anew for each workflow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import nexusrpc
import nexusrpc.handler
from temporalio import activity, nexus, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import NexusOperationError

LOST_AFTER = timedelta(seconds=1)
"""A task whose answer has not come by then is given out again."""

SOON = RetryPolicy(initial_interval=timedelta(milliseconds=100), backoff_coefficient=1)

charged: Counter[str] = Counter()
"""How often the activity ran for each order."""


stumbled: Counter[str] = Counter()
"""How often the handler that fails at first was asked, by request id."""


@dataclass(frozen=True)
class Order:
    """One order, and how long its payment waits."""

    name: str
    wait: float


@nexusrpc.service
class Payments:
    """The payments team's operations."""

    pay: nexusrpc.Operation[Order, str]
    quote: nexusrpc.Operation[Order, str]
    decline: nexusrpc.Operation[Order, str]
    stumble: nexusrpc.Operation[Order, str]
    hold: nexusrpc.Operation[Order, str]


@workflow.defn
class Pay:
    """Charges, waits, answers."""

    @workflow.run
    async def run(self, order: Order) -> str:
        receipt = await workflow.execute_activity(charge, order, start_to_close_timeout=LOST_AFTER, retry_policy=SOON)
        await asyncio.sleep(order.wait)
        return receipt


@workflow.defn
class Held:
    """Ends when it is cancelled, and not before."""

    @workflow.run
    async def run(self, order: Order) -> str:
        await workflow.wait_condition(lambda: False)
        return order.name


@activity.defn
async def charge(order: Order) -> str:
    """Runs at least once for each order."""
    charged[order.name] += 1
    return f"receipt of {order.name}"


@nexusrpc.handler.service_handler(service=Payments)
class PaymentsHandler:
    """The payments team's handler."""

    @nexus.workflow_run_operation
    async def pay(self, ctx: nexus.WorkflowRunOperationContext, order: Order) -> nexus.WorkflowHandle[str]:
        return await ctx.start_workflow(Pay.run, order, id=f"pay-{order.name}", task_timeout=LOST_AFTER)

    @nexusrpc.handler.sync_operation
    async def quote(self, ctx: nexusrpc.handler.StartOperationContext, order: Order) -> str:
        """Answers at once."""
        return f"quote of {order.name}"

    @nexusrpc.handler.sync_operation
    async def decline(self, ctx: nexusrpc.handler.StartOperationContext, order: Order) -> str:
        """Fails for good."""
        raise nexusrpc.OperationError(f"{order.name} is declined", state=nexusrpc.OperationErrorState.FAILED)

    @nexusrpc.handler.sync_operation
    async def stumble(self, ctx: nexusrpc.handler.StartOperationContext, order: Order) -> str:
        """Fails the first time, and answers the second time."""
        stumbled[ctx.request_id] += 1
        if stumbled[ctx.request_id] == 1:
            raise nexusrpc.HandlerError("not now", type=nexusrpc.HandlerErrorType.UNAVAILABLE)
        return f"second try of {order.name}"

    @nexus.workflow_run_operation
    async def hold(self, ctx: nexus.WorkflowRunOperationContext, order: Order) -> nexus.WorkflowHandle[str]:
        return await ctx.start_workflow(Held.run, order, id=f"hold-{order.name}", task_timeout=LOST_AFTER)


@workflow.defn
class Place:
    """Has the order paid."""

    @workflow.run
    async def run(self, endpoint: str, order: Order) -> str:
        payments = workflow.create_nexus_client(service=Payments, endpoint=endpoint)
        return await payments.execute_operation(Payments.pay, order, schedule_to_close_timeout=timedelta(minutes=10))


KINDS = ("quote", "decline", "stumble", "pay", "hold")


@workflow.defn
class PlaceMany:
    """Calls each operation several times, all at once, and calls one kind off. Answers with what came of each."""

    @workflow.run
    async def run(self, endpoint: str, name: str, times: int) -> dict[str, str]:
        self._payments = workflow.create_nexus_client(service=Payments, endpoint=endpoint)
        names = [f"{kind}-{name}-{number}" for number in range(times) for kind in KINDS]
        outcomes = await asyncio.gather(*(self._one(each) for each in names))
        return dict(zip(names, outcomes, strict=True))

    async def _one(self, name: str) -> str:
        kind = name.partition("-")[0]
        order = Order(name, 0.3)
        call = self._payments.start_operation(
            kind, order, output_type=str, schedule_to_close_timeout=timedelta(minutes=5)
        )
        try:
            handle = await call
            if kind == "hold":
                handle.cancel()
            return await handle
        except NexusOperationError as error:
            return type(error.cause).__name__
