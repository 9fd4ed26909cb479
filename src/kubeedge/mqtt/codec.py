"""MQTT packets, 3.1.1 and 5 (OASIS, chapters 2 and 3): bytes in, packets out, and back. Pure.

Lengths are checked before anything is kept; what the standard calls malformed raises MqttError with the reason code of MQTT 5.
QoS 2, shared subscriptions and subscription identifiers are not served, and an MQTT 5 client is told so.

Where a packet ends, and the plain PUBLISH and PUBACK that nearly all packets are, is read in C (kubeedge._fastpath.mqtt); what is written here is what
these mean, too, and whatever C does not take comes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from kubeedge._fastpath.mqtt import MAX_LEVELS as MAX_LEVELS  # of a topic or a filter
from kubeedge._fastpath.mqtt import MAX_TOPIC as MAX_TOPIC
from kubeedge._fastpath.mqtt import PacketBuffer
from kubeedge._fastpath.mqtt import Puback as Puback
from kubeedge._fastpath.mqtt import Publish as Publish
from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass, field

V311, V5 = 4, 5
MAX_PACKET = 256 * 1024  # bytes: a value has 64 KiB, a twin a few of them
MAX_CLIENT_ID = 256  # characters
MAX_USER, MAX_PASSWORD = 256, 1024  # characters, bytes
_MAX_FILTERS = 64  # in one SUBSCRIBE

MALFORMED, PROTOCOL_ERROR, NOT_SUPPORTED_VERSION, BAD_ID, BAD_USER, NOT_AUTHORIZED = 0x81, 0x82, 0x84, 0x85, 0x86, 0x87
QUOTA, TOPIC_INVALID, RECEIVE_EXCEEDED, TOO_LARGE, BAD_FILTER, TAKEN_OVER = 0x97, 0x90, 0x93, 0x95, 0x8F, 0x8E
QOS_NOT_SUPPORTED, NO_SHARED, KEEPALIVE, SHUTTING_DOWN, NO_SUBSCRIPTION = 0x9B, 0x9E, 0x8D, 0x8B, 0x11

#: property -> its form: the width of a number, "v" (a variable one), "s" text, "b" bytes, "p" two texts
_PROPERTIES: dict[int, int | str] = {
    0x01: 1, 0x02: 4, 0x03: "s", 0x08: "s", 0x09: "b", 0x0B: "v", 0x11: 4, 0x12: "s", 0x13: 2, 0x15: "s", 0x16: "b",
    0x17: 1, 0x18: 4, 0x19: 1, 0x1A: "s", 0x1C: "s", 0x1F: "s", 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: "p",
    0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
_USER_PROPERTY = 0x26
#: properties that each packet of a client may have
_OF_WILL = frozenset((0x18, 0x01, 0x02, 0x03, 0x08, 0x09, 0x26))
_OF_CONNECT = frozenset((0x11, 0x21, 0x27, 0x22, 0x19, 0x17, 0x26, 0x15, 0x16))
_OF_PUBLISH = frozenset((0x01, 0x02, 0x23, 0x08, 0x09, 0x26, 0x0B, 0x03))
_OF_ACK = frozenset((0x1F, 0x26))
_OF_SUBSCRIBE = frozenset((0x0B, 0x26))
_OF_UNSUBSCRIBE = frozenset((0x26,))
_OF_DISCONNECT = frozenset((0x11, 0x1F, 0x26, 0x1C))


class MqttError(PeerError):
    """The client broke the protocol: `code` is MQTT 5's reason code."""

    def __init__(self, message: str, code: int = MALFORMED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Connect:
    """The first packet of a client. `expiry`: seconds that its session outlives its connection."""

    client_id: str
    version: int
    clean: bool
    keepalive: int
    expiry: int = 0
    will: Publish | None = None
    receive_max: int = 65535
    max_packet: int = 0  # bytes that the client takes; 0: any
    user: str | None = None
    password: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter of a SUBSCRIBE with its options."""

    filter: str
    qos: int
    no_local: bool = False
    as_published: bool = False
    retained: int = 0  # 0: send retained messages; 1: if the subscription is new; 2: do not


@dataclass(frozen=True, slots=True)
class Subscribe:
    """`filters` are as they came: whether they may be subscribed to is the broker's to say."""

    packet_id: int
    filters: Sequence[Subscription]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The filters are to be taken out."""

    packet_id: int
    filters: Sequence[str]


@dataclass(frozen=True, slots=True)
class Pingreq:
    """The client shows that it is there, and asks the same of the broker."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The client goes. `with_will`: its will is to be published all the same."""

    with_will: bool = False
    expiry: int | None = None


Packet: TypeAlias = Connect | Publish | Subscribe | Unsubscribe | Puback | Pingreq | Disconnect

if TYPE_CHECKING:
    _PacketBuffer = PacketBuffer[Packet]
else:
    _PacketBuffer = PacketBuffer


def is_topic(text: str) -> bool:
    """Something can be published to it."""
    return _fits(text) and "\0" not in text and "+" not in text and "#" not in text


def _fits(text: str) -> bool:
    return 0 < len(text) <= MAX_TOPIC and text.count("/") < MAX_LEVELS


def is_filter(text: str) -> bool:
    """Something can be subscribed to by it: wildcards are whole levels, "#" the last one."""
    if not _fits(text) or "\0" in text:
        return False
    levels = text.split("/")
    return all(level in ("+", "#") or ("+" not in level and "#" not in level) for level in levels) and (
        "#" not in levels[:-1]
    )


def wrong_length(size: int, limit: int) -> MqttError:
    """Of a packet. `size` -1: in more than four bytes."""
    if size < 0:
        return MqttError("a length of more than four bytes")
    return MqttError(f"a packet of {size} bytes, more than {limit}", TOO_LARGE)


class _Reader:
    """The body of one packet, read from the left."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise MqttError("a packet ends in the middle of a field")
        self._at += size
        return self._body[self._at - size : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def data(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        try:
            found = self.data().decode()
        except UnicodeDecodeError as exc:
            raise MqttError("a text is not UTF-8") from exc
        if "\0" in found:
            raise MqttError("a text has U+0000")
        return found

    def variable(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise MqttError("a length of more than four bytes")

    def packet_id(self) -> int:
        if not (found := self.number(2)):
            raise MqttError("packet identifier 0", PROTOCOL_ERROR)
        return found

    def properties(self, allowed: frozenset[int]) -> dict[int, int]:
        """The properties that are numbers; all are checked."""
        inner = _Reader(self.take(self.variable()))
        found: dict[int, int] = {}
        seen: set[int] = set()
        while inner.left:
            name = inner.variable()
            if name not in allowed or (name in seen and name != _USER_PROPERTY):
                raise MqttError(f"property {name:#x} is unknown here, or there twice", PROTOCOL_ERROR)
            seen.add(name)
            match _PROPERTIES[name]:
                case int(width):
                    found[name] = inner.number(width)
                case "v":
                    found[name] = inner.variable()
                case "b":
                    inner.data()
                case kind:
                    for _ in str(kind).replace("p", "ss"):
                        inner.text()
        return found

    def end(self) -> None:
        if self.left:
            raise MqttError("a packet is longer than its fields")


class PacketDecoder(_PacketBuffer):
    """Packets of one connection, out of what the socket gives. `version` is the CONNECT's; 0 before it. push() takes in what came; next() gives one
    packet, for a client may send thousands at once, and raises MqttError; nothing can be decoded after that."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(MAX_PACKET)

    def feed(self, data: bytes) -> list[Packet]:
        """All packets that `data` completes. Raises as next()."""
        self.push(data)
        return list(iter(self.next, None))

    def overlong(self, size: int, limit: int) -> NoReturn:
        """Raises MqttError, as PacketBuffer wants it."""
        raise wrong_length(size, limit)

    def decoded(self, kind: int, flags: int, body: bytes) -> Packet:
        """A packet of that type, also one that C would take. Raises MqttError."""
        if (kind == 1) == bool(self.version):
            raise MqttError("CONNECT is the first packet, and the first only", PROTOCOL_ERROR)
        if kind == 3:
            return self._publish(flags, _Reader(body))
        if flags != (2 if kind in (8, 10) else 0):
            raise MqttError("reserved flags are set")
        reader = _Reader(body)
        match kind:
            case 1:
                return self._connect(reader)
            case 4:
                return self._puback(reader)
            case 8:
                return self._subscribe(reader)
            case 10:
                return self._unsubscribe(reader)
            case 12:
                reader.end()
                return Pingreq()
            case 14:
                return self._disconnect(reader)
        raise MqttError(f"a packet of type {kind} from a client", PROTOCOL_ERROR)

    def _connect(self, reader: _Reader) -> Connect:
        if reader.text() != "MQTT":
            raise MqttError("the protocol is not MQTT 3.1.1 or 5", NOT_SUPPORTED_VERSION)
        version = reader.number(1)
        if version not in (V311, V5):
            raise MqttError(f"protocol level {version} is neither 3.1.1 nor 5", NOT_SUPPORTED_VERSION)
        self.version = version
        flags, keepalive = reader.number(1), reader.number(2)
        if flags & 1:
            raise MqttError("a reserved flag is set")
        found = reader.properties(_OF_CONNECT) if version == V5 else {}
        if found.get(0x21) == 0 or found.get(0x27) == 0:
            raise MqttError("receive maximum or maximum packet size 0", PROTOCOL_ERROR)
        client_id = reader.text()
        if len(client_id) > MAX_CLIENT_ID:
            raise MqttError("a client identifier that is too long", BAD_ID)
        will = self._will(flags, reader)
        user = reader.text() if flags & 0x80 else None
        if flags & 0x40 and version == V311 and user is None:
            raise MqttError("a password without a user name")
        password = reader.data() if flags & 0x40 else None
        if len(user or "") > MAX_USER or len(password or b"") > MAX_PASSWORD:
            raise MqttError("a user name or a password that is too long", BAD_USER)
        reader.end()
        clean = bool(flags & 2)
        if not client_id and not clean and version == V311:
            raise MqttError("a lasting session needs a client identifier", BAD_ID)
        expiry = found.get(0x11, 0) if version == V5 else 0 if clean else 0xFFFFFFFF
        most, largest = found.get(0x21, 65535), found.get(0x27, 0)
        return Connect(client_id, version, clean, keepalive, expiry, will, most, largest, user, password)

    def _will(self, flags: int, reader: _Reader) -> Publish | None:
        qos, retain = flags >> 3 & 3, bool(flags & 0x20)
        if not flags & 4:
            if qos or retain:
                raise MqttError("flags of a will that is not there")
            return None
        if qos == 3:
            raise MqttError("QoS 3")
        if self.version == V5:
            reader.properties(_OF_WILL)
        topic, payload = reader.text(), reader.data()
        if not is_topic(topic):
            raise MqttError("a will on no topic", TOPIC_INVALID)
        if qos == 2 and self.version == V5:
            raise MqttError("QoS 2 is not served", QOS_NOT_SUPPORTED)
        return Publish(topic, payload, min(qos, 1), retain)

    def _publish(self, flags: int, reader: _Reader) -> Publish:
        qos = flags >> 1 & 3
        if qos == 3 or (not qos and flags & 8):
            raise MqttError("flags that no PUBLISH has")
        if qos == 2:
            raise MqttError("QoS 2 is not served", QOS_NOT_SUPPORTED)
        topic = reader.text()
        packet_id = reader.packet_id() if qos else 0
        if self.version == V5 and 0x23 in (found := reader.properties(_OF_PUBLISH)):
            raise MqttError(f"topic alias {found[0x23]}: none is allowed", 0x94)
        if not is_topic(topic):
            raise MqttError("a message on no topic", TOPIC_INVALID)
        return Publish(topic, reader.take(reader.left), qos, bool(flags & 1), bool(flags & 8), packet_id)

    def _puback(self, reader: _Reader) -> Puback:
        packet_id = reader.packet_id()
        if self.version == V5 and reader.left:
            reader.number(1)
            if reader.left:
                reader.properties(_OF_ACK)
        reader.end()
        return Puback(packet_id)

    def _subscribe(self, reader: _Reader) -> Subscribe:
        packet_id = reader.packet_id()
        if self.version == V5 and 0x0B in reader.properties(_OF_SUBSCRIBE):
            raise MqttError("subscription identifiers are not served", 0xA1)
        filters = []
        while reader.left:
            text, options = reader.text(), reader.number(1)
            if options & 3 == 3 or options & (0xC0 if self.version == V5 else 0xFC) or options >> 4 & 3 == 3:
                raise MqttError("options that no subscription has", PROTOCOL_ERROR)
            filters.append(Subscription(text, options & 3, bool(options & 4), bool(options & 8), options >> 4 & 3))
            if len(filters) > _MAX_FILTERS:
                raise MqttError("too many filters in one packet", QUOTA)
        if not filters:
            raise MqttError("a SUBSCRIBE to nothing", PROTOCOL_ERROR)
        return Subscribe(packet_id, filters)

    def _unsubscribe(self, reader: _Reader) -> Unsubscribe:
        packet_id = reader.packet_id()
        if self.version == V5:
            reader.properties(_OF_UNSUBSCRIBE)
        filters = []
        while reader.left:
            filters.append(reader.text())
            if len(filters) > _MAX_FILTERS:
                raise MqttError("too many filters in one packet", QUOTA)
        if not filters:
            raise MqttError("an UNSUBSCRIBE from nothing", PROTOCOL_ERROR)
        return Unsubscribe(packet_id, filters)

    def _disconnect(self, reader: _Reader) -> Disconnect:
        code, found = 0, {}
        if self.version == V5 and reader.left:
            code = reader.number(1)
            if reader.left:
                found = reader.properties(_OF_DISCONNECT)
        reader.end()
        return Disconnect(code == 4, found.get(0x11))
