"""The embedded backend as a process of its own, which can be killed and started again on the same file and ports."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import grpc
import grpc.aio
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.api.workflowservice.v1.service_pb2_grpc import WorkflowServiceStub

from tests.support.real_server import free_ports

START_TIMEOUT_S = 30
"""It starts in well under a second; a loaded CI machine may need many times that."""

STOP_TIMEOUT_S = 10
"""For a clean stop after SIGTERM."""


class BackendProcess:
    """`nexus serve` on one database file.

    Attributes:
        address: host:port of its gRPC interface, the same for every start.
        http_url: URL of its HTTP interface, the same for every start.
    """

    def __init__(
        self,
        database: Path,
        namespaces: Sequence[str],
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        port, http_port = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        self.http_url = f"http://127.0.0.1:{http_port}"
        self._log = database.with_suffix(".log")
        self._command = [sys.executable, "-m", "nexuskit.cli", "serve", "--db", str(database)]
        self._command += ["--port", str(port), "--http-port", str(http_port)]
        for namespace in namespaces:
            self._command += ["--namespace", namespace]
        if config is not None:
            self._command += ["--config", str(config)]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._environment |= environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> BackendProcess:
        """Starts it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kills it, if it runs."""
        self.kill()

    @property
    def pid(self) -> int:
        """The process that runs now."""
        if self._process is None:
            raise RuntimeError("the backend does not run")
        return self._process.pid

    async def start(self) -> float:
        """Starts it; returns when it has answered a call, with the seconds that this took.

        Raises:
            RuntimeError: it ended, or did not answer in time; the message ends with what it wrote.
        """
        began = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        while True:
            # A channel of its own for each try: one that was refused would wait a second before it tries again.
            async with grpc.aio.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                stub = WorkflowServiceStub(channel)
                try:
                    await stub.GetSystemInfo(GetSystemInfoRequest(), timeout=START_TIMEOUT_S)
                    return time.perf_counter() - began
                except grpc.aio.AioRpcError as error:
                    if self._process.poll() is not None or time.perf_counter() - began > START_TIMEOUT_S:
                        said = self._log.read_text(errors="replace")[-2000:]
                        self.kill()
                        raise RuntimeError(f"the backend did not start ({error.details()}):\n{said}") from error
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: it has no chance to write anything more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """SIGTERM; answers with its exit code."""
        if self._process is None:
            raise RuntimeError("the backend does not run")
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        return code
