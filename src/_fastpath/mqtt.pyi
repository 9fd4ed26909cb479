"""Framing of MQTT packets in C. Products use kubeedge.mqtt.codec and kubeedge.mqtt.answers."""

MAX_TOPIC: int
MAX_LEVELS: int

class Publish:
    """A message; nothing of it changes. `packet_id` 0: QoS 0, or it has none yet."""

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        dup: bool = False,
        packet_id: int = 0,
    ) -> None: ...
    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def qos(self) -> int: ...
    @property
    def retain(self) -> bool: ...
    @property
    def dup(self) -> bool: ...
    @property
    def packet_id(self) -> int: ...

class Puback:
    """Who got the message of QoS 1 has it."""

    def __init__(self, packet_id: int) -> None: ...
    @property
    def packet_id(self) -> int: ...

class PacketBuffer:
    """Bytes of one connection, as they come; packets of at most `limit` bytes, after their length, as they are whole."""

    def __init__(self, limit: int) -> None: ...
    @property
    def limit(self) -> int: ...
    @property
    def waiting(self) -> int:
        """Bytes that no packet was made of yet."""

    def push(self, data: bytes | bytearray | memoryview, size: int = -1) -> None:
        """Takes in the first `size` bytes; -1: all."""

    def next(self, version: int) -> Publish | Puback | bytes | int | None:
        """One packet. None: it is not whole yet. Bytes: its first byte and its body, of one that is neither a plain PUBLISH nor a plain PUBACK,
        and of every one while `version` is 0. A number: the length that is beyond the limit, -1 one of more than four bytes; nothing can be read after that.
        """

def publish_packet(version: int, message: Publish) -> bytes:
    """Raises OverflowError for a topic of more than 65,535 bytes and for numbers that have no room."""

def puback_packet(version: int, packet_id: int, code: int = 0) -> bytes:
    """`code` is for MQTT 5 alone. Raises OverflowError for an identifier that has no room."""
