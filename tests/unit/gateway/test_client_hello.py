"""The name in a ClientHello: of real handshakes, whole and in parts, and of what is none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid
from kubeedge.gateway import client_hello, handshakes


def hello(name: str | None, *, alpn: int = 0) -> bytes:
    """The first record of OpenSSL; `alpn` names of 200 bytes make it a large one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(["x" * 200] * alpn)
    out = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return out.read()


@pytest.mark.parametrize(("name", "found"), [("shop.example", "shop.example"), ("A.Example", "a.example"), (None, "")])
def test_the_name_of_a_real_handshake(name: str | None, found: str) -> None:
    assert client_hello.server_name(hello(name)) == found


def test_how_much_is_needed() -> None:
    record = hello("shop.example")
    assert client_hello.needed(b"") == client_hello.needed(record[:4]) == client_hello.HEADER
    assert client_hello.needed(record[:5]) == len(record)


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\xff\xff", b"\x17\x03\x03\x00\x01"]
)
def test_what_is_no_handshake(first: bytes) -> None:
    with pytest.raises(Invalid):
        client_hello.needed(first)


@given(st.binary(max_size=200), st.integers(0, 250), st.integers(0, 255))
def test_damage_ends_in_a_name_or_in_invalid(noise: bytes, where: int, value: int) -> None:
    record = bytearray(hello("shop.example"))
    record[5 + where % (len(record) - 5)] = value
    for data in (bytes(record), bytes(record[: 5 + where]), bytes(record[:5]) + noise):
        with contextlib.suppress(Invalid):
            name = client_hello.server_name(data)
            assert len(name) <= 253 and name.isascii()


def test_a_handshake_in_parts_is_read_when_it_is_whole_and_stays_in_the_kernel() -> None:
    async def scenario() -> None:
        ours, theirs = _pair()
        with ours, theirs:
            record = hello("shop.example", alpn=60)
            assert len(record) > 12_000
            asking = asyncio.create_task(handshakes.server_name(ours))
            for start in range(0, len(record), 1000):
                await asyncio.get_running_loop().sock_sendall(theirs, record[start : start + 1000])
                await asyncio.sleep(0)
            assert await asyncio.wait_for(asking, 60) == "shop.example"
            again = b""
            while len(again) < len(record):
                again += await asyncio.get_running_loop().sock_recv(ours, 65536)
            assert again == record

    asyncio.run(scenario())


@pytest.mark.parametrize("sent", [b"", b"\x16\x03", b"\x16\x03\x01\x01\x00abc"])
def test_a_connection_that_ends_before_is_refused(sent: bytes) -> None:
    async def scenario() -> None:
        ours, theirs = _pair()
        with ours:
            with theirs:
                await asyncio.get_running_loop().sock_sendall(theirs, sent)
            with pytest.raises(Invalid):
                await asyncio.wait_for(handshakes.server_name(ours), 60)

    asyncio.run(scenario())


def _pair() -> tuple[socket.socket, socket.socket]:
    """Of TCP: SO_RCVLOWAT is not for all kinds of sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    for each in (ours, theirs):
        each.setblocking(False)
    return ours, theirs
