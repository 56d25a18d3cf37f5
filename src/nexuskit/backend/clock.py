"""Time, as the backend is given it: `now`, and a call at a moment. A clock that skips can take its place."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Alarm(Protocol):
    """A call that was asked for, until it is made."""

    def cancel(self) -> None:
        """The call is not made any more; nothing happens if it was."""


class Clock(Protocol):
    """What the backend asks of time."""

    def now(self) -> int:
        """This moment, in nanoseconds since 1970 (UTC); never less than what was answered before."""
        ...

    def at(self, moment: int, call: Callable[[], None]) -> Alarm:
        """Make `call` on the event loop at `moment`, or soon if that has passed."""
        ...


class RealClock:
    """The machine's clock, kept from going backwards."""

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        """As `Clock.now`."""
        self._last = max(self._last, time.time_ns())
        return self._last

    def at(self, moment: int, call: Callable[[], None]) -> Alarm:
        """As `Clock.at`; a moment more than an hour away rings after an hour, and whoever waits asks again."""
        # Asked anew each time it matters: the machine's clock may be set while we wait, so nobody waits over an hour.
        delay = min((moment - time.time_ns()) / 1e9, 3600.0)
        return asyncio.get_running_loop().call_later(max(delay, 0.0), call)
