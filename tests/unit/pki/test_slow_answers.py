"""A peer of the bootstrap port that sends a byte now and then: a join ends, and says so."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeedge.errors import Unavailable
from kubeedge.pki import tokens
from kubeedge.pki.bootstrap import Client
from kubeedge_cloud.authority.ca import Authority

TOKEN = tokens.Token("a" * 64, "abcdef", "a" * 32)


@contextlib.contextmanager
def dripping(head: bytes) -> Iterator[int]:
    """The port of a server that sends `head`, and then a byte now and then."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(head)
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.02)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n", b"HTTP/1.1 200 OK\r\nx-header: ", b"HTTP/1.1 "]
)
def test_an_answer_that_does_not_come_on_is_none(head: bytes) -> None:
    with dripping(head) as port:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="cannot reach the cloud .* it takes more than"):
            Client("127.0.0.1", port, timeout=0.2).fetch_ca(TOKEN)
        assert time.monotonic() - began < 30


def test_a_handshake_that_does_not_come_on_is_none(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", clock=time.time)
    with dripping(b"\x16\x03\x03\x40\x00") as port:  # a record of 16 KiB
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no answer from"):
            Client("127.0.0.1", port, timeout=0.5).nonce(authority.pem)
        assert time.monotonic() - began < 30
