"""Whether each step of the demo gave what it should: pure, and strict, because the demo's exit code stands on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from nexuskit.demo.contract import CardDeclined, Receipt
from nexuskit.demo.payments import SETTLEMENT, payment_id, quote_for
from nexuskit.demo.scenario import PAYMENTS, Order
from nexuskit.trace import Activity, NexusCall, Node, State, Timer, Workflow


@dataclass(frozen=True)
class Check:
    """One thing that had to be so."""

    what: str
    """A sentence that is true if all went well."""
    ok: bool
    seen: str
    """What there was instead, or as well."""


def check_paid(order: Order) -> Iterator[Check]:
    """The order that goes well: quoted at once, paid by a workflow in the other namespace."""
    quote = quote_for(order.payment)
    receipt = Receipt(payment_id=payment_id(order.payment), charged_cents=quote.total_cents)
    result = order.result
    yield _equal("the order has its quote", result and result.quote, quote)
    yield _equal("the order has its receipt", result and result.receipt, receipt)
    calls = _calls(order.trace)
    yield _equal("quote answered at once", _outcome(calls.get("quote")), ("sync", State.COMPLETED))
    yield _equal("process completed later, by callback", _outcome(calls.get("process")), ("async", State.COMPLETED))
    yield _equal("a workflow in payments completed", _target(calls.get("process")), (PAYMENTS, State.COMPLETED))
    steps = _target_steps(calls.get("process"))
    charged = [(step.type, step.state, step.attempts) for step in steps if isinstance(step, Activity)]
    yield _equal("the card was charged at the first attempt", charged, [("charge_card", State.COMPLETED, 1)])
    timers = [step for step in steps if isinstance(step, Timer)]
    fired = len(timers) == 1 and timers[0].state is State.FIRED
    slept = timers[0].duration_s if fired else None
    waited = slept is not None and slept >= SETTLEMENT.total_seconds()
    yield Check("the durable timer ran its full time", waited, f"{slept} s" if fired else f"{timers}")


def check_declined(order: Order) -> Iterator[Check]:
    """The order whose card is refused: its workflow completes, and reports the decline."""
    result = order.result
    yield _equal("the caller caught the typed error", result and result.declined, "insufficient funds")
    yield _equal("the declined order has no receipt", result and result.receipt, None)
    call = _calls(order.trace).get("process")
    yield _equal("process failed", _outcome(call), ("async", State.FAILED))
    types = [failure.type for failure in call.failure.chain] if call and call.failure else []
    wanted = CardDeclined.error_name
    yield Check(f"the failure is a {wanted}", wanted in types, f"{types}")
    yield _equal("the workflow in payments failed", _target(call), (PAYMENTS, State.FAILED))
    timers = [step for step in _target_steps(call) if isinstance(step, Timer)]
    yield _equal("no settlement was waited for", timers, [])


ONCE_IN_ORDER = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
    EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
)
"""Events that the history of a paid order has once; the second operation, `quote`, is never started, only completed."""

ONCE_IN_PAYMENT = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_TIMER_STARTED,
    EventType.EVENT_TYPE_TIMER_FIRED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
)
"""Events that the history of its payment has once."""


def check_once(order_history: Sequence[HistoryEvent], payment_history: Sequence[HistoryEvent]) -> Iterator[Check]:
    """Nothing was done twice: each outcome stands in history once."""
    yield _equal("the order completed exactly once", _repeats(order_history, ONCE_IN_ORDER), {})
    calls = Counter(event.event_type for event in order_history)
    completed = calls[EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED]
    yield _equal("each of the two calls completed exactly once", completed, 2)
    yield _equal("the payment was made exactly once", _repeats(payment_history, ONCE_IN_PAYMENT), {})


def check_kept(name: str, before: Sequence[HistoryEvent], after: Sequence[HistoryEvent]) -> Check:
    """What was read before the crash is there after it, event for event."""
    kept = list(before) == list(after[: len(before)])
    return Check(f"the {name} kept the {len(before)} events it had before the crash", kept, f"{len(after)} events now")


def _repeats(history: Iterable[HistoryEvent], once: Iterable[EventType.ValueType]) -> dict[str, int]:
    """The events that are not there exactly once, with their number."""
    counts = Counter(event.event_type for event in history)
    return {EventType.Name(each): counts[each] for each in once if counts[each] != 1}


def _calls(node: Node) -> dict[str, NexusCall]:
    steps = node.steps if isinstance(node, Workflow) else ()
    return {step.operation: step for step in steps if isinstance(step, NexusCall)}


def _outcome(call: NexusCall | None) -> tuple[str | None, State] | None:
    return (call.mode, call.state) if call else None


def _target(call: NexusCall | None) -> tuple[str, State] | None:
    target = call.target if call else None
    return (target.namespace, target.state) if isinstance(target, Workflow) else None


def _target_steps(call: NexusCall | None) -> Sequence[object]:
    target = call.target if call else None
    return target.steps if isinstance(target, Workflow) else ()


def _equal(what: str, seen: object, expected: object) -> Check:
    return Check(what, seen == expected, f"{seen!r}")
