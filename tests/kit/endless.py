"""A web service whose answers have no end, and clients of it that ask and never read: programs of the tests of publishing.

python -m tests.kit.endless serve                         on 127.0.0.1:8001; the path names one of KINDS; says "ready"
python -m tests.kit.endless ask ADDRESS PATH KIND COUNT   so many connections to http://ADDRESS:8080PATHKIND; says "ready", and holds them
                                                          until it is killed
"""

from __future__ import annotations

import socket
import sys
import threading
import time

PORT = 8001
_HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </%b>\r\n\r\n" % (b"x" * 8000)
_BODY = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
KINDS = {  # what is sent first, and what again and again
    "interim": (b"", _HINT * 16),
    "tiny": (b"", b"HTTP/1.1 102 \r\n\r\n" * 4096),
    "chunks": (_BODY, b"1\r\nx\r\n" * 20000),
    "extensions": (_BODY, (b"1;" + b"y" * 4000 + b"\r\nx\r\n") * 32),
    "body": (b"HTTP/1.1 200 OK\r\n\r\n", bytes(262144)),
    "trailers": (_BODY + b"0\r\n", b"T: x\r\n" * 20000),
    "head": (b"HTTP/1.1 200 OK\r\n", b"T: x\r\n" * 20000),
    "upgrade": (b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", bytes(262144)),
}


def _answer(connection: socket.socket) -> None:
    try:
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return
            head += data
        first, more = KINDS[head.split(b" ")[1].decode().strip("/")]
        connection.sendall(first)
        while True:
            connection.sendall(more)
    except OSError:
        pass
    finally:
        connection.close()


def serve() -> None:
    listener = socket.create_server(("127.0.0.1", PORT), backlog=128)
    print("ready", flush=True)
    while True:
        threading.Thread(target=_answer, args=(listener.accept()[0],), daemon=True).start()


def ask(address: str, path: str, kind: str, count: int) -> None:
    extra = "Connection: upgrade\r\nUpgrade: x\r\n" if kind == "upgrade" else ""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address, 8080))
        client.sendall(f"GET {path}{kind} HTTP/1.1\r\nHost: a\r\n{extra}\r\n".encode())
        clients.append(client)
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        ask(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
