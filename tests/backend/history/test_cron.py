"""When a cron schedule is next due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import cron
from nexuskit.backend.times import HOUR, MILLISECOND, MINUTE, SECOND


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


NOON = at("2026-03-02T12:00:00")
"""A Monday."""


@pytest.mark.parametrize(
    ("schedule", "then"),
    [
        ("* * * * *", "2026-03-02T12:01:00"),
        ("0 * * * *", "2026-03-02T13:00:00"),
        ("30 11 * * *", "2026-03-03T11:30:00"),
        ("*/7 * * * *", "2026-03-02T12:07:00"),
        ("0 0 * * SUN", "2026-03-08T00:00:00"),
        ("0 0 13 * FRI", "2026-03-06T00:00:00"),  # a day of either kind, as cron has it
        ("0 0 29 2 *", "2028-02-29T00:00:00"),
        ("@daily", "2026-03-03T00:00:00"),
        ("@weekly", "2026-03-08T00:00:00"),
        ("@monthly", "2026-04-01T00:00:00"),
        ("@yearly", "2027-01-01T00:00:00"),
        ("CRON_TZ=Asia/Tokyo 0 12 * * *", "2026-03-03T03:00:00"),
        ("@every 1h30m", "2026-03-02T13:30:00"),
        ("@every 0s", "2026-03-02T12:00:01"),
        ("5/20 * * * *", "2026-03-02T12:05:00"),
        ("+5,,10 * * * ?", "2026-03-02T12:05:00"),
        ("0 0 * jun-AUG *", "2026-06-01T00:00:00"),
        ("0 0 */2 * TUE", "2026-03-03T00:00:00"),  # a step leaves nothing open: a day of either kind
        ("0 0 */1 * TUE", "2026-03-03T00:00:00"),  # but a step of one does
        ("0 0 */1 * FRI", "2026-03-06T00:00:00"),
        ("  0 0 * * 6  ", "2026-03-07T00:00:00"),
    ],
)
def test_the_next_moment_of_a_schedule(schedule: str, then: str) -> None:
    assert cron.pause(schedule, NOON, NOON) == at(then) - NOON


def test_moments_that_have_passed_are_left_out() -> None:
    assert cron.pause("0 * * * *", NOON, NOON + 3 * HOUR + 10 * MINUTE) == 50 * MINUTE


def test_a_run_that_ends_as_the_next_is_due_is_followed_at_once() -> None:
    assert cron.pause("0 * * * *", NOON, NOON + HOUR) == 0


@pytest.mark.parametrize(
    ("lived", "pause"), [(1, 120), (120, 0), (121, 119), (200, 40), (239, 1), (240, 0), (1000, 80)]
)
def test_a_constant_pause_stays_in_step(lived: int, pause: int) -> None:
    expected = pause if lived >= 120 else 120 - lived
    assert cron.pause("@every 2m", NOON, NOON + lived * SECOND) == expected * SECOND


def test_a_pause_is_in_whole_seconds() -> None:
    assert cron.pause("* * * * *", NOON, NOON + 500 * MILLISECOND) == 60 * SECOND


def test_a_run_that_has_not_begun_waits_for_its_moment() -> None:
    assert cron.pause("* * * * *", NOON + 30 * SECOND, NOON) == 30 * SECOND


NONE = [
    "",
    "nonsense",
    "* * * *",
    "* * * * * *",
    "@every",
    "@every -1s",
    "@every 1h ",
    " @daily",
    "@Daily",
    "TZ=Nowhere * * * * *",
    "0 12 * * 7",
    "0 0 * * 0-7",
    "5-1 * * * *",
    "60 * * * *",
    "-5 * * * *",
    "1-2-3 * * * *",
    "1/2/3 * * * *",
    "*/0 * * * *",
    "*/x * * * *",
    "0 12 L * *",
    "0 12 1W * *",
    "0 0 * * 1#2",
    "0 0 * * monday",
    "0 0 0 * *",
    "1_0 * * * *",
    "h * * * *",
]


@pytest.mark.parametrize("schedule", NONE)
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(StatusError) as refused:
        cron.check(schedule, NOON)
    assert refused.value.code == Code.INVALID_ARGUMENT
    assert cron.pause(schedule, NOON, NOON) is None


def test_a_schedule_without_a_moment_is_refused() -> None:
    with pytest.raises(StatusError, match="no time can be found"):
        cron.check("0 0 31 2 *", NOON)
    assert cron.pause("0 0 31 2 *", NOON, NOON) is None
