"""The payments team: a handler for the contract, and a workflow with an activity behind it, in namespace `payments`."""

from datetime import timedelta

from nexusrpc.handler import StartOperationContext
from temporalio import activity, workflow

import nexuskit
from nexuskit.demo.contract import CardDeclined, Payment, PaymentService, Quote, Receipt

TASK_QUEUE = "payments"
SETTLEMENT = timedelta(seconds=1)


def quote_for(payment: Payment) -> Quote:
    """The fee is one percent."""
    fee_cents = payment.amount_cents // 100
    return Quote(fee_cents=fee_cents, total_cents=payment.amount_cents + fee_cents)


def payment_id(payment: Payment) -> str:
    """One id for one order: while its payment runs, a second one is refused."""
    return f"payment-{payment.order_id}"


@activity.defn
async def charge_card(payment: Payment) -> int:
    """Charge the card; answers the cents charged.

    Raises:
        CardDeclined: No use to try again.
    """
    if payment.card.endswith("0000"):
        raise CardDeclined(reason="insufficient funds")
    return quote_for(payment).total_cents


@workflow.defn
class ProcessPayment:
    """Charges the card, then waits for settlement on a timer that outlives any process."""

    @workflow.run
    async def run(self, payment: Payment) -> Receipt:
        """One payment from charge to receipt."""
        charged_cents = await workflow.execute_activity(
            charge_card, payment, start_to_close_timeout=timedelta(seconds=10)
        )
        await workflow.sleep(SETTLEMENT)
        return Receipt(payment_id=workflow.info().workflow_id, charged_cents=charged_cents)


@nexuskit.service_handler(PaymentService)
class PaymentHandler:
    """Answers the operations of the contract."""

    process = nexuskit.run_workflow(PaymentService.process, ProcessPayment.run, id=payment_id)

    @nexuskit.sync_operation
    async def quote(self, ctx: StartOperationContext, payment: Payment) -> Quote:
        """Answer at once."""
        return quote_for(payment)
