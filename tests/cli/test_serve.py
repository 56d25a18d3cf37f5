"""`nexus serve` as a process: its banner, its health, its end, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

import nexuskit
from nexuskit.backend import StartError
from nexuskit.cli.serve import banner, configure_logging, default_database


@dataclass
class Served:
    """A running `nexus serve`."""

    process: asyncio.subprocess.Process
    banner: list[str]

    def address(self, what: str) -> str:
        [line] = [line for line in self.banner if line.split()[0] == what]
        return line.split()[1]

    async def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; answers with the exit code and what was written to standard error."""
        self.process.send_signal(number)
        _, errors = await self.process.communicate()
        return self.process.returncode or 0, errors.decode()


async def start(*arguments: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "nexuskit.cli", "serve", *arguments]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env={**os.environ, **(env or {})})


@asynccontextmanager
async def served(*arguments: str, env: dict[str, str] | None = None) -> AsyncGenerator[Served]:
    process = await start("--port", "0", "--http-port", "0", *arguments, env=env)
    try:
        lines: list[str] = []
        assert process.stdout is not None
        while "ready" not in lines:
            line = await process.stdout.readline()
            assert line, f"it ended: {(await process.communicate())[1].decode()}"
            lines.append(line.decode().rstrip())
        yield Served(process, lines)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def refused(*arguments: str) -> str:
    """The sentence with which it refuses to start."""
    process = await start(*arguments)
    output, errors = await process.communicate()
    assert (process.returncode, output) == (2, b"")
    lines = errors.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_says_where_it_is_and_stops_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "nexus.db"
    async with served("--db", str(file), "--namespace", "orders", "--namespace", "payments") as server:
        assert server.banner[0] == f"nexuskit {nexuskit.__version__}"
        assert server.address("database") == str(file)
        assert server.banner[4].split(maxsplit=1)[1] == "default, orders, payments"
        client = await Client.connect(server.address("gRPC"), namespace="orders")
        assert await client.service_client.check_health()
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{server.address('HTTP')}/health")
        assert answer.status_code == 200
        assert answer.json()["version"] == nexuskit.__version__
        assert await server.end(number) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_one_access_line_a_request_at_debug() -> None:
    async with served("--db", ":memory:", "--log-level", "debug") as server:
        assert "nothing is kept" in "\n".join(server.banner)
        client = await Client.connect(server.address("gRPC"), namespace="default")
        await client.service_client.check_health()
        _, errors = await server.end(signal.SIGTERM)
    access = [line for line in errors.splitlines() if " nexuskit.backend.access: " in line]
    assert len([line for line in access if "GetSystemInfo" in line]) == 1, errors
    assert all(line.split()[1] == "DEBUG" and line.split()[0].endswith("Z") for line in access)


async def test_without_a_name_the_database_is_the_user_s(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the folder is elsewhere")
    async with served(env={"XDG_STATE_HOME": str(tmp_path)}) as server:
        assert server.address("database") == str(tmp_path / "nexuskit" / "nexus.db")
        assert (await server.end(signal.SIGTERM))[0] == 0
    assert stat.S_IMODE((tmp_path / "nexuskit").stat().st_mode) == 0o700


async def test_a_port_in_use_is_refused() -> None:
    with _listening() as port:
        told = await refused("--db", ":memory:", "--port", str(port), "--http-port", "0")
        assert str(port) in told
        told = await refused("--db", ":memory:", "--port", "0", "--http-port", str(port))
        assert str(port) in told


async def test_a_database_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "nexus.db")
    async with served("--db", file):
        assert file in await refused("--db", file, "--port", "0", "--http-port", "0")


async def test_a_database_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nexus.db"
    async with served("--db", str(file)) as server:
        await server.end(signal.SIGTERM)
    _make_newer(file)
    assert "newer" in await refused("--db", str(file), "--port", "0", "--http-port", "0")


async def test_a_configuration_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nexus.toml"
    file.write_text("[limits]\nhistory_event = 5\n")
    told = await refused("--db", ":memory:", "--port", "0", "--http-port", "0", "--config", str(file))
    assert told == f"nexus: The configuration {file}: there is no limit 'history_event'; did you mean 'history_events'?"


async def test_a_configuration_is_read(tmp_path: Path) -> None:
    file = tmp_path / "nexus.toml"
    file.write_text('[limits]\npayload_size = "1 MiB"\n')
    async with served("--db", ":memory:", "--config", str(file)) as server:
        client = await Client.connect(server.address("gRPC"))
        described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        assert described.namespace_info.limits.blob_size_limit_error == 1024 * 1024


@contextmanager
def _listening() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def _make_newer(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 1000000")
    connection.close()


def test_the_banner_has_the_addresses_and_ends_with_ready() -> None:
    text = banner("127.0.0.1:1", "http://127.0.0.1:2", ":memory:", ["default", "orders"])
    assert text.splitlines()[1:] == [
        "  gRPC        127.0.0.1:1",
        "  HTTP        http://127.0.0.1:2",
        "  database    in memory: nothing is kept",
        "  namespaces  default, orders",
        "  callers     believed: nobody proves the namespace that a request names",
        "ready",
    ]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: tmp_path / "file" / name)
    with pytest.raises(StartError, match="cannot make the folder"):
        default_database()


@pytest.mark.parametrize(("level", "own", "other"), [("debug", 10, 30), ("info", 20, 30), ("error", 40, 40)])
def test_only_our_own_log_goes_below_warning(level: str, own: int, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    mine = logging.getLogger("nexuskit")
    before = mine.level
    configure_logging(level)
    assert (mine.level, root.level) == (own, other)
    mine.setLevel(before)


def test_what_grpc_is_told_is_told_before_it_is_imported() -> None:
    program = "import sys; import nexuskit.cli.serve, nexuskit.backend; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
