"""A contract of two teams, its handlers and its workflows: what the tests of calls call."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from nexusrpc import HandlerError, HandlerErrorType, Operation, OperationError, OperationErrorState
from nexusrpc.handler import StartOperationContext
from pydantic import BaseModel, Field
from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

import nexuskit

SECRET = "4000-0000-0000-0000"
"""Stands for what must not cross the boundary unless the contract says so."""
LIMIT = timedelta(seconds=30)


class Payment(BaseModel):
    """A wish to be paid, which says what is to happen to it."""

    id: str
    cents: int = Field(gt=0, default=100)
    outcome: str = "paid"


class Receipt(BaseModel):
    id: str
    cents: int


class CardDeclined(nexuskit.DeclaredError):
    """The card was refused."""

    reason: str
    limit: int = 0


@nexuskit.service(version="1.0")
class PaymentService:
    """Takes payments."""

    process: Operation[Payment, Receipt] = nexuskit.operation(errors=[CardDeclined], deadline=LIMIT)
    quote: Operation[Payment, int] = nexuskit.operation(errors=[CardDeclined], deadline=LIMIT)
    status: Operation[str, str] = nexuskit.operation(name="process/status")
    answer: Operation[Payment, Receipt] = nexuskit.operation(deadline=LIMIT)
    nothing: Operation[None, None] = nexuskit.operation(deadline=LIMIT)
    who: Operation[str, dict[str, str]] = nexuskit.operation(deadline=LIMIT)


@nexuskit.service(name="PaymentService")
class WiderService:
    """What a caller knows whose contract is not the handler's."""

    quote: Operation[Payment, Receipt] = nexuskit.operation(deadline=LIMIT)
    refund: Operation[Payment, Receipt] = nexuskit.operation(deadline=LIMIT)
    process: Operation[Payment, Receipt] = nexuskit.operation(deadline=LIMIT)
    answer: Operation[dict[str, str], Receipt] = nexuskit.operation(deadline=LIMIT)


@nexuskit.service
class Elsewhere:
    """A service that nobody handles."""

    process: Operation[Payment, Receipt] = nexuskit.operation(deadline=LIMIT)


@activity.defn
async def charge(payment: Payment) -> int:
    """Charges a card."""
    if payment.outcome == "declined by the activity":
        raise CardDeclined(reason="expired", limit=7)
    return payment.cents


@workflow.defn
class ProcessPayment:
    """The workflow behind `process`."""

    @workflow.run
    async def run(self, payment: Payment) -> Receipt:
        """One payment."""
        if payment.outcome == "declined by the workflow":
            raise CardDeclined(reason="expired", limit=7)
        if payment.outcome == "failed":
            raise ApplicationError("no", {"why": "so"}, type="Broken", non_retryable=True)
        if payment.outcome == "waits":
            await workflow.wait_condition(lambda: False)
        cents = await workflow.execute_activity(charge, payment, start_to_close_timeout=timedelta(seconds=10))
        return Receipt(id=workflow.info().workflow_id, cents=cents)


@nexuskit.service_handler(PaymentService)
class Payments:
    """Answers the operations of the contract."""

    process = nexuskit.run_workflow(PaymentService.process, ProcessPayment.run, id=lambda payment: payment.id)

    @nexuskit.sync_operation
    async def quote(self, ctx: StartOperationContext, payment: Payment) -> int:
        """The fee, or what the payment says is to happen."""
        match payment.outcome:
            case "declined":
                raise CardDeclined(reason="expired", limit=7)
            case "bug":
                raise ValueError(SECRET)
            case "unauthorized":
                raise HandlerError("not you", type=HandlerErrorType.UNAUTHORIZED)
            case "missing":
                raise HandlerError("no such card", type=HandlerErrorType.NOT_FOUND)
            case "conflict":
                raise HandlerError("twice", type=HandlerErrorType.CONFLICT) from ValueError(SECRET)
            case "failed":
                raise OperationError("no", state=OperationErrorState.FAILED)
            case "application":
                raise ApplicationError("no", {"why": "so"}, type="Broken", non_retryable=True)
            case "cancelled":
                raise OperationError("stopped", state=OperationErrorState.CANCELED)
            case "wrong output":
                return SECRET  # type: ignore[return-value]
            case "slow":
                await asyncio.sleep(60)
            case _:
                pass
        return payment.cents // 100

    @nexuskit.sync_operation
    async def status(self, ctx: StartOperationContext, of: str) -> str:
        """Says what it was asked."""
        return of

    @nexuskit.sync_operation
    async def answer(self, ctx: StartOperationContext, payment: Payment) -> Receipt:
        """A model there and back."""
        return Receipt(id=payment.id, cents=payment.cents)

    @nexuskit.sync_operation
    async def who(self, ctx: StartOperationContext, of: str) -> dict[str, str]:
        """What the context says."""
        context = nexuskit.operation_context()
        caller = nexuskit.caller_info()
        context.logger.info("asked")
        return {
            "operation": str(context.operation),
            "endpoint": context.endpoint,
            "namespace": context.namespace,
            "client": context.client.namespace,
            "request_id": context.request_id,
            "links": str(len(context.links)),
            "deadline": str(context.deadline is not None),
            "trace": context.trace_context.get("traceparent", ""),
            "operation_id": context.operation_id or "",
            "caller": caller.namespace if caller else "",
        }

    @nexuskit.sync_operation
    async def nothing(self, ctx: StartOperationContext, input: None) -> None:
        """Nothing there and nothing back."""
