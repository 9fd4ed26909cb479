"""How a node reaches a relay, and what the data plane then makes a link of. TLS over TCP is the one transport so far.

A transport is also whom to ask for the identity of the peer: the data plane reports it as a URI when the handshake is done.
"""

from __future__ import annotations

import errno
import socket
from typing import Protocol

from kubeedge.api.names import PortId
from kubeedge.config import forms
from kubeedge.kit.tcp import connect
from kubeedge.kubebus.l3.plane import Plane, TlsContext


class Path(Protocol):
    """A relay has answered; there is no link yet. Its owner calls `attach` or `close`, once."""

    @property
    def local(self) -> str:
        """Our own address on it."""
        ...

    @property
    def remote(self) -> str:
        """The relay's address on this path, as the socket has it."""
        ...

    def attach(self, plane: Plane) -> PortId:
        """The port of the new link, which owns the path from here. Raises OSError; the path is then closed."""
        ...

    def close(self) -> None:
        """No link is made of it."""
        ...


class LinkTransport(Protocol):
    """One way to reach relays."""

    async def dial(self, relay: str) -> Path:
        """Reach a relay, "host:port". Raises OSError."""
        ...


class TlsTransport:
    """TLS 1.3 over TCP. `congestion`: the congestion control of TCP; "": by the round trip of the path."""

    def __init__(self, tls: TlsContext, *, congestion: str = "") -> None:
        self._tls = tls
        self._congestion = congestion

    async def dial(self, relay: str) -> Path:
        """Open a path to the relay at HOST:PORT. Raises OSError."""
        host, port = forms.endpoint(relay)
        return _TcpPath(await connect(host, port), self._tls, host, self._congestion)


class _TcpPath:
    def __init__(self, connection: socket.socket, tls: TlsContext, host: str, congestion: str) -> None:
        self._connection = connection
        self._tls = tls
        self._host = host
        self._congestion = congestion
        self.local: str = connection.getsockname()[0]
        self.remote: str = connection.getpeername()[0]

    def attach(self, plane: Plane) -> PortId:
        try:
            port = plane.add_link(
                self._connection.fileno(), self._tls, server_name=self._host, congestion=self._congestion
            )
        except BaseException:
            self._connection.close()
            raise
        self._connection.detach()
        return port

    def close(self) -> None:
        self._connection.close()


def is_ours(address: str) -> bool:
    """Does this machine have the address? The kernel says so when a socket is bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as exc:  # any other reason, like no descriptors left, says nothing about the address
        return exc.errno != errno.EADDRNOTAVAIL
    return True
