"""python -m bench.boot.time_server: the time of this machine on the loopback's port 123 (RFC 4330). Prints when it listens."""

from __future__ import annotations

import socket
import struct
import time

_PORT = 123
_SINCE_1900 = 2_208_988_800  # seconds from 1900 to 1970
_PACKET = struct.Struct("!BBbb11I")


def answer(question: bytes, now: float) -> bytes:
    """To a client's request of at least 48 bytes: what it sent as its own time comes back, so that it knows its answer."""
    *_, high, low = _PACKET.unpack_from(question)
    second, fraction = int(now) + _SINCE_1900 & 0xFFFFFFFF, int(now % 1 * (1 << 32))
    return _PACKET.pack(0x24, 2, 6, -20, 0, 0, 0, second, fraction, high, low, second, fraction, second, fraction)


def main() -> None:
    """Serves until it is killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", _PORT))
        print("listening", flush=True)
        while True:
            question, client = server.recvfrom(512)
            if len(question) >= _PACKET.size:
                server.sendto(answer(question, time.time()), client)


if __name__ == "__main__":
    main()
