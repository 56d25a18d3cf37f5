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

LOST_AFTER = timedelta(seconds=1)
"""A task whose answer has not come by then is given out again."""

SOON = RetryPolicy(initial_interval=timedelta(milliseconds=100), backoff_coefficient=1)

charged: Counter[str] = Counter()
"""How often the activity ran for each order."""


@dataclass(frozen=True)
class Order:
    """One order, and how long its payment waits."""

    name: str
    wait: float


@nexusrpc.service
class Payments:
    """The payments team's one operation."""

    pay: nexusrpc.Operation[Order, str]


@workflow.defn
class Pay:
    """Charges, waits, answers."""

    @workflow.run
    async def run(self, order: Order) -> str:
        receipt = await workflow.execute_activity(charge, order, start_to_close_timeout=LOST_AFTER, retry_policy=SOON)
        await asyncio.sleep(order.wait)
        return receipt


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


@workflow.defn
class Place:
    """Has the order paid."""

    @workflow.run
    async def run(self, endpoint: str, order: Order) -> str:
        payments = workflow.create_nexus_client(service=Payments, endpoint=endpoint)
        return await payments.execute_operation(Payments.pay, order, schedule_to_close_timeout=timedelta(minutes=10))
