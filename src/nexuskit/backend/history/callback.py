"""A completion callback: somebody is to be told when this run closes, or an update of it completes.

    STANDBY ── it ends ──> SCHEDULED ── delivered ──> SUCCEEDED
                             │ ^  └── refused for good ──> FAILED
                             └─┘ the attempt failed: attempt + 1, after a pause

The rows outlive the run's other rows: they stay until they are delivered or have failed, and after that are shown by
describe (temporalio/temporal: components/callbacks).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from nexuskit.backend.history import retry
from nexuskit.backend.history.state import NOTHING, Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record

if TYPE_CHECKING:
    from temporalio.api.failure.v1 import Failure

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction


class State(IntEnum):
    """Where a callback stands; the numbers are those of `temporal.api.enums.v1.CallbackState`."""

    STANDBY = 1
    SCHEDULED = 2
    BACKING_OFF = 3
    FAILED = 4
    SUCCEEDED = 5


class Callback(Row, frozen=True, omit_defaults=True):
    """One callback. The key is its number within the run, from 0."""

    kind = "callback"
    outlives = True
    number: int
    callback: bytes
    """`temporal.api.common.v1.Callback`, serialised: where it goes, with which headers and links."""
    request_id: str
    registered: int
    state: State = State.STANDBY
    ready: int = 0
    attempt: int = 0
    last_failure: bytes = b""
    last_attempt_end: int = 0
    update_id: str = ""
    """The update whose outcome is to be told; empty for the run's."""

    def index(self, info: Info) -> Index:
        if self.state not in (State.SCHEDULED, State.BACKING_OFF):
            return NOTHING
        return Index(0, Destination(self.kind, info.namespace_id), self.ready, self.attempt)


class Registered(Record, frozen=True):
    """The run was asked to call back when it closes."""

    callback: bytes
    request_id: str
    time: int
    update_id: str = ""


class Delivered(Record, frozen=True):
    """The other side has it."""

    number: int
    time: int


class Refused(Record, frozen=True):
    """The other side will not have it, now (`ready` set) or ever (0)."""

    number: int
    time: int
    failure: bytes
    ready: int


def apply_registered(state: Execution, record: Registered) -> None:
    table = state.of(Callback)
    number = max((int(key) for key, _ in table.items()), default=-1) + 1
    row = Callback(
        number=number,
        callback=record.callback,
        request_id=record.request_id,
        registered=record.time,
        update_id=record.update_id,
    )
    table.put(number, row)


def apply_closed(state: Execution, time: int) -> None:
    """The run has closed: all that stood by are to be delivered."""
    table = state.of(Callback)
    for number, row in table.items():
        if row.state == State.STANDBY:
            table.put(number, msgspec.structs.replace(row, state=State.SCHEDULED, ready=time))


def apply_scheduled(state: Execution, update_id: str, time: int) -> None:
    """An update has its outcome: those that stood by for it are to be delivered."""
    table = state.of(Callback)
    for number, row in table.items():
        if row.state == State.STANDBY and row.update_id == update_id:
            table.put(number, msgspec.structs.replace(row, state=State.SCHEDULED, ready=time))


def apply_handed_on(state: Execution, time: int, *, reset: bool) -> None:
    """Another run follows the one that closed: all that stood by wait for the end of that one.

    Updates do not go on in another run, unless that began by a reset, which is given what was accepted: so their
    callbacks are to be delivered, or wait there.
    """
    table = state.of(Callback)
    for number, row in table.items():
        if row.state != State.STANDBY:
            continue
        if row.update_id and not reset:
            table.put(number, msgspec.structs.replace(row, state=State.SCHEDULED, ready=time))
        else:
            table.remove(number)


def apply_delivered(state: Execution, record: Delivered) -> None:
    row = state.of(Callback).get(record.number)
    if row is not None:
        done = msgspec.structs.replace(
            row, state=State.SUCCEEDED, attempt=row.attempt + 1, last_attempt_end=record.time, last_failure=b""
        )
        state.of(Callback).put(record.number, done)


def apply_refused(state: Execution, record: Refused) -> None:
    row = state.of(Callback).get(record.number)
    if row is not None:
        changed = msgspec.structs.replace(
            row,
            state=State.BACKING_OFF if record.ready else State.FAILED,
            attempt=row.attempt + 1,
            ready=record.ready,
            last_failure=record.failure,
            last_attempt_end=record.time,
        )
        state.of(Callback).put(record.number, changed)


def attempted(state: Execution, number: int, attempt: int) -> Callback | None:
    """The callback, if it still waits for the outcome of that attempt."""
    row = state.of(Callback).get(number)
    if row is None or row.attempt != attempt or row.state not in (State.SCHEDULED, State.BACKING_OFF):
        return None
    return row


def delivered(tx: Transaction, row: Callback) -> None:
    """The other side has it."""
    tx.note(Delivered(row.number, tx.now))


def refused(tx: Transaction, row: Callback, failure: Failure, *, retryable: bool) -> None:
    """The attempt failed; with `retryable` another one follows, as long as there is the run."""
    pause = retry.doubling(tx.limits.NEXUS_RETRY_INTERVAL, tx.limits.NEXUS_RETRY_INTERVAL_MAX, row.attempt + 1)
    ready = tx.now + tx.draw.jitter(pause) if retryable else 0
    tx.note(Refused(row.number, tx.now, failure.SerializeToString(), ready))
