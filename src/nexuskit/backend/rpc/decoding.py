"""Header blocks that come in (RFC 7541).

Huffman's code and the static table are `hpack`'s. Its decoder is not used: it copies the rest of the block for each
field, so that a block of a megabyte takes it half a minute, and it writes every field to a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from nexuskit.backend.rpc.frames import ConnectionFault, ErrorCode

if TYPE_CHECKING:
    from nexuskit.backend.rpc.fields import Field, Fields

FIELD_OVERHEAD = 32
"""What a field counts beside its name and value (section 4.1; RFC 9113, section 6.5.2)."""
TABLE_SIZE = 4096
"""The dynamic table's size at most; we announce no other."""
LONGEST_SHIFT = 28
"""Of a number's last byte: what is longer than 32 bits is no length and no index of anything."""

_NOTHING: Field = (b"", b"")
_STATIC: tuple[Field, ...] = tuple(HeaderTable.STATIC_TABLE)
_FIRST_DYNAMIC = len(_STATIC) + 1


class Decoder:
    """Reads the header blocks of one connection, in their order.

    Args:
        size: what the fields of one block count together at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # As the indexes have it: nothing at 0, then the static table, then the dynamic one with the newest entry first.
        self._table: list[Field] = [_NOTHING, *_STATIC]
        self._used = 0
        self._room = TABLE_SIZE

    def decode(self, block: bytes) -> Fields:
        """The fields of the next block.

        Raises:
            ConnectionFault: it is wrong, or has too much in it. Then the table is not what the peer thinks it is, and
                no later block can be read.
        """
        try:
            return self._decode(block)
        except IndexError:
            raise _wrong("it ends before its end, or names an entry that is not there") from None
        except HPACKError:
            raise _wrong("Huffman's code in it is wrong") from None

    def _decode(self, block: bytes) -> Fields:
        found: list[Field] = []
        size, at, end = 0, 0, len(block)
        while at < end:
            first = block[at]
            if first & 0x80:  # 6.1: a field of the table
                index, at = _number(block, at, 0x7F)
                if index == 0:
                    raise _wrong("there is no entry 0")
                field = self._table[index]
            elif first & 0x40:  # 6.2.1: a field that the table takes
                field, at = self._literal(block, at, 0x3F)
                self._add(field)
            elif first & 0x20:  # 6.3: the table's size
                if found:
                    raise _wrong("the table's size stands behind a field")
                self._room, at = _number(block, at, 0x1F)
                if self._room > TABLE_SIZE:
                    raise _wrong(f"the table has {TABLE_SIZE} bytes at most")
                self._shrink(self._room)
                continue
            else:  # 6.2.2 and 6.2.3: another field
                field, at = self._literal(block, at, 0x0F)
            found.append(field)
            size += len(field[0]) + len(field[1]) + FIELD_OVERHEAD
            if size > self._size:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"more than {self._size} bytes of header fields")
        return tuple(found)

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Field, int]:
        index, at = _number(block, at, mask)
        if index:
            name = self._table[index][0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        self._shrink(self._room - size)
        if size <= self._room:
            self._table.insert(_FIRST_DYNAMIC, field)
            self._used += size

    def _shrink(self, size: int) -> None:
        while self._used > size and len(self._table) > _FIRST_DYNAMIC:
            name, value = self._table.pop()
            self._used -= len(name) + len(value) + FIELD_OVERHEAD


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """A number, the first bits of which are those of `mask`, and where it ends (section 5.1)."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > LONGEST_SHIFT:
            raise _wrong("a number is too long")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string, and where it ends (section 5.2)."""
    coded = block[at] & 0x80
    length, at = _number(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise _wrong("a string ends behind it")
    value = block[at:end]
    return (bytes(decode_huffman(value)) if coded else value), end


def _wrong(why: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"a header block is wrong: {why}")
