"""The filter of workflow ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexuskit.backend.store.known import KnownIds

IDS = st.tuples(st.text(max_size=8), st.text(max_size=20))


@given(st.lists(IDS))
def test_an_id_that_ran_is_never_taken_for_a_new_one(ids: list[tuple[str, str]]) -> None:
    known = KnownIds()
    for each in ids:
        known.add(*each)
    known.complete = True
    assert all(known.may_have_run(*each) for each in ids)


def test_until_all_ids_are_learnt_any_may_have_run() -> None:
    assert KnownIds().may_have_run("orders", "order-1")


def test_nearly_all_new_ids_are_known_to_be_new() -> None:
    known = KnownIds()
    known.complete = True
    for number in range(20_000):
        known.add("orders", f"order-{number}")
    assert sum(known.may_have_run("orders", f"new-{number}") for number in range(5_000)) < 5
    assert not known.may_have_run("payments", "order-1")
