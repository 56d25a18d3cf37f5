"""Timeouts and points in time in header fields."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.protocol import LocalProtocolError, RemoteProtocolError
from nexuskit.protocol.times import (
    MAX_DURATION,
    format_close_time,
    format_duration,
    format_start_time,
    parse_close_time,
    parse_duration,
    parse_start_time,
)

TIMES = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001, the zone is drawn
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-8))]),
)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("2s", timedelta(seconds=2)),
        ("3m", timedelta(minutes=3)),
        ("1.5s", timedelta(milliseconds=1500)),
        ("0s", timedelta()),
        ("0.5m", timedelta(seconds=30)),
    ],
)
def test_a_timeout_is_a_number_and_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "ms",
        "5h",
        "-5s",
        "+5s",
        "5 s",
        " 5s",
        "5S",
        "1e3s",
        "5.s",
        ".5s",
        "٥s",
        "5s\n",
        "9" * 18 + "m",
        "9" * 90 + "s",
    ],
)
def test_what_is_no_timeout_is_refused_and_said(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="expected"):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(), max_value=MAX_DURATION))
def test_a_written_timeout_is_read_again_in_milliseconds(duration: timedelta) -> None:
    read = parse_duration(format_duration(duration))
    assert timedelta() <= read - duration < timedelta(milliseconds=1, microseconds=1)


@pytest.mark.parametrize("duration", [timedelta(seconds=-1), MAX_DURATION + timedelta(seconds=1)])
def test_a_timeout_that_cannot_travel_is_not_written(duration: timedelta) -> None:
    with pytest.raises(LocalProtocolError):
        format_duration(duration)


@given(TIMES)
def test_times_survive_in_the_resolution_of_their_format(time: datetime) -> None:
    assert parse_close_time(format_close_time(time)) == time
    if time.year > 1900:  # a year of less than four digits is one of the twentieth century to a date of mail
        assert parse_start_time(format_start_time(time)) == time.replace(microsecond=0)


def test_times_are_written_as_the_specification_says() -> None:
    time = datetime(2025, 1, 31, 8, 49, 37, 125000, tzinfo=UTC)
    assert format_start_time(time) == "Fri, 31 Jan 2025 08:49:37 GMT"
    assert format_close_time(time) == "2025-01-31T08:49:37.125000Z"
    assert parse_close_time("2025-01-31T09:49:37.125999999+01:00") == time.replace(microsecond=125999)
    assert parse_start_time("Fri, 31 Jan 2025 09:49:37 +0100") == time.replace(microsecond=0)
    assert parse_start_time("Fri, 31 Jan 2025 08:49:37 -0000") == time.replace(microsecond=0)


def test_a_time_without_a_zone_is_not_written() -> None:
    for write in (format_start_time, format_close_time):
        with pytest.raises(LocalProtocolError, match="zone"):
            write(datetime(2025, 1, 31))  # noqa: DTZ001, which is what is refused


@given(st.text(max_size=80) | st.from_regex(r"\A[0-9:T.Z+-]{1,40}\Z"))
def test_any_other_text_is_refused_and_never_breaks_the_reader(text: str) -> None:
    for read in (parse_close_time, parse_start_time, parse_duration):
        with suppress(RemoteProtocolError):
            read(text)
