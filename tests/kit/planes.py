"""Ends for a data plane in a test: a TUN that is a socket pair, and a peer that speaks TLS and sends whatever it likes. No root needed."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from kubeedge.errors import PeerError
from kubeedge.kubebus.l3.plane import FrameReceived as ControlFrame
from kubeedge.kubebus.l3.plane import Plane, PlaneEvent, PortClosed, PortConnected, SegmentReceived, TlsContext
from kubeedge.wire_format.frame import Decoder, Frame, encode
from tests.kit.certs import Credentials

TIMEOUT = 60.0
E = TypeVar("E", PortConnected, PortClosed, ControlFrame, SegmentReceived)


class FakeTun:
    """The kernel's side of a TUN: `send` is what a kernel would route into it, `receive` what the plane gave to the kernel."""

    def __init__(self) -> None:
        self.socket, plane_side = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.plane_fd = plane_side.detach()
        self.socket.settimeout(TIMEOUT)

    def send(self, packet: bytes) -> None:
        self.socket.send(packet)

    def receive(self) -> bytes:
        return self.socket.recv(70_000)

    def empty(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]

    def close(self) -> None:
        self.socket.close()


class Peer:
    """The other end of a link, over TLS."""

    def __init__(self, plain: socket.socket, credentials: Credentials, *, server: bool = False) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = not server
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(credentials.ca)
        context.load_cert_chain(credentials.cert, credentials.key)
        plain.settimeout(TIMEOUT)
        self.socket = context.wrap_socket(plain, server_side=server, server_hostname=None if server else "relay")
        self._decoder = Decoder()

    def send(self, kind: int, payload: bytes) -> None:
        self.send_raw(encode(kind, payload))

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Frame | None:
        """None: the plane closed the link."""
        while True:
            frame = self._decoder.maybe_next_frame()
            if frame:
                return frame
            try:
                data = self.socket.recv(65_536)
            except (ConnectionError, ssl.SSLError):
                return None
            if not data:
                return None
            self._decoder.receive_data(data)

    def close(self) -> None:
        self.socket.close()


class Harness:
    """A plane, with ways to make ports and to wait for its events."""

    def __init__(self, number: int = 0) -> None:
        self.plane, self.number = Plane(number), number
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.plane.close)
        self.seen: list[PlaneEvent] = []

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def tun(self, tenant: int = 0, *routes: str, vnet_hdr: bool = True) -> tuple[FakeTun, int]:
        tun = FakeTun()
        self._stack.callback(tun.close)
        port = self.plane.add_tun(tun.plane_fd, tenant=tenant, vnet_hdr=vnet_hdr)
        for route in routes:
            self.plane.add_route(tenant, route, self.number)
        return tun, port

    def pipe(self) -> tuple[socket.socket, int]:
        """(their end, the descriptor for the plane)"""
        theirs, ours = socket.socketpair()
        self._stack.callback(theirs.close)
        return theirs, ours.detach()

    def link(
        self,
        ours: Credentials,
        theirs: Credentials,
        *,
        tenant: int = 0,
        number: int = 1,
        prefixes: tuple[str, ...] = (),
    ) -> tuple[Peer, int]:
        """An admitted link whose routes are its prefixes; the plane is the server."""
        plain, fd = self.pipe()
        port = self.plane.add_link(fd, TlsContext(ours.ca, ours.cert, ours.key, server=True))
        peer = Peer(plain, theirs)
        self._stack.callback(peer.close)
        assert self.expect(PortConnected).port == port
        assert self.plane.admit(port, tenant=tenant, number=number, prefixes=prefixes)
        for prefix in prefixes:
            self.plane.add_route(tenant, prefix, number)
        return peer, port

    def events(self, timeout: float) -> Iterator[PlaneEvent]:
        with selectors.DefaultSelector() as selector:
            selector.register(self.plane.fileno(), selectors.EVENT_READ)
            deadline = time.monotonic() + timeout
            while True:
                while self.seen:
                    yield self.seen.pop(0)
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return
                self.seen += self.plane.events()

    def expect(self, kind: type[E], timeout: float = TIMEOUT) -> E:
        """The next event, which has to be of this kind."""
        for event in self.events(timeout):
            assert isinstance(event, kind), event
            return event
        raise AssertionError(f"no {kind.__name__} within {timeout:g} s")

    def counter(self, port: int, name: str) -> int:
        counters = self.plane.counters(port)
        assert counters is not None
        value: int = getattr(counters, name)
        return value

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT:g} s"
            time.sleep(0.005)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


__all__ = [
    "ControlFrame",
    "FakeTun",
    "Frame",
    "Harness",
    "Peer",
    "PeerError",
    "PortClosed",
    "PortConnected",
    "SegmentReceived",
    "is_open",
]
