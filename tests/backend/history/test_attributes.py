"""Search attributes and memo of a run: what its code sets is merged into what is there, within limits."""

from typing import Any

import pytest
from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import Memo, Payload, SearchAttributes
from temporalio.api.enums.v1 import WorkflowTaskFailedCause

from nexuskit.backend import limits
from nexuskit.backend.errors import StatusError
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.visibility.search_attributes import KEYWORD, KEYWORD_LIST, check, check_size, values, words
from tests.support.world import World, json_payload, modify_memo, upsert_attribute

BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES


@pytest.fixture
def world() -> World:
    made = World()
    made.start()
    return made


def attributes(world: World) -> dict[str, bytes]:
    found = SearchAttributes.FromString(world.execution.info.search_attributes)
    return {name: payload.data for name, payload in found.indexed_fields.items()}


def given(count: int = 1, size: int = 4) -> SearchAttributes:
    """So many attributes, each with a value of so many bytes."""
    value = Payload(metadata={"encoding": b"json/plain"}, data=b'"' + b"x" * (size - 2) + b'"')
    return SearchAttributes(indexed_fields={f"A{number:03}": value for number in range(count)})


def test_attributes_are_merged(world: World) -> None:
    world.turn(upsert_attribute("Customer", "ada"), upsert_attribute("Amount", 5), upsert_attribute("Amount", 6))
    assert attributes(world) == {"Customer": b'"ada"', "Amount": b"6"}
    assert world.execution.info.running


def test_null_takes_an_attribute_away(world: World) -> None:
    world.turn(upsert_attribute("Customer", "ada"), upsert_attribute("Amount", 5), upsert_attribute("Customer", None))
    assert attributes(world) == {"Amount": b"5"}


def test_an_attribute_has_its_type_in_history(world: World) -> None:
    world.turn(upsert_attribute("Amount", 5))
    event = world.history[-1].upsert_workflow_search_attributes_event_attributes
    assert event.search_attributes.indexed_fields["Amount"].metadata["type"] == b"Int"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (upsert_attribute("Nothing", 1), "Namespace orders has no mapping defined for search attribute Nothing"),
        (upsert_attribute("Amount", "x"), 'invalid value for search attribute Amount of type Int: "x"'),
        (upsert_attribute("RunId", "x"), "RunId attribute can't be set in SearchAttributes"),
        (upsert_attribute("TemporalWorkerDeployment", "x"), "attribute can't be set in SearchAttributes"),
    ],
)
def test_an_attribute_that_cannot_be_fails_the_task(world: World, command: Command, message: str) -> None:
    answer = world.turn(command)
    assert answer.error is not None
    assert message in answer.error.message
    assert world.history[-1].workflow_task_failed_event_attributes.cause == BAD
    assert attributes(world) == {}


@pytest.mark.parametrize(("size", "ends"), [(0, False), (1, True)])
def test_a_value_over_its_limit_ends_the_workflow(world: World, size: int, ends: bool) -> None:
    world.turn(upsert_attribute("Customer", "x" * (limits.SEARCH_ATTRIBUTE_SIZE - 2 + size)))
    assert world.execution.info.running is not ends


@pytest.mark.parametrize(("more", "ends"), [(-100, False), (1, True)])
def test_a_memo_over_its_limit_ends_the_workflow(world: World, more: int, ends: bool) -> None:
    world.turn(modify_memo("a", "x" * (limits.MEMO_SIZE + more)))
    assert world.execution.info.running is not ends


def test_a_memo_is_merged(world: World) -> None:
    world.turn(modify_memo("a", "x"), modify_memo("b", "y"), modify_memo("a", None))
    assert set(Memo.FromString(world.execution.info.memo).fields) == {"b"}


def test_a_request_holds_as_many_attributes_as_the_limit() -> None:
    custom = {f"A{number:03}": KEYWORD for number in range(limits.SEARCH_ATTRIBUTES + 1)}
    check(given(limits.SEARCH_ATTRIBUTES), custom, "orders", limits=DEFAULTS)
    with pytest.raises(StatusError, match="number of search attributes 101 exceeds limit 100"):
        check(given(limits.SEARCH_ATTRIBUTES + 1), custom, "orders", limits=DEFAULTS)


def test_all_attributes_are_as_large_as_their_limit() -> None:
    full = given(20, limits.SEARCH_ATTRIBUTE_SIZE)
    small = limits.SEARCH_ATTRIBUTES_SIZE - given(19, limits.SEARCH_ATTRIBUTE_SIZE).ByteSize()
    last = full.indexed_fields["A019"]
    last.data = last.data[: len(last.data) - (full.ByteSize() - limits.SEARCH_ATTRIBUTES_SIZE)]
    assert full.ByteSize() == limits.SEARCH_ATTRIBUTES_SIZE > small
    check_size(full, limits=DEFAULTS)
    last.data += b"x"
    with pytest.raises(StatusError, match="total size of search attributes 40961 exceeds size limit 40960"):
        check_size(full, limits=DEFAULTS)


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        (None, KEYWORD, []),
        ([], KEYWORD, []),
        ("a", KEYWORD, ["a"]),
        (["a"], KEYWORD, ["a"]),
        ("a", KEYWORD_LIST, ["a"]),
        (["a", "b"], KEYWORD_LIST, ["a", "b"]),
    ],
)
def test_a_payload_holds_a_value_a_list_or_nothing(value: Any, kind: int, stored: list[str]) -> None:
    assert values(json_payload(value), kind) == stored


def test_a_text_is_its_words() -> None:
    assert words("Hello, wörld-wide  hello!") == ("hello", "wörld", "wide")
