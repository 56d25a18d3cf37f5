"""The payments team: a handler for the contract, and a workflow with an activity behind it, in namespace `payments`."""

from datetime import timedelta

import nexusrpc.handler
from temporalio import activity, nexus, workflow
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from nexuskit.demo.contract import CARD_DECLINED, Decline, Payment, PaymentService, Quote, Receipt

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
        ApplicationError: Of type `CARD_DECLINED` with a `Decline` as its details: no use to try again.
    """
    if payment.card.endswith("0000"):
        raise ApplicationError(
            f"the bank refused card {payment.card}",
            Decline(reason="insufficient funds"),
            type=CARD_DECLINED,
            non_retryable=True,
            category=ApplicationErrorCategory.BENIGN,  # expected in daily business: kept out of the error log
        )
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


@nexusrpc.handler.service_handler(service=PaymentService)
class PaymentHandler:
    """Answers the operations of the contract."""

    @nexusrpc.handler.sync_operation
    async def quote(self, ctx: nexusrpc.handler.StartOperationContext, payment: Payment) -> Quote:
        """Answer at once."""
        return quote_for(payment)

    @nexus.workflow_run_operation
    async def process(self, ctx: nexus.WorkflowRunOperationContext, payment: Payment) -> nexus.WorkflowHandle[Receipt]:
        """Start the workflow whose result completes the operation."""
        return await ctx.start_workflow(ProcessPayment.run, payment, id=payment_id(payment))
