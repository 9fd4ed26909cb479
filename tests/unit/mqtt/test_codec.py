"""MQTT packets: what a client may send, what it may not, and nothing that breaks the decoder."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubeedge.mqtt import answers, codec
from kubeedge.mqtt.codec import Connect, MqttError, PacketDecoder, Publish, Subscribe

CONNECT5 = bytes.fromhex("101300044d5154540502003c032100140003") + b"abc"
CONNECT4 = bytes.fromhex("100f00044d5154540402003c0003") + b"abc"


def connected(version: int = codec.V5) -> PacketDecoder:
    decoder = PacketDecoder()
    (packet,) = decoder.feed(CONNECT5 if version == codec.V5 else CONNECT4)
    assert isinstance(packet, Connect) and packet.version == version and packet.client_id == "abc"
    return decoder


@pytest.mark.parametrize("version", [codec.V311, codec.V5])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_packets_arrive_in_any_pieces(version: int, size: int) -> None:
    decoder = connected(version)
    message = Publish("a/b", b"x" * 300, 1, True, False, 7)
    data = answers.publish(version, message) * 3
    found = [packet for at in range(0, len(data), size) for packet in decoder.feed(data[at : at + size])]
    assert found == [message] * 3


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("30ffffff7f", codec.TOO_LARGE),  # 256 MiB: refused before a byte of it is kept
        ("30ffffffff", codec.MALFORMED),
        ("3400056161616161000100", codec.QOS_NOT_SUPPORTED),
        ("36000161000100", codec.MALFORMED),  # QoS 3
        ("3800016100", codec.MALFORMED),  # DUP of QoS 0
        ("3005000161ff00", codec.MALFORMED),  # a property length that runs out
        ("30050002612b00", codec.TOPIC_INVALID),  # a+
        ("3004000000", codec.TOPIC_INVALID),
        ("300500026100" + "00", codec.MALFORMED),  # U+0000
        ("30050002c3280" + "0", codec.MALFORMED),  # not UTF-8
        ("3207000161000000" + "78", codec.PROTOCOL_ERROR),  # packet identifier 0
        ("300700016103230001", 0x94),  # a topic alias
        ("8000", codec.MALFORMED),  # flags
        ("8203000100", codec.PROTOCOL_ERROR),  # nothing to subscribe to
        ("820700010000016103", codec.PROTOCOL_ERROR),
        ("f000", codec.PROTOCOL_ERROR),  # AUTH
        ("2000", codec.PROTOCOL_ERROR),  # what only a broker sends
        ("1000", codec.PROTOCOL_ERROR),  # a second CONNECT
        ("c00100", codec.MALFORMED),
    ],
)
def test_what_is_malformed_is_named(data: str, code: int) -> None:
    with pytest.raises(MqttError) as raised:
        connected().feed(bytes.fromhex(data) + b"\0" * 16)
    assert raised.value.code == code


def test_the_first_packet_is_a_connect() -> None:
    with pytest.raises(MqttError):
        PacketDecoder().feed(b"\xc0\x00")
    with pytest.raises(MqttError) as raised:
        PacketDecoder().feed(CONNECT5.replace(b"MQTT\x05", b"MQTT\x06"))
    assert raised.value.code == codec.NOT_SUPPORTED_VERSION


def test_a_length_alone_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        decoders = [connected() for _ in range(50)]
        before = tracemalloc.get_traced_memory()[0]
        for decoder in decoders:
            decoder.feed(b"\x30\xff\xff\x0f")  # 262,143 bytes are announced
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=300), st.booleans())
@example(bytes.fromhex("8206000100000161"), True)
def test_no_bytes_break_the_decoder(data: bytes, five: bool) -> None:
    decoder = connected(codec.V5 if five else codec.V311)
    try:
        for at in range(0, len(data), 7):
            decoder.feed(data[at : at + 7])
    except MqttError:
        pass


@given(st.data())
def test_no_change_of_a_good_packet_breaks_it(data: st.DataObject) -> None:
    good = bytearray(
        CONNECT5 + bytes.fromhex("820900010003612f620123") + answers.publish(5, Publish("a", b"1", 1, packet_id=1))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        PacketDecoder().feed(bytes(good))
    except MqttError:
        pass


def test_subscriptions_have_their_options() -> None:
    (packet,) = connected().feed(bytes.fromhex("8209000100000361") + b"/#" + b"\x1d")
    assert isinstance(packet, Subscribe) and packet.filters[0] == codec.Subscription("a/#", 1, True, True, 1)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("#", True),
        ("a/#", True),
        ("+/a/+", True),
        ("a#", False),
        ("#/a", False),
        ("a/b+", False),
        ("", False),
        ("/", True),
    ],
)
def test_filters(text: str, good: bool) -> None:
    assert codec.is_filter(text) is good
