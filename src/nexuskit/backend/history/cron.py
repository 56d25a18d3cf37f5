"""Cron schedules: when the next run of a workflow is due.

The schedules are those of Temporal (github.com/robfig/cron, standard parser): five fields, the names @hourly, @daily,
@weekly, @monthly, @yearly, `@every` with a duration such as 1h30m, and a time zone in front (`CRON_TZ=Europe/Berlin`).
Fields are read by croniter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.times import HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND

_ZONE = re.compile(r"(?:CRON_TZ|TZ)=(\S+)\s+(.*)", re.DOTALL)
_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))")
_UNITS = {"ns": 1, "us": MICROSECOND, "µs": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR}
_NAMES = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
FIELDS = 5

Next = Callable[[int, int], int]
"""From a moment (ns) to the first one after it that the schedule names, and that is not before another moment (ns)."""


def check(schedule: str, now: int) -> None:
    """The schedule can be read, and names a moment to come.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    following = _parse(schedule)
    if following is None:
        raise invalid_argument(
            f"invalid CronSchedule. {schedule[:100]!r} is none: expected were five fields, one of"
            f" {', '.join(sorted(_NAMES))}, or '@every 1h30m'"
        )
    try:
        following(now, now)
    except CroniterError:
        message = "invalid CronSchedule, no time can be found to satisfy the schedule"
        raise invalid_argument(f"{message}: {schedule[:100]!r}") from None


def pause(schedule: str, last: int, now: int) -> int | None:
    """How long (ns, whole seconds) to wait before the next run.

    Args:
        schedule: a checked one.
        last: when the run before was to start (ns): moments that its run overlapped are left out.
        now: this moment (ns).

    Returns:
        None if the schedule names no moment to come.
    """
    following = _parse(schedule)
    if following is None:
        return None
    try:
        moment = last if now < last else following(last, now)
    except CroniterError:
        return None
    return -(-(moment - now) // SECOND) * SECOND


def _parse(schedule: str) -> Next | None:
    zone: ZoneInfo | None = None
    named = _ZONE.match(schedule)
    if named:
        try:
            zone = ZoneInfo(named[1])
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return None
        schedule = named[2]
    schedule = schedule.strip()
    if schedule.startswith("@every "):
        every = _span(schedule.removeprefix("@every ").strip())
        return None if every is None else partial(_constant, max(every // SECOND, 1) * SECOND)
    if schedule not in _NAMES and (len(schedule.split()) != FIELDS or schedule.startswith("@")):
        return None
    if not croniter.is_valid(schedule):
        return None

    def following(moment: int, not_before: int) -> int:
        start = datetime.fromtimestamp(max(moment, not_before - 1) // SECOND, tz=zone or UTC)
        found: datetime = croniter(schedule, start).get_next(datetime)
        return int(found.timestamp()) * SECOND

    return following


def _constant(step: int, moment: int, not_before: int) -> int:
    """From whole second to whole second, in step with the moment before."""
    first = (moment // SECOND) * SECOND + step
    return first + max(-(-(not_before - first) // step), 0) * step


def _span(text: str) -> int | None:
    """A duration as Go writes it, in ns."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return int(sum(float(number) * _UNITS[unit] for number, unit in parts))
