"""Sync messages: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.store.model import MAX_VALUE
from kubeedge.sync.codec import MAX_BODY, MAX_ITEMS, Ack, Batch, End, Fetch, Item, Message, Start, decode, encode

REVISIONS = st.integers(0, 2**63 - 1).map(Revision)
IDS = st.text("0123456789abcdef", max_size=64)
ITEMS = st.lists(
    st.builds(
        Item,
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
        st.none() | st.binary(max_size=300) | st.integers(0, 3000).map(bytes),
    ),
    max_size=20,
    unique_by=lambda item: item.key,
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Fetch, IDS, REVISIONS),
    st.builds(Start, IDS, REVISIONS, st.booleans()),
    st.builds(Batch, REVISIONS, ITEMS),
    st.just(End()),
    st.builds(Ack, REVISIONS),
)


@given(MESSAGES)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_garbage_is_a_peer_error_or_a_message(data: bytes) -> None:
    try:
        decode(data)
    except PeerError:
        pass


@given(MESSAGES, st.data())
def test_a_damaged_message_is_a_peer_error_or_another_message(message: Message, data: st.DataObject) -> None:
    wire = bytearray(encode(message))
    where = data.draw(st.integers(0, len(wire) - 1))
    wire[where] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(wire), bytes(wire[:where])):
        try:
            decode(damaged)
        except PeerError:
            pass


def test_a_batch_on_the_wire_is_as_the_document_says() -> None:
    batch = Batch(Revision(300), [Item("pods/a", b"xyz"), Item("é", None)])
    assert encode(batch) == b"\x03\xac\x02\x00" + b"\x02" + b"\x0cpods/a\x03xyz" + b"\x05\xc3\xa9"
    assert encode(Fetch("ab", Revision(5))) == b"\x01\x02ab\x05"


@pytest.mark.parametrize("length", [200, 16_383, 16_384, 16_385, 65_536, 262_144, MAX_VALUE])
def test_a_body_that_compresses_well_comes_back_whole(length: int) -> None:
    for value in (bytes(length), (b"abcdefgh" * (length // 8 + 1))[:length]):
        batch = Batch(Revision(1), [Item("k", value)])
        assert len(encode(batch)) < length and decode(encode(batch)) == batch


def _compressed(body: bytes, says: int) -> bytes:
    length = bytearray()
    while says > 0x7F:
        length.append(says & 0x7F | 0x80)
        says >>= 7
    length.append(says)
    return b"\x03\x01\x01" + bytes(length) + body


@pytest.mark.parametrize("says", [0, 1, 1000, MAX_BODY, MAX_BODY + 1, 2**40])
def test_a_bomb_is_refused_before_it_unpacks(says: int) -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(PeerError):
            decode(_compressed(bomb, says))
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BODY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x06",
        b"\x04\x00",  # bytes after END
        b"\x05" + b"\xff" * 9 + b"\x01",  # 64 bits
        b"\x05" + b"\x80" * 11,
        b"\x01\x41" + b"a" * 65 + b"\x00",  # identity too long
        b"\x01\x02\xff\xff\x00",  # not ASCII
        b"\x02\x01a\x01\x03",  # mode 3
        b"\x03\x01\x00\xff\xff\xff\xff\x07",  # four billion items
        b"\x03\x01\x00\x01\x82\x10",  # a key of 1025 bytes
        b"\x03\x01\x00\x01\x02\xff\x00",  # key is not UTF-8
        b"\x03\x01\x00\x01\x02a\xff\xff\xff\xff\x07",  # a value of 2 GiB
        b"\x03\x01\x00\x02\x03a\x03a",  # a key twice
        b"\x03\x01\x01\x05\x00\x00",  # not zlib
        _compressed(zlib.compress(b"\x00") + b"more", 1),
        _compressed(zlib.compress(b"\x00")[:-1], 1),
        _compressed(zlib.compress(b"\x00"), 2),
    ],
)
def test_what_breaks_a_rule_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        decode(data)


def test_a_batch_of_more_items_than_a_transaction_takes_is_refused() -> None:
    fits = Batch(Revision(1), [Item(f"{n}", None) for n in range(MAX_ITEMS)])
    assert decode(encode(fits)) == fits
    with pytest.raises(PeerError):
        decode(encode(Batch(Revision(1), [*fits.items, Item("one more", None)])))
