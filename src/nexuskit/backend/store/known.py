"""Which workflow ids have ever run: a filter in memory that spares most starts a look at the disk.

Most starts are of a new id, and a look at the disk says no more than that. A Bloom filter knows it without: it may take
a new id for one that ran, and then the disk is asked, but never the other way round.
"""

from __future__ import annotations

import hashlib
import struct

BITS = 1 << 24
"""2 MiB: at a million ids one start in four hundred looks at the disk in vain."""
HASHES = 4


class KnownIds:
    """The workflow ids that ran, or that may have."""

    def __init__(self) -> None:
        self._bits = bytearray(BITS // 8)
        self.complete = False
        """Whether all ids on disk are in here; until then any id may have run."""

    def add(self, namespace: str, workflow_id: str) -> None:
        """A workflow of that id ran, or is about to."""
        for place in _places(namespace, workflow_id):
            self._bits[place >> 3] |= 1 << (place & 7)

    def may_have_run(self, namespace: str, workflow_id: str) -> bool:
        """False only if no workflow of that id ever ran."""
        if not self.complete:
            return True
        return all(self._bits[place >> 3] & 1 << (place & 7) for place in _places(namespace, workflow_id))


def _places(namespace: str, workflow_id: str) -> list[int]:
    digest = hashlib.blake2b(f"{namespace}\0{workflow_id}".encode(), digest_size=4 * HASHES).digest()
    return [each & (BITS - 1) for each in struct.unpack(f"<{HASHES}I", digest)]
