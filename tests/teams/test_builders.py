"""Operations that a line makes of workflows, queries, signals, updates and activities."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import nexuskit
from tests.teams.builders import KeepNotes, NotesService
from tests.teams.conftest import Teams
from tests.teams.workflows import Told

Do = Callable[..., Awaitable[Told]]


@pytest.fixture
def id() -> str:
    """Of one workflow."""
    return f"notes-{uuid.uuid4().hex}"


@pytest.fixture
def do(teams: Teams, id: str) -> Do:
    """A call of the notes' service for that workflow."""

    def call(operation: str, text: str = "", **more: Any) -> Awaitable[Told]:
        return teams.call(operation, service="notes", id=id, outcome=text, **more)

    return call


async def test_one_workflow_is_walked_through(do: Do) -> None:
    kept = asyncio.ensure_future(do("keep", "first"))
    while (read := await do("read")).error == "NexusNotFoundError":
        pass
    assert read.result == {"texts": ["first"]}
    assert (await do("add", "second")).error == ""
    assert (await do("find", "sec")).result == {"texts": ["second"]}
    assert (await do("replace", "third")).result == {"texts": ["third"]}
    assert (await do("read_open")).result == {"texts": ["third"]}
    assert (await do("finish")).error == ""
    assert (await kept).result == {"texts": ["third"]}
    assert (await do("read")).result == {"texts": ["third"]}


async def test_a_signal_with_start_starts_and_then_finds(do: Do) -> None:
    assert (await do("begin", "one")).error == ""
    assert (await do("begin", "two")).error == ""
    assert sorted((await do("read")).result["texts"]) == ["one", "one", "two"]
    assert (await do("finish")).error == ""


async def test_a_second_call_is_refused_or_attaches_as_the_policy_says(do: Do, teams: Teams, id: str) -> None:
    first = asyncio.ensure_future(do("keep", "first"))
    while (await do("read")).error:
        pass
    told = await do("keep", "second")
    assert (told.error, (told.fields or {})["type"]) == ("NexusHandlerError", "HandlerErrorType.CONFLICT")
    assert f"workflow {id!r} runs already" in told.message
    attached = asyncio.ensure_future(do("keep", "attach"))
    handle = teams.payments.get_workflow_handle_for(KeepNotes.run, id)
    while not (await handle.describe()).raw_description.callbacks[1:]:
        pass
    await do("finish")
    assert (await first).result == (await attached).result == {"texts": ["first"]}


@pytest.mark.parametrize("operation", ["read", "add", "replace"])
async def test_a_workflow_that_is_not_there_is_not_found(do: Do, operation: str, id: str) -> None:
    told = await do(operation, "text")
    assert told.error == "NexusNotFoundError"
    assert (told.fields or {})["what"] == "resource"
    assert f"workflow {id!r}" in told.message


async def test_what_a_workflow_refuses_is_a_failed_operation(do: Do) -> None:
    assert (await do("begin", "one")).error == ""
    refused = await do("replace", "")
    assert refused.error == "NexusOperationFailedError"
    assert "an empty note" in refused.message
    declined = await do("replace", "declined")
    assert declined.error == "Refused"
    failed = await do("find", "fail")
    assert (failed.error, (failed.fields or {})["type"]) == ("NexusOperationFailedError", "QueryFailed")
    assert (await do("finish")).error == ""
    rejected = await do("read_open")
    assert (rejected.error, (rejected.fields or {})["type"]) == ("NexusOperationFailedError", "QueryRejected")
    assert "is completed" in rejected.message


async def test_an_operation_may_be_an_activity(do: Do) -> None:
    assert (await do("shout", "hello")).result == {"texts": ["HELLO"]}
    assert (await do("shout", "declined")).error == "Refused"


def test_a_method_that_is_no_signal_is_told() -> None:
    with pytest.raises(TypeError, match=r"KeepNotes\.read is no signal"):
        nexuskit.signal_with_start(NotesService.begin, KeepNotes.run, KeepNotes.read, id="one")
