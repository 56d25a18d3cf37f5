"""The contract: what the payments team offers to others. It names no namespace, endpoint or server."""

from dataclasses import dataclass
from datetime import timedelta

from nexusrpc import Operation

import nexuskit


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


class CardDeclined(nexuskit.DeclaredError):
    """The card was refused."""

    reason: str


@nexuskit.service(version="1.0")
class PaymentService:
    """Takes payments."""

    quote: Operation[Payment, Quote] = nexuskit.operation(kind="sync", deadline=timedelta(seconds=30))
    """Answers at once."""

    process: Operation[Payment, Receipt] = nexuskit.operation(
        kind="async", deadline=timedelta(minutes=5), errors=[CardDeclined]
    )
    """Takes as long as the payment takes: a workflow behind it charges the card and waits for settlement."""
