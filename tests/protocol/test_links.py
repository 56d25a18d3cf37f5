"""Links in the header field Nexus-Link."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import Link

from nexuskit.protocol import LocalProtocolError, RemoteProtocolError, format_link, parse_links
from nexuskit.protocol.links import MAX_LINKS

URLS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='<>"'), min_size=1)
TYPES = st.from_regex(r"\A[A-Za-z0-9_./]+\Z")
LINKS = st.builds(Link, url=URLS, type=TYPES)


def test_the_example_of_the_specification() -> None:
    value = '<myscheme://somepath?k=v>; type="com.example.MyResource"'
    link = Link(url="myscheme://somepath?k=v", type="com.example.MyResource")
    assert parse_links([value]) == (link,)
    assert format_link(link) == value


@pytest.mark.parametrize(
    "value",
    [
        '<a:b,c>; type="x", <d>; type=y',
        '<a:b,c>;type="x",<d>;type="y"',
        ' , <a:b,c> ; rel="a, <b>; \\" c" ; type = "x" ,, < d > ; flag; type=y; type=z ,',
    ],
)
def test_links_share_a_field_and_may_hold_commas(value: str) -> None:
    assert parse_links([value]) == (Link(url="a:b,c", type="x"), Link(url="d", type="y"))


def test_fields_follow_each_other() -> None:
    assert [link.url for link in parse_links(['<a>; type="x"', "", '<b>; type="x"'])] == ["a", "b"]


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "<>",
        "<a",
        "<a>",
        "<a>;",
        '<a>; type=""',
        '<a>; type="b c"',
        '<a>; type="b',
        "<a>; rel=b",
        '<a b>; type="x"',
        '<ä>; type="x"',
        '<a>; type="x" <b>; type="y"',
        '<a>; type="x"; ,',
        '<a>, type="x"',
        "<a>;" + "type=x;" * 10000,
    ],
)
def test_what_is_no_link_is_refused_and_said(value: str) -> None:
    with pytest.raises(RemoteProtocolError, match="link 1"):
        parse_links([value])


def test_there_are_so_many_links_and_not_more() -> None:
    value = '<a>; type="x"'
    assert len(parse_links([value] * MAX_LINKS)) == MAX_LINKS
    with pytest.raises(RemoteProtocolError, match="at most"):
        parse_links([", ".join([value] * (MAX_LINKS + 1))])


@given(st.lists(LINKS, max_size=5))
def test_written_links_are_read_again(links: list[Link]) -> None:
    expected = tuple(Link(url=link.url.replace(",", "%2C"), type=link.type) for link in links)
    assert parse_links([format_link(link) for link in links]) == expected
    assert parse_links([", ".join(map(format_link, links))]) == expected
    assert "," not in "".join(map(format_link, links))


@given(st.builds(Link, url=st.text(), type=st.text()))
def test_what_cannot_be_read_again_is_not_written(link: Link) -> None:
    try:
        written = format_link(link)
    except LocalProtocolError:
        return
    assert parse_links([written]) == (Link(url=link.url.replace(",", "%2C"), type=link.type),)


@given(st.text(alphabet='<>;,=" \\atype'))
def test_any_value_is_read_or_refused(value: str) -> None:
    with suppress(RemoteProtocolError):
        parse_links([value])
