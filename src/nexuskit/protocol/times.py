"""Timeouts and points in time, as they stand in header fields.

Specification: Request-Timeout, Operation-Timeout (a number and a unit: `ms`, `s` or `m`), Callback URLs
(`Nexus-Operation-Start-Time` as an HTTP date, `Nexus-Operation-Close-Time` by RFC 3339).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from nexuskit.protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "format_close_time",
    "format_duration",
    "format_start_time",
    "parse_close_time",
    "parse_duration",
    "parse_start_time",
]

MAX_DURATION = timedelta(days=36500)
"""A hundred years: more than anybody waits, and far from where `datetime` arithmetic overflows."""

MAX_TEXT = 64
"""Characters of a time; RFC 3339 and RFC 5322 need about 35. A longer text is not worth a look."""

_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def parse_duration(text: str) -> timedelta:
    """Reads the value of a timeout field: `500ms`, `2s`, `1.5m`.

    Specification: Request-Timeout and Operation-Timeout. A fraction is read too, as the reference implementation does.

    Raises:
        RemoteProtocolError: it is something else, or longer than a hundred years.
    """
    found = _DURATION.fullmatch(text) if len(text) <= MAX_TEXT else None
    if found is None:
        raise RemoteProtocolError(f"expected a number and ms, s or m, such as 500ms, but got {_shown(text)}")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > MAX_DURATION.total_seconds():
        raise RemoteProtocolError(f"expected at most {MAX_DURATION.days} days, but got {_shown(text)}")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Writes a timeout in whole milliseconds, the unit of the reference implementation; a started one counts as whole.

    Specification: Request-Timeout and Operation-Timeout.

    Raises:
        LocalProtocolError: it is negative, or longer than a hundred years.
    """
    if not timedelta() <= duration <= MAX_DURATION:
        raise LocalProtocolError(f"a timeout is between 0 and {MAX_DURATION.days} days; this one is {duration}")
    return f"{-(-duration // timedelta(milliseconds=1))}ms"


def parse_start_time(text: str) -> datetime:
    """Reads `Nexus-Operation-Start-Time`, a date by RFC 5322 section 3.3. The result is in UTC.

    Specification: Callback URLs.

    Raises:
        RemoteProtocolError: it is something else.
    """
    try:
        if len(text) > MAX_TEXT:
            raise ValueError
        found = parsedate_to_datetime(text)
        # "-0000" says that the time is UTC and nothing of where it was made; it is read as a time without a zone.
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, IndexError, TypeError):
        raise RemoteProtocolError(
            f"expected a date such as Sun, 06 Nov 1994 08:49:37 GMT, but got {_shown(text)}"
        ) from None


def format_start_time(time: datetime) -> str:
    """Writes `Nexus-Operation-Start-Time`; the format knows whole seconds only.

    Specification: Callback URLs.

    Raises:
        LocalProtocolError: the time has no zone.
    """
    return format_datetime(_in_utc(time), usegmt=True)


def parse_close_time(text: str) -> datetime:
    """Reads `Nexus-Operation-Close-Time`, a timestamp by RFC 3339. The result is in UTC, to the microsecond.

    Specification: Callback URLs.

    Raises:
        RemoteProtocolError: it is something else.
    """
    found = _RFC3339.fullmatch(text) if len(text) <= MAX_TEXT else None
    if found is not None:
        date, clock, fraction, zone = found.groups()
        microseconds = (fraction or ".0")[:7]
        try:
            return datetime.fromisoformat(f"{date}T{clock}{microseconds:0<7}{zone.upper()}").astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # a 13th month, or a year that its zone moves out of the calendar: answered as any other text
    raise RemoteProtocolError(f"expected a timestamp such as 2025-01-31T08:49:37.125Z, but got {_shown(text)}")


def format_close_time(time: datetime) -> str:
    """Writes `Nexus-Operation-Close-Time`, in UTC and to the microsecond.

    Specification: Callback URLs (milliseconds or finer).

    Raises:
        LocalProtocolError: the time has no zone.
    """
    return _in_utc(time).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise LocalProtocolError(f"{time} has no time zone; use datetime.now(UTC) or give it one")
    return time.astimezone(UTC)


def _shown(text: str) -> str:
    return repr(text) if len(text) <= MAX_TEXT else f"{len(text)} characters"
