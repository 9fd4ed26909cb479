"""A resolver of the Internet, for tests: `python -m tests.kit.dns_upstream ADDRESS LOG`; each question becomes a line of the log.

www.example.com   A 198.51.100.7, for 60 s      large.example.com   over UDP truncated, over TCP 100 addresses
false.example.com an answer with another ID first, then the right one                anything else   NXDOMAIN
"""

from __future__ import annotations

import asyncio
import struct
import sys
from pathlib import Path
from typing import Any

from kubeedge.mesh.dns.message import Code, Query, Record, Type, parse_query, reply, text_of


def answers(query: Query, *, tcp: bool) -> list[bytes]:
    name = text_of(query.name)
    if query.type != Type.A or name not in ("www.example.com.", "large.example.com.", "false.example.com."):
        code = Code.NXDOMAIN if "example.com" not in name or query.type == Type.A else Code.NOERROR
        return [reply(query, code, authoritative=False)]
    if name == "large.example.com.":
        many = [Record(query.name, Type.A, 60, bytes((198, 51, 100, n))) for n in range(100)]
        return [reply(query, 0, many, limit=0 if tcp else 512)]
    good = reply(query, 0, [Record(query.name, Type.A, 60, bytes((198, 51, 100, 7)))])
    bad = reply(query, 0, [Record(query.name, Type.A, 60, bytes((6, 6, 6, 6)))])
    other = struct.pack("!H", query.id ^ 1) + bad[2:]
    return [other, good] if name == "false.example.com." else [good]


class Udp(asyncio.DatagramProtocol):
    def __init__(self, log: Path) -> None:
        self._log = log

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        query = parse_query(data)
        with self._log.open("a") as file:
            file.write(f"udp {text_of(query.name)} {query.type}\n")
        for answer in answers(query, tcp=False):
            self._transport.sendto(answer, peer)


async def main(address: str, log: Path) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        query = parse_query(await reader.readexactly(length))
        with log.open("a") as file:
            file.write(f"tcp {text_of(query.name)} {query.type}\n")
        answer = answers(query, tcp=True)[-1]
        writer.write(struct.pack("!H", len(answer)) + answer)
        await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Udp(log), local_addr=(address, 53))
    server = await asyncio.start_server(connected, address, 53)
    log.touch()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
