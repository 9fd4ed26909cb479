"""Says what no protocol says, to one port, and tells how it was received: for tests of hostile peers.

    python -m tests.kit.noise '{"host": "203.0.113.1", "port": 6443, "tls": {"ca": ..., "cert": ..., "key": ...}}'

Without "tls" the bytes go out in the clear; with it, inside a TLS session ("cert" and "key" may be missing: an unauthenticated client).
Prints one JSON object: {"NAME OF THE NOISE": {"got": bytes received, "end": "closed" | "reset" | "open" | "refused"}}.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MUCH = 1 << 20
TIMEOUT = 3.0  # seconds; who still holds the connection then says "open"


def noises(seed: int) -> dict[str, bytes]:
    rng = random.Random(seed)
    head = b"Host: cloud\r\nAuthorization: Bearer x\r\n"
    upgrade = (
        b"GET / HTTP/1.1\r\n" + head + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    found = {
        "random bytes": rng.randbytes(MUCH),
        "zeros": bytes(MUCH),
        "all ones": b"\xff" * MUCH,
        "a scalar": b"1\n",
        "null": b"null\n",
        "deep nesting": b"[" * MUCH,
        "a TLS record of the largest length": b"\x16\x03\x01\xff\xff" + bytes(1024),
        "a body of 2^63": b"POST /join HTTP/1.1\r\n" + head + b"Content-Length: 9223372036854775807\r\n\r\n" + b"x" * MUCH,
        "a negative body": b"POST /join HTTP/1.1\r\n" + head + b"Content-Length: -1\r\n\r\n",
        "a chunk of 2^64": b"POST /join HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + b"x" * MUCH,
        "an endless header": b"GET / HTTP/1.1\r\nHost: " + b"a" * MUCH,
        "headers without end": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MUCH // 6),
        "an endless request line": b"GET /" + b"a" * MUCH,
        "null as an object": b"POST /api/v1/namespaces/default/pods HTTP/1.1\r\n" + head
        + b"Content-Type: application/json\r\nContent-Length: 4\r\n\r\nnull",
        "an upgrade and a frame of 2^63": upgrade + b"\x82\xff" + (2**63 - 1).to_bytes(8, "big") + bytes(4) + b"x" * 4096,
        "an upgrade and noise": upgrade + rng.randbytes(65536),
    }  # fmt: skip
    for kind in (0, 1, 2, 3, 4, 5, 127, 128, 255):
        found[f"a link frame of kind {kind}, 16 MiB long"] = bytes([kind]) + b"\xff\xff\xff" + rng.randbytes(65536)
        found[f"a link frame of kind {kind} with noise"] = bytes([kind]) + (512).to_bytes(3, "big") + rng.randbytes(512)
    return found


def say(connection: socket.socket, noise: bytes) -> dict[str, Any]:
    got = 0
    connection.settimeout(TIMEOUT)
    try:
        try:
            connection.sendall(noise)
        except TimeoutError:
            return {"got": got, "end": "open"}  # it takes no more, which bounds what it holds
        while data := connection.recv(65536):
            got += len(data)
    except TimeoutError:
        return {"got": got, "end": "open"}
    except (OSError, ssl.SSLError):
        return {"got": got, "end": "reset"}
    return {"got": got, "end": "closed"}


def visit(config: dict[str, Any], noise: bytes) -> dict[str, Any]:
    try:
        connection = socket.create_connection((config["host"], config["port"]), timeout=TIMEOUT)
    except OSError:
        return {"got": 0, "end": "refused"}
    with connection:
        if (tls := config.get("tls")) is None:
            return say(connection, noise)
        context = ssl.create_default_context(cafile=tls["ca"])
        if "cert" in tls:
            context.load_cert_chain(tls["cert"], tls["key"])
        try:
            inside = context.wrap_socket(connection, server_hostname=config["host"])
        except (OSError, ssl.SSLError):
            return {"got": 0, "end": "refused"}
        with inside:
            return say(inside, noise)


def main(config: dict[str, Any]) -> None:
    found = noises(config.get("seed", 1))
    with ThreadPoolExecutor(len(found)) as visitors:
        outcomes = visitors.map(lambda noise: visit(config, noise), found.values())
        print(json.dumps(dict(zip(found, outcomes, strict=True))))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
