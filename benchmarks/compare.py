"""The embedded backend and a real Temporal server, each on a database file, under the same load in the same run.

    python -m benchmarks.compare [--rounds 3] [load.py's options]

They run in turn, each alone, on files of their own, both with a commit that is on disk before it is acknowledged; the
medians of the rounds are printed as Markdown, for docs/performance.md. The real server runs with `TUNED_CONFIG`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.support.backend_process import BackendProcess
from tests.support.real_server import GO_MODULE, TUNED_CONFIG, find_program, real_server

LOAD = Path(__file__).with_name("load.py")
Results = dict[str, dict[str, float]]

MEASURES = {
    "p50_ms": "p50, one in flight, ms",
    "p95_ms": "p95, one in flight, ms",
    "calls_per_second": "calls a second, {in_flight} in flight",
    "p50_in_flight_ms": "p50, {in_flight} in flight, ms",
    "cpu_ms_per_call": "server CPU a call, ms",
    "memory_mib": "server memory afterwards, MiB",
}


async def load(address: str, pid: int | None, options: Sequence[str]) -> Results:
    """One run of load.py in a process of its own."""
    command = [sys.executable, str(LOAD), address, "--json", *options, *(["--pid", str(pid)] if pid else [])]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return json.loads(output)


async def embedded(options: Sequence[str]) -> tuple[Results, float, float]:
    """Ours on a new file: the results, the seconds of a cold start, and the memory while idle."""
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        # As pip installs it: with its bytecode. A checkout may stand where none is written.
        bytecode = {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode", "PYTHONDONTWRITEBYTECODE": ""}
        backend = BackendProcess(Path(folder) / "nexus.db", ["default"], environment=bytecode)
        async with backend:
            backend.stop()
            # The first start made the file and filled the disk's caches; a cold start is one on what is there.
            cold = await backend.start()
            await asyncio.sleep(1)
            idle = psutil.Process(backend.pid).memory_info().rss / 2**20
            return await load(backend.address, backend.pid, options), cold, idle


async def real(options: Sequence[str]) -> Results:
    """The real server on new files."""
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        async with real_server(database=Path(folder), dynamic_config=TUNED_CONFIG) as server:
            return await load(server.address, server.pid, options)


def medians(rounds: Sequence[Results]) -> Results:
    """Each figure's median over the rounds."""
    return {
        kind: {measure: statistics.median(each[kind][measure] for each in rounds) for measure in MEASURES}
        for kind in rounds[0]
    }


def table(ours: Results, theirs: Results | None, in_flight: int) -> str:
    """Side by side, with the ratio of ours to theirs; ours alone where there is no real server."""
    heads = ["call", "measure", "embedded", *(["real server 1.32.1", "ratio"] if theirs else [])]
    lines = [_row(heads), _row(["---" if head in heads[:2] else "---:" for head in heads])]
    for kind in ours:
        for measure, words in MEASURES.items():
            here = ours[kind][measure]
            cells = [kind, words.format(in_flight=in_flight), f"{here:.1f}"]
            if theirs:
                there = theirs[kind][measure]
                cells += [f"{there:.1f}", f"{here / there:.2f}"]
            lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


async def compare(rounds: int, in_flight: int, options: Sequence[str]) -> str:
    """All rounds, and the report on them."""
    ours, theirs, colds, idles = [], [], [], []
    alone = find_program() is None
    if alone:
        print(f"ours alone: there is no program of {GO_MODULE} here to start", file=sys.stderr)
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        results, cold, idle = await embedded(options)
        ours.append(results)
        colds.append(cold)
        idles.append(idle)
        if not alone:
            theirs.append(await real(options))
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    return "\n".join(
        [
            f"Medians of {rounds} rounds on {machine}, client and workers on the same machine.",
            "",
            table(medians(ours), medians(theirs) if theirs else None, in_flight),
            "",
            f"Cold start of the embedded backend to the first answered call: {statistics.median(colds):.2f} s; "
            f"memory while idle: {statistics.median(idles):.0f} MiB.",
        ]
    )


def main() -> None:
    """The command line; what it does not know goes to load.py."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server, in turn (%(default)s)")
    parser.add_argument("--in-flight", type=int, default=100, help="calls in flight (%(default)s)")
    asked, options = parser.parse_known_args()
    print(asyncio.run(compare(asked.rounds, asked.in_flight, [*options, "--in-flight", str(asked.in_flight)])))


if __name__ == "__main__":
    main()
