"""Which certificate a TLS handshake gets, by where it came in and the name that it asks for."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

from kubeedge.gateway.model import WEB, ListenPoint
from kubeedge.gateway.table import patterns


class ShownCertificates:
    """`make`: contexts for names without a certificate. `nameless`: a handshake that asks for no name gets what is for every name, at shared addresses,
    too."""

    def __init__(self, make: Callable[[], ssl.SSLContext] | None, *, nameless: bool = False) -> None:
        self._make, self._nameless = make, nameless
        self._found: Mapping[tuple[ListenPoint, str], ssl.SSLContext] = {}  # by host name or "*."
        self._contexts: dict[ListenPoint, ssl.SSLContext] = {}

    def replace(self, found: Mapping[tuple[ListenPoint, str], ssl.SSLContext], points: Container[ListenPoint]) -> None:
        """All certificates, and the points that there are."""
        self._found = found
        self._contexts = {at: context for at, context in self._contexts.items() if at in points}

    def choose(self, connection: Any, server_name: str | None, context: ssl.SSLContext, at: ListenPoint = WEB) -> None:
        """What a context has as `sni_callback`."""
        if server_name is None and not at.address and not self._nameless:
            return
        for pattern in patterns((server_name or "").lower()):
            if (found := self._found.get((at, pattern))) is not None:
                connection.context = found
                return

    def context(self, at: ListenPoint) -> ssl.SSLContext:
        """With the certificates of the Gateways there. Raises OSError when there is nothing for other names."""
        if (context := self._contexts.get(at)) is None:
            if self._make is None:
                raise ConnectionAbortedError("this cloud has no certificate")
            context = self._contexts[at] = self._make()
            context.sni_callback = partial(self.choose, at=at)
        return context
