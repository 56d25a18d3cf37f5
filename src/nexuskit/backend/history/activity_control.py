"""What operators do to pending activities: pause and unpause them, set them back to the first attempt, change options.

    waiting ── pause ──> paused ── unpause ──> waits from now on
    with a worker ── pause ──> goes on; its next attempt is paused

A reset lets a waiting activity start over at once, and tells one that runs by its next heartbeat; other options hold
from the next moment on. Whatever makes an activity wait anew changes its stamp, so that a task that was given out for
it before is stale (temporalio/temporal: service/history/workflow/activity.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from temporalio.api.common.v1 import RetryPolicy

from nexuskit.backend.errors import Code, StatusError, not_found
from nexuskit.backend.history import activity_options, retry
from nexuskit.backend.history.activity import Activity, Pause, change, check_open, waiting_anew
from nexuskit.backend.history.activity_options import Options
from nexuskit.backend.history.transaction import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from temporalio.api.activity.v1 import ActivityOptions

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction


class Which(NamedTuple):
    """Which activities are meant: the one of an id, all of a type, or all; exactly one is set."""

    activity_id: str = ""
    activity_type: str = ""
    all: bool = False


# --- what happened


class Paused(Record, frozen=True):
    """Somebody paused an activity."""

    scheduled_id: int
    pause: Pause


class Unpaused(Record, frozen=True):
    """Somebody lets it go on, perhaps as if there had been no attempt, or no heartbeat."""

    scheduled_id: int
    reset_attempts: bool
    reset_heartbeat: bool


class Reset(Record, frozen=True):
    """Somebody set it back to its first attempt."""

    scheduled_id: int
    reset_heartbeat: bool


class OptionsChanged(Record, frozen=True):
    """It has other options now."""

    scheduled_id: int
    options: Options


class Rescheduled(Record, frozen=True):
    """It waits anew, from a moment on."""

    scheduled_id: int
    attempt_time: int


def apply_paused(state: Execution, record: Paused) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    if row is not None:
        stamp = row.stamp if row.started_time else row.stamp + 1
        change(state, record.scheduled_id, pause=record.pause, stamp=stamp)


def apply_unpaused(state: Execution, record: Unpaused) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    if row is None:
        return
    fields: dict[str, object] = {"pause": None, "stamp": row.stamp + 1}
    if record.reset_attempts:
        fields["attempt"] = 1
    if record.reset_heartbeat:
        fields |= {"heartbeat_time": 0, "heartbeat_details": b""}
    change(state, record.scheduled_id, **fields)


def apply_reset(state: Execution, record: Reset) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    if row is not None:
        beats = row.reset_heartbeats or record.reset_heartbeat
        change(state, record.scheduled_id, attempt=1, reset=True, reset_heartbeats=beats)


def apply_options_changed(state: Execution, record: OptionsChanged) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    if row is not None:
        change(state, record.scheduled_id, stamp=row.stamp + 1, **msgspec.structs.asdict(record.options))


def apply_rescheduled(state: Execution, record: Rescheduled) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    if row is not None:
        change(state, record.scheduled_id, attempt_time=record.attempt_time, last_failure=b"", **waiting_anew(row))


# --- what operators want


def matching(state: Execution, which: Which) -> list[Activity]:
    """The pending activities that are meant.

    Raises:
        StatusError: NOT_FOUND, if there is none, or the run is closed.
    """
    check_open(state)
    found = [
        row
        for _, row in state.of(Activity).items()
        if which.all
        or (which.activity_id and row.activity_id == which.activity_id)
        or (which.activity_type and row.activity_type == which.activity_type)
    ]
    if not found:
        name = which.activity_id or which.activity_type or "any"
        raise not_found(
            f"Can't find pending activity with such ID. Invalid activityID or activity already completed: {name!r}"
        )
    return found


def pause(tx: Transaction, which: Which, pause: Pause) -> None:
    """Pause activities: what waits is given to nobody, what runs may end, and then waits.

    Raises:
        StatusError: NOT_FOUND, as of `matching`; FAILED_PRECONDITION, if one is paused already by another request.
    """
    for row in matching(tx.state, which):
        if row.pause is None:
            tx.note(Paused(row.scheduled_id, pause))
        elif row.pause.request_id != pause.request_id:
            raise StatusError(
                Code.FAILED_PRECONDITION, f"activity is already paused: {row.activity_id!r}, by {row.pause.identity!r}"
            )


def unpause(tx: Transaction, which: Which, *, reset_attempts: bool, reset_heartbeat: bool, jitter: int) -> None:
    """Let paused activities go on; one that waits may be taken within `jitter` (ns) from now."""
    for row in matching(tx.state, which):
        if row.pause is None:
            continue
        tx.note(Unpaused(row.scheduled_id, reset_attempts, reset_heartbeat))
        if not row.started_time:
            tx.note(Rescheduled(row.scheduled_id, _within(tx, jitter)))


class ResetRequest(NamedTuple):
    """How activities are to be reset.

    Attributes:
        reset_heartbeat: the next attempt does not get the details of heartbeats so far.
        keep_paused: what is paused stays so.
        jitter: a waiting one may be taken within so long from now (ns).
        originals: scheduled event's id → the options to be restored; None for leaving them as they are.
    """

    reset_heartbeat: bool
    keep_paused: bool
    jitter: int
    originals: Mapping[int, Options] | None = None


def reset(tx: Transaction, which: Which, request: ResetRequest) -> None:
    """Set activities back to their first attempt."""
    for row in matching(tx.state, which):
        tx.note(Reset(row.scheduled_id, request.reset_heartbeat))
        if request.originals is not None:
            tx.note(OptionsChanged(row.scheduled_id, request.originals[row.scheduled_id]))
        if row.pause is not None and request.keep_paused:
            continue
        if row.pause is not None:
            tx.note(Unpaused(row.scheduled_id, reset_attempts=False, reset_heartbeat=False))
        if not row.started_time:
            tx.note(Rescheduled(row.scheduled_id, _within(tx, request.jitter)))


def update_options(tx: Transaction, which: Which, options: ActivityOptions, paths: Sequence[str]) -> Options:
    """Change the options that `paths` name. Returns the new ones, of the last activity if there are several.

    Raises:
        StatusError: INVALID_ARGUMENT, for options that make no sense; NOT_FOUND, as of `matching`.
    """
    changed = Options(queue="")
    for row in matching(tx.state, which):
        wanted = activity_options.merged(activity_options.shown(row.options), options, paths)
        changed = activity_options.kept(activity_options.checked(wanted, row.activity_id, row.activity_type, tx.limits))
        _change_options(tx, row, changed)
    return changed


def restore_options(tx: Transaction, which: Which, originals: Mapping[int, Options]) -> Options:
    """Give activities the options back with which they were scheduled; returns those of the last one."""
    changed = Options(queue="")
    for row in matching(tx.state, which):
        changed = originals[row.scheduled_id]
        _change_options(tx, row, changed)
    return changed


def _change_options(tx: Transaction, row: Activity, options: Options) -> None:
    tx.note(OptionsChanged(row.scheduled_id, options))
    if row.started_time:
        return
    attempt_time = row.attempt_time
    if row.attempt > 1 and row.last_attempt_end:
        policy = RetryPolicy.FromString(options.policy)
        attempt_time = row.last_attempt_end + retry.backoff(policy, row.attempt - 1)
    tx.note(Rescheduled(row.scheduled_id, attempt_time))


def _within(tx: Transaction, jitter: int) -> int:
    """A moment within `jitter` (ns) from now."""
    return tx.now + (tx.draw.jitter(jitter, 1.0) if jitter > 0 else 0)
