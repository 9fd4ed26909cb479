"""HPACK against RFC 7541's own examples, against another encoder, and against blocks that lie."""

from __future__ import annotations

import hpack as other
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import PeerError
from kubeedge.kit.hpack import BLOCK_BYTES, HpackDecoder, encode

TEXT = st.text(st.characters(max_codepoint=255), max_size=300)
HEADERS = st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=20)


def test_the_examples_of_the_rfc_with_huffman_codes_and_the_dynamic_table() -> None:
    decoder = HpackDecoder()  # C.4.1 to C.4.3
    first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
    assert decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")) == first
    assert decoder.decode(bytes.fromhex("828684be5886a8eb10649cbf")) == [*first, ("cache-control", "no-cache")]
    third = decoder.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))
    assert third[1:3] == [(":scheme", "https"), (":path", "/index.html")] and third[4] == ("custom-key", "custom-value")


@given(st.lists(HEADERS, max_size=5), st.booleans())
def test_what_another_encoder_writes_is_read(blocks: list[list[tuple[str, str]]], huffman: bool) -> None:
    encoder, decoder = other.Encoder(), HpackDecoder()
    for number, headers in enumerate(blocks):
        if number == 2:
            encoder.header_table_size = 100
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        assert decoder.decode(encoder.encode(pairs, huffman=huffman)) == headers


@given(HEADERS)
def test_what_we_write_is_read_by_others(headers: list[tuple[str, str]]) -> None:
    read = other.Decoder().decode(encode(headers), raw=True)
    assert [(name.decode("latin-1"), value.decode("latin-1")) for name, value in read] == headers


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (b"\x80", "no entry 0"),
        (b"\xff\xff\xff\x7f", "no entry"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "does not end"),
        (b"\x3f\xe2\x1f", "4097"),  # a table of 4097 bytes
        (b"\x82\x20", "behind a header"),
        (b"\x00\x05ab", "longer than its block"),
        (b"\x00\x01a", "too early"),
        (b"\x00\x01a\x84\xff\xff\xff\xff", "end of a Huffman code"),
        (b"\x00\x01a\x81\x00", "padding"),
        (b"\x00\x01a\x7f\xff\xff\xff\xff\x0f", "does not end|longer"),
    ],
)
def test_a_block_that_lies_is_refused(block: bytes, said: str) -> None:
    with pytest.raises(PeerError, match=said):
        HpackDecoder().decode(block)


def test_a_small_block_cannot_become_a_large_list() -> None:
    bomb = b"\x40\x01a" + b"\x7f\x81\x1e" + b"x" * 3968 + b"\xbe" * 100_000  # one entry of 4 KiB, told again and again
    with pytest.raises(PeerError, match=f"more than {BLOCK_BYTES}"):
        HpackDecoder().decode(bomb)


@given(st.binary(max_size=200))
def test_noise_is_refused_or_read(block: bytes) -> None:
    try:
        HpackDecoder().decode(block)
    except PeerError:
        pass
