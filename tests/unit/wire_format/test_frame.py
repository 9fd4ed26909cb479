"""Frames, wherever the stream is cut; golden bytes that a dissector can be written from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Misuse, PeerError
from kubeedge.wire_format.frame import (
    CONTROL,
    MAX_CONTROL_BYTES,
    MAX_PACKET_BYTES,
    MAX_SEGMENT_BYTES,
    MAX_SKIPPED,
    PACKET,
    SEGMENT,
    Decoder,
    Frame,
    decode_segment,
    encode,
    encode_segment,
)

frames = st.one_of(
    st.builds(Frame, st.just(CONTROL), st.binary(max_size=300)),
    st.builds(Frame, st.just(PACKET), st.binary(min_size=30, max_size=300)),
    st.builds(Frame, st.just(SEGMENT), st.binary(min_size=8, max_size=300)),
    st.builds(Frame, st.integers(128, 255), st.binary(max_size=300)),
)


def decode(decoder: Decoder, *pieces: bytes) -> list[Frame]:
    out = []
    for piece in pieces:
        decoder.receive_data(piece)
        while frame := decoder.maybe_next_frame():
            out.append(frame)
    return out


def test_the_bytes_of_each_kind() -> None:
    assert encode(CONTROL, b"{}").hex() == "010000027b7d"
    assert encode(SEGMENT, encode_segment(2, 1, b"!")).hex() == "03000009000000020000000121"
    assert encode(PACKET, bytes(10) + b"E" * 20).hex() == "0200001e" + "00" * 10 + "45" * 20
    assert decode_segment(bytes.fromhex("000000020000000121")) == (2, 1, b"!")


@pytest.mark.parametrize(
    ("kind", "size"), [(CONTROL, MAX_CONTROL_BYTES), (PACKET, MAX_PACKET_BYTES), (SEGMENT, MAX_SEGMENT_BYTES)]
)
def test_the_largest_frame_of_a_kind_passes_and_one_byte_more_closes_the_link(kind: int, size: int) -> None:
    assert decode(Decoder(), encode(kind, bytes(size))) == [Frame(kind, bytes(size))]
    with pytest.raises(Misuse, match=str(size + 1)):
        encode(kind, bytes(size + 1))
    with pytest.raises(PeerError, match=f"frame of kind {kind} with {size + 1} bytes"):
        decode(Decoder(), (kind << 24 | size + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("kind", "size"), [(0, 0), (4, 1), (127, 5), (PACKET, 29), (SEGMENT, 7), (128, MAX_SKIPPED + 1)]
)
def test_what_cannot_be_closes_the_link(kind: int, size: int) -> None:
    decoder = Decoder()
    with pytest.raises(PeerError, match=f"frame of kind {kind} with {size} bytes"):
        decode(decoder, (kind << 24 | size).to_bytes(4, "big") + bytes(size))
    with pytest.raises(PeerError):  # and there is no way back
        decode(decoder, encode(CONTROL, b"{}"))


@given(st.lists(frames, max_size=8), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode(f.kind, f.payload) for f in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    decoder = Decoder()
    assert decode(decoder, *pieces) == [f for f in sent if f.kind < 128]
    assert decoder.idle


@given(st.lists(frames, max_size=4), st.binary(min_size=4, max_size=200))
def test_garbage_after_frames_does_not_take_them_back(sent: list[Frame], garbage: bytes) -> None:
    decoder, got = Decoder(), []
    decoder.receive_data(b"".join(encode(f.kind, f.payload) for f in sent) + b"\x7f" + garbage)
    with pytest.raises(PeerError):
        while frame := decoder.maybe_next_frame():
            got.append(frame)
    assert got == [f for f in sent if f.kind < 128]


@given(st.lists(st.binary(max_size=70), max_size=20))
def test_garbage_shaped_like_frames_never_breaks_the_decoder(pieces: list[bytes]) -> None:
    decoder = Decoder()
    for piece in pieces:
        decoder.receive_data(piece)
        try:
            while frame := decoder.maybe_next_frame():
                assert frame.kind in (CONTROL, PACKET, SEGMENT)
        except PeerError:
            return


def test_a_skipped_frame_takes_no_memory() -> None:
    decoder = Decoder()
    decoder.receive_data((200 << 24 | MAX_SKIPPED).to_bytes(4, "big"))
    for _ in range(MAX_SKIPPED // 1024):
        assert decoder.maybe_next_frame() is None
        assert len(decoder._buffer) <= 1024
        decoder.receive_data(bytes(1024))
    assert decode(decoder, encode(CONTROL, b"x")) == [Frame(CONTROL, b"x")]
