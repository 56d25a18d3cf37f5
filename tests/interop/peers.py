"""Go programs of ours, built and run for the tests: two around the Go implementation of Nexus over HTTP, and `h2spec`.

`current` is the implementation of today, which lives in the Temporal server's repository. `sdk04` is the last version
of the Go SDK that has one; it speaks the forms that the specification calls deprecated, and no others.
"""

from __future__ import annotations

import base64
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parent / "go"
PEERS = ("current", "sdk04")


@functools.cache
def missing_reason(name: str) -> str | None:
    """Why a peer cannot be built here, or None when it can."""
    if shutil.which("go") is None:
        return "there is no Go on PATH"
    fetched = subprocess.run(
        ["go", "mod", "download"], cwd=FOLDER / name, env=_environment(), capture_output=True, text=True, check=False
    )
    return None if fetched.returncode == 0 else f"Go cannot fetch the modules of {name}: {fetched.stderr.strip()[:200]}"


def built(name: str, folder: Path) -> Path:
    """The program of a peer, built into a folder."""
    program = folder / name
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=FOLDER / name, env=_environment(), check=True)
    return program


@dataclass
class GoPeer:
    """A Go program that serves, calls and completes."""

    name: str
    url: str
    pid: int

    @property
    def services(self) -> str:
        """The endpoint of its service `peer`."""
        return f"{self.url}/nexus"

    @property
    def callback(self) -> str:
        """Where it takes completions."""
        return f"{self.url}/callback/"

    async def call(self, base_url: str, operation: str, content: bytes = b"", **more: Any) -> dict[str, Any]:
        """Makes it start an operation of service Payments at an endpoint, or cancel one if there is a token."""
        asked = {"base_url": base_url, "service": "Payments", "operation": operation, **more}
        return await self._ask("call", asked | {"content": base64.b64encode(content).decode()})

    async def complete(self, url: str, content: bytes = b"", **more: Any) -> dict[str, Any]:
        """Makes it send a completion."""
        return await self._ask("complete", {"url": url, "content": base64.b64encode(content).decode(), **more})

    async def told(self) -> dict[str, Any]:
        """The completions and the requests to cancel that it got since it was asked last."""
        async with httpx.AsyncClient(verify=False) as http:
            told = (await http.get(f"{self.url}/control/told")).json()
        return {name: [_decoded(entry) for entry in entries or ()] for name, entries in told.items()}

    async def _ask(self, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        async with httpx.AsyncClient(timeout=30, verify=False) as http:
            answer = await http.post(f"{self.url}/control/{what}", json=asked)
        assert answer.status_code == 200, answer.text
        return _decoded(answer.json())


@contextmanager
def running(name: str, program: Path) -> Iterator[GoPeer]:
    """A peer that runs, for as long as the context lasts."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield GoPeer(name, process.stdout.readline().strip(), process.pid)
        process.stdin.close()
        process.wait(20)


def _decoded(answer: dict[str, Any]) -> dict[str, Any]:
    if "content" in answer:
        answer["content"] = base64.b64decode(answer["content"] or "")
    return answer


def _environment() -> dict[str, str]:
    # Outside a checkout there is no version to be written into the program, and none is needed.
    return {**os.environ, "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
