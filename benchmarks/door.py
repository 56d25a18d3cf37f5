"""What one gRPC call costs the server, apart from all that Temporal is: ours beside gRPC's own server for asyncio.

Each serves one call that answers with a constant, in a process of its own, on uvloop; the client is the Temporal SDK's.
The rounds alternate, and the figures are medians. They go into docs/performance.md.

    .venv/bin/python -m benchmarks.door
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import uvloop
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest, GetSystemInfoResponse
from temporalio.client import Client

from nexuskit.backend.frontend.http_server import bind
from nexuskit.backend.limits import GRPC_CALLS_AT_ONCE, GRPC_MESSAGE_SIZE, GRPC_METADATA_SIZE
from nexuskit.backend.rpc.messages import Answer, Head, answered
from nexuskit.backend.rpc.server import Server

SERVICE, METHOD = "temporal.api.workflowservice.v1.WorkflowService", "GetSystemInfo"
ANSWER = GetSystemInfoResponse(server_version="1")
WARM_UP, ONE_BY_ONE, MANY, IN_FLIGHT = 100, 1_000, 3_000, 30


async def ours() -> None:
    """The backend's own door, for ever."""

    async def serve(_head: Head, raw: bytes, _peer: str) -> Answer:
        GetSystemInfoRequest.FromString(raw)
        return answered(ANSWER.SerializeToString())

    listener = bind("127.0.0.1", 0, "gRPC")
    server = Server(serve, message_size=GRPC_MESSAGE_SIZE, fields_size=GRPC_METADATA_SIZE, streams=GRPC_CALLS_AT_ONCE)
    await server.start(listener)
    print(listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def grpcs() -> None:
    """The server of gRPC's library, for ever."""
    import grpc.aio

    async def serve(raw: bytes, _: object) -> bytes:
        GetSystemInfoRequest.FromString(raw)
        return ANSWER.SerializeToString()

    server = grpc.aio.server()
    methods = {METHOD: grpc.unary_unary_rpc_method_handler(serve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


DOORS = {"ours": ours, "grpc.aio": grpcs}


@dataclass(frozen=True)
class Round:
    """One round of one server: p50 of a call alone (ms), calls a second, CPU of the server for each (µs)."""

    p50_ms: float
    calls_per_second: float
    cpu_us: float


async def measure(name: str) -> Round:
    """One round, on a server of its own."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.door", "--serve", name], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        client = await Client.connect(f"127.0.0.1:{port}")
        server = psutil.Process(process.pid)

        async def call() -> None:
            await client.workflow_service.get_system_info(GetSystemInfoRequest())

        async def several(number: int) -> None:
            for _ in range(number):
                await call()

        await several(WARM_UP)
        alone: list[float] = []
        for _ in range(ONE_BY_ONE):
            began = time.perf_counter()
            await call()
            alone.append((time.perf_counter() - began) * 1e3)
        before, began = sum(server.cpu_times()[:2]), time.perf_counter()
        await asyncio.gather(*(several(MANY // IN_FLIGHT) for _ in range(IN_FLIGHT)))
        took, used = time.perf_counter() - began, sum(server.cpu_times()[:2]) - before
        return Round(statistics.median(alone), MANY / took, used / MANY * 1e6)
    finally:
        process.kill()
        process.wait()


async def compare(rounds: int) -> str:
    """All rounds, and the table."""
    found: dict[str, list[Round]] = {name: [] for name in DOORS}
    for number in range(rounds):
        for name in DOORS if number % 2 else reversed(DOORS):
            found[name].append(await measure(name))
    lines = [
        f"| server | p50, one in flight, ms | calls a second, {IN_FLIGHT} in flight | server CPU a call, µs |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, each in found.items():
        p50 = statistics.median(one.p50_ms for one in each)
        rate = statistics.median(one.calls_per_second for one in each)
        cpu = statistics.median(one.cpu_us for one in each)
        lines.append(f"| {name} | {p50:.2f} | {rate:,.0f} | {cpu:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server, in turn (%(default)s)")
    parser.add_argument("--serve", choices=list(DOORS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        uvloop.run(DOORS[asked.serve]())
    else:
        print(asyncio.run(compare(asked.rounds)))


if __name__ == "__main__":
    main()
