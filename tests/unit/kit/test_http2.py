"""HTTP/2's client against another implementation's server, and against servers that break the rules."""

from __future__ import annotations

import struct

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import PeerError
from kubeedge.kit import http2
from kubeedge.kit.http2 import (
    HeadersReceived,
    Http2Client,
    Http2DataReceived,
    Http2StreamEnded,
    Http2StreamReset,
    frame,
)

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "localhost")]


class Pair:
    """A client of ours and a server of h2, and what each has heard."""

    def __init__(self) -> None:
        self.client = Http2Client()
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.server.initiate_connection()
        self.heard: list[h2.events.Event] = []
        self.events: list[http2.Http2Event] = []

    def pump(self) -> None:
        while True:
            there = self.client.data_to_send()
            if there:
                self.heard += self.server.receive_data(there)
            back = self.server.data_to_send()
            if back:
                self.events += self.client.receive_data(back)
            if not there and not back:
                return


def test_a_request_and_its_answer_with_trailers() -> None:
    pair = Pair()
    stream = pair.client.request(REQUEST, b"question")
    pair.pump()
    assert b"".join(e.data for e in pair.heard if isinstance(e, h2.events.DataReceived)) == b"question"
    assert any(isinstance(e, h2.events.StreamEnded) for e in pair.heard)
    pair.server.send_headers(stream, [(":status", "200"), ("a", "b" * 100)])
    pair.server.send_data(stream, b"answer")
    pair.server.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    pair.pump()
    assert pair.events[1:] == [
        Http2DataReceived(stream, b"answer"),
        HeadersReceived(stream, [("grpc-status", "0")]),
        Http2StreamEnded(stream),
    ]
    assert pair.client.streams == 0


def test_a_large_request_waits_for_the_server_s_windows() -> None:
    pair = Pair()
    pair.client.request(REQUEST, b"x" * 300_000)
    small = pair.client.request(REQUEST, b"")
    pair.pump()
    got = sum(len(e.data) for e in pair.heard if isinstance(e, h2.events.DataReceived))
    assert got == 65535, "the window that HTTP/2 begins with"
    assert any(isinstance(e, h2.events.StreamEnded) and e.stream_id == small for e in pair.heard), "needs no room"
    acknowledged = 0
    while acknowledged < 300_000:
        data = [e for e in pair.heard if isinstance(e, h2.events.DataReceived)]
        pair.heard = [e for e in pair.heard if not isinstance(e, h2.events.DataReceived)]
        assert data, "it goes on when there is room"
        for event in data:
            acknowledged += len(event.data)
            pair.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        pair.pump()
    assert acknowledged == 300_000


def test_an_answer_that_nobody_takes_holds_the_server_back() -> None:
    pair = Pair()
    stream = pair.client.request(REQUEST, b"")
    pair.pump()
    pair.server.send_headers(stream, [(":status", "200")])
    room = pair.server.local_flow_control_window(stream)
    assert room == http2.WINDOW
    while left := pair.server.local_flow_control_window(stream):
        pair.server.send_data(stream, bytes(min(16000, left)))
    pair.pump()
    assert pair.server.local_flow_control_window(stream) == 0
    pair.client.taken(stream, http2.WINDOW // 2)
    pair.pump()
    assert pair.server.local_flow_control_window(stream) == http2.WINDOW // 2
    pair.client.reset(stream)
    pair.pump()
    assert any(isinstance(e, h2.events.StreamReset) for e in pair.heard)


def test_streams_end_by_reset_and_connections_by_goaway() -> None:
    pair = Pair()
    stream = pair.client.request(REQUEST, b"")
    pair.pump()
    pair.server.reset_stream(stream, 8)
    pair.server.ping(b"12345678")
    pair.pump()
    pair.server.close_connection()
    pair.events += pair.client.receive_data(pair.server.data_to_send())
    assert Http2StreamReset(stream, 8) in pair.events and any(isinstance(e, http2.Http2WentAway) for e in pair.events)
    assert any(isinstance(e, h2.events.PingAckReceived) for e in pair.heard)


HEAD = frame(http2.HEADERS, http2.END_HEADERS, 1, b"\x88")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak HTTP/2"),
        (frame(http2.DATA, 0, 3, b"x"), "not open"),
        (frame(http2.DATA, 0, 0, b"x"), "not open"),
        (frame(http2.HEADERS, http2.END_HEADERS, 2, b"\x88"), "not open"),
        (frame(http2.HEADERS, 0, 1, b"\x88") + frame(http2.DATA, 0, 1, b"x"), "broken off"),
        (frame(http2.CONTINUATION, http2.END_HEADERS, 1, b"\x88"), "without a begin"),
        (frame(http2.HEADERS, 0, 1, b"\x88") + frame(http2.CONTINUATION, 0, 1, b"\x88") * 9, "without an end"),
        (frame(http2.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x88"), "push"),
        (frame(http2.DATA, http2.PADDED, 1, b"\x05abc"), "padding"),
        (frame(http2.SETTINGS, payload=b"\0\4\xff\xff\xff\xff"), "window"),
        (frame(http2.SETTINGS, payload=b"\0\4\0"), "settings"),
        (frame(http2.WINDOW_UPDATE, payload=b"\x7f\xff\xff\xff"), "window without an end"),
        (frame(http2.PING, payload=b"123"), "3 bytes instead of 8"),
        (frame(http2.GOAWAY, payload=b"123"), "too short"),
        (HEAD + frame(http2.DATA, 0, 1, bytes(16384)) * 17, "more data than"),
    ],
)
def test_a_server_that_breaks_the_rules_ends_the_connection(data: bytes, said: str) -> None:
    client = Http2Client()
    client.request(REQUEST, b"")
    client.data_to_send()
    with pytest.raises(PeerError, match=said):
        client.receive_data(data)
    assert client.data_to_send().endswith(struct.pack("!II", 0, http2.PROTOCOL_ERROR)), "it is told"
    with pytest.raises(PeerError, match="already"):
        client.receive_data(b"")


@given(st.binary(max_size=400), st.integers(1, 50))
def test_noise_in_pieces_ends_the_connection_or_is_waited_for(data: bytes, size: int) -> None:
    client = Http2Client()
    client.request(REQUEST, b"")
    try:
        for at in range(0, len(data), size):
            client.receive_data(data[at : at + size])
    except PeerError:
        pass
