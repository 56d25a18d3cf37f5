"""Header blocks that come in are read as another implementation writes them, and nothing in one costs much."""

from __future__ import annotations

import pytest
from hpack import Decoder as Other
from hpack import Encoder, HPACKError, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from nexuskit.backend.rpc.decoding import TABLE_SIZE, Decoder
from nexuskit.backend.rpc.frames import ConnectionFault, ErrorCode

SIZE = 100_000
NAMES = st.sampled_from([b":path", b":method", b"te", b"x-own", b"y" * 200]) | st.binary(max_size=20)
VALUES = st.sampled_from([b"", b"POST", b"/", b"v" * 1500, b"v" * 5000]) | st.binary(max_size=40)
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=6)
BLOCKS = st.lists(st.tuples(FIELDS, st.booleans(), st.none() | st.integers(0, TABLE_SIZE)), max_size=6)


@given(BLOCKS)
@settings(max_examples=50)
def test_what_another_wrote_is_read(blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]]) -> None:
    encoder, decoder = Encoder(), Decoder(SIZE)
    for fields, huffman, table_size in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        given_ = [NeverIndexedHeaderTuple(n, v) if never else (n, v) for n, v, never in fields]
        assert decoder.decode(encoder.encode(given_, huffman=huffman)) == tuple((n, v) for n, v, _ in fields)


@given(
    st.lists(
        st.binary(max_size=60) | st.lists(st.sampled_from(b"\x20\x3f\xe1\x1f\x40\x41a\x82\xbe\x00\x7f\xff")).map(bytes)
    )
)
@settings(max_examples=150)
def test_any_bytes_are_read_as_another_reads_them(blocks: list[bytes]) -> None:
    decoder, other = Decoder(SIZE), Other(SIZE)
    for block in blocks:
        try:
            expected = [(bytes(name), bytes(value)) for name, value in other.decode(block, raw=True)]
        except HPACKError:
            with pytest.raises(ConnectionFault) as raised:
                decoder.decode(block)
            assert raised.value.code is ErrorCode.COMPRESSION_ERROR
            return
        assert decoder.decode(block) == tuple(expected)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\x80", id="entry 0"),
        pytest.param(b"\xbe", id="an entry that is not there"),
        pytest.param(b"\x7e\x01a", id="a name that is not there"),
        pytest.param(b"\xff", id="a number without its end"),
        pytest.param(b"\xff" * 20, id="a number too long"),
        pytest.param(b"\x00", id="no name"),
        pytest.param(b"\x00\x05ab", id="a name that is cut off"),
        pytest.param(b"\x04", id="no value"),
        pytest.param(b"\x04\x02a", id="a value that is cut off"),
        pytest.param(b"\x04\x81\x00", id="padding of zeros"),
        pytest.param(b"\x04\x84\xff\xff\xff\xff", id="the end of Huffman's code"),
        pytest.param(b"\x82\x20", id="a table size behind a field"),
        pytest.param(b"\x3f\xe2\x1f", id="a table larger than ours"),
    ],
)
def test_what_is_wrong_is_refused(block: bytes) -> None:
    with pytest.raises(ConnectionFault) as raised:
        Decoder(SIZE).decode(block)
    assert raised.value.code is ErrorCode.COMPRESSION_ERROR


def test_what_is_too_much_is_not_read_to_its_end() -> None:
    # Each field that a byte names counts 4096 bytes.
    table = Encoder().encode([(b"n", b"v" * (TABLE_SIZE - 33))], huffman=False)
    decoder = Decoder(10 * TABLE_SIZE)
    assert len(decoder.decode(table)) == 1
    assert len(decoder.decode(b"\xbe" * 10)) == 10
    with pytest.raises(ConnectionFault) as raised:
        decoder.decode(b"\xbe" * 11 + b"\x80")
    assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_field_larger_than_the_table_empties_it() -> None:
    encoder, decoder = Encoder(), Decoder(SIZE)
    decoder.decode(encoder.encode([(b"a", b"b")], huffman=False))
    decoder.decode(b"\x40\x01n\x7f\xe1\x1f" + b"v" * 4192)
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe")
