"""Where requests may go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.protocol import AllowList, Destination, DestinationRefusedError

PUBLIC = "93.184.216.34"

REFUSED = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.127.255.255", "192.0.2.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
    "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "not an address", "",
]  # fmt: skip
"""Addresses of this machine, of the network it stands in, and of nobody; plain, and hidden in IPv6 addresses."""

HIDING = [
    "2a00:1450:4001:810:0:5efe:a01:203", "2a00:1450:4001:810:200:5efe:a01:203", "2002:a01:203:dead::1",
    "64:ff9b::a01:203",
]  # fmt: skip
"""Addresses in which 10.1.2.3 hides, and to which connections go by IPv6: of ISATAP, 6to4 and NAT64."""


def https(host: str, port: int = 443) -> Destination:
    return Destination("https", host, port)


@pytest.mark.parametrize(
    ("pattern", "destination"),
    [
        ("a.example:443", https("a.example")),
        ("https://A.example:443", https("a.example")),
        ("*.example:443", https("a.example")),
        ("*.example:443", https("b.a.example")),
        ("a.example:*", https("a.example", 9)),
        ("http://a.example:80", Destination("http", "a.example", 80)),
        ("10.0.0.0/8:443", https("10.1.2.3")),
        ("10.1.2.3:443", https("10.1.2.3")),
        ("[fd00::/8]:443", https("fd00::5")),
        ("[::1]:443", https("::1")),
        ("10.1.2.3:443", https("::ffff:10.1.2.3")),
        ("[2a00:1450::/32]:443", https("2a00:1450:4001:810:0:5efe:a01:203")),
        ("[2002:a01::/32]:443", https("2002:a01:203:dead::1")),
        ("[64:ff9b::/96]:443", https("64:ff9b::a01:203")),
    ],
)
def test_what_is_listed_goes_through(pattern: str, destination: Destination) -> None:
    AllowList(["unrelated:1", pattern]).check(destination)


@pytest.mark.parametrize(
    ("pattern", "destination"),
    [
        ("a.example:443", https("b.example")),
        ("a.example:443", https("a.example", 444)),
        ("a.example:443", https("a.example.evil")),
        ("a.example:443", Destination("http", "a.example", 443)),
        ("http://a.example:443", https("a.example")),
        ("*.example:443", https("example")),
        ("*.example:443", https("evilexample")),
        ("*.example:443", https("10.0.0.1")),
        ("10.0.0.0/8:443", https("11.1.2.3")),
        ("10.0.0.0/8:443", https("a.example")),
        ("[::1]:443", https("127.0.0.1")),
        ("[::/0]:443", https("::ffff:10.1.2.3")),
        *((pattern, https(host)) for pattern in ("10.1.0.0/16:443", "0.0.0.0/0:443") for host in HIDING),
    ],
)
def test_what_is_not_listed_does_not(pattern: str, destination: Destination) -> None:
    with pytest.raises(DestinationRefusedError, match="not in the allow-list"):
        AllowList([pattern]).check(destination)


def test_an_empty_list_lets_nothing_through() -> None:
    with pytest.raises(DestinationRefusedError):
        AllowList().check(https("a.example"))


@pytest.mark.parametrize("address", REFUSED)
def test_a_name_leads_nowhere_but_into_the_public_internet(address: str) -> None:
    with pytest.raises(DestinationRefusedError, match="no address"):
        AllowList(["*.example:443", "a.example:*"]).addresses(https("a.example"), [address])


@pytest.mark.parametrize(
    "address", [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_public_addresses_will_do(address: str) -> None:
    assert AllowList(["a.example:443"]).addresses(https("a.example"), [address]) == (address,)


def test_addresses_that_are_listed_will_do_for_their_port() -> None:
    allow = AllowList(["a.example:*", "10.0.0.0/8:443"])
    assert allow.addresses(https("a.example"), ["127.0.0.1", "10.1.1.1", PUBLIC]) == ("10.1.1.1", PUBLIC)
    with pytest.raises(DestinationRefusedError):
        allow.addresses(https("a.example", 444), ["10.1.1.1"])


@pytest.mark.parametrize("address", HIDING)
def test_an_address_that_hides_a_private_one_is_listed_as_what_it_is_and_not_by_what_it_hides(address: str) -> None:
    with pytest.raises(DestinationRefusedError, match="no address"):
        AllowList(["a.example:443", "0.0.0.0/0:443"]).addresses(https("a.example"), [address])
    with pytest.raises(DestinationRefusedError, match="no address"):
        AllowList(["localhost:443"]).addresses(https("localhost"), [address])
    assert AllowList(["a.example:443", f"[{address}]:443"]).addresses(https("a.example"), [address]) == (address,)


def test_localhost_is_not_at_an_address_that_hides_one_of_this_machine() -> None:
    for address in ("64:ff9b::7f00:1", "2002:7f00:1::", "2a00:1450::5efe:7f00:1"):
        with pytest.raises(DestinationRefusedError, match="no address"):
            AllowList(["localhost:443"]).addresses(https("localhost"), [address])
    mapped = "::ffff:127.0.0.1"
    assert AllowList(["localhost:443"]).addresses(https("localhost"), [mapped]) == (mapped,)


def test_a_name_that_resolves_to_nothing_is_refused() -> None:
    with pytest.raises(DestinationRefusedError, match="nothing"):
        AllowList(["a.example:*"]).addresses(https("a.example"), [])


def test_localhost_is_this_machine_and_nothing_else() -> None:
    allow = AllowList(["http://localhost:8080"])
    there = Destination("http", "localhost", 8080)
    allow.check(there)
    assert allow.addresses(there, ["::1", "127.0.0.1", "10.0.0.1", PUBLIC]) == ("::1", "127.0.0.1")
    with pytest.raises(DestinationRefusedError):
        AllowList(["*.example:*", "localhost:1"]).addresses(https("a.example"), ["127.0.0.1"])


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:b",
        "*:443",
        "a*:443",
        "*.:443",
        "a.*:443",
        "ftp://a:1",
        "a b:1",
        "10.0.0.1/8:1",
        "[::1:1",
        "::1:1",
        "a/b:1",
        "1.2.3:1",
        "a..b:1",
    ],
)
def test_what_is_no_pattern_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ValueError, match="none: ") as raised:
        AllowList(["good.example:443", pattern, "bad"])
    assert repr(pattern) in str(raised.value)
    assert "'bad'" in str(raised.value)


@given(st.ip_addresses())
def test_no_name_leads_to_an_address_that_is_not_global(address: object) -> None:
    allow = AllowList(["a.example:443"])
    try:
        allowed = allow.addresses(https("a.example"), [str(address)])
    except DestinationRefusedError:
        return
    assert allowed == (str(address),)
    assert getattr(address, "ipv4_mapped", None) or address.is_global or str(address).startswith(("64:ff9b::", "2002:"))


def test_a_destination_reads_as_a_url() -> None:
    assert [str(https("a")), str(https("::1", 8))] == ["https://a:443", "https://[::1]:8"]


@pytest.mark.parametrize(
    "address",
    [
        "192.0.0.8",
        "192.88.99.1",
        "3fff::1",
        "2001:470:1::5efe:7f00:1",
        "2001:470:1:0:200:5efe:a00:1",
        "8.8.8.8%x",
        "fe80::1%lo",
        "fd00::5efe:808:808",
        "2002:808:808::5efe:a00:1",
        "2002:a00:1::5efe:808:808",
    ],
)
def test_an_address_that_is_kept_for_something_or_hides_another_is_not_public(address: str) -> None:
    allow = AllowList(["hooks.example:443"])
    with pytest.raises(DestinationRefusedError):
        allow.addresses(Destination("https", "hooks.example", 443), [address])


@pytest.mark.parametrize("pattern", ["[::ffff:10.0.0.0/104]:*", "[::ffff:10.0.0.1]:443"])
def test_a_pattern_that_could_never_fit_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="list those themselves"):
        AllowList([pattern])


@pytest.mark.parametrize(
    ("url", "destination", "pattern"),
    [
        ("https://A.example/nexus?a=b#c", https("a.example"), "a.example:443"),
        ("https://a.example.:8443", https("a.example", 8443), "a.example:8443"),
        ("http://a.example", Destination("http", "a.example", 80), "http://a.example:80"),
        ("http://127.0.0.1:1", Destination("http", "127.0.0.1", 1), "http://127.0.0.1:1"),
        ("https://[FD00::1]/", https("fd00::1"), "[fd00::1]:443"),
        ("https://[::ffff:10.0.0.1]/", https("::ffff:10.0.0.1"), "10.0.0.1:443"),
    ],
)
def test_where_a_url_leads_and_the_pattern_that_names_it(url: str, destination: Destination, pattern: str) -> None:
    found = Destination.of(url)
    assert (found, found.pattern) == (destination, pattern)
    AllowList([pattern]).check(found)


@pytest.mark.parametrize(
    "url",
    [
        "", "a.example", "ftp://a.example", "https://", "https://:443", "https://a.example:0", "https://a.example:65536",
        "https://me@a.example", "https://me:secret@a.example", "https://@a.example", "https://[fe80::1%25eth0]/",
        "https://a%2eexample", "https://a .example", "https://\u00e4.example", "https://a.example\\@10.0.0.1", "https://.",
        "https://a.example\n",
    ],
)  # fmt: skip
def test_what_requests_cannot_go_to_is_no_destination(url: str) -> None:
    with pytest.raises(DestinationRefusedError) as refused:
        Destination.of(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "expected a URL, but it is empty"),
        ("temporal://x/secret", "unknown scheme: expected http or https, but got 'temporal://x'"),
        ("a.example/secret", "unknown scheme: expected http or https, but got 'a.example'"),
        ("https:///secret", "missing host: expected one after https://, but got 'https://'"),
        ("https://./secret", "missing host: expected a name or an address, but got 'https://.'"),
        ("https://a.example:99999?secret", "expected a port from 1 to 65535, but got 'https://a.example:99999'"),
        ("https://a.example:http#secret", "expected a port from 1 to 65535, but got 'https://a.example:http'"),
        (
            "https://a.example/a b?secret",
            "expected printable ASCII, .*, but character 20 of 'https://a.example' is none",
        ),
        ("https://[::1/secret", "expected a host, an IPv6 address in brackets, but got 'https://\\[::1'"),
        ("https://a%2eb/secret", "expected a name or an address without a %, but got 'https://a%2eb'"),
        ("https://me:secret@a.example", "expected a URL without a user, but there is an @ before the host"),
        ("https://me:secret/@a.example", "expected a port from 1 to 65535, but got a URL with an @"),
        ("https://me:se cret@a.example", "character 14 of a URL with an @ is none"),
        (f"https://{'a' * 200}:x/secret", "but got 'https://a{92}[.]{3}'"),
    ],
)
def test_why_requests_cannot_go_there_is_told_without_what_may_be_secret(url: str, told: str) -> None:
    with pytest.raises(DestinationRefusedError, match=told) as refused:
        Destination.of(url)
    assert "secret" not in str(refused.value)
