"""The orders team: a workflow that calls the payments team's service. Runs in namespace `orders`."""

from dataclasses import dataclass

from temporalio import workflow

import nexuskit
from nexuskit.demo.contract import CardDeclined, Payment, PaymentService, Quote, Receipt

TASK_QUEUE = "orders"
ENDPOINT = "payments"


@dataclass(frozen=True)
class OrderResult:
    """How an order ended: with a receipt, or with the reason why the card was declined."""

    quote: Quote
    receipt: Receipt | None = None
    declined: str | None = None


@workflow.defn
class PlaceOrder:
    """Asks for a quote, then for the payment."""

    @workflow.run
    async def run(self, payment: Payment) -> OrderResult:
        """One order. A declined card is a result, any other failure of the payment is the order's own."""
        payments = nexuskit.caller(PaymentService, endpoint=ENDPOINT)
        quote = await payments.execute(PaymentService.quote, payment)
        try:
            receipt = await payments.execute(PaymentService.process, payment)
        except CardDeclined as declined:
            return OrderResult(quote=quote, declined=declined.reason)
        return OrderResult(quote=quote, receipt=receipt)
