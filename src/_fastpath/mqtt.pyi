"""Framing of MQTT packets in C. Products use kubeedge.mqtt.codec and kubeedge.mqtt.answers."""

from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")
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

class PacketBuffer(Generic[T]):
    """Bytes of one connection, as they come, and the packets in them, each when it is whole: of at most `limit` bytes after their length. `version`: of
    the protocol, 0 before it is known. Its children know the packets that are not plain.
    """

    version: int
    def __init__(self, limit: int, version: int = 0) -> None: ...
    @property
    def waiting(self) -> int:
        """Bytes that no packet was made of yet."""

    def push(self, data: bytes | bytearray | memoryview, size: int = -1) -> None:
        """Takes in the first `size` bytes; -1: all."""

    def next(self) -> Publish | Puback | T | None:
        """One packet; None: it is not whole yet. Raises what the methods below raise; nothing can be read after that."""

    def decoded(self, kind: int, flags: int, body: bytes) -> T:
        """One that is neither a plain PUBLISH nor a plain PUBACK, or that comes while `version` is 0."""

    def overlong(self, size: int, limit: int) -> NoReturn:
        """Raises for a packet beyond the limit. `size` -1: its length has more than four bytes."""

def publish_packet(version: int, message: Publish) -> bytes:
    """Raises OverflowError for a topic of more than 65,535 bytes and for numbers that have no room."""

def puback_packet(version: int, packet_id: int, code: int = 0) -> bytes:
    """`code` is for MQTT 5 alone. Raises OverflowError for an identifier that has no room."""
