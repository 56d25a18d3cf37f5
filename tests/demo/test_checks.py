"""The demo's checks hold after a real run, and each of them notices when its step went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from nexuskit.demo.checks import Check, check_declined, check_kept, check_once, check_paid
from nexuskit.demo.scenario import Order
from nexuskit.trace import Activity, NexusCall, Ref, State, Step, Timer, Unreadable, Workflow
from tests.demo.conftest import Ran

Change = Callable[[Step], Step | None]


def wrong(checks: Iterable[Check]) -> set[str]:
    return {check.what for check in checks if not check.ok}


def test_all_checks_hold_after_a_real_run(ran: Ran) -> None:
    assert wrong(check_paid(ran.paid)) == set()
    assert wrong(check_declined(ran.declined)) == set()
    assert wrong(check_once(ran.paid_history, ran.payment_history)) == set()


def in_payment(order: Order, change: Change) -> Order:
    """The order with each step of the workflow behind `process` changed, or left out."""

    def of_call(step: Step) -> Step:
        if isinstance(step, NexusCall) and isinstance(step.target, Workflow):
            steps = tuple(changed for each in step.target.steps if (changed := change(each)))
            return replace(step, target=replace(step.target, steps=steps))
        return step

    return in_order(order, of_call)


def in_order(order: Order, change: Change) -> Order:
    assert isinstance(order.trace, Workflow)
    steps = tuple(changed for each in order.trace.steps if (changed := change(each)))
    return replace(order, trace=replace(order.trace, steps=steps))


def only(kind: type[Step], **fields: Any) -> Change:
    return lambda step: replace(step, **fields) if isinstance(step, kind) else step


UNREADABLE = Unreadable(link=Ref(namespace="payments", kind="workflow", id="p", run_id="r"), reason="no")


def test_a_failed_order_is_noticed(ran: Ran) -> None:
    failed = replace(ran.paid, result=None, error="ApplicationError: no", trace=UNREADABLE)
    assert len(wrong(check_paid(failed))) == len(list(check_paid(failed)))
    assert "the caller caught the typed error" in wrong(check_declined(replace(ran.declined, result=None)))


def test_a_wrong_receipt_is_noticed(ran: Ran) -> None:
    assert ran.paid.result is not None
    result = replace(ran.paid.result, receipt=None)
    assert wrong(check_paid(replace(ran.paid, result=result))) == {"the order has its receipt"}


def test_an_answer_that_came_the_other_way_is_noticed(ran: Ran) -> None:
    swapped = in_order(ran.paid, only(NexusCall, state=State.TIMED_OUT))
    assert {"quote answered at once", "process completed later, by callback"} <= wrong(check_paid(swapped))


def test_a_second_charge_is_noticed(ran: Ran) -> None:
    again = in_payment(ran.paid, only(Activity, attempts=2))
    assert wrong(check_paid(again)) == {"the card was charged at the first attempt"}


@pytest.mark.parametrize(
    "change", [lambda step: None, lambda step: replace(step, end=step.start), lambda step: replace(step, state="x")]
)
def test_a_timer_that_did_not_run_is_noticed(ran: Ran, change: Change) -> None:
    order = in_payment(ran.paid, lambda step: change(step) if isinstance(step, Timer) else step)
    assert wrong(check_paid(order)) == {"the durable timer ran its full time"}


def test_an_unreadable_target_is_noticed(ran: Ran) -> None:
    order = in_order(ran.paid, only(NexusCall, target=UNREADABLE))
    assert "a workflow in payments completed" in wrong(check_paid(order))


def test_a_decline_for_another_reason_is_noticed(ran: Ran) -> None:
    assert ran.declined.result is not None
    result = replace(ran.declined.result, declined="stolen")
    assert wrong(check_declined(replace(ran.declined, result=result))) == {"the caller caught the typed error"}


def test_a_decline_without_its_type_is_noticed(ran: Ran) -> None:
    order = in_order(ran.declined, only(NexusCall, failure=None))
    assert wrong(check_declined(order)) == {"the failure is a CardDeclined"}


@pytest.mark.parametrize(
    "event_type",
    [EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED],
)
def test_what_was_done_twice_is_noticed(ran: Ran, event_type: EventType.ValueType) -> None:
    twice = [*ran.paid_history, HistoryEvent(event_type=event_type)]
    assert len(wrong(check_once(twice, ran.payment_history))) == 1


@pytest.mark.parametrize(
    "event_type",
    [
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_TIMER_FIRED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    ],
)
def test_a_payment_made_twice_or_not_at_all_is_noticed(ran: Ran, event_type: EventType.ValueType) -> None:
    never = [event for event in ran.payment_history if event.event_type != event_type]
    twice = [*ran.payment_history, HistoryEvent(event_type=event_type)]
    for payment_history in (never, twice):
        assert wrong(check_once(ran.paid_history, payment_history)) == {"the payment was made exactly once"}


def test_a_lost_or_changed_event_is_noticed(ran: Ran) -> None:
    before = ran.payment_history[:5]
    changed = [HistoryEvent(event_id=1), *ran.payment_history[1:]]
    assert check_kept("payment", before, ran.payment_history).ok
    assert not check_kept("payment", before, ran.payment_history[:4]).ok
    assert not check_kept("payment", before, changed).ok
