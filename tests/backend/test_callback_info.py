"""What describe tells of a callback: where it stands, when it is tried again, and what holds it up."""

from __future__ import annotations

from typing import cast

import pytest
from temporalio.api.common.v1 import Callback as CallbackProto
from temporalio.api.enums.v1 import CallbackState
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import CallbackInfo

from nexuskit.backend.frontend.describe import callback_fields
from nexuskit.backend.history.callback import Callback, State
from nexuskit.backend.nexus.lanes import Lanes, Place
from nexuskit.backend.times import SECOND

URL = "https://elsewhere.example/callback"
NOW = 1_000 * SECOND
REASON = "The circuit breaker is open."


class OpenLanes:
    """The lane of one host is held up."""

    def blocked(self, place: Place) -> str:
        return REASON if place == Place("callback", "ns", "https://elsewhere.example:443") else ""


def shown(state: State, ready: int = 0, url: str = URL) -> CallbackInfo:
    made = CallbackProto(nexus=CallbackProto.Nexus(url=url)).SerializeToString()
    row = Callback(
        number=0,
        callback=made,
        request_id="request",
        registered=NOW,
        state=state,
        ready=ready,
        attempt=2,
        last_failure=Failure(message="away").SerializeToString(),
        last_attempt_end=NOW,
    )
    return CallbackInfo(**callback_fields(cast("Lanes", OpenLanes()), "ns", row, NOW))


@pytest.mark.parametrize("ready", [NOW, NOW - SECOND])
def test_one_that_could_be_tried_is_blocked_by_an_open_breaker_and_says_so(ready: int) -> None:
    for state in (State.SCHEDULED, State.BACKING_OFF):
        info = shown(state, ready)
        assert (info.state, info.blocked_reason) == (CallbackState.CALLBACK_STATE_BLOCKED, REASON)
        assert (info.attempt, info.last_attempt_failure.message) == (2, "away")


def test_one_that_waits_its_pause_out_is_backing_off_whatever_the_breaker() -> None:
    info = shown(State.BACKING_OFF, NOW + SECOND)
    assert (info.state, info.blocked_reason) == (CallbackState.CALLBACK_STATE_BACKING_OFF, "")
    assert info.next_attempt_schedule_time.ToNanoseconds() == NOW + SECOND


@pytest.mark.parametrize("state", [State.STANDBY, State.SUCCEEDED, State.FAILED])
def test_one_that_is_not_to_be_tried_is_not_blocked(state: State) -> None:
    assert shown(state).state == int(state)


def test_other_destinations_are_not_blocked() -> None:
    assert shown(State.SCHEDULED, NOW, "temporal://system").state == CallbackState.CALLBACK_STATE_SCHEDULED
