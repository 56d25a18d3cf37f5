"""How a backend inside a program starts and ends, however rudely."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nexuskit.backend import StartError, serve


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_program_that_is_cancelled_more_than_once_gives_the_file_back(tmp_path: Path, times: int) -> None:
    started = asyncio.Event()

    async def program() -> None:
        async with serve(tmp_path / "nexus.db"):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(program())
    await started.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    async with serve(tmp_path / "nexus.db"):
        pass


async def test_a_program_that_is_cancelled_while_it_starts_gives_the_file_back(tmp_path: Path) -> None:
    async def program() -> None:
        async with serve(tmp_path / "nexus.db"):
            await asyncio.Event().wait()

    for turns in range(0, 12, 3):
        task = asyncio.create_task(program())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with serve(tmp_path / "nexus.db"):
            pass


async def test_one_port_cannot_be_both(tmp_path: Path) -> None:
    async with serve(tmp_path / "free.db") as backend:
        port = int(backend.address.rsplit(":", 1)[1])
    with pytest.raises(StartError):
        async with serve(tmp_path / "nexus.db", port=port, http_port=port):
            pass
    async with serve(tmp_path / "nexus.db"):
        pass
