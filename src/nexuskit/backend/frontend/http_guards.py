"""What is refused of a request by HTTP for its header alone, whatever door it leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from nexusrpc import HandlerError, HandlerErrorType

from nexuskit.protocol.handling import MAX_QUERY_FIELDS, bad_request
from nexuskit.protocol.headers import LINK, OPERATION_TIMEOUT, OPERATION_TOKEN, REQUEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexuskit.protocol.serving import Scope

_DECIDE = ("nexus-", "temporal-", "content-")
_DECIDE_TOO = frozenset({REQUEST_TIMEOUT, OPERATION_TIMEOUT})
_PARAMETERS = {"callback": "parameter callback", "token": f"header field {OPERATION_TOKEN} or parameter token"}
"""Parameters of a query that decide something, and what a refusal calls them."""
_ORIGINS = (b"same-origin", b"none")
"""What a browser says of a request that is its user's own, or of a page that came from here."""


def framed_twice(scope: Scope) -> bool:
    """Whether two header fields say where the body ends.

    A server before this one may go by the other, and take the rest for another's request (RFC 9112 section 6.3).
    """
    names = {name for name, _ in scope["headers"]}
    return b"content-length" in names and b"transfer-encoding" in names


def check_no_page(scope: Scope) -> None:
    """Browsers let any page send requests to this machine, and say so.

    They say it always by `Origin` (Fetch standard, "Origin header"), and where they trust the address by
    `Sec-Fetch-Site` (W3C, Fetch Metadata Request Headers).

    Raises:
        HandlerError: UNAUTHORIZED, for a page that did not come from here.
    """
    host = next((value.strip().lower() for name, value in scope["headers"] if name == b"host"), b"")
    for name, value in scope["headers"]:
        said = value.strip().lower()
        if name == b"sec-fetch-site" and said not in _ORIGINS:
            raise _other_origin("sec-fetch-site")
        if name == b"origin" and (not host or said.partition(b"://")[2] != host):
            raise _other_origin("origin")


def _other_origin(field: str) -> HandlerError:
    message = f"requests of web pages of other origins are not answered ({field})"
    return HandlerError(message, type=HandlerErrorType.UNAUTHORIZED)


def check_encoding(scope: Scope) -> None:
    """A body is read as it comes: what is compressed would arrive as something else at the handler.

    Raises:
        HandlerError: BAD_REQUEST, for a body that is encoded.
    """
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise bad_request("expected a body without content-encoding, or with identity")


def check_said_once(scope: Scope) -> None:
    """What decides something is said once: of two values, a proxy before this server may have checked the other.

    Raises:
        HandlerError: BAD_REQUEST, for a header field with two values that differ. Links may be many.
    """
    _check_pairs((f"header field {name}", value) for name, value in _fields(scope) if _decides(name))


def check_asked_once(scope: Scope) -> None:
    """The same of the query of a call, which may say the operation's token in place of the header field.

    Raises:
        HandlerError: BAD_REQUEST, for a parameter with two values that differ.
    """
    query = scope.get("query_string", b"").decode("latin-1")
    if not query:
        return
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict")
    except ValueError:
        return  # whoever reads it says what is wrong
    said = [(_PARAMETERS["token"], value) for name, value in _fields(scope) if name == OPERATION_TOKEN]
    _check_pairs(said + [(_PARAMETERS[name], value) for name, value in given if name in _PARAMETERS])


def _fields(scope: Scope) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


def _decides(name: str) -> bool:
    return name != LINK and (name.startswith(_DECIDE) or name in _DECIDE_TOO)


def _check_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for name, value in pairs:
        if seen.setdefault(name, value) != value:
            raise bad_request(f"expected one value of {name}, but got two that differ")
