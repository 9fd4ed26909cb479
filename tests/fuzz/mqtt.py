"""What clients and brokers send, as fuzz targets: in any pieces it means the same, and to the decoder in C what it means to the readable one."""

from __future__ import annotations

from collections.abc import Iterator

from kubeedge.errors import PeerError
from kubeedge.mqtt import answers, requests
from kubeedge.mqtt.codec import MAX_PACKET, V5, V311, MqttError, PacketDecoder, Publish
from kubeedge.mqtt.requests import AnswerDecoder

CONNECT = {
    V311: bytes.fromhex("100f00044d5154540402003c0003") + b"abc",
    V5: bytes.fromhex("101300044d5154540502003c032100140003") + b"abc",
}


def clients(data: bytes) -> None:
    """A client: the first byte says which version it speaks, and how large its pieces are."""
    if data:
        version, piece = V5 if data[0] & 1 else V311, (data[0] >> 1) + 1
        _compare(PacketDecoder(), PacketDecoder(), MAX_PACKET, CONNECT[version] + data[1:], piece)


def brokers(data: bytes) -> None:
    """A broker, which a client hears; as above, with a limit that is soon reached."""
    if data:
        _compare(AnswerDecoder(200), AnswerDecoder(200), 200, data[1:], (data[0] >> 1) + 1)


def _compare(
    decoder: PacketDecoder | AnswerDecoder, other: PacketDecoder | AnswerDecoder, limit: int, data: bytes, piece: int
) -> None:
    whole, why = _said(decoder, [data])
    pieces, why_of_pieces = _said(other, [data[at : at + piece] for at in range(0, len(data), piece)])
    assert (pieces, why_of_pieces) == (whole, why)
    assert _read(type(decoder)(), data, limit) == (whole, why)


def _said(decoder: PacketDecoder | AnswerDecoder, pieces: list[bytes]) -> tuple[list[object], str]:
    """The packets, and what was wrong with the one after them."""
    found: list[object] = []
    try:
        for one in pieces:
            decoder.push(one)
            while (packet := decoder.next()) is not None:
                found.append(packet)
    except PeerError as exc:
        return found, str(exc)
    return found, ""


def _read(decoder: PacketDecoder | AnswerDecoder, data: bytes, limit: int) -> tuple[list[object], str]:
    """As _said, without what is in C."""
    found: list[object] = []
    try:
        for first, body in _frames(data, limit):
            found.append(decoder.decoded(first >> 4, first & 0xF, body))
    except MqttError as exc:
        return found, str(exc)
    return found, ""


def _frames(data: bytes, limit: int) -> Iterator[tuple[int, bytes]]:
    """(first byte, body) of each packet that is whole."""
    while data:
        size = 0
        for at in range(1, 6):
            if at == 5:
                raise MqttError("a length of more than four bytes")
            if at >= len(data):
                return
            size |= (data[at] & 0x7F) << 7 * (at - 1)
            if data[at] < 0x80:
                break
        if size > limit:
            raise MqttError(f"a packet of {size} bytes, more than {limit}")
        if len(data) < at + 1 + size:
            return
        yield data[0], data[at + 1 : at + 1 + size]
        data = data[at + 1 + size :]


def seeds() -> dict[str, list[bytes]]:
    message, long = (
        Publish("a/b", b"xyz", 1, True, False, 7),
        Publish("$hw/events/device/default/d/twin/update", b"v" * 300, 1, packet_id=300),
    )
    properties = bytes.fromhex("32160001610005100800017209000212342600016b000176") + b"payload"
    subscribe = bytes.fromhex("8209000100000361") + b"/#\x1d"
    of_clients = [
        b"\x01" + answers.publish(V5, message) + answers.puback(V5, 9, 0x87) + b"\xc0\x00" + answers.publish(V5, long),
        b"\x06"
        + answers.publish(V311, message)
        + answers.publish(V311, Publish("t", b""))
        + answers.puback(V311, 65535),
        b"\x05" + properties,
        b"\xff" + subscribe + b"\xe0\x02\x04\x00",
        b"\x00" + requests.subscribe(2, ["a/#", "b"]) + requests.pingreq() + requests.disconnect(),
        b"\x01\x30\xff\xff\xff\x7f",
        b"\x00\x30\x80\x80\x80\x80\x00",
        b"\x00" + answers.publish(V311, Publish("a/+", b"", 1, packet_id=1)),
        b"\x01\xa2\x06\x00\x01\x00\x00\x01a",
    ]
    of_brokers = [
        b"\x01" + answers.connack(V311, True) + answers.suback(V311, 3, (1, 0x80)) + answers.puback(V311, 4),
        b"\x04" + answers.publish(V311, message) + answers.pingresp() + answers.publish(V311, Publish("t", b"x" * 150)),
        b"\x00" + answers.publish(V311, long),
        b"\x00\x38\x04\x00\x01ab",
        b"\x00\x40\x02\x00\x00",
        b"\x02\x90\xff\xff\xff\xff",
    ]
    return {"mqtt-clients": of_clients, "mqtt-brokers": of_brokers}
