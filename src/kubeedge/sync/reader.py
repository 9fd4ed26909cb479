"""Reading bytes that a peer sent: every length is checked before anything is taken. Numbers are unsigned LEB128 varints below 2^63."""

from __future__ import annotations

from kubeedge.errors import PeerError

MAX_VARINT = 10  # bytes


class Reader:
    """All methods raise PeerError for what is not there or may not be."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def remaining(self) -> int:
        """The number of bytes that are left."""
        return len(self._data) - self._position

    def byte(self) -> int:
        """The next byte, as a number."""
        return self.take(1)[0]

    def take(self, length: int) -> bytes:
        """The next `length` bytes. Raises PeerError when there are fewer."""
        start = self._position
        end = start + length
        if end > len(self._data):
            raise PeerError(f"{length} bytes wanted, {self.remaining} there")
        self._position = end
        return self._data[start:end]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.remaining)

    def varint(self) -> int:
        """A variable-length integer of at most 64 bits."""
        data, at = self._data, self._position
        if at + 1 < len(data):  # nearly all are of one byte or two; the loop is for the rest, and says what is wrong
            first = data[at]
            if first < 0x80:
                self._position = at + 1
                return first
            second = data[at + 1]
            if second < 0x80:
                self._position = at + 2
                return second << 7 | first & 0x7F
        value = shift = 0
        for _ in range(MAX_VARINT):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 63:
                    raise PeerError("number of 64 bits or more")
                return value
            shift += 7
        raise PeerError("number of more than 64 bits")

    def id(self) -> str:
        """A store id: length and text."""
        length = self.byte()
        if length > 64:
            raise PeerError(f"store identity of {length} bytes")
        try:
            return self.take(length).decode("ascii")
        except UnicodeDecodeError as exc:
            raise PeerError("store identity is not ASCII") from exc

    def end(self) -> None:
        """Raises PeerError unless everything was read."""
        if self.remaining:
            raise PeerError(f"{self.remaining} bytes after the message")
