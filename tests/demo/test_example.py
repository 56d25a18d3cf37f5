"""The example code itself: what it answers, and how a decline is found among its wrappers."""

from __future__ import annotations

import pytest
from temporalio.exceptions import ApplicationError, NexusOperationError
from temporalio.testing import ActivityEnvironment

from nexuskit.demo.contract import CARD_DECLINED, Decline, Quote
from nexuskit.demo.orders import find_decline
from nexuskit.demo.payments import charge_card, quote_for
from nexuskit.demo.scenario import GOOD, REFUSED


def test_the_fee_is_one_percent() -> None:
    assert quote_for(GOOD) == Quote(fee_cents=42, total_cents=4242)


async def test_a_good_card_is_charged_the_total() -> None:
    assert await ActivityEnvironment().run(charge_card, GOOD) == 4242


async def test_a_refused_card_is_a_typed_error_that_is_not_tried_again() -> None:
    with pytest.raises(ApplicationError) as raised:
        await ActivityEnvironment().run(charge_card, REFUSED)
    assert (raised.value.type, raised.value.non_retryable) == (CARD_DECLINED, True)
    assert raised.value.details == (Decline(reason="insufficient funds"),)


def failed_operation(cause: BaseException | None) -> NexusOperationError:
    error = NexusOperationError(
        "failed", scheduled_event_id=5, endpoint="payments", service="S", operation="process", operation_token=""
    )
    error.__cause__ = cause
    return error


def test_a_decline_is_found_however_deep_it_lies() -> None:
    declined = ApplicationError("no", {"reason": "stolen"}, type=CARD_DECLINED)
    wrapped = RuntimeError("activity failed")
    wrapped.__cause__ = declined
    assert find_decline(failed_operation(declined)) == Decline(reason="stolen")
    assert find_decline(failed_operation(wrapped)) == Decline(reason="stolen")


def test_another_failure_is_no_decline() -> None:
    assert find_decline(failed_operation(None)) is None
    assert find_decline(failed_operation(ApplicationError("no", type="OutOfService"))) is None
