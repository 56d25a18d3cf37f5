"""Load on any Temporal-compatible server: how long a call takes, how many a second there are, what the server uses.

    python benchmarks/load.py 127.0.0.1:7233 --pid $(pgrep -f "nexus serve")

It makes two namespaces and an endpoint of its own, and runs temporalio's client and workers in this process. There are
three kinds of call, each timed at the client from the start of a workflow to its result:

    workflow             a workflow that runs one activity
    sync operation       a workflow that calls one Nexus operation in the other namespace, which answers at once
    workflow operation   a workflow that calls one Nexus operation in the other namespace, which a workflow answers

First one call after the other, for the time that each takes; then many in flight, for the calls a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import nexusrpc
import nexusrpc.handler
import psutil
from google.protobuf.duration_pb2 import Duration
from temporalio import activity, nexus, workflow
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

TIMEOUT = timedelta(minutes=5)

KINDS = ("workflow", "sync operation", "workflow operation")

EXIT_PAUSE_S = 0.1
"""A process that ends right after an RPC of temporalio's client may crash while it does."""


@nexusrpc.service
class Payments:
    """The operations under load."""

    quote: nexusrpc.Operation[int, int]
    process: nexusrpc.Operation[int, int]


@activity.defn
async def charge(cents: int) -> int:
    """Does nothing: the server is what is measured."""
    return cents


@workflow.defn
class OneActivity:
    """A workflow with one activity."""

    @workflow.run
    async def run(self, cents: int) -> int:
        return await workflow.execute_activity(charge, cents, start_to_close_timeout=TIMEOUT)


@workflow.defn
class Answer:
    """The workflow behind an operation."""

    @workflow.run
    async def run(self, cents: int) -> int:
        return cents


@workflow.defn
class OneOperation:
    """A workflow that makes one call."""

    @workflow.run
    async def run(self, endpoint: str, operation: str, cents: int) -> int:
        client: Any = workflow.create_nexus_client(service="Payments", endpoint=endpoint)
        return await client.execute_operation(operation, cents, output_type=int, schedule_to_close_timeout=TIMEOUT)


@nexusrpc.handler.service_handler(service=Payments)
class Handler:
    """Answers at once, or by a workflow."""

    @nexusrpc.handler.sync_operation
    async def quote(self, ctx: nexusrpc.handler.StartOperationContext, cents: int) -> int:
        return cents

    @nexus.workflow_run_operation
    async def process(self, ctx: nexus.WorkflowRunOperationContext, cents: int) -> nexus.WorkflowHandle[int]:
        return await ctx.start_workflow(Answer.run, cents, id=str(uuid.uuid4()))


@dataclass(frozen=True)
class Options:
    """What is asked on the command line."""

    n: int
    """Calls of each kind with many in flight."""
    one_by_one: int
    """Calls of each kind one after the other."""
    in_flight: int
    warm_up: int
    """Calls of each kind that are not measured."""
    only: str | None
    """The one kind of call to make; all when None."""


@dataclass(frozen=True)
class Result:
    """What one kind of call gave. Times are milliseconds; CPU and memory are the server's, None without a pid."""

    p50_ms: float
    p95_ms: float
    calls_per_second: float
    p50_in_flight_ms: float
    p95_in_flight_ms: float
    cpu_ms_per_call: float | None
    memory_mib: float | None


class Usage:
    """What a process and its children have used."""

    def __init__(self, pid: int | None) -> None:
        self._process = psutil.Process(pid) if pid else None

    def cpu_seconds(self) -> float:
        """User and system time so far; 0 without a process."""
        return sum(sum(each.cpu_times()[:2]) for each in self._family())

    def memory_mib(self) -> float | None:
        """Resident now."""
        if self._process is None:
            return None
        return sum(each.memory_info().rss for each in self._family()) / 2**20

    def _family(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)] if self._process else []


Call = Callable[[int], Awaitable[Any]]


async def measure(call: Call, usage: Usage, options: Options) -> Result:
    """One kind of call: one after the other first, then many in flight."""
    await _many(call, options.warm_up, min(options.in_flight, options.warm_up))
    alone = [await _timed(call, number) for number in range(options.one_by_one)]
    cpu, began = usage.cpu_seconds(), time.perf_counter()
    together = await _many(call, options.n, options.in_flight)
    seconds, cpu = time.perf_counter() - began, usage.cpu_seconds() - cpu
    memory = usage.memory_mib()
    return Result(
        p50_ms=_percentile(alone, 50),
        p95_ms=_percentile(alone, 95),
        calls_per_second=options.n / seconds,
        p50_in_flight_ms=_percentile(together, 50),
        p95_in_flight_ms=_percentile(together, 95),
        cpu_ms_per_call=None if memory is None else cpu * 1000 / options.n,
        memory_mib=memory,
    )


async def _many(call: Call, n: int, in_flight: int) -> list[float]:
    """Times of n calls, with as many in flight as there may be at any moment."""
    numbers = iter(range(n))
    times: list[float] = []

    async def lane() -> None:
        for number in numbers:
            times.append(await _timed(call, number))

    await asyncio.gather(*(lane() for _ in range(in_flight)))
    return times


async def _timed(call: Call, number: int) -> float:
    began = time.perf_counter()
    await call(number)
    return (time.perf_counter() - began) * 1000


def _percentile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1] if len(times) > 1 else times[0]


async def run(address: str, pid: int | None, options: Options, tell: Callable[[str], None]) -> dict[str, Result]:
    """All three kinds of call against one server."""
    mark = uuid.uuid4().hex[:8]
    orders, payments, endpoint = f"load-orders-{mark}", f"load-payments-{mark}", f"load-{mark}"
    callers, handlers = await _namespace(address, orders), await _namespace(address, payments)
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=payments, task_queue="load"))
    await callers.operator_service.create_nexus_endpoint(
        CreateNexusEndpointRequest(spec=EndpointSpec(name=endpoint, target=target))
    )

    def start(kind: Any, *values: Any) -> Awaitable[Any]:
        return callers.execute_workflow(kind, args=values, id=str(uuid.uuid4()), task_queue="load")

    calls: list[Call] = [
        lambda number: start(OneActivity.run, number),
        lambda number: start(OneOperation.run, endpoint, "quote", number),
        lambda number: start(OneOperation.run, endpoint, "process", number),
    ]
    usage = Usage(pid)
    results: dict[str, Result] = {}
    async with _worker(callers), _worker(handlers, nexus_service_handlers=[Handler()]):
        for kind, call in zip(KINDS, calls, strict=True):
            if options.only not in (None, kind):
                continue
            tell(f"{kind}: {options.one_by_one} one by one, then {options.n} with {options.in_flight} in flight")
            results[kind] = await measure(call, usage, options)
    return results


def _worker(client: Client, **options: Any) -> Worker:
    return Worker(
        client,
        task_queue="load",
        workflows=[OneActivity, OneOperation, Answer],
        activities=[charge],
        # The sandbox costs the worker much and the server nothing.
        workflow_runner=UnsandboxedWorkflowRunner(),
        **options,
    )


async def _namespace(address: str, name: str) -> Client:
    """A client of a new namespace, once it can be used: parts of a real server hear of it later."""
    client = await Client.connect(address, namespace=name)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=24 * 3600))
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            await client.start_workflow("none", id="is-the-namespace-known", task_queue="nobody")
            return client
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


def report(results: dict[str, Result]) -> str:
    """The results as a table."""
    columns = ["p50 ms", "p95 ms", "calls/s", "p50 ms in flight", "p95 ms in flight", "CPU ms/call", "memory MiB"]
    lines = ["".join(["".ljust(20), *(column.rjust(18) for column in columns)])]
    for kind, result in results.items():
        values = ["-" if value is None else f"{value:.1f}" for value in asdict(result).values()]
        lines.append("".join([kind.ljust(20), *(value.rjust(18) for value in values)]))
    return "\n".join(lines)


def _cheapest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What this process costs is not to be seen in what the server gives."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("address", metavar="HOST:PORT", help="the server's gRPC address")
    parser.add_argument("--pid", type=int, help="the server's process, to report its CPU time and memory")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument("--n", type=int, default=1000, help="calls of each kind with many in flight (%(default)s)")
    parser.add_argument("--one-by-one", type=int, default=200, help="calls one after the other (%(default)s)")
    parser.add_argument("--in-flight", type=int, default=100, help="calls in flight (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=100, help="calls that are not measured (%(default)s)")
    parser.add_argument("--only", choices=KINDS, help="make this kind of call alone")
    asked = parser.parse_args()
    options = Options(asked.n, asked.one_by_one, asked.in_flight, asked.warm_up, asked.only)

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with asyncio.Runner(loop_factory=_cheapest_loop()) as runner:
        results = runner.run(run(asked.address, asked.pid, options, tell))
    if asked.json:
        print(json.dumps({kind: asdict(result) for kind, result in results.items()}), flush=True)
    else:
        print(report(results), flush=True)
    time.sleep(EXIT_PAUSE_S)


if __name__ == "__main__":
    main()
