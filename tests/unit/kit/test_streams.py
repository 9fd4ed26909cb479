"""What a TLS connection over asyncio's streams holds while it is open."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tracemalloc
from pathlib import Path

from kubeedge.kit.http1 import Request, Response, text_response
from kubeedge.pki.trust import client_context, server_context
from tests.kit.certs import TestAuthority
from tests.kit.http_server import start_tcp_server

CLIENTS = 16
EACH = 64 * 1024  # bytes; what OpenSSL allocates is not among them


def test_a_client_that_came_over_tls_costs_little_memory(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    pair = authority.issue("web", uri="spiffe://kubeedge/cloud/web", hosts=["127.0.0.1"])
    context = client_context(authority.ca)

    async def hello(request: Request) -> Response:
        return text_response(200, "hello")

    def visit(address: tuple[str, int]) -> ssl.SSLSocket:
        tcp = socket.create_connection(address, timeout=10)
        inside = context.wrap_socket(tcp, server_hostname="127.0.0.1")
        inside.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert inside.recv(4096).startswith(b"HTTP/1.1 200 ")
        return inside

    async def scenario() -> None:
        tls = server_context(pair.cert, pair.key, client_ca=None)
        async with await start_tcp_server("127.0.0.1", 0, hello, tls=tls) as server:
            address = server.sockets[0].getsockname()
            visitors = [await asyncio.to_thread(visit, address)]  # what the first one costs is made once
            tracemalloc.start()
            try:
                for _ in range(CLIENTS):
                    visitors.append(await asyncio.to_thread(visit, address))
                held = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
                for visitor in visitors:
                    visitor.close()
            assert held / CLIENTS < EACH

    asyncio.run(scenario())
