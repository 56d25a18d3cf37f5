"""Where randomness comes from: one object that is handed to whoever needs an id or jitter, and can be seeded."""

from __future__ import annotations

import random
import secrets
import uuid


class Draw:
    """Ids and jitter. Every random thing of the backend comes from one of these; with a seed it repeats itself."""

    def __init__(self, seed: int | None = None) -> None:
        # Ids are names, not secrets (keys come from `key`), so a fast generator seeded by the system is enough.
        self._seeded = seed is not None
        self._random = random.Random(secrets.randbits(128) if seed is None else seed)

    def uuid(self) -> str:
        """A random UUID (version 4), as text."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def run_id(self, now: int) -> str:
        """A UUID of version 7 for the moment `now` (ns): runs made one after another lie together in an index."""
        value = (now // 1_000_000 & (1 << 48) - 1) << 80 | 0x7 << 76 | self._random.getrandbits(12) << 64
        return str(uuid.UUID(int=value | 0b10 << 62 | self._random.getrandbits(62)))

    def jitter(self, span: int, share: float = 0.2) -> int:
        """`span` (ns) less a random part of at most `share` of it, so that retries do not come in step."""
        return span - int(span * share * self._random.random())

    def key(self) -> bytes:
        """32 secret bytes for a signing key."""
        return self._random.randbytes(32) if self._seeded else secrets.token_bytes(32)
