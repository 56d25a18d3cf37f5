"""`nexus serve`: the backend alone, in the foreground."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from pathlib import Path

import platformdirs

from nexuskit import __version__, backend

GARBAGE_THRESHOLD = 20_000
"""Objects made and not freed before the collector looks for cycles; Python's own 700 costs a busy server something."""
IN_MEMORY = ":memory:"
"""The database that keeps nothing."""


async def run_backend(
    *, db: str | None, host: str, port: int, http_port: int, namespaces: list[str], config: str | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then stop in order. A second SIGINT does not wait.

    Raises:
        nexuskit.backend.StartError: It cannot start; the message is one plain sentence.
    """
    stop = asyncio.Event()
    _on_signals(stop)
    database = default_database() if db is None else db
    async with backend.serve(
        db=database, host=host, port=port, http_port=http_port, namespaces=namespaces, config=config
    ) as server:
        _settle_garbage()
        print(banner(server.address, server.http_address, server.database, server.namespaces), flush=True)
        await stop.wait()
        _forget_signals()


def _settle_garbage() -> None:
    """Leave what start-up made to itself, and look for cycles less often: requests make next to none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def default_database() -> Path:
    """The file for whoever names none, in a folder that only this user can enter.

    Raises:
        nexuskit.backend.StartError: The folder cannot be made.
    """
    folder = platformdirs.user_state_path("nexuskit")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise backend.StartError(f"cannot make the folder {folder} for the database: {error.strerror}.") from error
    return folder / "nexus.db"


def banner(address: str, http_address: str, database: str, namespaces: list[str]) -> str:
    """What is said once the backend takes calls. Programs may read it: see docs/cli.md."""
    kept = "in memory: nothing is kept" if database == IN_MEMORY else database
    names = ", ".join(namespaces)
    return "\n".join(
        [
            f"nexuskit {__version__}",
            f"  gRPC        {address}",
            f"  HTTP        {http_address}",
            f"  database    {kept}",
            f"  namespaces  {names}",
            "  callers     believed: nobody proves the namespace that a request names",
            "ready",
        ]
    )


def configure_logging(level: str) -> None:
    """Send the log to standard error, in UTC. Only nexuskit's own part goes below `warning`."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    own = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(own, logging.WARNING), handlers=[handler])
    logging.getLogger("nexuskit").setLevel(own)


_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for each in _STOP_SIGNALS:
        try:
            loop.add_signal_handler(each, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(each, lambda number, frame: _wake(loop, stop))


def _wake(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    loop.call_soon_threadsafe(stop.set)


def _forget_signals() -> None:
    for each in _STOP_SIGNALS:
        signal.signal(each, signal.SIG_DFL)
