"""What a change breaks: each rule of the table, proved by values that the other version accepts or refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal, NotRequired

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from nexuskit.contract import InvalidValueError, adapter
from nexuskit.contract.compatibility import Change, compare
from nexuskit.contract.document import ContractDocument, ErrorDocument, OperationDocument, ServiceDocument
from nexuskit.contract.rules import BROKEN, RULES
from tests.contract.shapes import (
    QUICKLY,
    Choice,
    Integer,
    Keyed,
    Many,
    Maybe,
    Member,
    Number,
    Record,
    Shape,
    Text,
    Truth,
    model_of,
    models,
    value,
)

TRIES = 200
"""Values that are drawn to find one that is refused; each kind of difference is met by far fewer."""


def record(**members: Member) -> Record:
    return Record(tuple(members.items()))


def one(shape: Any, required: bool = True) -> Record:
    """A model with a field of a shape, and one that stays as it is."""
    return record(other=Member(Text()), field=Member(shape, required))


WITHOUT = record(other=Member(Text()))
CLOSED = replace(WITHOUT, closed=True)


@dataclass(frozen=True)
class Case:
    """Two versions of a type, and the rules for it as an input and as an output."""

    old: Record
    new: Record
    as_input: tuple[str, ...]
    as_output: tuple[str, ...]


CASES = {
    "a required field is new": Case(
        WITHOUT, one(Text()), ("required-input-added",), ("required-output-added", "output-field-added")
    ),
    "an optional field is new": Case(WITHOUT, one(Text(), False), ("input-field-added",), ("output-field-added",)),
    "a required field is gone": Case(
        one(Text()), WITHOUT, ("input-field-removed", "required-input-removed"), ("output-field-removed",)
    ),
    "an optional field is gone": Case(one(Text(), False), WITHOUT, ("input-field-removed",), ("output-field-removed",)),
    "a field is required now": Case(one(Integer(), False), one(Integer()), ("required-input-added",), ()),
    "a field is optional now": Case(one(Integer()), one(Integer(), False), ("required-input-removed",), ()),
    "a field is renamed": Case(
        one(Truth()),
        record(other=Member(Text()), meadow=Member(Truth())),
        ("input-field-renamed",),
        ("output-field-renamed",),
    ),
    "unknown fields are refused": Case(WITHOUT, CLOSED, ("input-closed",), ()),
    "unknown fields are taken": Case(CLOSED, WITHOUT, ("input-opened",), ()),
    "a field is new where unknown ones were refused": Case(
        CLOSED,
        replace(one(Truth(), False), closed=True),
        ("input-field-added", "input-field-refused"),
        ("output-field-refused",),
    ),
    "a field is gone where unknown ones are refused": Case(
        replace(one(Truth(), False), closed=True),
        CLOSED,
        ("input-field-removed",),
        ("output-field-removed", "output-closed"),
    ),
    "another type": Case(
        one(Integer()),
        one(Text()),
        ("input-type-narrowed", "input-type-widened"),
        ("output-type-widened", "output-type-narrowed"),
    ),
    "a whole number may be any": Case(one(Integer()), one(Number()), ("input-type-widened",), ("output-type-widened",)),
    "a number must be whole": Case(one(Number()), one(Integer()), ("input-type-narrowed",), ("output-type-narrowed",)),
    "a value may be null": Case(one(Text()), one(Maybe(Text())), ("input-type-widened",), ("output-type-widened",)),
    "a value is never null": Case(one(Maybe(Text())), one(Text()), ("input-type-narrowed",), ("output-type-narrowed",)),
    "another value": Case(
        one(Choice(("red",))), one(Choice(("red", "blue"))), ("input-enum-widened",), ("output-enum-widened",)
    ),
    "a value less": Case(
        one(Choice(("red", "blue"))), one(Choice(("red",))), ("input-enum-narrowed",), ("output-enum-narrowed",)
    ),
    "a value in place of another": Case(
        one(Choice(("red", "blue"))),
        one(Choice(("red", "green"))),
        ("input-enum-narrowed", "input-enum-widened"),
        ("output-enum-widened", "output-enum-narrowed"),
    ),
    "any text in place of values": Case(
        one(Choice(("red",))), one(Text()), ("input-enum-widened",), ("output-enum-widened",)
    ),
    "a bound": Case(
        one(Integer()), one(Integer(high=9)), ("input-constraint-tightened",), ("output-constraint-tightened",)
    ),
    "a looser bound": Case(
        one(Integer(low=0)), one(Integer(low=-3)), ("input-constraint-loosened",), ("output-constraint-loosened",)
    ),
    "a shorter text": Case(
        one(Text(5)), one(Text(3)), ("input-constraint-tightened",), ("output-constraint-tightened",)
    ),
    "a text of any length": Case(
        one(Text(5)), one(Text()), ("input-constraint-loosened",), ("output-constraint-loosened",)
    ),
    "a list that must hold something": Case(
        one(Many(Text())), one(Many(Text(), 1)), ("input-constraint-tightened",), ("output-constraint-tightened",)
    ),
    "a bound within a list": Case(
        one(Many(Integer(low=0))),
        one(Many(Integer(low=2))),
        ("input-constraint-tightened",),
        ("output-constraint-tightened",),
    ),
    "a type within a mapping": Case(
        one(Keyed(Integer())), one(Keyed(Number())), ("input-type-widened",), ("output-type-widened",)
    ),
    "a field within a model": Case(
        one(one(Maybe(Truth()))),
        one(WITHOUT),
        ("input-field-removed", "required-input-removed"),
        ("output-field-removed",),
    ),
    "nothing": Case(one(Text()), one(Text()), (), ()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_an_input_is_classed_and_proved(name: str) -> None:
    case = CASES[name]
    changes = compare(contract(input_=case.old), contract(input_=case.new))
    assert sorted(each.rule.code for each in changes) == sorted(case.as_input)
    broken = {whom for each in changes for whom in each.breaks}
    assert ("callers" in broken) == (refuses(case.old, case.new, "validation") or loses(case.old, case.new))
    assert ("handlers" in broken) == (
        refuses(case.new, case.old, "validation") or "input-field-renamed" in case.as_input
    )
    assert ("in-flight" in broken) == ("callers" in broken)


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_an_output_is_classed_and_proved(name: str) -> None:
    case = CASES[name]
    changes = compare(contract(output=case.old), contract(output=case.new))
    assert sorted(each.rule.code for each in changes) == sorted(case.as_output)
    broken = {whom for each in changes for whom in each.breaks}
    assert ("callers" in broken) == (refuses(case.new, case.old, "serialization") or loses(case.old, case.new))
    assert ("handlers" in broken) == (refuses(case.old, case.new, "serialization"))
    assert ("in-flight" in broken) == bool(broken)


OF_ERROR = {
    "a required field is new": ["error-narrowed", "error-field-added"],
    "an optional field is new": ["error-field-added"],
    "a required field is gone": ["error-widened"],
    "an optional field is gone": ["error-widened"],
    "a value may be null": ["error-widened"],
    "a value is never null": ["error-narrowed"],
    "another type": ["error-widened", "error-narrowed"],
}


@pytest.mark.parametrize("name", OF_ERROR)
def test_a_change_of_an_errors_fields_is_that_of_an_output(name: str) -> None:
    case = CASES[name]
    of_output = compare(contract(output=case.old), contract(output=case.new))
    changes = compare(contract(error=case.old), contract(error=case.new))
    assert {each.part for each in changes} == {"error Refused"}
    assert sorted(each.rule.code for each in changes) == sorted(OF_ERROR[name])
    assert whom(changes) == whom(of_output)


def test_a_field_that_is_not_always_sent() -> None:
    class Always(TypedDict):
        id: str

    class Sometimes(TypedDict):
        id: NotRequired[str]

    one, other = (
        changed(output=adapter(each).schema("serialization"), accepted_output=None) for each in (Always, Sometimes)
    )
    assert codes(one, other) == ["output-made-optional"]
    assert codes(other, one) == ["required-output-added"]


def test_a_place_and_what_was_found_are_told() -> None:
    old, new = one(Many(one(Integer(low=0)))), one(Many(one(Integer(low=1))))
    (change,) = compare(contract(input_=old), contract(input_=new))
    assert change.place == "Payments.process, input: field.[].field"
    assert change.found == "was minimum 0, is minimum 1"
    assert change.as_json() == {
        "code": "input-constraint-tightened",
        "breaks": ["callers", "in-flight"],
        "service": "Payments",
        "operation": "process",
        "part": "input",
        "path": "field.[].field",
        "found": "was minimum 0, is minimum 1",
        "reason": RULES["input-constraint-tightened"].reason,
        "remedy": RULES["input-constraint-tightened"].remedy,
    }


def schema(shape: Record, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    return adapter(model_of(shape)).schema(mode)


def contract(input_: Record = WITHOUT, output: Record = WITHOUT, error: Record | None = None) -> ContractDocument:
    """A contract with one operation."""
    errors = () if error is None else (declared(error),)
    process = OperationDocument(
        name="process",
        input=schema(input_, "validation"),
        output=schema(output, "serialization"),
        accepted_output=schema(output, "validation"),
        errors=errors,
    )
    return ContractDocument(services=(ServiceDocument(name="Payments", operations=(process,)),))


def changed(**more: Any) -> ContractDocument:
    """A contract with one operation, of which something is another thing."""
    (service,) = contract().services
    process = service.operations[0].model_copy(update=more)
    return ContractDocument(services=(service.model_copy(update={"operations": (process,)}),))


def declared(shape: Record, **more: Any) -> ErrorDocument:
    sent, accepted = schema(shape, "serialization"), schema(shape, "validation")
    return ErrorDocument(name="Refused", fields=sent, accepted_fields=accepted, **more)


def drawn(shape: Record, mode: Literal["validation", "serialization"], seed: int = 0) -> Iterator[bytes]:
    found = schema(shape, mode)
    for at in range(TRIES):
        random = Random(seed + at)
        yield json.dumps(value(found, random, as_declared=mode == "serialization")).encode()


def refuses(sender: Record, receiver: Record, mode: Literal["validation", "serialization"]) -> bool:
    """Whether a value of the one is refused by the other."""
    return any(not takes(receiver, each) for each in drawn(sender, mode))


def takes(receiver: Record, data: bytes) -> bool:
    try:
        adapter(model_of(receiver)).decode(data)
    except InvalidValueError:
        return False
    return True


def loses(old: Record, new: Record) -> bool:
    """Whether the new model has no place for a field of the old one."""
    before, after = dict(old.members), dict(new.members)
    return bool(before.keys() - after.keys()) or any(
        loses(each.shape, after[name].shape)
        for name, each in before.items()
        if isinstance(each.shape, Record) and isinstance(after[name].shape, Record)
    )


def codes(old: ContractDocument, new: ContractDocument) -> list[str]:
    return [each.rule.code for each in compare(old, new)]


# --- what is not a value


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ({"kind": "sync"}, {"kind": "async"}, "sync-to-async"),
        ({"kind": "async"}, {"kind": "sync"}, "async-to-sync"),
        ({"kind": "async"}, {}, "kind-stated"),
        ({"deadline_s": 5.0}, {"deadline_s": 4.0}, "deadline-shorter"),
        ({}, {"deadline_s": 4.0}, "deadline-shorter"),
        ({"deadline_s": 5.0}, {"deadline_s": 6.0}, "deadline-longer"),
        ({"deadline_s": 5.0}, {}, "deadline-longer"),
        ({"doc": "a"}, {"doc": "b"}, "described"),
        ({"tags": ("a",)}, {"tags": ("b",)}, "described"),
        ({"name": "a"}, {"name": "b"}, "operation-renamed"),
        ({}, {"errors": (declared(WITHOUT),)}, "error-added"),
        ({"errors": (declared(WITHOUT),)}, {}, "error-removed"),
        ({"errors": (declared(WITHOUT),)}, {"errors": (declared(WITHOUT, retryable=True),)}, "error-retryable"),
        ({"errors": (declared(WITHOUT),)}, {"errors": (declared(WITHOUT, doc="a"),)}, "described"),
    ],
)
def test_a_change_of_a_promise(old: dict[str, Any], new: dict[str, Any], code: str) -> None:
    assert codes(changed(**old), changed(**new)) == [code]


def service(name: str = "Payments", **operations: Record) -> ServiceDocument:
    return ServiceDocument(
        name=name,
        operations=tuple(
            OperationDocument(name=operation, input=schema(shape, "validation"), output=schema(shape, "serialization"))
            for operation, shape in operations.items()
        ),
    )


def services(*found: ServiceDocument) -> ContractDocument:
    return ContractDocument(services=found)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (services(service()), services(), ["service-removed"]),
        (services(), services(service()), ["service-added"]),
        (services(service(a=WITHOUT)), services(service("Bills", a=WITHOUT)), ["service-renamed"]),
        (services(service(a=WITHOUT)), services(service("Bills", b=WITHOUT)), ["service-removed", "service-added"]),
        (services(service(a=WITHOUT)), services(service()), ["operation-removed"]),
        (services(service()), services(service(a=WITHOUT)), ["operation-added"]),
        (services(service(a=WITHOUT)), services(service(b=WITHOUT)), ["operation-renamed"]),
        (services(service(a=WITHOUT)), services(service(b=one(Text()))), ["operation-removed", "operation-added"]),
        (
            services(service(a=WITHOUT, b=WITHOUT)),
            services(service(c=WITHOUT)),
            ["operation-removed", "operation-removed", "operation-added"],
        ),
    ],
)
def test_a_change_of_services_and_operations(old: ContractDocument, new: ContractDocument, expected: list[str]) -> None:
    assert codes(old, new) == expected


def test_every_rule_is_met_by_a_test() -> None:
    met = {code for case in CASES.values() for code in (*case.as_input, *case.as_output)}
    here = Path(__file__).read_text(encoding="utf-8")
    assert not {code for code in RULES.keys() - met if f'"{code}"' not in here}


def test_the_rules_are_whole() -> None:
    for rule in RULES.values():
        assert set(rule.breaks) <= set(BROKEN)
        assert bool(rule.breaks) == bool(rule.remedy), rule.code
        assert list(rule.breaks) == [each for each in BROKEN if each in rule.breaks]


# --- any two versions


@QUICKLY
@given(models(), models(), st.integers())
def test_what_breaks_nobody_is_accepted(old: Record, new: Record, seed: int) -> None:
    """Between any two models: where the check finds nothing, every value of the one is a value of the other."""
    as_input = whom(compare(contract(input_=old), contract(input_=new)))
    as_output = whom(compare(contract(output=old), contract(output=new)))
    for broken, name, sender, receiver, mode in (
        (as_input, "callers", old, new, "validation"),
        (as_input, "handlers", new, old, "validation"),
        (as_output, "callers", new, old, "serialization"),
        (as_output, "handlers", old, new, "serialization"),
    ):
        if name not in broken:
            random = Random(seed)
            sent = value(schema(sender, mode), random, as_declared=mode == "serialization")
            assert takes(receiver, json.dumps(sent).encode()), (name, mode, sent)


WRAPS: dict[str, Callable[[Shape], Shape]] = {
    "a list": Many,
    "a mapping": Keyed,
    "or null": lambda shape: shape if isinstance(shape, Maybe) else Maybe(shape),
    "a model": one,
}


@QUICKLY
@given(models(), st.sampled_from(sorted(CASES)), st.lists(st.sampled_from(sorted(WRAPS)), max_size=3))
def test_any_single_change_is_classed_wherever_it_is(around: Record, name: str, wraps: list[str]) -> None:
    """However deep in whatever model a change lies, it is what it is alone."""
    case = CASES[name]

    def within(shape: Shape) -> Record:
        for each in wraps:
            shape = WRAPS[each](shape)
        return replace(around, members=(*around.members, ("changed", Member(shape))))

    old, new = within(case.old), within(case.new)
    as_input = compare(contract(input_=old), contract(input_=new))
    as_output = compare(contract(output=old), contract(output=new))
    assert sorted(each.rule.code for each in as_input) == sorted(case.as_input)
    assert sorted(each.rule.code for each in as_output) == sorted(case.as_output)
    assert all(each.path.startswith("changed") for each in (*as_input, *as_output))


def whom(changes: tuple[Change, ...]) -> set[str]:
    return {each for change in changes for each in change.breaks}
