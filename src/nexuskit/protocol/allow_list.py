"""Where requests may go that somebody else asked for: completions to a caller's URL, calls to an external endpoint.

A callback's URL is the caller's word. Without a list, whoever may start an operation could make the handler's machine
send requests into the network that it stands in. The list has patterns:

    payments.example.com:443            this name at this port, by https
    *.example.com:443                   every name below example.com, not example.com itself
    http://hooks.example.com:8080       by plain http, which is refused unless it is said
    10.1.0.0/16:8443                    addresses; also what a listed name may resolve to in there
    [fd00::/8]:*                        any port
    [64:ff9b::/96]:443                  an IPv6 address that leads to an IPv4 one is listed as what it is
    localhost:8080                      this machine

A name goes through by a pattern of names. The address that it resolves to must be one of the public internet, or be
listed as an address itself (for that port), so that who can change a name's address (DNS rebinding) gains nothing. A
URL that holds an address must be listed as an address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nexuskit.protocol.errors import DestinationRefusedError
from nexuskit.protocol.paths import http_url_fault, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["AllowList", "Destination", "is_address"]

_PATTERN = re.compile(r"(?:(https?)://)?(\[[0-9A-Fa-f:.]+(?:/[0-9]+)?\]|[^\[\]:\s]+):(\*|[0-9]{1,5})")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

# Addresses in which an IPv4 address hides. The mapped ones (::ffff:0:0/96) are not here: they are that IPv4 address
# itself, written otherwise. To these a connection goes by IPv6, to whoever has that address or is the gateway.
_NAT64 = ip_network("64:ff9b::/96")
_SIX_TO_FOUR = ip_network("2002::/16")
_TEREDO = ip_network("2001::/32")
_ISATAP = 0x00005EFE
"""Stands before the IPv4 address at the end of another (RFC 5214), but for the bit that says it is global."""
_NOT_PUBLIC = (
    ip_network("192.0.0.0/24"),
    ip_network("192.88.99.0/24"),
    ip_network("3fff::/20"),
)
"""Kept for protocols, for what once was 6to4's, and for documents; not every Python knows (RFC 6890, 7526, 9637)."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes: what of a URL the allow-list looks at."""

    scheme: str
    """`https` or `http`."""
    host: str
    """A name in lower case, or an address without brackets."""
    port: int
    """The port, with the scheme's default filled in."""

    @classmethod
    def of(cls, url: str) -> Destination:
        """Where a request to a URL goes.

        Raises:
            DestinationRefusedError: requests cannot go there: it has another scheme, no host, a user, or is no URL. The
                message says which, and nothing of what may be a secret.
        """
        if fault := http_url_fault(url):
            raise DestinationRefusedError(fault)
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        if "@" in parts.netloc:
            raise DestinationRefusedError("expected a URL without a user, but there is an @ before the host")
        if not host:
            raise DestinationRefusedError(f"missing host: expected a name or an address, but got {shown_url(url)}")
        if "%" in host:
            raise DestinationRefusedError(f"expected a name or an address without a %, but got {shown_url(url)}")
        return cls(parts.scheme, host, parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def pattern(self) -> str:
        """The pattern of an allow-list that lets requests go there and nowhere else."""
        plain = Destination(self.scheme, str(_address(self.host) or self.host), self.port)
        return str(plain).removeprefix("https://")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Pattern:
    secure: bool
    name: str
    network: IPv4Network | IPv6Network | None
    port: int | None

    def fits(self, destination: Destination) -> bool:
        if self.port not in {None, destination.port} or self.secure != (destination.scheme == "https"):
            return False
        if self.network is not None:
            address = _address(destination.host)
            return address is not None and address in self.network
        if self.name.startswith("*."):
            return destination.host.endswith(self.name[1:])
        return destination.host == self.name


class AllowList:
    """The hosts, ports and addresses that requests may go to. Empty, it lets none go anywhere.

    Args:
        patterns: as described in this module.

    Raises:
        ValueError: one of them is no pattern; the message names all that are none.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns = tuple(patterns)
        """As they were given."""
        faults: list[str] = []
        self._patterns: list[_Pattern] = []
        for pattern in self.patterns:
            try:
                self._patterns.append(_parsed(pattern))
            except ValueError as error:
                faults.append(f"{pattern!r}: {error}")
        if faults:
            raise ValueError(
                "the allow-list has patterns of the form host:port, *.domain:port or network:port, each with http:// "
                f"before it if plain http is meant; these are none: {'; '.join(faults)}"
            )

    def check(self, destination: Destination) -> None:
        """Refuses a destination that no pattern names. The address behind a name is another question: `addresses`.

        Raises:
            DestinationRefusedError: no pattern fits.
        """
        if not any(pattern.fits(destination) for pattern in self._patterns):
            raise DestinationRefusedError(f"{destination} is not in the allow-list")

    def addresses(self, destination: Destination, resolved: Iterable[str]) -> tuple[str, ...]:
        """Those addresses of a destination that requests may go to, in their order.

        Args:
            destination: what was checked.
            resolved: the addresses of its host, from one look at its name.

        Raises:
            DestinationRefusedError: there is none among them that is public or listed.
        """
        found = tuple(resolved)
        allowed = tuple(text for text in found if self._allows(destination, text))
        if not allowed:
            raise DestinationRefusedError(
                f"{destination} has no address that requests may go to: it resolves to {', '.join(found) or 'nothing'}"
                ", and what is not public must be in the allow-list itself"
            )
        return allowed

    def _allows(self, destination: Destination, text: str) -> bool:
        address = _address(text)
        if address is None:
            return False
        if destination.host == "localhost":
            return any(address in network for network in _LOOPBACK)
        if _public(address):
            return True
        return any(
            pattern.network is not None and address in pattern.network and pattern.port in {None, destination.port}
            for pattern in self._patterns
        )


def is_address(host: str) -> bool:
    """Whether the host of a URL is an address in its usual form; everything else is a name, and looked up."""
    return _address(host) is not None


def _parsed(pattern: str) -> _Pattern:
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError("no host and port")
    scheme, host, port = found.groups()
    number = None if port == "*" else int(port)
    if number is not None and not 0 < number < 65536:
        raise ValueError("no such port")
    network: IPv4Network | IPv6Network | None = None
    bare = host.strip("[]").lower()
    if host.startswith("[") or re.fullmatch(r"[0-9.]+(/[0-9]+)?", bare):
        network = ip_network(bare)
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
            raise ValueError("an IPv6 form of IPv4 addresses; list those themselves")
    elif not _NAME.fullmatch(bare) or bare == "*":
        raise ValueError("no name; a * stands for the first labels of one")
    return _Pattern(scheme != "http", bare, network, number)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is in its usual form, and nothing else is: an address with a zone is none here.

    An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`) is that IPv4 address: it is the same host.
    """
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _hidden(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address may lead to."""
    number = int(address)
    found: list[IPv4Address] = []
    if address in _SIX_TO_FOUR:
        found.append(IPv4Address((number >> 80) & 0xFFFFFFFF))
    if (number >> 32) & 0xFDFFFFFF == _ISATAP:
        found.append(IPv4Address(number & 0xFFFFFFFF))
    return found


def _public(address: IPv4Address | IPv6Address) -> bool:
    # is_global leaves out private, loopback, link-local, carrier (100.64.0.0/10), documentation and reserved ranges.
    if address in _NAT64:
        return _public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.is_multicast or address.is_reserved or address.is_unspecified or address in _TEREDO:
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if isinstance(address, IPv6Address):
        if address.is_site_local or address in _DEPRECATED_COMPATIBLE:
            return False
        # What it hides is asked as well, and not instead: a private network's own address may hide a public one.
        if not all(map(_public, _hidden(address))):
            return False
    return address.is_global


_DEPRECATED_COMPATIBLE = ip_network("::/96")
"""Addresses that end in an IPv4 address (RFC 4291 section 2.5.5.1); nothing public is in there."""
