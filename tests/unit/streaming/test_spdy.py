"""The frames of SPDY/3.1: two cores against each other, in pieces of any size; and what hostile clients send."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import PeerError
from kubeedge.streaming.spdy import (
    CONTROL_BYTES,
    DataReceived,
    Spdy,
    SpdyEvent,
    StreamEnded,
    StreamOpened,
    StreamReplied,
    StreamReset,
    WentAway,
)
from kubeedge.streaming.spdy_headers import DICTIONARY, HEADER_BYTES, HeaderDecoder, HeaderEncoder


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload


def joined(events: list[SpdyEvent]) -> list[SpdyEvent]:
    """Neighbouring pieces of one stream's data as one."""
    whole: list[SpdyEvent] = []
    for event in events:
        last = whole[-1] if whole else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived) and last.stream == event.stream:
            whole[-1] = DataReceived(event.stream, last.data + event.data)
        else:
            whole.append(event)
    return whole


def refused(data: bytes) -> Spdy:
    server = Spdy()
    with pytest.raises(PeerError):
        server.receive_data(data)
    assert server.data_to_send()[-16:-8] == struct.pack(">HHI", 0x8003, 7, 8)  # a GOAWAY says why
    with pytest.raises(PeerError):
        server.receive_data(b"")
    return server


def test_the_dictionary_is_the_one_of_the_draft() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_two_ends_understand_each_other() -> None:
    client, server = Spdy(client=True), Spdy()
    stream = client.open({"streamType": "data", "port": "80"})
    client.send(stream, b"hello")
    client.end(stream)
    client.send(stream, b"behind the end")
    events = joined(server.receive_data(client.data_to_send()))
    assert events == [
        StreamOpened(1, {"streamtype": "data", "port": "80"}),
        DataReceived(1, b"hello"),
        StreamEnded(1),
    ]
    server.reply(1)
    server.send(1, b"world")
    server.end(1)
    assert joined(client.receive_data(server.data_to_send())) == [
        StreamReplied(1, {}),
        DataReceived(1, b"world"),
        StreamEnded(1),
    ]
    assert client.streams == server.streams == 0
    client.go_away()
    assert server.receive_data(client.data_to_send()) == [WentAway()]


def test_a_reset_ends_both_directions_and_late_data_is_nothing() -> None:
    client, server = Spdy(client=True), Spdy()
    stream = client.open({"a": "b"})
    server.receive_data(client.data_to_send())
    server.reset(stream)
    client.send(stream, b"late")
    late = client.data_to_send()
    assert client.receive_data(server.data_to_send()) == [StreamReset(stream, 5)]
    assert server.receive_data(late) == [] and server.streams == client.streams == 0


def test_a_ping_comes_back_and_ours_are_not_echoed() -> None:
    server = Spdy()
    ping = control(6, struct.pack(">I", 7))
    assert server.receive_data(ping + control(6, struct.pack(">I", 8))) == []
    assert server.data_to_send() == ping


def test_streams_beyond_the_limit_are_refused_and_the_headers_of_later_ones_understood() -> None:
    client, server = Spdy(client=True), Spdy(streams=2)
    for n in range(3):
        client.open({"n": str(n)})
    assert len(server.receive_data(client.data_to_send())) == 2
    assert client.receive_data(server.data_to_send()) == [StreamReset(5, 3)]
    client.reset(1)
    fourth = client.open({"n": "3"})
    assert server.receive_data(client.data_to_send()) == [StreamReset(1, 5), StreamOpened(fourth, {"n": "3"})]


@pytest.mark.parametrize(
    "hostile",
    [
        control(3, b"\0" * 7),
        control(6, b"\0" * 8),
        control(7, b""),
        control(1, b"\0" * 9),
        control(2, b"\0"),
        control(1, b"\0" * 200),  # a header block that zlib does not know
        struct.pack(">HHI", 0x8002, 1, 0),  # another version
        struct.pack(">HHI", 0x8003, 1, CONTROL_BYTES + 1),
        struct.pack(">HHI", 0x8003, 99, 0xFFFFFF),
        struct.pack(">II", 0, 1) + b"x",
        struct.pack(">II", 9, 1) + b"x",  # of a stream that was not opened
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(hostile: bytes) -> None:
    refused(hostile)


def syn(stream: int, headers: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    block = packer.compress(headers) + packer.flush(zlib.Z_SYNC_FLUSH)
    return control(1, struct.pack(">IIBB", stream, 0, 0, 0) + block)


@pytest.mark.parametrize(
    "headers",
    [
        b"\0" * 8 * 1024 * 1024,  # a bomb: 8 MiB in 8 kB
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">II", 1, 0xFFFFFFFF) + b"a",
        struct.pack(">II", 1, 1) + b"a",
        struct.pack(">III", 1, 0, 0),
        struct.pack(">I", 0) + b"more",
        struct.pack(">I", 2) + (struct.pack(">I", 1) + b"a") * 4,
    ],
)
def test_headers_that_lie_end_the_connection(headers: bytes) -> None:
    refused(syn(1, headers))


def test_numbers_of_streams_are_the_client_s_and_rise() -> None:
    encoder = HeaderEncoder()
    blocks = [encoder.encode({"n": str(n)}) for n in range(2)]
    first = control(1, struct.pack(">IIBB", 3, 0, 0, 0) + blocks[0])
    for number in (3, 1, 4, 0):
        server = Spdy()
        assert len(server.receive_data(first)) == 1
        with pytest.raises(PeerError):
            server.receive_data(control(1, struct.pack(">IIBB", number, 0, 0, 0) + blocks[1]))


def test_a_data_frame_of_16_mib_passes_in_pieces_and_is_not_kept() -> None:
    client, server = Spdy(client=True), Spdy()
    stream = client.open({"a": "b"})
    server.receive_data(client.data_to_send())
    assert server.receive_data(struct.pack(">II", stream, 0xFFFFFF)) == []
    assert server.receive_data(b"x" * 1000) == [DataReceived(stream, b"x" * 1000)]
    assert server._buffer == b""


@given(
    st.dictionaries(
        st.text("abcdefgh-", min_size=1, max_size=20),
        st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=200),
        max_size=16,
    )
)
def test_headers_survive(headers: dict[str, str]) -> None:
    encoder, decoder = HeaderEncoder(), HeaderDecoder()
    for _ in range(2):
        assert decoder.decode(encoder.encode(headers)) == headers


@given(st.data())
def test_frames_may_come_in_any_pieces(data: st.DataObject) -> None:
    client = Spdy(client=True)
    streams = [client.open({"n": str(n)}) for n in range(3)]
    for stream in data.draw(st.lists(st.sampled_from(streams), max_size=12)):
        match data.draw(st.integers(0, 5)):
            case 0:
                client.end(stream)
            case 1:
                client.reset(stream)
            case size:
                client.send(stream, b"x" * size**4)
    wire = client.data_to_send()
    whole = joined(Spdy().receive_data(wire))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=20)))
    server, events = Spdy(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        events += server.receive_data(wire[start:end])
    assert joined(events) == whole


@given(st.lists(st.one_of(
    st.binary(max_size=64),
    st.builds(control, st.integers(0, 12), st.binary(max_size=64), st.integers(0, 255)),
    st.builds(lambda n, size: struct.pack(">II", n, size), st.integers(0, 9), st.integers(0, 2**24 - 1)),
    st.builds(lambda n, b: syn(n, b), st.integers(0, 9), st.binary(max_size=64)),
    st.just(syn(1, struct.pack(">II", 1, 1) + b"a" + struct.pack(">I", 1) + b"b")),
), max_size=12))  # fmt: skip
def test_hostile_bytes_break_the_connection_at_most(pieces: list[bytes]) -> None:
    server = Spdy(streams=4)
    try:
        for piece in pieces:
            for event in server.receive_data(piece):
                if isinstance(event, StreamOpened):
                    server.reply(event.stream)
                    server.send(event.stream, b"answer")
            assert server.streams <= 4 and len(server._buffer) <= CONTROL_BYTES + 8
    except PeerError:
        pass
    assert len(server.data_to_send()) <= 64 + 64 * len(pieces)


def test_a_block_is_as_large_as_it_may_be_and_no_larger() -> None:
    name = HEADER_BYTES - 12 - 1
    encoder = HeaderEncoder()
    assert HeaderDecoder().decode(encoder.encode({"a": "x" * name}))["a"] == "x" * name
    with pytest.raises(PeerError):
        HeaderDecoder().decode(HeaderEncoder().encode({"a": "x" * (name + 1)}))
