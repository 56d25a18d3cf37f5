"""docs/compatibility.md says what is so."""

from __future__ import annotations

from tests.house import compatibility
from tests.house.tree import ROOT


def test_the_page_is_the_one_that_the_tables_make() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert page == compatibility.document(), "run: python -m tests.house.compatibility docs/compatibility.md"


def test_what_is_named_by_hand_is_there() -> None:
    calls = {method.name for service, _ in compatibility.SERVICES for method in service.methods}
    assert set(compatibility.MISSING) | set(compatibility.SHOWN_BY) <= calls
    assert all((ROOT / test).is_file() for test in compatibility.SHOWN_BY.values())
