"""Requests out: one request, one answer, within limits; and a transport that goes only where an allow-list says.

`exchange` sends an `HttpRequest` by an httpx client and reads the `HttpResponse`: no redirects, a cap on the answer,
one deadline over the whole. `guarded_client` makes a client that

- checks host and port against an `AllowList` before anything is looked up or sent;
- looks the host's name up once, and connects to an address that came from that one look (the name stays in the TLS
  handshake, the certificate check and the Host field), so that a name cannot change its address in between;
- keeps no connection for another request: one that was verified for a host is not used for another at the same address;
- takes no proxy and no credentials from the environment.

This module does I/O. Nothing of it depends on a web framework.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import httpx

from nexuskit.protocol.allow_list import AllowList, Destination, is_address
from nexuskit.protocol.errors import (
    DestinationRefusedError,
    LocalProtocolError,
    RequestTimedOutError,
    ResponseTooLargeError,
    TransportError,
)
from nexuskit.protocol.paths import shown_url
from nexuskit.protocol.values import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = [
    "MAX_RESPONSE_BYTES",
    "GuardedTransport",
    "Resolver",
    "certificates",
    "exchange",
    "guarded_client",
    "resolve",
]

MAX_RESPONSE_BYTES = 2 * 1024 * 1024
"""Bytes of an answer's body: what a Temporal server lets a payload have."""

MAX_PORT = 65_535

MAX_ADDRESSES = 4
"""Addresses of a name that are tried one after the other; more only make a dead host's callers wait."""

_BROKEN: dict[type[httpx.HTTPError], str] = {
    httpx.ConnectError: "no connection could be made",
    httpx.WriteError: "the connection was closed or reset before the request was sent",
    httpx.ReadError: "the connection was closed or reset before the answer was complete",
}
"""What happened, where the error itself does not say it."""

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Looks a name up: host and port in, addresses out, best first."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Looks a name up as the system does.

    Raises:
        TransportError: there is no such name, or nobody who knows.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TransportError(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedTransport(httpx.AsyncBaseTransport):
    """An httpx transport that goes only where an allow-list says, to an address that was looked up once.

    Args:
        allow: where requests may go.
        resolver: looks names up; the system's by default.
        verify: how certificates are checked; the system's way by default.
    """

    def __init__(self, allow: AllowList, *, resolver: Resolver = resolve, verify: ssl.SSLContext | bool = True) -> None:
        self._allow = allow
        self._resolve = resolver
        self._inner = httpx.AsyncHTTPTransport(
            verify=_certificates() if verify is True else verify,
            trust_env=False,
            retries=0,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request.

        Raises:
            DestinationRefusedError: the allow-list has no place for it.
            TransportError: the name cannot be resolved.
        """
        url = request.url
        if url.scheme not in {"http", "https"}:
            raise DestinationRefusedError(f"unknown scheme: expected http or https, but got {url.scheme!r}")
        if url.userinfo:
            raise DestinationRefusedError("expected a URL without a user, but there is an @ before the host")
        host = url.raw_host.decode("ascii").strip("[]").rstrip(".").lower()
        if "%" in host:
            raise DestinationRefusedError(f"expected a name or an address without a %, but got {host!r}")
        if (url.port or 0) > MAX_PORT:
            raise DestinationRefusedError(f"expected a port up to {MAX_PORT}, but got {url.port}")
        destination = Destination(url.scheme, host, url.port or (443 if url.scheme == "https" else 80))
        self._allow.check(destination)
        resolved = [host] if is_address(host) else await self._resolve(host, destination.port)
        addresses = self._allow.addresses(destination, resolved)[:MAX_ADDRESSES]
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_pinned(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent; the name's next address may be reachable
        return await self._inner.handle_async_request(_pinned(request, host, addresses[-1]))

    async def aclose(self) -> None:
        """Closes what is open."""
        await self._inner.aclose()


def guarded_client(
    allow: AllowList, *, resolver: Resolver = resolve, verify: ssl.SSLContext | bool = True
) -> httpx.AsyncClient:
    """An httpx client that goes only where an allow-list says; to be closed by whoever made it.

    Args:
        allow: where requests may go.
        resolver: looks names up; the system's by default.
        verify: how certificates are checked; the system's way by default.
    """
    transport = GuardedTransport(allow, resolver=resolver, verify=verify)
    return httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)


async def exchange(
    client: httpx.AsyncClient,
    request: HttpRequest,
    *,
    timeout: timedelta,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
) -> HttpResponse:
    """Sends a request and reads its answer.

    Args:
        client: sends it. Redirects are not followed, whatever its settings.
        request: its target is a whole URL.
        timeout: for everything, from the look at the name to the last byte of the answer.
        max_response_bytes: of the answer's body, as it travels.

    Raises:
        TransportError: there was no answer, or (RequestTimedOutError) none in time.
        ResponseTooLargeError: the answer is longer than that.
        DestinationRefusedError: the client's allow-list has no place for it.
        LocalProtocolError: the URL is none.
    """
    try:
        # An answer as it is: unpacking would let a small one become a large one.
        outgoing = client.build_request(
            request.method,
            request.target,
            headers=[(b"accept-encoding", b"identity"), *_wire(request)],
            content=request.body,
            timeout=timeout.total_seconds(),
        )
        async with asyncio.timeout(timeout.total_seconds()):
            answer = await client.send(outgoing, stream=True, follow_redirects=False)
            try:
                body = await _body(answer, max_response_bytes)
            finally:
                await answer.aclose()
    except (TimeoutError, httpx.TimeoutException) as error:
        within = round(timeout.total_seconds(), 3)
        raise RequestTimedOutError(f"no answer from {_origin(request)} within {within:g} s") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:  # the last: a name that IDNA refuses
        said = f"{shown_url(request.target)} is no URL that requests can be sent to: {error}"
        raise LocalProtocolError(said) from error
    except httpx.HTTPError as error:
        why = str(error) or _BROKEN.get(type(error)) or type(error).__name__
        raise TransportError(f"no answer from {_origin(request)}: {why}") from error
    headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in answer.headers.raw)
    return HttpResponse(answer.status_code, headers, body)


def certificates(ca_file: str = "") -> ssl.SSLContext:
    """How certificates are checked: by the usual authorities, and those of a PEM file. Takes tens of milliseconds.

    Raises:
        OSError: the file cannot be read, or holds no certificate.
    """
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


@functools.cache
def _certificates() -> ssl.SSLContext:
    """How certificates are checked by default. Made once: reading all the authorities takes tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


async def _body(answer: httpx.Response, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.aiter_raw():
        size += len(chunk)
        if size > limit:
            raise ResponseTooLargeError(f"expected an answer of at most {limit} bytes, but got more")
        chunks.append(chunk)
    return b"".join(chunks)


def _pinned(request: httpx.Request, host: str, address: str) -> httpx.Request:
    """The request, to an address; its Host field has the name already."""
    extensions = dict(request.extensions)
    if host != address:
        extensions["sni_hostname"] = host
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )


def _wire(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """Header fields as bytes: as text, httpx would take ASCII alone."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]


def _origin(request: HttpRequest) -> str:
    """Scheme, host and port: the path may hold what is nobody's business in a log, the query certainly does."""
    url = httpx.URL(request.target)
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"
