"""A guard for the event loop: whatever keeps the loop from turning is found, and named by its stack.

Two measures, since a test machine may be busy with other things and that is nobody's fault here. A thread looks every
few milliseconds whether the loop has turned, and counts how often in a row it has not while its thread slept: so it
finds a callback that waits for something. The loop's own thread measures the processor time that it used from one turn
to the next: so it finds one that computes, even one that does not let the other thread look.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType

LIMIT_S = 0.25
"""What no callback may take: a client that waits so long for its answer would notice."""

TICK_S = 0.01
"""How often it is looked."""

FRAMES = 12
"""Of a stack, so many frames are shown: enough to see whose callback it is."""


class LoopGuard:
    """Watches the running loop for as long as the `async with` lasts.

    Args:
        limit_s: how long the loop may stand still, in seconds.
    """

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.faults: list[str] = []
        """What kept the loop from turning."""
        self._limit = limit_s
        self._beats = 0
        self._used = 0.0
        self._collecting = 0.0
        self._stack = ""
        self._stop = threading.Event()

    async def __aenter__(self) -> LoopGuard:
        """Starts watching."""
        # What earlier tests left behind is not ours to clear away, or to look through, in the middle of a callback.
        gc.collect()
        gc.freeze()
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._state = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
        self._used = time.thread_time()
        gc.callbacks.append(self._collect)
        self._handle = self._loop.call_later(TICK_S, self._beat)
        self._watcher = threading.Thread(target=self._watch, name="loop-guard", daemon=True)
        self._watcher.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops watching.

        Raises:
            AssertionError: something kept the loop from turning.
        """
        await asyncio.sleep(2 * TICK_S)  # what ran last is looked at too
        self._handle.cancel()
        self._stop.set()
        self._watcher.join()
        gc.callbacks.remove(self._collect)
        gc.unfreeze()
        if self.faults and error is None:
            raise AssertionError("something blocks the event loop:\n" + "\n".join(self.faults))

    def _beat(self) -> None:
        self._beats += 1
        used = time.thread_time()
        if used - self._used > self._limit:
            self.faults.append(f"computed for {used - self._used:.3f} s\n{self._stack}")
        self._used = used
        self._stack = ""
        self._handle = self._loop.call_later(TICK_S, self._beat)

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        """The garbage collector's time is no callback's: it looks at whatever this process holds, the tests' too."""
        if threading.get_ident() != self._watched:
            return
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._used += time.thread_time() - self._collecting

    def _watch(self) -> None:
        seen, still = 0, 0
        while not self._stop.wait(TICK_S):
            if self._beats != seen:
                seen, still = self._beats, 0
                continue
            self._stack = _stack(sys._current_frames().get(self._watched)) or self._stack
            if self._wants_to_run():
                continue
            still += 1
            if still == round(self._limit / TICK_S) + 1:
                self.faults.append(f"stood still for more than {self._limit} s\n{self._stack}")

    def _wants_to_run(self) -> bool:
        """Whether the loop's thread computes, or would if the machine let it. Only Linux tells."""
        try:
            return self._state.read_text().rpartition(")")[2].split()[0] == "R"
        except OSError:
            return False


def _stack(frame: FrameType | None) -> str:
    """Where the loop's thread is; empty where it waits for something to happen, as it should."""
    if frame is None or frame.f_code.co_filename == selectors.__file__:
        return ""
    return "".join(traceback.format_stack(frame)[-FRAMES:])
