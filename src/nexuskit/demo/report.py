"""What the demo tells people, and the JSON form of the same."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from nexuskit.demo.checks import Check
from nexuskit.demo.scenario import Order
from nexuskit.trace import print_trace, to_json

EXAMPLE_FILES = ("contract.py", "payments.py", "orders.py")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that a run of the demo has to show."""

    address: str
    http_address: str
    database: str
    orders: tuple[Order, ...]
    checks: tuple[Check, ...]
    duration_s: float

    @property
    def ok(self) -> bool:
        """Whether every step gave what it should."""
        return all(check.ok for check in self.checks)


@dataclass
class Teller:
    """Says what happens while it happens.

    A line for each step where the story is the point (`as_lines`), else one line that changes, on a terminal only.
    """

    console: Console
    as_lines: bool
    told: list[str] = field(default_factory=list[str])
    _status: Status | None = None

    @contextmanager
    def telling(self) -> Generator[None]:
        """Shows the changing line while the body runs, where there is one to show."""
        if self.as_lines or not self.console.is_terminal:
            yield
            return
        with self.console.status("") as self._status:
            yield
        self._status = None

    def say(self, text: str) -> None:
        """Tell the next step."""
        self.told.append(text)
        if self.as_lines:
            self.console.print(Text(f"- {text}"), soft_wrap=True)
        elif self._status:
            self._status.update(Text(text))


def show(console: Console, outcome: Outcome) -> None:
    """The traces and results, for people."""
    console.print(Text(f"backend on {outcome.address}, database {outcome.database}", style="dim"), soft_wrap=True)
    for order in outcome.orders:
        console.print()
        console.print(_headline(order), soft_wrap=True)
        print_trace(console, order.trace)
    console.print()
    for check in outcome.checks:
        if not check.ok:
            console.print(Text(f"wrong: {check.what}; seen: {check.seen}", style="red"), soft_wrap=True)
    good = sum(check.ok for check in outcome.checks)
    style = "green" if outcome.ok else "red"
    verdict = f"{good} of {len(outcome.checks)} checks hold, {outcome.duration_s:.1f} s in all"
    console.print(Text(verdict, style=style), soft_wrap=True)
    folder = Path(__file__).parent
    console.print(Text(f"the code: {', '.join(EXAMPLE_FILES)} in {folder}", style="dim"), soft_wrap=True)


def _headline(order: Order) -> Text:
    text = Text.assemble((f"{order.payment.order_id}: ", "bold"))
    result = order.result
    if result is None:
        return text.append(f"failed, {order.error}", style="red")
    if result.declined:
        return text.append(f"declined, {result.declined}", style="yellow")
    if result.receipt:
        return text.append(f"paid, {result.receipt.charged_cents} cents, receipt {result.receipt.payment_id}", "green")
    return text.append("neither paid nor declined", style="red")


def as_json(outcome: Outcome, told: list[str]) -> str:
    """The same for programs; the names are documented in docs/demo.md."""
    form: dict[str, Any] = {
        "ok": outcome.ok,
        "duration_s": round(outcome.duration_s, 3),
        "backend": {
            "address": outcome.address,
            "http_address": outcome.http_address,
            "database": outcome.database,
        },
        "orders": [_order(order) for order in outcome.orders],
        "checks": [asdict(check) for check in outcome.checks],
        "told": told,
    }
    return json.dumps(form, indent=2)


def _order(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.payment.order_id,
        "result": asdict(order.result) if order.result else None,
        "error": order.error,
        "trace": to_json(order.trace),
    }
