"""No field of a request is forgotten: each is honoured, harmless to ignore, or refused by name."""

from __future__ import annotations

import re

import pytest

from nexuskit.backend.frontend.checks import ACCEPTED, HARMLESS, REFUSED
from tests.house import fields
from tests.house.tree import ROOT

REACHABLE = fields.reachable()


@pytest.mark.parametrize("name", sorted(REACHABLE))
def test_every_field_is_sorted_exactly_once(name: str) -> None:
    message = REACHABLE[name]
    honoured = fields.HONOURED.get(name, "").split()
    for field in message.fields:
        sorted_as = {
            "honoured": field.name in honoured,
            "harmless": fields.harmless(message, field.name),
            "refused": fields.refused(message, field.name),
        }
        assert sum(sorted_as.values()) == 1, f"{name}.{field.name}: {sorted_as}"
    assert set(honoured) <= {field.name for field in message.fields}


def test_the_tables_name_nothing_that_is_not_there() -> None:
    named = {message.name: message for message in REACHABLE.values()}
    everywhere = {field.name for message in REACHABLE.values() for field in message.fields}
    qualified = {f"{message.name}.{field.name}" for message in REACHABLE.values() for field in message.fields}
    assert set(fields.HONOURED) <= set(REACHABLE)
    assert {each for each in HARMLESS if each not in everywhere | qualified} == set()
    assert {f"{name}.{field}" for name, each in REFUSED.items() for field in each} <= qualified
    assert {each for each in ACCEPTED if each.split(".")[1] not in REFUSED[each.split(".")[0]]} == set()
    assert set(REFUSED) <= set(named)


def test_an_honoured_field_is_read_somewhere() -> None:
    sources = [path for path in (ROOT / "src/nexuskit/backend").rglob("*.py") if path.name != "checks.py"]
    words = {word for path in sources for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    unread = {
        f"{name}.{field}"
        for name, honoured in fields.HONOURED.items()
        for field in honoured.split()
        if not _names(name, field) & words and not _only_looked_into(name, field)
    }
    assert unread == set()


def _names(name: str, field: str) -> set[str]:
    """By what a field is read: its name, or that of the oneof that it is a variant of."""
    variant_of = REACHABLE[name].fields_by_name[field].containing_oneof
    return {field, variant_of.name} if variant_of is not None else {field}


def _only_looked_into(name: str, field: str) -> bool:
    """Whether what the field holds is checked for refused fields, and nothing else."""
    message = fields.inner(REACHABLE[name].fields_by_name[field])
    return message is not None and message.name in REFUSED and fields.name_of(message) not in fields.HONOURED
