"""How many synchronous operations a second `NexusApp` serves, beside a bare Starlette route and the Go implementation.

Each server is a process of its own with one worker, and so is the client, which keeps some connections busy with the
same request. The rounds of the servers alternate, so that what else the machine does meets all of them; the figures are
medians. They go into docs/performance.md.

    .venv/bin/python -m benchmarks.http
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import uvloop
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from nexuskit.protocol.asgi import NexusApp
from tests.interop.peers import built, missing_reason, running

BYTES = b"x" * 100
PAYMENT = json.dumps({"order": "order-4711", "cents": 4242}).encode()
LOADS = {
    "octet-stream": ("echo", "application/octet-stream", BYTES, BYTES),
    "JSON": ("process", "application/json", PAYMENT, b'{"order":"order-4711","charged":4242}'),
}
"""Each load: the operation, the content type, the request's body, the answer's body."""


class Payment(BaseModel):
    order: str
    cents: int = Field(gt=0)


class Receipt(BaseModel):
    order: str
    charged: int


@service_handler(name="peer")
class Peer:
    """The operations that are measured."""

    @sync_operation
    async def echo(self, ctx: StartOperationContext, data: bytes) -> bytes:
        return data

    @sync_operation
    async def process(self, ctx: StartOperationContext, payment: Payment) -> Receipt:
        return Receipt(order=payment.order, charged=payment.cents)


async def echo(request: Request) -> Response:
    """What is measured against: reads the body and answers with it, and nothing of Nexus."""
    return Response(await request.body(), media_type="application/octet-stream")


async def process(request: Request) -> Response:
    """The same with JSON: reads the body, validates it, answers with another object."""
    payment = Payment.model_validate_json(await request.body())
    body = Receipt(order=payment.order, charged=payment.cents).model_dump_json()
    return Response(body, media_type="application/json")


def bare() -> Starlette:
    """The routes that the application is measured against."""
    return Starlette(routes=routes("/nexus"))


def routes(prefix: str = "") -> list[Route]:
    """What does the same work without Nexus."""
    paths = {f"{prefix}/peer/echo": echo, f"{prefix}/peer/process": process}
    return [Route(path, route, methods=["POST"]) for path, route in paths.items()]


def bare_mounted() -> Starlette:
    """The same routes below a mount: what is left of the difference to the mounted application is the application's."""
    return Starlette(routes=[Mount("/nexus", routes=routes())])


def ours() -> Starlette:
    """The application, mounted as a program would mount it."""
    return Starlette(routes=[Mount("/nexus", NexusApp([Peer()]))])


def alone() -> NexusApp:
    """The application, served by itself."""
    return NexusApp([Peer()])


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as it was answered."""

    def __init__(self, request: bytes, answer: bytes) -> None:
        self.request, self.answer = request, answer
        self.answered = 0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.send()

    def send(self) -> None:
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.buffer.endswith(self.answer) or b"\r\n\r\n" not in self.buffer:
            return
        if not self.buffer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"not what was expected: {self.buffer[:200]!r}")
        self.buffer = b""
        self.answered += 1
        self.send()


async def load(port: int, pid: int, prefix: str, name: str, seconds: float, connections: int) -> tuple[float, float]:
    """Calls a second, and the server's processor time a call in µs."""
    operation, kind, body, answer = LOADS[name]
    head = (
        f"POST {prefix}/peer/{operation} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\nuser-agent: load\r\n"
        f"nexus-request-id: 4f2b4f5e-7d7c-4b5f-9d3e-0c5d5c1a2b3c\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: Connection(head.encode() + body, answer), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds / 10)  # warms up
    for connection in made:
        connection.answered = 0
    began, used = time.perf_counter(), processor_time(pid)
    await asyncio.sleep(seconds)
    took, used = time.perf_counter() - began, processor_time(pid) - used
    answered = sum(connection.answered for connection in made)
    for connection in made:
        connection.transport.abort()
    return answered / took, 1e6 * used / answered


def processor_time(pid: int) -> float:
    """Seconds that a process has computed."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@contextlib.contextmanager
def uvicorn_server(app: str) -> Iterator[tuple[int, int]]:
    """An application of this module under uvicorn with one worker, on a free port: the port, and the process's id."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.http:{app}", "--port", str(port)]
    with subprocess.Popen([*command, "--log-level", "warning", "--no-access-log"]) as process:
        try:
            wait_for(port, process)
            yield port, process.pid
        finally:
            process.terminate()


def wait_for(port: int, process: subprocess.Popen[Any]) -> None:
    """Waits until a server answers.

    Raises:
        RuntimeError: it ended instead.
    """
    while True:
        if process.poll() is not None:
            raise RuntimeError("the server did not start")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)


@contextlib.contextmanager
def go_server() -> Iterator[tuple[int, int]]:
    """The Go peer of the tests, on one core as the others are."""
    os.environ["GOMAXPROCS"] = "1"
    with tempfile.TemporaryDirectory() as folder, running("current", built("current", Path(folder))) as peer:
        yield int(peer.url.rpartition(":")[2]), peer.pid


def measured(server: tuple[int, int, str], name: str, options: argparse.Namespace) -> tuple[float, float]:
    """One round, by a client in a process of its own."""
    port, pid, prefix = server
    command = [sys.executable, "-m", "benchmarks.http", "--server", str(port), str(pid), "--prefix", prefix]
    command += ["--load", name, "--seconds", str(options.seconds), "--connections", str(options.connections)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate, processor = json.loads(done.stdout)
    return rate, processor


def compare(options: argparse.Namespace) -> None:
    """Measures all servers in turn, and writes the table."""
    with contextlib.ExitStack() as stack:
        servers = {
            "bare Starlette route": (*stack.enter_context(uvicorn_server("bare")), "/nexus"),
            "bare Starlette route below a mount": (*stack.enter_context(uvicorn_server("bare_mounted")), "/nexus"),
            "NexusApp": (*stack.enter_context(uvicorn_server("alone")), ""),
            "NexusApp, mounted in Starlette": (*stack.enter_context(uvicorn_server("ours")), "/nexus"),
        }
        if reason := missing_reason("current"):
            print(f"without the Go server: {reason}")
        else:
            servers["Go server"] = (*stack.enter_context(go_server()), "/nexus")
        rounds: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(options.rounds):
            for name in LOADS:
                for server, where in servers.items():
                    rounds.setdefault((server, name), []).append(measured(where, name, options))
    print("| server | " + " | ".join(f"{name}, calls/s | of bare | CPU a call, µs" for name in LOADS) + " |")
    print("| --- |" + " ---: |" * 3 * len(LOADS))
    for server in servers:
        cells: list[str] = []
        for name in LOADS:
            rates, processor = zip(*rounds[server, name], strict=True)
            # Of the round's own bare route: what the machine did meanwhile met both.
            bare_rates = [rate for rate, _ in rounds["bare Starlette route", name]]
            ratio = statistics.median(mine / bare for mine, bare in zip(rates, bare_rates, strict=True))
            cells += [f"{statistics.median(rates):,.0f}", f"{ratio:.2f}", f"{statistics.median(processor):.0f}"]
        print(f"| {server} | {' | '.join(cells)} |")


def main() -> None:
    """Compares, or puts load on one port."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--server", type=int, nargs=2, help="put load on this port, of this process, and nothing else")
    parser.add_argument("--prefix", default="/nexus", help="where the services are, with --server")
    parser.add_argument("--load", choices=LOADS, default="octet-stream")
    options = parser.parse_args()
    if options.server is None:
        compare(options)
    else:
        port, pid = options.server
        print(
            json.dumps(uvloop.run(load(port, pid, options.prefix, options.load, options.seconds, options.connections)))
        )


if __name__ == "__main__":
    main()
