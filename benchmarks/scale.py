"""What a workflow costs in a file that is full of others, beside the same in an empty file, in one run.

    python -m benchmarks.scale [--closed 1000000] [--open 100000] [--rounds 3] [load.py's options]

The full file holds closed runs with their histories, and open ones that wait on a timer and are in no cache. Both files
are served in turn; the medians of the rounds are printed as Markdown, for docs/performance.md, with the time from the
start of the process on the full file to its first answer, and the memory that an open run costs while it is left alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.compare import MEASURES, Results, load, medians
from benchmarks.lists import commit
from nexuskit.backend.history.start import RunDeadline
from nexuskit.backend.history.state import Change, Execution, Info
from nexuskit.backend.history.timer import Timer
from nexuskit.backend.store.database import Database, open_database
from nexuskit.backend.store.group import Batch, Group
from nexuskit.backend.times import DAY, SECOND
from tests.support.backend_process import BackendProcess

NAMESPACE = str(uuid.UUID(int=7))
HISTORY = b"\x0a\x80\x10" + b"x" * 2048
"""As long as the history of a workflow with an activity."""
GROUP = 5_000


def fill(database: Database, closed: int, still_open: int) -> None:
    """Closed runs, then open ones, as the writer would have written them."""
    now = time.time_ns()
    total = closed + still_open
    for first in range(0, total, GROUP):
        group = Group()
        for number in range(first, min(first + GROUP, total)):
            info = Info(namespace_id=NAMESPACE, workflow_id=f"order-{number}", run_id=str(uuid.uuid4()))
            info.workflow_type, info.task_queue = "PlaceOrder", "orders"
            info.start_time = now - (total - number) * SECOND // 100
            info.execution_time = info.start_time
            info.next_event_id, info.history_size = 12, len(HISTORY)
            info.first_run_id, info.start_request_id = info.run_id, str(uuid.uuid4())
            changes: list[Change] = []
            if number < closed:
                info.status, info.close_time = 2, info.start_time + 10 * SECOND
            else:
                timer = Timer("t", 5, now + 300 * DAY)
                changes = [Change("timer", "t", None, timer)]
                changes.append(Change("run_deadline", 0, None, RunDeadline(now + 400 * DAY)))
            execution = Execution(number + 1, info)
            group.add_execution(execution, changes, [Batch(1, 11, HISTORY)], new=True)
            group.set_current(NAMESPACE, info.workflow_id, number + 1)
        commit(database, group)
        if sys.stderr.isatty():
            print(f"\r{min(first + GROUP, total)} of {total} runs", end="", file=sys.stderr)
    database.first.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


async def measure(file: Path, options: Sequence[str]) -> tuple[Results, float, float]:
    """A load on a copy of the file: the results, the seconds to the first answer, and the memory while idle."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=file.parent) as folder:
        copied = Path(folder) / "nexus.db"
        if file.exists():
            shutil.copy(file, copied)
            os.sync()  # or the disk would still be busy with the copy
        backend = BackendProcess(copied, ["default"])
        async with backend:
            backend.stop()
            seconds = await backend.start()
            await asyncio.sleep(1)
            idle = psutil.Process(backend.pid).memory_info().rss
            return await load(backend.address, backend.pid, options), seconds, idle


async def compare(closed: int, still_open: int, rounds: int, options: Sequence[str]) -> str:
    """All rounds, and the report on them."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        full = Path(folder) / "full.db"
        database = open_database(full)
        fill(database, closed, still_open)
        database.close()
        empties, fulls = [], []
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr)
            empties.append(await measure(Path(folder) / "none.db", options))
            fulls.append(await measure(full, options))
        size = full.stat().st_size / 2**30
    empty, laden = medians([each[0] for each in empties]), medians([each[0] for each in fulls])
    lines = ["| call | measure | empty file | full file | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    for kind in empty:
        for name, words in MEASURES.items():
            here, there = empty[kind][name], laden[kind][name]
            lines.append(f"| {kind} | {words.format(in_flight=100)} | {here:.1f} | {there:.1f} | {there / here:.2f} |")
    seconds = statistics.median(each[1] for each in fulls)
    idle = statistics.median(each[2] for each in fulls)
    each = (idle - statistics.median(each[2] for each in empties)) / max(still_open, 1)
    lines += [
        "",
        f"The full file: {closed} closed and {still_open} open runs, {size:.1f} GiB. It is served {seconds:.1f} s after"
        f" the start of the process, in {idle / 2**20:.0f} MiB: {each:.0f} bytes for each open run.",
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line; what it does not know goes to load.py."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--closed", type=int, default=1_000_000, help="closed runs in the full file (%(default)s)")
    parser.add_argument("--open", type=int, default=100_000, help="open runs in the full file (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, in turn (%(default)s)")
    asked, options = parser.parse_known_args()
    print(asyncio.run(compare(asked.closed, asked.open, asked.rounds, options)))


if __name__ == "__main__":
    main()
