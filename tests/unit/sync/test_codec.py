"""Sync messages: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.kit.varint import varint
from kubeedge.store.model import MAX_VALUE
from kubeedge.sync import delta
from kubeedge.sync.codec import (
    MAX_BODY,
    MAX_ITEMS,
    Ack,
    Batch,
    End,
    Fetch,
    Fill,
    Item,
    Message,
    Patch,
    Range,
    Ranges,
    Start,
    Want,
    decode,
    encode,
)
from kubeedge.sync.dictionary import KUBERNETES

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
DIGESTS = st.binary(min_size=8, max_size=8)
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
PATCHES = st.builds(Patch, KEYS, DIGESTS, st.binary(max_size=100))
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Fetch, IDS, REVISIONS),
    st.builds(Fetch, IDS, REVISIONS, st.binary(min_size=16, max_size=16)),
    st.builds(Start, IDS, REVISIONS, st.booleans()),
    st.builds(Start, IDS, REVISIONS, st.just(True), st.just(True)),
    st.builds(Batch, REVISIONS, ITEMS),
    st.just(End()),
    st.builds(Ack, REVISIONS),
    st.builds(Ranges, st.lists(st.builds(Range, KEYS, DIGESTS), max_size=30)),
    st.builds(Want, st.lists(st.integers(0, 2**63 - 1), max_size=30)),
    st.builds(Fill, ITEMS.map(lambda items: [item for item in items if item.value is not None])),
)
RICH = MESSAGES | st.builds(
    Batch, REVISIONS, st.tuples(ITEMS, st.lists(PATCHES, max_size=5)).map(lambda two: _named_once([*two[0], *two[1]]))
)


def _named_once(items: list[Item | Patch]) -> list[Item | Patch]:
    return list({item.key: item for item in items}.values())


@given(MESSAGES)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@given(RICH)
def test_a_message_survives_the_wire_between_ends_of_today(message: Message) -> None:
    assert decode(encode(message, rich=True)) == message


@given(st.binary(max_size=200))
def test_garbage_is_a_peer_error_or_a_message(data: bytes) -> None:
    try:
        decode(data)
    except PeerError:
        pass


@given(RICH, st.data())
def test_a_damaged_message_is_a_peer_error_or_another_message(message: Message, data: st.DataObject) -> None:
    wire = bytearray(encode(message, rich=True))
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
    return b"\x03\x01\x01" + varint(says) + body


@pytest.mark.parametrize("says", [0, 1, 1000, MAX_BODY, MAX_BODY + 1, 2**40])
def test_a_bomb_is_refused_before_it_unpacks(says: int) -> None:
    bomb, raw = zlib.compress(bytes(100_000_000), 9), delta.deflate(bytes(100_000_000), KUBERNETES)
    tracemalloc.start()
    try:
        for wire in (
            _compressed(bomb, says),
            *(kind + b"\x01" + varint(says) + raw for kind in (b"\x07\x01", b"\x08", b"\x0a")),
        ):
            with pytest.raises(PeerError):
                decode(wire)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BODY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x06",
        b"\x0b",
        b"\x06\x01a\x05" + bytes(15),  # half a digest
        b"\x07\x01\x00\x01\x07a",  # an item of a kind that there is not
        b"\x07\x01\x00\x01\x06a" + bytes(7),  # a patch without its digest
        b"\x07\x01\x00\x01\x06a" + bytes(8) + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # of 2^63 bytes
        b"\x07\x01\x00\x02\x05a\x05a",  # a key twice
        b"\x07\x01\x02\x00",  # packed by a way that there is not
        b"\x08\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # 2^63 ranges
        b"\x08\x00\x01\x01\xff" + bytes(8),  # not UTF-8
        b"\x09\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x09\x01",
        b"\x0a\x00\x01\x05a",  # a range is filled with a deletion
        b"\x0a\x00\x01\x06a" + bytes(8) + b"\x00",  # with a patch
        b"\x0a\x00\x00\x00",  # bytes after it
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
