"""Cron schedules: when the next run of a workflow is due.

The schedules are those of Temporal (github.com/robfig/cron, standard parser): five fields, the names @hourly, @daily,
@weekly, @monthly, @yearly, `@every` with a duration such as 1h30m, and a time zone in front (`CRON_TZ=Europe/Berlin`).
What they mean is croniter's business; what may stand in them is said here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.times import HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND

_ZONE = re.compile(r"(?:CRON_TZ|TZ)=(\S+)\s+(.*)", re.DOTALL)
_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))")
_UNITS = {"ns": 1, "us": MICROSECOND, "µs": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR}
_NAMES = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_NUMBER = re.compile(r"\+?[0-9]{1,9}")


class Field(NamedTuple):
    """A field of a schedule: its least and largest number, and the names of some, from the least on."""

    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int | None:
        """What a number or name says; None for neither."""
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.low
        return int(text) if _NUMBER.fullmatch(text) else None


FIELDS = (
    Field(0, 59),
    Field(0, 23),
    Field(1, 31),
    Field(1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    Field(0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
"""Minute, hour, day of the month, month, day of the week."""

Next = Callable[[int, int], int]
"""From a moment (ns) to the first one after it that the schedule names, and that is not before another moment (ns)."""


class _NoMoment(Exception):
    """A schedule names no moment to come."""


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
    except _NoMoment:
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
    except _NoMoment:
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
        every = _span(schedule.removeprefix("@every "))
        return None if every is None else partial(_constant, max(every // SECOND, 1) * SECOND)
    # Here and not above: most backends see no schedule, and all would wait for the import when they start.
    from croniter import CroniterError, croniter

    if schedule not in _NAMES:
        schedule = _plain(schedule)
    if not schedule or not croniter.is_valid(schedule):
        return None

    def following(moment: int, not_before: int) -> int:
        start = datetime.fromtimestamp(max(moment, not_before - 1) // SECOND, tz=zone or UTC)
        try:
            found: datetime = croniter(schedule, start).get_next(datetime)
        except CroniterError:
            raise _NoMoment from None
        return int(found.timestamp()) * SECOND

    return following


def _plain(schedule: str) -> str:
    """Five fields as their numbers alone, which croniter and robfig/cron read alike; empty if they are no schedule.

    croniter takes more than is taken there (`L`, `1W`, `1#2`, `5-1`, a 7 for Sunday), and a program that is to run on
    both must not learn of it by moving.
    """
    fields = schedule.split()
    if len(fields) != len(FIELDS):
        return ""
    plain = [_numbers(text, field) for text, field in zip(fields, FIELDS, strict=True)]
    return " ".join(plain) if all(plain) else ""


def _numbers(text: str, field: Field) -> str:
    """One field: `*` if it leaves everything open, else its numbers; empty if it cannot be read."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        span, slash, every = part.partition("/")
        first, dash, last = span.partition("-")
        if first in ("*", "?"):
            if slash and not _NUMBER.fullmatch(every):
                return ""
            if not slash or int(every) == 1:
                return "*"
            first, last = str(field.low), str(field.high)
        elif slash and not dash:
            last = str(field.high)  # "5/10" goes on to the end
        elif not dash:
            last = first
        low, high, step = field.number(first), field.number(last), field.number(every) if slash else 1
        if low is None or high is None or not step or not field.low <= low <= high <= field.high:
            return ""
        found.update(range(low, high + 1, step))
    return ",".join(str(number) for number in sorted(found))


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
