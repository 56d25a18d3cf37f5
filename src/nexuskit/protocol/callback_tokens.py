"""Tokens that say: this completion belongs to a call that was made here.

Specification: Callback URLs, Security ("callers may embed a signed token"). Here it travels as the header field
`Nexus-Callback-Token`, which comes back as `Token`: URLs end up in logs, header fields do not.

A token is the name of the waiting call and the second at which the token ends, signed by HMAC-SHA256.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from base64 import b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["CallbackSigner", "InvalidTokenError"]

MIN_KEY = 32
"""Bytes of a key: the length of what HMAC-SHA256 gives, below which the key is the weaker part."""

MAX_TOKEN = 1024
"""Characters of a token that is worth a look; ours have about 150."""

_PURPOSE = b"nexuskit callback token 1\0"
"""Signed along, so that what another part of a program signs with the same key is no token."""


class InvalidTokenError(Exception):
    """A token that was not made with one of the keys, or has ended."""


class CallbackSigner:
    """Makes tokens and verifies them.

    Args:
        keys: of at least 32 random bytes each. The first makes tokens; all verify them, so that a key can be replaced
            while calls wait.

    Raises:
        ValueError: there is no key, or one is too short.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < MIN_KEY for key in keys):
            raise ValueError(
                f"callback tokens are signed with keys of at least {MIN_KEY} bytes, such as os.urandom(32)"
            )
        self._keys = tuple(keys)

    def sign(self, name: str, expires: datetime) -> str:
        """A token for the waiting call of that name, which ends at a time (the whole second after it)."""
        claim = f"{math.ceil(expires.timestamp())}.{name}".encode()
        return f"{_text(claim)}.{_text(_signature(self._keys[0], claim))}"

    def verify(self, token: str, now: datetime) -> str:
        """The name of the waiting call that a token was made for.

        Raises:
            InvalidTokenError: it was not made with one of the keys, or has ended.
        """
        claim, _, signature = token.partition(".")
        if len(token) > MAX_TOKEN or not signature:
            raise InvalidTokenError("the token is none of ours")
        try:
            claimed, signed = _bytes(claim), _bytes(signature)
        except ValueError:
            raise InvalidTokenError("the token is none of ours") from None
        # Every key is tried, so that the time it takes does not tell which one fits.
        fitting = [hmac.compare_digest(_signature(key, claimed), signed) for key in self._keys]
        if not any(fitting):
            raise InvalidTokenError("the token is none of ours")
        expires, _, name = claimed.decode().partition(".")
        if int(expires) <= now.timestamp():
            raise InvalidTokenError("the token has ended")
        return name


def _signature(key: bytes, claim: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + claim, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    if text.endswith("="):
        raise ValueError("ours are not padded")
    # Strictly: else a token could be written in many ways.
    decoded = b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(decoded) != text:
        raise ValueError("not as we write it")
    return decoded
