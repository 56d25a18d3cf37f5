"""Times: whole nanoseconds inside, protos outside."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.backend.times import DAY, SECOND, SPAN_MAX, duration, moment, span, timestamp

LAST_MOMENT = 253_402_300_799 * SECOND + 999_999_999
"""The end of the year 9999, where timestamps end."""


@given(st.integers(1, LAST_MOMENT))
def test_a_moment_is_the_same_after_its_way_through_a_proto(value: int) -> None:
    made = timestamp(value)
    assert made is not None
    assert moment(Timestamp.FromString(made.SerializeToString())) == value


@given(st.integers(1, SPAN_MAX))
def test_a_span_is_the_same_after_its_way_through_a_proto(value: int) -> None:
    made = duration(value)
    assert made is not None
    assert span(Duration.FromString(made.SerializeToString())) == value


def test_nought_is_a_field_that_is_not_set() -> None:
    assert timestamp(0) is None
    assert duration(0) is None
    assert moment(Timestamp()) == 0
    assert span(Duration()) == 0


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(SPAN_MAX // SECOND, 1), (10**10, 0), (315_576_000_000, 0), (2**63 - 1, 999_999_999)]
)
def test_a_span_that_is_too_long_is_cut_whichever_its_sign(seconds: int, nanos: int) -> None:
    assert span(Duration(seconds=seconds, nanos=nanos)) == SPAN_MAX
    assert span(Duration(seconds=-seconds, nanos=-nanos)) == -SPAN_MAX


def test_a_moment_with_spans_after_it_fits_into_what_the_store_holds() -> None:
    in_2100 = 130 * 365 * DAY
    assert in_2100 + SPAN_MAX + SPAN_MAX // 2 < 2**63
