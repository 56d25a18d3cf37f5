"""Payloads and memos of a size, to the byte."""

from __future__ import annotations

from temporalio.api.common.v1 import Memo, Payload, Payloads

PAYLOAD_SIZE = 2 * 1024 * 1024
"""The limit of payloads, and of memos."""

_AROUND = 100
"""More bytes than there are around the data."""


def blob(size: int) -> Payloads:
    """Payloads of this size, as they are on the wire."""
    made = Payloads(payloads=[Payload(data=b"x" * (size - _AROUND))])
    made.payloads[0].data += b"x" * (size - made.ByteSize())
    assert made.ByteSize() == size
    return made


def memo(size: int) -> Memo:
    """A memo of this size."""
    made = Memo(fields={"note": Payload(data=b"x" * (size - _AROUND))})
    made.fields["note"].data += b"x" * (size - made.ByteSize())
    assert made.ByteSize() == size
    return made
