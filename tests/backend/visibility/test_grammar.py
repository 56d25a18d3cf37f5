"""The list filter as text: what it may hold, and how it is told that it is wrong."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.visibility.conditions import check
from nexuskit.backend.visibility.grammar import (
    All,
    Among,
    Between,
    Compared,
    Either,
    IsNull,
    Name,
    Negated,
    Order,
    Query,
    parse,
)
from nexuskit.backend.visibility.search_attributes import BOOL, DATETIME, INT, KEYWORD, KEYWORD_LIST, TEXT, moment
from nexuskit.backend.visibility.subjects import WORKFLOWS

A, B, C = Name("A"), Name("B"), Name("C")
CUSTOM = {"K": KEYWORD, "I": INT, "L": KEYWORD_LIST, "T": TEXT, "D": DATETIME, "F": BOOL, "With space": KEYWORD}


def refusal(text: str) -> str:
    with pytest.raises(StatusError) as caught:
        check(parse(text), WORKFLOWS, CUSTOM)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("A = 'x'", Compared("=", A, "x")),
        ('A != "x"', Compared("!=", A, "x")),
        ("A <> 5", Compared("!=", A, 5)),
        ("A >= -1.5", Compared(">=", A, -1.5)),
        ("A = true", Compared("=", A, True)),
        ("`A` < 'x'", Compared("<", A, "x")),
        ("A = 'it''s'", Compared("=", A, "it's")),
        (r"A = 'it\'s'", Compared("=", A, "it's")),
        ("A STARTS_WITH 'x'", Compared("STARTS_WITH", A, "x")),
        ("A not starts_with 'x'", Compared("NOT STARTS_WITH", A, "x")),
        ("A IN ('x', 2)", Among(A, ("x", 2), negated=False)),
        ("A NOT IN (1)", Among(A, (1,), negated=True)),
        ("A BETWEEN 1 AND 2 AND B = 3", All((Between(A, 1, 2, negated=False), Compared("=", B, 3)))),
        ("A IS NULL OR A is not null", Either((IsNull(A, negated=False), IsNull(A, negated=True)))),
        ("NOT A = 1 AND B = 2", All((Negated(Compared("=", A, 1)), Compared("=", B, 2)))),
        (
            "A = 1 OR B = 2 AND C = 3",
            Either((Compared("=", A, 1), All((Compared("=", B, 2), Compared("=", C, 3))))),
        ),
        (
            "(A = 1 OR B = 2) AND C = 3",
            All((Either((Compared("=", A, 1), Compared("=", B, 2))), Compared("=", C, 3))),
        ),
        ("Android = 1", Compared("=", Name("Android"), 1)),
    ],
)
def test_a_filter_is_a_tree(text: str, where: object) -> None:
    assert parse(text) == Query(where)


def test_a_filter_may_be_empty_or_only_group_or_sort() -> None:
    assert parse("  ") == Query()
    assert parse("GROUP BY A") == Query(group_by=(A,))
    assert parse("order by A desc") == Query(order_by=(Order(A, descending=True),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A =", "malformed SQL query: syntax error at position"),
        ("A = 'x' B", "syntax error at position 37 near 'B'"),
        ("A = 'x", "malformed SQL query"),
        ("Nothing = 1", "invalid query: invalid search attribute: Nothing"),
        ("WorkflowId = x", '(did you forget to quote "x"?)'),
        ("StartTime > now()", "operation is not supported: nested func"),
        ("WorkflowId", "invalid expression: incomplete expression"),
        ("'a' = 'a'", "invalid expression: must be a column name"),
        ("WorkflowId = NULL", "IS NULL"),
        ("StartTime > 'yesterday'", "invalid expression: unable to parse datetime 'yesterday'"),
        ("ExecutionStatus = 99", "invalid expression: invalid ExecutionStatus value 99"),
        ("WorkflowId = 5", "invalid value type for search attribute WorkflowId of type Keyword: 5"),
        ("ExecutionStatus = 'Runing'", "invalid expression: invalid ExecutionStatus value 'Runing'"),
        ("ExecutionDuration > '5x'", "invalid value for search attribute ExecutionDuration: 5x"),
        ("I = 'five'", "invalid value type for search attribute I of type Int"),
        ("F = 'yes'", "invalid value type for search attribute F of type Bool"),
        ("L > 'x'", "operator '>' not supported for KeywordList type search attribute 'L'"),
        ("I STARTS_WITH 'x'", "operator 'STARTS_WITH' not supported for Int type search attribute 'I'"),
        ("L BETWEEN 'x' AND 'y'", "cannot do range condition on search attribute 'L' of type KeywordList"),
        ("T = ' - '", "unexpected value for Text type search attribute (no tokens found"),
        ("WorkflowId = 'x' LIMIT 5", "operation is not supported: 'LIMIT' clause"),
        ("GROUP BY WorkflowType", "'GROUP BY' clause is not supported for search attribute WorkflowType"),
        ("ORDER BY T", "unable to sort by search attribute type Text"),
    ],
)
def test_a_filter_that_is_wrong_is_refused_and_told_where(text: str, message: str) -> None:
    found = refusal(text)
    assert found.startswith("invalid query: ")
    assert message in found


def test_a_filter_is_as_long_deep_and_wide_as_its_limits() -> None:
    def accepted(text: str) -> None:
        check(parse(text), WORKFLOWS, CUSTOM)

    def nested(depth: int) -> str:
        return "NOT (" * depth + "I = 1" + ")" * depth

    accepted(nested(limits.FILTER_DEPTH))
    assert "conditions within each other" in refusal(nested(limits.FILTER_DEPTH + 1))
    assert "within each other" in refusal(nested(5_000))
    accepted(" AND ".join(["I = 1"] * limits.FILTER_CONDITIONS))
    assert "more than 500 conditions" in refusal(" AND ".join(["I = 1"] * (limits.FILTER_CONDITIONS + 1)))
    accepted(f"I IN ({', '.join(['1'] * limits.FILTER_VALUES)})")
    assert "more than 2000 values" in refusal(f"I IN ({', '.join(['1'] * (limits.FILTER_VALUES + 1))})")
    accepted("I = 1" + " " * (limits.FILTER_LENGTH - 5))
    assert "characters, at most" in refusal("I = 1" + " " * (limits.FILTER_LENGTH - 4))


@given(st.text())
def test_no_text_at_all_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(StatusError):
        check(parse(text), WORKFLOWS, CUSTOM)


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_can_be_quoted(text: str) -> None:
    doubled = text.replace("\\", "\\\\").replace("'", "''")
    assert parse(f"A = '{doubled}'") == Query(Compared("=", A, text))


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000),
        ("9999-12-31T23:59:59Z", 2**63 - 1),
    ],
)
def test_times_are_nanoseconds(text: str, nanos: int) -> None:
    assert moment(text) == nanos
