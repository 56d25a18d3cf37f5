"""Time as the core keeps it: whole nanoseconds, since 1970 (UTC) for a moment, from nought for a span.

Integers compare, add and store without loss, and 0 is "not set" for both, as an absent field is in the protos.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

SPAN_MAX = 100 * 365 * DAY
"""A longer span is cut to this: nobody waits for its end, and a moment with a span or two after it fits into 64 bits,
which is what the store holds.
"""


def timestamp(moment: int) -> Timestamp | None:
    """A moment as a proto; None for 0, so that the field stays unset."""
    if moment == 0:
        return None
    seconds, nanos = divmod(moment, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def moment(stamp: Timestamp) -> int:
    """The moment in a proto, 0 for an unset one."""
    return stamp.seconds * SECOND + stamp.nanos


def duration(span: int) -> Duration | None:
    """A span as a proto; None for 0, so that the field stays unset."""
    if span == 0:
        return None
    seconds, nanos = divmod(abs(span), SECOND)
    sign = 1 if span > 0 else -1  # both parts have it
    return Duration(seconds=sign * seconds, nanos=sign * nanos)


def fault(length: Duration) -> str:
    """What is wrong with a span that somebody asks for, in the real server's words; empty for nothing."""
    if length.seconds > 0 > length.nanos or length.seconds < 0 < length.nanos:
        return "duration has seconds and nanos with different signs"
    return "negative duration" if length.seconds < 0 or length.nanos < 0 else ""


def span(length: Duration) -> int:
    """The span in a proto, 0 for an unset one. May be negative: whoever reads a request checks that."""
    return max(-SPAN_MAX, min(length.seconds * SECOND + length.nanos, SPAN_MAX))
