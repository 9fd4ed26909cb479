"""A conversation of RTSP (RFC 2326) over one TCP connection, with the packets that come between its answers (section 10.12). Pure."""

from __future__ import annotations

import struct
from typing import TypeAlias

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass, field

_MAX_HEAD = 16 * 1024  # bytes of an answer's lines
_MAX_BODY = 64 * 1024  # of what describes the video
_INTERLEAVED = 4  # bytes before a packet: "$", channel, length


@dataclass(frozen=True, slots=True)
class RtspAnswer:
    """`headers` in their order, names in lower case."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def header(self, name: str) -> str:
        """The first one of that name, which is in lower case; "": there is none."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True)
class RtspDemand:
    """A request of the camera, which has to be answered: `sequence` is its CSeq."""

    method: str
    sequence: str


@dataclass(frozen=True, slots=True)
class RtspPacket:
    """A packet of RTP or RTCP."""

    channel: int
    data: bytes


RtspEvent: TypeAlias = RtspAnswer | RtspDemand | RtspPacket


@dataclass(slots=True)
class RtspConversation:
    """Bytes in, answers and packets out. Memory: one answer, or one packet of at most 64 KiB."""

    sequence: int = 0
    _inbound: bytearray = field(default_factory=bytearray)
    _awaited: int = (
        0  # bytes without which the message that has begun is not whole, so that its head is not read for each of them
    )

    def request(self, method: str, url: str, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
        """The bytes of a request; the next answer is its."""
        self.sequence += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self.sequence}", "User-Agent: kubeedge"]
        lines += [f"{name}: {value}" for name, value in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    @staticmethod
    def refusal(demand: RtspDemand) -> bytes:
        """What a camera gets that asks us for something."""
        return f"RTSP/1.0 501 Not Implemented\r\nCSeq: {demand.sequence}\r\n\r\n".encode()

    def receive_data(self, data: bytes) -> list[RtspEvent]:
        """What has come. Raises PeerError for what is no RTSP, and then the connection is of no use."""
        self._inbound += data
        if len(self._inbound) < self._awaited:
            return []
        self._awaited = 0
        found: list[RtspEvent] = []
        at = 0
        while (made := self._next(at)) is not None:
            event, at = made
            if event is not None:
                found.append(event)
        del self._inbound[:at]
        return found

    def _next(self, at: int) -> tuple[RtspEvent | None, int] | None:
        buffer = self._inbound
        if at >= len(buffer):
            return None
        if buffer[at] == 0x24:
            if len(buffer) < at + _INTERLEAVED:
                return None
            channel, length = struct.unpack_from(">BH", buffer, at + 1)
            end = at + _INTERLEAVED + length
            return None if len(buffer) < end else (RtspPacket(channel, bytes(buffer[at + _INTERLEAVED : end])), end)
        if buffer[at] in b"\r\n":  # between two messages: some cameras send one line too many
            return None, at + 1
        head_end = buffer.find(b"\r\n\r\n", at, at + _MAX_HEAD)
        if head_end < 0:
            if len(buffer) - at >= _MAX_HEAD:
                raise PeerError(f"the head of an RTSP answer has more than {_MAX_HEAD} bytes")
            return None
        return self._message(at, head_end)

    def _message(self, at: int, head_end: int) -> tuple[RtspEvent | None, int] | None:
        first, *lines = bytes(self._inbound[at:head_end]).decode("utf-8", "replace").split("\r\n")
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise PeerError(f"a line of an RTSP answer is none: {line[:64]!r}")
            headers.append((name.strip().lower(), value.strip()))
        answer = _answer(first, tuple(headers))
        length = answer.header("content-length") or "0"
        if not length.isascii() or not length.isdigit() or len(length) > 6 or int(length) > _MAX_BODY:
            raise PeerError(f"an RTSP answer with a body of {length[:32]!r} bytes; {_MAX_BODY} are the most")
        end = head_end + 4 + int(length)
        if len(self._inbound) < end:
            self._awaited = end - at
            return None
        if answer.status:
            return RtspAnswer(
                answer.status, answer.reason, answer.headers, bytes(self._inbound[head_end + 4 : end])
            ), end
        return RtspDemand(answer.reason, answer.header("cseq")[:32]), end


def _answer(first: str, headers: tuple[tuple[str, str], ...]) -> RtspAnswer:
    """Status 0 for a request of the camera, whose method is then the reason."""
    version, _, rest = first.partition(" ")
    if version.startswith("RTSP/"):
        status, _, reason = rest.partition(" ")
        if len(status) == 3 and status.isascii() and status.isdigit() and status >= "100":
            return RtspAnswer(int(status), reason[:128], headers)
    elif rest.rpartition(" ")[2].startswith("RTSP/") and version.isalpha():
        return RtspAnswer(0, version[:32], headers)
    raise PeerError(f"this is no RTSP: {first[:64]!r}")


def session_of(answer: RtspAnswer) -> tuple[str, float]:
    """(the id of the session, seconds after which the camera forgets it unless it hears of us)."""
    name, _, rest = answer.header("session").partition(";")
    key, _, seconds = rest.strip().partition("=")
    given = seconds.strip()
    valid = key.strip().lower() == "timeout" and given.isascii() and given.isdigit() and len(given) < 6
    return name.strip()[:256], float(given) if valid and int(given) >= 2 else 60.0
