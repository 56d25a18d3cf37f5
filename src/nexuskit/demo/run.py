"""Runs the demo from a fresh backend to an exit code."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from temporalio.runtime import Runtime, TelemetryConfig

import nexuskit
from nexuskit import backend
from nexuskit.demo import checks
from nexuskit.demo.crash import run_with_crash
from nexuskit.demo.report import Outcome, Teller, as_json, show
from nexuskit.demo.scenario import (
    GOOD,
    ORDERS,
    PAYMENTS,
    REFUSED,
    Clients,
    finish_order,
    register_endpoint,
    start_order,
    workers,
)

DEADLINE = timedelta(seconds=60)
"""For the whole demo, which takes seconds: it never hangs, whatever is wrong."""

SETTLE = timedelta(milliseconds=20)
"""Between the last call of a temporalio client and the end of the process, which can crash the interpreter if it comes
within a millisecond or so: a thread of the bridge may still be inside Python."""


async def run(*, crash: bool = False, json: bool = False) -> int:
    """Run the demo and show it on standard output.

    Args:
        crash: Run the backend as a process of its own and kill it in the middle of the order.
        json: Write one JSON document instead of text.

    Returns:
        The exit code: 0 if every step gave what it should, else 1.

    Raises:
        nexuskit.backend.StartError: The backend could not start.
    """
    teller = Teller(Console(stderr=json), as_lines=crash)
    deadline = asyncio.timeout(DEADLINE.total_seconds())
    try:
        with TemporaryDirectory(prefix="nexus-demo-") as folder, teller.telling():
            async with deadline:
                play = run_with_crash if crash else run_plain
                outcome = await play(teller, Path(folder) / "nexus.db")
    except TimeoutError:
        if not deadline.expired():
            raise
        last = teller.told[-1] if teller.told else "none"
        print(f"nexus demo: not done after {DEADLINE.total_seconds():.0f} s; its last step: {last}", file=sys.stderr)
        return 1
    finally:
        await asyncio.sleep(SETTLE.total_seconds())
    if json:
        print(as_json(outcome, teller.told))
    else:
        show(Console(), outcome)
    return 0 if outcome.ok else 1


async def run_plain(teller: Teller, database: Path) -> Outcome:
    """Two orders, one of them declined, on a backend inside this process."""
    started = time.monotonic()
    teller.say("starting the backend")
    async with backend.serve(db=database, namespaces=[ORDERS, PAYMENTS]) as server:
        connect = Clients(functools.partial(server.client, plugins=[nexuskit.Plugin()]))
        teller.say("registering endpoint payments")
        await register_endpoint(await connect(ORDERS))
        async with workers(connect):
            for payment in (GOOD, REFUSED):
                teller.say(f"placing {payment.order_id}")
                await start_order(await connect(ORDERS), payment)
            teller.say(f"waiting for {GOOD.order_id}")
            paid = await finish_order(connect, GOOD)
            teller.say(f"waiting for {REFUSED.order_id}")
            declined = await finish_order(connect, REFUSED)
            teller.say("stopping")
    return Outcome(
        address=server.address,
        http_address=server.http_address,
        database=server.database,
        orders=(paid, declined),
        checks=(*checks.check_paid(paid), *checks.check_declined(declined)),
        duration_s=time.monotonic() - started,
    )


def quiet_runtime() -> None:
    """Keep the SDK's core from writing its log to standard output, where the demo's JSON goes.

    For a process that runs nothing but the demo, before its first client.
    """
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)), error_if_already_set=False)
