"""Ordinary web services for tests of publishing: a process, some ports on loopback, nothing of ours in them but plain asyncio.

    python -m tests.kit.web_services 8001 8002 8003     # mirror, streams, websocket

mirror      answers with what it was asked, as JSON; /upload with length and SHA-256 of the body; /static/x.css; /hints with a 103;
            /teapot refuses an upload without reading it
streams     /events: server-sent events; /video: multipart pictures; /big/BYTES: that many, chunked; /slow: never answers
websocket   echoes messages (the `websockets` package)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

BLOCK = bytes(range(256)) * 256  # 64 KiB
BOUNDARY = b"picture"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    method, target, headers = await _head(reader)
    if target == "/teapot":
        writer.write(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntea\n")
        return
    if target == "/hints":
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        await writer.drain()
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    digest, length = hashlib.sha256(), 0
    async for piece in _body(reader, headers):
        digest.update(piece)
        length += len(piece)
    if target.startswith("/static/"):
        answer, kind = b"body { color: red }\n", b"text/css"
    else:
        seen = {"method": method, "target": target, "headers": headers, "length": length, "sha256": digest.hexdigest()}
        answer, kind = json.dumps(seen).encode(), b"application/json"
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(answer)))
    writer.write(answer)


async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    _, target, _ = await _head(reader)
    if target == "/slow":
        await reader.read()
    elif target == "/events":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for n in range(1_000_000):
            await _chunk(writer, b"id: %d\ndata: tick\n\n" % n)
            await asyncio.sleep(0.05)
    elif target == "/video":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=%s\r\n\r\n" % BOUNDARY)
        for n in range(1_000_000):
            picture = n.to_bytes(4, "big") * 5000
            head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (BOUNDARY, len(picture))
            writer.write(head + picture + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
    elif target.startswith("/big/"):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(int(target.removeprefix("/big/")) // len(BLOCK)):
            await _chunk(writer, BLOCK)
        writer.write(b"0\r\n\r\n")


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
    }
    return method, target, headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]):  # type: ignore[no-untyped-def]
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return
    left = int(headers.get("content-length", "0"))
    while left:
        piece = await reader.read(min(left, 65536))
        if not piece:
            raise EOFError("the body broke off")
        left -= len(piece)
        yield piece


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


def _guarded(service):  # type: ignore[no-untyped-def]
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await service(reader, writer)
            await writer.drain()
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return connected


async def main(ports: list[int]) -> None:
    first = await asyncio.start_server(_guarded(mirror), "127.0.0.1", ports[0])
    second = await asyncio.start_server(_guarded(streams), "127.0.0.1", ports[1])
    async with first, second, serve_websocket(echo, "127.0.0.1", ports[2]):
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
