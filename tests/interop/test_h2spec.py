"""The backend's gRPC door before h2spec: all that it asks of a server of HTTP/2 and of HPACK, strictly."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nexuskit.backend import serve
from tests.interop.peers import built, missing_reason

# The first build on a machine fetches and compiles what the program is made of.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# It opens one stream more than are announced, all at once.
FEW_CALLS = {"limits": {"grpc_calls_at_once": 100}}


async def test_h2spec_finds_nothing_wrong(tmp_path: Path) -> None:
    if reason := missing_reason("h2spec"):
        pytest.skip(reason)
    program = await asyncio.to_thread(built, "h2spec", tmp_path)
    async with serve(config=FEW_CALLS) as running:
        asking = await asyncio.create_subprocess_exec(
            program,
            running.address.rpartition(":")[2],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await asking.communicate())[0].decode()
    assert asking.returncode == 0, said
    assert " passed, 0 skipped, 0 failed" in said
