"""An MQTT client that costs little, in a process of its own: what a broker does is measured, and not what a client library costs.

python -m bench.devices.client updates ADDRESS PORT COUNT TURN     twin/update messages of QoS 1, 512 in flight: messages a second
python -m bench.devices.client round-trip ADDRESS PORT COUNT        200 bytes of QoS 1 to itself, one after the other: p50 and p99 in ms
    python -m bench.devices.client mapper ADDRESS PORT COUNT        the same by the client that mappers have, a thousand a second
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
import time
from collections.abc import Iterator

from kubeedge.mqtt.client import MqttClient

IN_FLIGHT = 512
ECHO = b"bench/echo"


def packet(first: int, body: bytes) -> bytes:
    size, head = len(body), bytearray((first,))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(head) + bytes((size,)) + body


def publish(topic: bytes, payload: bytes, number: int) -> bytes:
    return packet(0x32, len(topic).to_bytes(2, "big") + topic + number.to_bytes(2, "big") + payload)


class Connection:
    """MQTT 3.1.1 by hand, over a blocking socket."""

    def __init__(self, at: tuple[str, int], name: bytes) -> None:
        self.socket = socket.create_connection(at, 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()
        self.socket.sendall(packet(0x10, b"\0\4MQTT\4\2\0\0" + len(name).to_bytes(2, "big") + name))
        next(self.packets())

    def packets(self) -> Iterator[tuple[int, bytes]]:
        """For ever, as they come."""
        while True:
            while (found := self._next()) is not None:
                yield found
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("the broker has closed the connection")
            self._data += data

    def _next(self) -> tuple[int, bytes] | None:
        size = shift = 0
        for at in range(1, len(self._data)):
            byte = self._data[at]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                end = at + 1 + size
                if len(self._data) < end:
                    return None
                found = self._data[0], bytes(self._data[at + 1 : end])
                del self._data[:end]
                return found
        return None


def updates(at: tuple[str, int], count: int, turn: int) -> float:
    """Messages a second, from the first one to the last acknowledgement."""
    connection = Connection(at, b"mapper")
    messages = [
        publish(
            f"$hw/events/device/default/device{n % 100}/twin/update".encode(),
            json.dumps({"twin": {f"property{n % 10}": {"actual": {"value": str(turn + n % 97)}}}}).encode(),
            n % 60000 + 1,
        )
        for n in range(count)
    ]
    began, sent, acknowledged = time.monotonic(), 0, 0
    answers = connection.packets()
    while acknowledged < count:
        if (room := min(count, acknowledged + IN_FLIGHT) - sent) >= IN_FLIGHT // 4 or (room and sent + room == count):
            connection.socket.sendall(b"".join(messages[sent : sent + room]))
            sent += room
        next(answers)
        acknowledged += 1
    return count / (time.monotonic() - began)


def round_trip(to: tuple[str, int], count: int) -> tuple[float, float]:
    """Quantiles of what messages took."""
    connection = Connection(to, b"echo")
    connection.socket.sendall(packet(0x82, b"\0\1" + len(ECHO).to_bytes(2, "big") + ECHO + b"\1"))
    answers, took = connection.packets(), []
    next(answers)
    for n in range(count):
        at = time.perf_counter()
        connection.socket.sendall(publish(ECHO, b"x" * 200, n % 60000 + 1))
        for _ in range(2):  # the message, and the acknowledgement
            first, data = next(answers)
            if first >> 4 == 3:
                took.append(time.perf_counter() - at)
                connection.socket.sendall(b"\x40\x02" + data[2 + len(ECHO) : 4 + len(ECHO)])
    return quantiles(took)


def quantiles(took: list[float]) -> tuple[float, float]:
    """The median, and the one that 1 of 100 exceeds, in milliseconds."""
    return statistics.median(took) * 1000, sorted(took)[len(took) * 99 // 100] * 1000


async def mapper(to: tuple[str, int], count: int) -> tuple[float, float]:
    """As round_trip, by kubeedge.mqtt.client."""
    came = asyncio.Event()
    client = await MqttClient.open(*to, "mapper-echo", lambda message: came.set())
    serving = asyncio.create_task(client.serve())
    await client.subscribe(ECHO.decode())
    took = []
    for _ in range(count):
        came.clear()
        at = time.perf_counter()
        sent = asyncio.create_task(client.publish(ECHO.decode(), b"x" * 200))
        await came.wait()
        took.append(time.perf_counter() - at)
        await sent
        await asyncio.sleep(max(0.0, 0.001 - (time.perf_counter() - at)))
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await client.close()
    return quantiles(took)


def main() -> None:
    what, address, port, count, *more = sys.argv[1:]
    if what == "updates":
        print(json.dumps([updates((address, int(port)), int(count), int(more[0]))]))
    elif what == "mapper":
        print(json.dumps(asyncio.run(mapper((address, int(port)), int(count)))))
    else:
        print(json.dumps(round_trip((address, int(port)), int(count))))


if __name__ == "__main__":
    main()
