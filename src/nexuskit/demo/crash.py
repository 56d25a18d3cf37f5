"""`nexus demo --crash`: the backend is a process of its own, is killed in the middle of an order, and started again."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

import nexuskit
from nexuskit.backend import StartError
from nexuskit.demo import checks
from nexuskit.demo.checks import Check
from nexuskit.demo.payments import payment_id
from nexuskit.demo.report import Outcome, Teller
from nexuskit.demo.scenario import (
    GOOD,
    ORDERS,
    PAYMENTS,
    Clients,
    finish_order,
    history,
    register_endpoint,
    start_order,
    wait_for,
    workers,
)

START_TIMEOUT = timedelta(seconds=30)
"""For a backend that starts in well under a second; a loaded machine may need much longer."""

STOP_TIMEOUT = timedelta(seconds=10)
"""For a clean stop after SIGTERM; then it is killed."""

_BANNER_GRPC = re.compile(r"^\s*gRPC\s+(\S+)$")
_BANNER_HTTP = re.compile(r"^\s*HTTP\s+(\S+)$")
_BANNER_END = re.compile(r"^\s*ready$")


class BackendProcess:
    """`nexus serve` on one database file, as a process that can be killed and started again on the same ports."""

    def __init__(self, database: Path) -> None:
        self.address = "127.0.0.1:0"
        """host:port of gRPC; the port is chosen by the first start."""
        self.http_address = "http://127.0.0.1:0"
        """URL of HTTP; the port is chosen by the first start."""
        self._database = database
        self._log = database.with_suffix(".log")
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> BackendProcess:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, if it runs."""
        await self.stop()

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start it; answers when it takes calls.

        Raises:
            nexuskit.backend.StartError: It did not start, in the words that it wrote to standard error.
        """
        command = [sys.executable, "-m", "nexuskit.cli", "serve", "--db", str(self._database)]
        command += ["--port", self.address.rpartition(":")[2], "--http-port", self.http_address.rpartition(":")[2]]
        command += ["--namespace", ORDERS, "--namespace", PAYMENTS]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        try:
            async with asyncio.timeout(START_TIMEOUT.total_seconds()):
                ready = await self._read_banner(self._process)
        except TimeoutError:
            ready = False
        except BaseException:
            await self.kill()
            raise
        if not ready:
            await self.kill()
            said = self._log.read_text(errors="replace").strip()
            raise StartError(said or f"the backend was not ready within {START_TIMEOUT.total_seconds():.0f} s")

    async def _read_banner(self, process: asyncio.subprocess.Process) -> bool:
        """Takes the addresses from the banner; False if the process ended before it was ready."""
        if process.stdout is None:
            return False
        async for line in process.stdout:
            text = line.decode().rstrip()
            if found := _BANNER_GRPC.match(text):
                self.address = found[1]
            elif found := _BANNER_HTTP.match(text):
                self.http_address = found[1]
            elif _BANNER_END.match(text):
                return True
        return False

    async def kill(self) -> None:
        """SIGKILL: it has no chance to write anything down."""
        if self._process:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def stop(self) -> int | None:
        """SIGTERM, and SIGKILL if it takes its time. Answers its exit code, None if it did not run."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT.total_seconds()):
                return await process.wait()
        except TimeoutError:
            return None
        finally:
            await self.kill()


async def run_with_crash(teller: Teller, database: Path) -> Outcome:
    """One order, whose backend is killed while it waits on its timer."""
    started = time.monotonic()
    async with BackendProcess(database) as backend:

        async def client(namespace: str) -> Client:
            return await Client.connect(backend.address, namespace=namespace, plugins=[nexuskit.Plugin()])

        connect = Clients(client)
        orders, payments = await connect(ORDERS), await connect(PAYMENTS)
        teller.say(f"the backend is process {backend.pid} on {backend.address}, its database is {database}")
        await register_endpoint(orders)
        async with workers(connect):
            await start_order(orders, GOOD)
            teller.say(f"{GOOD.order_id} is placed in namespace {ORDERS}")
            await wait_for(orders, GOOD.order_id, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
            payment_before = await wait_for(payments, payment_id(GOOD), EventType.EVENT_TYPE_TIMER_STARTED)
            order_before = await history(orders, GOOD.order_id)
            timer = payment_before[-1].event_id
            teller.say(f"{payment_id(GOOD)} in namespace {PAYMENTS} waits on its timer (event {timer} of its history)")
            killed = time.monotonic()
            teller.say(f"process {backend.pid} is killed: SIGKILL")
            await backend.kill()
            await backend.start()
            down_s = time.monotonic() - killed
            teller.say(f"started again on the same file as process {backend.pid}, {down_s:.1f} s later")
            paid = await finish_order(connect, GOOD)
            teller.say(f"{GOOD.order_id} has ended")
            order_after = await history(orders, GOOD.order_id)
            payment_after = await history(payments, payment_id(GOOD))
        exit_code = await backend.stop()
        teller.say("workers and backend are stopped")
    return Outcome(
        address=backend.address,
        http_address=backend.http_address,
        database=str(database),
        orders=(paid,),
        checks=(
            *checks.check_paid(paid),
            *checks.check_once(order_after, payment_after),
            checks.check_kept("order", order_before, order_after),
            checks.check_kept("payment", payment_before, payment_after),
            Check("the backend stopped cleanly", exit_code == 0, f"exit code {exit_code}"),
        ),
        duration_s=time.monotonic() - started,
    )
