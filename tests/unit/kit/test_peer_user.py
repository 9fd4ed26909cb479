"""Whose a connection is, asked of the kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from kubeedge.kit.peer_user import peer_user

#: becomes that user only then: it may not be able to read this interpreter
_CONNECTS = """
import os, socket, sys
os.setuid(65533)
client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sys.stdin.read()
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.8.7", "::1"])
def test_a_connection_is_of_the_user_who_has_its_other_end_open(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
        with server:
            with client:
                assert peer_user(server) == os.geteuid()
            assert peer_user(server) is None  # it is closed: nobody's, and not root's
        assert peer_user(server) is None


def test_a_client_that_speaks_ipv4_over_an_ipv6_socket_has_its_user_too() -> None:
    """As those in Java do."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client,
    ):
        client.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
        server, _ = listener.accept()
        with server:
            assert peer_user(server) == os.geteuid()


@pytest.mark.root
def test_another_user() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = [str(part) for part in listener.getsockname()]
        with subprocess.Popen([sys.executable, "-c", _CONNECTS, *where], stdin=subprocess.PIPE) as other:
            server, _ = listener.accept()
            with server:
                assert peer_user(server) == 65533
            other.communicate()


def test_what_is_no_tcp_has_none() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert peer_user(one) is None
