"""The contract: what the payments team offers to others. It names no namespace, endpoint or server."""

from dataclasses import dataclass

import nexusrpc


@dataclass(frozen=True)
class Payment:
    """A wish to be paid for one order."""

    order_id: str
    card: str
    amount_cents: int


@dataclass(frozen=True)
class Quote:
    """What a payment would cost in all."""

    fee_cents: int
    total_cents: int


@dataclass(frozen=True)
class Receipt:
    """Proof that a payment was taken."""

    payment_id: str
    charged_cents: int


@dataclass(frozen=True)
class Decline:
    """Details of the error `CARD_DECLINED`."""

    reason: str


CARD_DECLINED = "CardDeclined"
"""Type of the application error that `process` ends with when the card is refused."""


@nexusrpc.service
class PaymentService:
    """Takes payments."""

    quote: nexusrpc.Operation[Payment, Quote]
    """Answers at once."""

    process: nexusrpc.Operation[Payment, Receipt]
    """Takes as long as the payment takes: a workflow behind it charges the card and waits for settlement."""
