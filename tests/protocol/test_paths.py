"""Names in URLs."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.protocol import LocalProtocolError, RemoteProtocolError, cancel_path, operation_path, parse_path
from nexuskit.protocol.paths import MAX_NAME, is_http_url, relative_path

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(NAMES | st.sampled_from([".", "..", "cancel", "a/b", "%2F", "a b", "ü"]), NAMES)
def test_written_names_are_read_again(service: str, operation: str) -> None:
    assert parse_path(operation_path(service, operation)) == (service, operation, False)
    assert parse_path(cancel_path(service, operation)) == (service, operation, True)
    through_httpx = httpx.URL("http://host/nexus" + operation_path(service, operation)).raw_path.decode()
    assert parse_path(through_httpx.removeprefix("/nexus")) == (service, operation, False)


@pytest.mark.parametrize(
    "path", ["", "/", "/a", "/a/b/c", "/a/b/cancel/d", "/a/b/cancel/", "a/b", "/a/b/c/cancel", "*"]
)
def test_other_paths_name_nothing(path: str) -> None:
    assert parse_path(path) is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("//b", "name of the service, but it is empty"),
        ("/a/", "name of the operation, but it is empty"),
        ("/a/%zz", "no two hex digits"),
        ("/a/%2", "no two hex digits"),
        ("/a/%ff", "UTF-8"),
        ("/\xff/b", "UTF-8"),
        ("/a/" + "b" * (MAX_NAME + 1), "at most 1000"),
    ],
)
def test_broken_names_are_refused_and_said(path: str, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        parse_path(path)


def test_names_that_cannot_travel_are_not_written() -> None:
    for service, operation in [("", "b"), ("a", ""), ("a" * (MAX_NAME + 1), "b"), ("\ud800", "b")]:
        with pytest.raises(LocalProtocolError):
            operation_path(service, operation)


@given(st.text(max_size=60))
def test_any_path_is_read_or_refused(path: str) -> None:
    with suppress(RemoteProtocolError):
        parse_path(path)


@pytest.mark.parametrize(
    ("raw", "root", "path"),
    [
        (b"/S/a%2Fb", "", "/S/a%2Fb"),
        (b"/nexus/S/a%2Fb", "/nexus", "/S/a%2Fb"),
        (b"/ne%78us/S/a%2Fb", "/nexus", "/S/a%2Fb"),
        (b"/caf%C3%A9/S/o", "/café", "/S/o"),
        (b"/a%2Fb/nexus/S/o", "/a/b/nexus", "/S/o"),
        (b"/S/o", "/nexus", "/S/o"),
        (b"/nexus", "/nexus", "/"),
        (b"/n%", "/nexus", "/n%"),
        (b"/%25/S/o", "/%", "/S/o"),
        (b"/%25", "/%", "/"),
        (b"/nexu%7", "/nexus", "/nexu%7"),
        (b"/n%65xus/S/o", "/nexus", "/S/o"),
        (b"/nexus/S/o", "/nexus/", "/S/o"),
        (b"/nexusS/o", "/nexus", "/nexusS/o"),
        (b"/n%65xusS/o", "/nexus", "/n%65xusS/o"),
    ],
)
def test_the_path_below_a_mount_is_as_it_was_sent(raw: bytes, root: str, path: str) -> None:
    assert relative_path(raw, root) == path


@given(NAMES.filter(lambda name: "/" not in name), NAMES)
def test_the_path_below_any_mount_is_found(root: str, name: str) -> None:
    raw = f"/{quote(root, safe='')}{operation_path('S', name)}".encode()
    assert relative_path(raw, unquote("/" + quote(root, safe=""))) == operation_path("S", name)


def test_what_is_an_http_url() -> None:
    assert all(map(is_http_url, ["http://a", "https://a:1/b?c=d", "https://[::1]:8/"]))
    others = [
        "",
        "a",
        "ftp://a",
        "http://",
        "http:///a",
        "http://a:x",
        "http://a:99999",
        "http://a:0",
        "http://[::1",
        "http://a b",
    ]
    assert not any(map(is_http_url, [*others, "http://ä", "http://a\n"]))
