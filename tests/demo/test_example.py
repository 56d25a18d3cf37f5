"""The example code itself: what it answers, and what it raises."""

from __future__ import annotations

import pytest
from temporalio.testing import ActivityEnvironment

from nexuskit.demo.contract import CardDeclined, Quote
from nexuskit.demo.payments import charge_card, quote_for
from nexuskit.demo.scenario import GOOD, REFUSED


def test_the_fee_is_one_percent() -> None:
    assert quote_for(GOOD) == Quote(fee_cents=42, total_cents=4242)


async def test_a_good_card_is_charged_the_total() -> None:
    assert await ActivityEnvironment().run(charge_card, GOOD) == 4242


async def test_a_refused_card_is_a_typed_error_that_is_not_tried_again() -> None:
    with pytest.raises(CardDeclined) as raised:
        await ActivityEnvironment().run(charge_card, REFUSED)
    assert (raised.value.type, raised.value.non_retryable) == ("CardDeclined", True)
    assert raised.value.reason == "insufficient funds"
