"""Links whose owner is not known yet: from the accept loop to the certificate.

An unauthenticated peer costs a socket, a TLS handshake with a deadline, and a few CONTROL frames; the connection limiter bounds how many there are.
"""

from __future__ import annotations

import logging
import os
import socket

from kubeedge.api.names import PortId
from kubeedge.kit.acceptor import Accepted, Acceptor
from kubeedge.kit.connection_limiter import ConnectionLimits, Refusal
from kubeedge.kubebus.l3.plane import Plane, TlsContext

log = logging.getLogger("kubeedge.bushub")

_EARLY_FRAMES = 16  # of one link; the plane has the same bound


class AcceptedLinks:
    """Hands accepted sockets to the data plane and counts each by its certificate, once that is known."""

    def __init__(self, plane: Plane, tls: TlsContext, limits: ConnectionLimits, *, congestion: str) -> None:
        self._plane = plane
        self._tls = tls
        self._limits = limits
        self._congestion = congestion
        self._accepted: dict[PortId, Accepted] = {}  # by port
        self._unauthenticated: set[PortId] = set()  # ports
        self._early: dict[PortId, list[bytes]] = {}  # CONTROL frames that came before the admission was decided

    async def run(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        await Acceptor(self._limits, self._begin).run([listener])

    def is_unauthenticated(self, port: PortId) -> bool:
        """Whether the link is open and its owner not known yet."""
        return port in self._unauthenticated

    def authenticated(self, port: PortId, tenant: str, identity: str, *, most: int | None = None) -> Refusal | None:
        """The link counts by its certificate from here on. A refusal: this identity or tenant has too many."""
        self._unauthenticated.discard(port)
        accepted = self._accepted[port]
        refusal = accepted.authenticated(tenant, identity, most=most)
        accepted.socket.close()  # the plane has its own descriptor
        return refusal

    def keep_early(self, port: PortId, payload: bytes) -> None:
        """A CONTROL frame of a link that is not admitted; beyond a bound it is lost."""
        waiting = self._early.setdefault(port, [])
        if len(waiting) < _EARLY_FRAMES:
            waiting.append(payload)

    def take_early(self, port: PortId) -> list[bytes]:
        """The CONTROL frames that arrived before the link was admitted, which are forgotten here."""
        return self._early.pop(port, [])

    def closed(self, port: PortId) -> bool:
        """The data plane has closed it. True: its owner never became known."""
        self._early.pop(port, None)
        if (accepted := self._accepted.pop(port, None)) is not None:
            _end(accepted)
        unknown = port in self._unauthenticated
        self._unauthenticated.discard(port)
        return unknown

    def close(self) -> None:
        """Close the sockets of all links, after the data plane was closed."""
        for accepted in self._accepted.values():
            accepted.socket.close()
        self._accepted.clear()

    def _begin(self, accepted: Accepted) -> None:
        try:
            port = self._hand_over(accepted)
        except OSError as exc:  # no descriptors left, say
            log.warning("cannot accept a link: %s", exc)
            _end(accepted)
            return
        self._accepted[port] = accepted
        self._unauthenticated.add(port)
        accepted.cut = lambda: self._plane.drop(port, "the connection gave way to others")

    def _hand_over(self, accepted: Accepted) -> PortId:
        """Give a connection to the data plane; returns its port. Raises OSError."""
        descriptor = os.dup(accepted.socket.fileno())  # ours is for the limiter, until we know whose it is
        try:
            return self._plane.add_link(descriptor, self._tls, congestion=self._congestion)
        except OSError:
            os.close(descriptor)
            raise


def _end(accepted: Accepted) -> None:
    accepted.socket.close()
    accepted.ended()
