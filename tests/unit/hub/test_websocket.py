"""WebSocket as bytes: RFC 6455's own examples, the rules that a peer may break, and the `websockets` library as the other end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets import frames as library

from kubeedge.errors import PeerError
from kubeedge.hub import websocket as ws
from kubeedge.hub.websocket import BINARY, CLOSE, PING, PONG, Frames, Rejected

LIMIT = 70_000
MASK = bytes.fromhex("37fa213d")
KEY = b"the sample nonce"

# -- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opcode", "payload", "mask", "wire"),
    [  # section 5.7, with binary messages in place of text
        (BINARY, b"Hello", b"", "82 05 48 65 6c 6c 6f"),
        (BINARY, b"Hello", MASK, "82 85 37 fa 21 3d 7f 9f 4d 51 58"),
        (PING, b"Hello", b"", "89 05 48 65 6c 6c 6f"),
        (PONG, b"Hello", MASK, "8a 85 37 fa 21 3d 7f 9f 4d 51 58"),
        (BINARY, bytes(256), b"", "82 7e 01 00" + " 00" * 256),
        (BINARY, bytes(65536), b"", "82 7f 00 00 00 00 00 01 00 00" + " 00" * 65536),
        (BINARY, b"", MASK, "82 80 37 fa 21 3d"),
    ],
    ids=["short", "masked", "ping", "masked pong", "16 bits", "64 bits", "empty"],
)
def test_the_examples_of_the_rfc(opcode: int, payload: bytes, mask: bytes, wire: str) -> None:
    assert ws.encode(opcode, payload, mask) == bytes.fromhex(wire)
    assert Frames(masked=bool(mask), limit=LIMIT).receive(bytes.fromhex(wire)) == [(opcode, payload)]


_messages = st.lists(
    st.one_of(
        st.tuples(st.just(BINARY), st.binary(max_size=300)),
        st.tuples(
            st.just(BINARY), st.integers(120, 70_000).map(lambda n: bytes(range(256)) * (n // 256) + bytes(n % 256))
        ),
        st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)),
    ),
    max_size=6,
)


@given(_messages, st.booleans(), st.lists(st.integers(1, 5000), max_size=12))
def test_however_the_bytes_are_cut_the_messages_are_the_same(
    messages: list[tuple[int, bytes]], masked: bool, cuts: list[int]
) -> None:
    """What the library has written is read, and what we write is what the library writes."""
    wire = b""
    for opcode, payload in messages:
        theirs = library.Frame(library.Opcode(opcode), payload).serialize(mask=masked)
        mask = theirs[len(theirs) - len(payload) - 4 : len(theirs) - len(payload)] if masked else b""
        assert ws.encode(opcode, payload, mask) == theirs
        wire += theirs
    frames, found, at = Frames(masked=masked, limit=LIMIT), [], 0
    for cut in [*cuts, len(wire)]:
        if at < len(wire):
            found += frames.receive(wire[at : at + cut])
            at += cut
    assert found == messages
    assert frames._buffer is None and frames._message is None


def test_a_message_in_pieces_with_a_ping_between_them() -> None:
    frames = Frames(masked=False, limit=LIMIT)
    wire = b"\x02\x03one" + ws.encode(PING, b"?") + b"\x00\x00" + b"\x80\x03two"
    assert [f for n in range(len(wire)) for f in frames.receive(wire[n : n + 1])] == [(PING, b"?"), (BINARY, b"onetwo")]


@pytest.mark.parametrize(
    ("wire", "masked", "code"),
    [
        (b"\x81\x01a", False, 1003),
        (b"\xc2\x01a", False, 1002),
        (b"\x83\x01a", False, 1002),
        (b"\x8b\x00", False, 1002),
        (b"\x82\x01a", True, 1002),
        (b"\x82\x81aaaaa", False, 1002),
        (b"\x09\x00", False, 1002),
        (b"\x89\x7e\x00\x80", False, 1002),
        (b"\x80\x01a", False, 1002),
        (b"\x02\x01a\x82\x01a", False, 1002),
        (b"\x82\x7f" + (LIMIT + 1).to_bytes(8, "big"), False, 1009),
        (b"\x82\x7f" + b"\xff" * 8, False, 1009),
        (b"\x02\x7e\xff\xff" + bytes(65535) + b"\x80\x7e\xff\xff", False, 1009),
    ],
    ids=["text", "an extension", "a kind of data that is not defined", "a control frame that is not defined", "not masked",
         "masked by a server", "a ping in pieces", "a long ping", "a piece of nothing", "a message within a message",
         "too long", "much too long", "too long in pieces"],
)  # fmt: skip
def test_what_breaks_the_rules_is_refused_before_its_bytes_are_there(wire: bytes, masked: bool, code: int) -> None:
    with pytest.raises(PeerError) as caught:
        Frames(masked=masked, limit=LIMIT).receive(wire)
    assert caught.value.close_code == code


@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_a_message_or_a_broken_rule(data: bytes, masked: bool) -> None:
    frames = Frames(masked=masked, limit=1000)
    try:
        for opcode, payload in frames.receive(data):
            if opcode == CLOSE:
                ws.read_closing(payload)
    except PeerError:
        return
    assert len(frames._buffer or b"") <= len(data)


@pytest.mark.parametrize(
    ("payload", "means"), [(b"", (1005, "")), (b"\x03\xe8", (1000, "")), (b"\x0f\xa0so be it", (4000, "so be it"))]
)
def test_a_close_frame(payload: bytes, means: tuple[int, str]) -> None:
    assert ws.read_closing(payload) == means
    assert not payload or ws.closing(*means) == payload


def test_a_long_reason_is_cut_between_two_letters() -> None:
    payload = ws.closing(1011, "ü" * 100)
    assert len(payload) == 124 and ws.read_closing(payload) == (1011, "ü" * 61)
    with pytest.raises(PeerError):
        ws.read_closing(b"\x03")


# -- the upgrade -------------------------------------------------------------------------------------------------------


def test_the_upgrade_of_the_rfc() -> None:
    head = ws.request("server.example.com:10000", "/v1/channel", KEY)
    assert b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in head and ws.end_of_head(head) == len(head)
    path, answer = ws.read_request(head)
    assert path == "/v1/channel" and b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert ws.read_answer(answer, KEY) == (101, 0)
    with pytest.raises(PeerError, match="not one to our request"):
        ws.read_answer(answer, KEY[::-1])


GOOD = ws.request("a:1", "/v1/channel", KEY)


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET", b"POST", 405),
        (b"HTTP/1.1", b"HTTP/1.0", 400),
        (b"GET /", b"GET http://a/", 400),
        (b"Upgrade: websocket", b"Upgrade: h2c", 426),
        (b"Connection: Upgrade", b"Connection: close", 426),
        (b"Host: a:1\r\n", b"", 426),
        (b"Version: 13", b"Version: 8", 426),
        (b"dGhl", b"dGh", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhl", 400),
        (b"Host: a:1", b"Host: a:1\r\nHost: b:1", 400),
        (b"Host: a:1", b"Host: a:1\r\n folded", 400),
        (b"Host: a:1", b"Host : a:1", 400),
        (b"Host: a:1", b"Host: a\0", 400),
    ],
)
def test_a_request_that_is_none_is_answered_with_a_status(old: bytes, new: bytes, status: int) -> None:
    assert old in GOOD
    with pytest.raises(Rejected) as caught:
        ws.read_request(GOOD.replace(old, new, 1))
    assert caught.value.status == status
    refusal = ws.refusal(status, caught.value.text)
    end = ws.end_of_head(refusal)
    assert ws.read_answer(refusal[:end], KEY) == (status, len(refusal) - end)


def test_browsers_may_say_more_and_in_other_letters() -> None:
    more = GOOD.replace(b"Connection: Upgrade", b"connection: keep-alive, uPGRADE").replace(
        b"Upgrade: w", b"UPGRADE: W"
    )
    assert ws.read_request(more)[0] == "/v1/channel"


def test_a_head_without_an_end_is_not_collected_for_ever() -> None:
    assert ws.end_of_head(b"x" * (ws.MAX_HEAD - 1)) == 0
    with pytest.raises(PeerError):
        ws.end_of_head(b"x" * ws.MAX_HEAD)


@given(st.binary(max_size=300))
def test_any_head_is_an_upgrade_or_refused(junk: bytes) -> None:
    for head in (junk + b"\r\n\r\n", b"GET /v1/channel HTTP/1.1\r\n" + junk + b"\r\n\r\n"):
        with pytest.raises(Rejected):
            ws.read_request(head)
        with pytest.raises(PeerError):
            ws.read_answer(head, KEY)
    answer = b"HTTP/1.1 " + junk + b"\r\n\r\n"
    try:
        assert ws.read_answer(answer, KEY)[0] != 101
    except PeerError:
        pass
