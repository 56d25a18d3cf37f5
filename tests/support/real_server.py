"""A real Temporal server for the tests and the benchmarks: the reference for what the embedded backend should answer.

It is looked for in this order:

1. `NEXUSKIT_TEMPORAL=host:port`: a server that runs already. It needs the dynamic settings of `DYNAMIC_CONFIG`.
2. A program built by `go install go.temporal.io/server/cmd/server@v1.32.1`: the path in `NEXUSKIT_TEMPORAL_PROGRAM`,
   else `temporal-server` or `server` in `$GOBIN`, `$GOPATH/bin`, `~/go/bin` or PATH. It is started and stopped here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkflowExecutionRequest,
    GetSystemInfoRequest,
    RegisterNamespaceRequest,
)
from temporalio.api.workflowservice.v1.service_pb2_grpc import WorkflowServiceStub

ADDRESS_VARIABLE = "NEXUSKIT_TEMPORAL"
PROGRAM_VARIABLE = "NEXUSKIT_TEMPORAL_PROGRAM"
GO_MODULE = "go.temporal.io/server"

START_TIMEOUT = timedelta(seconds=60)
"""A start takes about 4 s on two idle cores; a loaded CI machine may need many times that."""

FREE_PORTS = (12_000, 32_000)
"""Where ports for servers are looked for. Linux gives clients those from 32,768 on, others from 49,152 on."""

START_ATTEMPTS = 3
"""Ports are chosen before the server binds them, so another program may take one in between."""

DYNAMIC_CONFIG: dict[str, Any] = {
    "system.refreshNexusEndpointsMinWait": "0s",
    "system.forceSearchAttributesCacheRefreshOnRead": True,
    "nexusoperation.enableStandalone": True,
    "activity.enableStandalone": True,
    "activity.enableCallbacks": True,
    "history.enableChasm": True,
    "history.enableCHASMCallbacks": True,
    "history.enableUpdateCallbacks": True,
    "history.enableTransitionHistory": True,
    "history.enableSignalWithStartFromWorkflow": True,
    "component.nexusoperations.recordCancelRequestCompletionEvents": True,
    # With the default of four, a queue with few pollers keeps a Nexus task waiting while another is being handled.
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    # Where callbacks by HTTP may go: to the tests' own servers.
    "component.callbacks.allowedAddresses": [{"Pattern": "127.0.0.1:*", "AllowInsecure": True}],
    "callback.allowedAddresses": [{"Pattern": "127.0.0.1:*", "AllowInsecure": True}],
    # With the default of 2,400 a second in all, a burst of calls is refused on a quick machine.
    "frontend.rps": 100_000,
    # With the default of ten a second a test that waits until something is listed is soon refused.
    "frontend.namespaceRPS.visibility": 10_000,
}
"""Settings without which the server lacks what the tests use, or answers seconds late."""

CALLBACK_TEMPLATES = (
    "component.nexusoperations.callback.endpoint.template",
    "nexusoperation.callback.endpoint.template",
)
"""Settings that say where the server's own HTTP interface takes completions."""

TUNED_CONFIG: dict[str, Any] = {
    f"history.{processor}ProcessorMaxPoll{scope}RPS": 100_000
    for processor in ("transfer", "timer", "visibility", "outbound")
    for scope in ("", "Host")
}
"""Lifts the default of 20 polls a second on each queue, which would cost every step of a lone workflow up to 50 ms."""


class NoRealServer(Exception):
    """There is no real server here; the message says what was looked for."""


@dataclass(frozen=True)
class RealServer:
    """A real server that answers."""

    address: str
    """host:port of its gRPC interface."""
    http_address: str | None = None
    """host:port of its HTTP interface, when it was started here."""
    pid: int | None = None
    """Its process, when it was started here."""


def find_program() -> Path | None:
    """The server's program, or None. A `server` that is not Temporal's is passed over."""
    named = os.environ.get(PROGRAM_VARIABLE)
    if named:
        return Path(named)
    gopath = os.environ.get("GOPATH") or str(Path.home() / "go")
    folders = [os.environ.get("GOBIN", ""), *(str(Path(part) / "bin") for part in gopath.split(os.pathsep) if part)]
    path = os.pathsep.join(folder for folder in [*folders, os.environ.get("PATH", "")] if folder)
    for name in ("temporal-server", "server"):
        found = shutil.which(name, path=path)
        if found and _is_temporal(Path(found)):
            return Path(found)
    return None


def _is_temporal(program: Path) -> bool:
    # A Go program carries the paths of its modules; running an unknown "server" to ask for its version would start it.
    with program.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(GO_MODULE.encode()) >= 0


def missing_reason() -> str | None:
    """Why no real server can be used here, or None when one can."""
    if os.environ.get(ADDRESS_VARIABLE) or find_program():
        return None
    return (
        f"no real Temporal server: set {ADDRESS_VARIABLE}=host:port, or build one with "
        f"`go install {GO_MODULE}/cmd/server@v1.32.1`"
    )


@contextlib.asynccontextmanager
async def real_server(
    namespaces: Iterable[str] = ("default",),
    *,
    database: Path | None = None,
    dynamic_config: dict[str, Any] | None = None,
) -> AsyncIterator[RealServer]:
    """A real server with these namespaces ready for use.

    Args:
        namespaces: registered if they are not there.
        database: a folder for SQLite files that are synced at every commit (`synchronous=2`); in memory when None.
        dynamic_config: settings beside `DYNAMIC_CONFIG`.

    Raises:
        NoRealServer: there is none, or it did not start; the message ends with the end of its log.
    """
    address = os.environ.get(ADDRESS_VARIABLE)
    if address and database is None and dynamic_config is None:
        await _wait_until_serving(address, process=None)
        await register_namespaces(address, namespaces)
        yield RealServer(address)
        return
    program = find_program()
    if program is None:
        raise NoRealServer(missing_reason() or "a running server's database and settings cannot be chosen")
    with tempfile.TemporaryDirectory(prefix="temporal-") as folder:
        server, process = await _start(program, Path(folder), database, {**DYNAMIC_CONFIG, **(dynamic_config or {})})
        try:
            await register_namespaces(server.address, namespaces)
            yield server
        finally:
            await _stop(process)


async def _start(
    program: Path, folder: Path, database: Path | None, dynamic_config: dict[str, Any]
) -> tuple[RealServer, subprocess.Popen[bytes]]:
    log = folder / "server.log"
    failure = ""
    for _ in range(START_ATTEMPTS):
        ports = free_ports(9)
        config = folder / "config.yaml"
        dynamic = folder / "dynamic.yaml"
        own = f"http://127.0.0.1:{ports[1]}/namespaces/{{{{.NamespaceName}}}}/nexus/callback"
        # Handlers that are no worker of the server are told to call back there.
        settings = {**dict.fromkeys(CALLBACK_TEMPLATES, own), **dynamic_config}
        # JSON is YAML.
        dynamic.write_text(json.dumps({key: [{"value": value}] for key, value in settings.items()}))
        config.write_text(json.dumps(_server_config(ports, dynamic, database)))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*_dies_with_parent(), str(program), "--config-file", str(config), "--allow-no-auth", "start"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        server = RealServer(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", process.pid)
        try:
            await _wait_until_serving(server.address, process)
        except NoRealServer as error:
            await _stop(process)
            failure = f"{error}; its log ends with:\n{log.read_text(errors='replace')[-2000:]}"
        except BaseException:
            await _stop(process)
            raise
        else:
            return server, process
    raise NoRealServer(f"{program} did not start: {failure}")


def _server_config(ports: list[int], dynamic: Path, database: Path | None) -> dict[str, Any]:
    frontend, http, *rest = ports

    def service(grpc_port: int, membership_port: int, **more: int) -> dict[str, Any]:
        rpc = {"grpcPort": grpc_port, "membershipPort": membership_port, "bindOnLocalHost": True, **more}
        return {"rpc": rpc}

    def store(name: str) -> dict[str, Any]:
        if database is None:
            database_name, attributes = "default", {"mode": "memory", "cache": "private"}
        else:
            database_name = str(database / f"{name}.db")
            attributes = {"cache": "private", "setup": "true", "journal_mode": "wal", "synchronous": "2"}
        return {
            "sql": {
                "pluginName": "sqlite",
                "databaseName": database_name,
                "connectAddr": "localhost",
                "connectProtocol": "tcp",
                "connectAttributes": attributes,
                "maxConns": 1,
                "maxIdleConns": 1,
                "maxConnLifetime": "1h",
            }
        }

    return {
        "log": {"stdout": True, "level": "error"},
        "persistence": {
            "defaultStore": "main",
            "visibilityStore": "visibility",
            "numHistoryShards": 1,
            "datastores": {"main": store("main"), "visibility": store("visibility")},
        },
        "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
        "services": {
            "frontend": service(frontend, rest[0], httpPort=http),
            "matching": service(rest[1], rest[2]),
            "history": service(rest[3], rest[4]),
            "worker": service(rest[5], rest[6]),
        },
        "clusterMetadata": {
            "enableGlobalNamespace": False,
            "failoverVersionIncrement": 10,
            "masterClusterName": "active",
            "currentClusterName": "active",
            "clusterInformation": {
                "active": {
                    "enabled": True,
                    "initialFailoverVersion": 1,
                    "rpcName": "frontend",
                    "rpcAddress": f"127.0.0.1:{frontend}",
                    "httpAddress": f"127.0.0.1:{http}",
                }
            },
        },
        "dcRedirectionPolicy": {"policy": "noop"},
        "archival": {"history": {"state": "disabled"}, "visibility": {"state": "disabled"}},
        "namespaceDefaults": {
            "archival": {"history": {"state": "disabled"}, "visibility": {"state": "disabled"}},
        },
        "dynamicConfigClient": {"filepath": str(dynamic), "pollInterval": "60s"},
    }


def _dies_with_parent() -> list[str]:
    """A command prefix that lets the kernel end the server when the tests are killed and cannot stop it themselves."""
    if sys.platform != "linux":
        return []
    program = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-I", "-S", "-c", program]


async def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and waits for it, forcibly if it takes its time: there is nothing in it to keep."""
    process.terminate()
    for grace_over in (False, True):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return
            await asyncio.sleep(0.02)
        if not grace_over:
            process.kill()


async def _wait_until_serving(address: str, process: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + START_TIMEOUT.total_seconds()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = WorkflowServiceStub(channel)
        while True:
            if process is not None and process.poll() is not None:
                raise NoRealServer(f"it ended with exit code {process.returncode}")
            try:
                await stub.GetSystemInfo(GetSystemInfoRequest(), timeout=2)
                return
            except grpc.aio.AioRpcError as error:
                if time.monotonic() > deadline:
                    raise NoRealServer(f"{address} does not answer: {error.details()}") from error
            await asyncio.sleep(0.05)


async def register_namespaces(address: str, namespaces: Iterable[str]) -> None:
    """Registers the namespaces that are missing and returns when each can be used."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = WorkflowServiceStub(channel)
        for namespace in namespaces:
            request = RegisterNamespaceRequest(
                namespace=namespace, workflow_execution_retention_period=Duration(seconds=24 * 3600)
            )
            try:
                await stub.RegisterNamespace(request, timeout=20)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                    raise
            await wait_until_usable(stub, namespace)


async def wait_until_usable(stub: WorkflowServiceStub, namespace: str) -> None:
    """Waits until all parts of the server know a namespace: each has its own cache, refreshed every second or so."""
    deadline = time.monotonic() + 30
    while not await _known(stub, namespace):
        if time.monotonic() > deadline:
            raise TimeoutError(f"namespace {namespace!r} is not usable 30 s after it was registered")
        await asyncio.sleep(0.05)


async def _known(stub: WorkflowServiceStub, namespace: str) -> bool:
    describe_queue = DescribeTaskQueueRequest(
        namespace=namespace,
        task_queue=TaskQueue(name="is-the-namespace-known"),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    describe_workflow = DescribeWorkflowExecutionRequest(
        namespace=namespace, execution=WorkflowExecution(workflow_id="is-the-namespace-known")
    )
    try:
        await stub.DescribeWorkflowExecution(describe_workflow, timeout=10)
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND or namespace in (error.details() or ""):
            return False
    try:
        await stub.DescribeTaskQueue(describe_queue, timeout=10)
    except grpc.aio.AioRpcError as error:
        # A server without this call keeps no cache of namespaces beside the one that was asked above.
        return error.code() == grpc.StatusCode.UNIMPLEMENTED
    return True


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listened on just now, all different.

    They are below those that the system gives to whoever connects: while a server is being started again, a client that
    tries to reach it could be given the server's own port, and hold it.
    """
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for port in random.SystemRandom().sample(range(*FREE_PORTS), 1_000):
            each = stack.enter_context(socket.socket())
            try:
                each.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"of 1,000 ports from {FREE_PORTS[0]} to {FREE_PORTS[1]} less than {count} are free")
