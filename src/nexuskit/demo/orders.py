"""The orders team: a workflow that calls the payments team's service. Runs in namespace `orders`."""

from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, NexusOperationError

from nexuskit.demo.contract import CARD_DECLINED, Decline, Payment, PaymentService, Quote, Receipt

TASK_QUEUE = "orders"
ENDPOINT = "payments"


@dataclass(frozen=True)
class OrderResult:
    """How an order ended: with a receipt, or with the reason why the card was declined."""

    quote: Quote
    receipt: Receipt | None = None
    declined: Decline | None = None


@workflow.defn
class PlaceOrder:
    """Asks for a quote, then for the payment."""

    @workflow.run
    async def run(self, payment: Payment) -> OrderResult:
        """One order. A declined card is a result, any other failure of the payment is the order's own."""
        payments = workflow.create_nexus_client(service=PaymentService, endpoint=ENDPOINT)
        quote = await payments.execute_operation(
            PaymentService.quote, payment, schedule_to_close_timeout=timedelta(seconds=30)
        )
        try:
            receipt = await payments.execute_operation(
                PaymentService.process, payment, schedule_to_close_timeout=timedelta(minutes=5)
            )
        except NexusOperationError as error:
            declined = find_decline(error)
            if declined is None:
                raise
            return OrderResult(quote=quote, declined=declined)
        return OrderResult(quote=quote, receipt=receipt)


def find_decline(error: NexusOperationError) -> Decline | None:
    """The declined card among the causes: an activity raised it, and each step on its way here wrapped it again."""
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, ApplicationError) and cause.type == CARD_DECLINED:
            return Decline(**cause.details[0])
        cause = cause.__cause__
    return None
