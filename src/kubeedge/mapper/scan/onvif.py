"""Cameras that answer to a probe of WS-Discovery, which goes to everybody of a network. IPv4, as cameras have it."""

from __future__ import annotations

import asyncio
import uuid

from kubeedge.mapper.onvif import discovery
from kubeedge.mapper.scan.core import Finding
from kubeedge.mapper.scan.finder import ScanScope
from kubeedge.mapper.scan.multicast import MulticastAnswers, MulticastFinder

_ROUNDS = (0.0, 0.5, 1.5)  # seconds between two probes: packets of multicast get lost
_LISTEN = 2.0  # seconds after the last one
_MAX_MESSAGES = 1000  # that are read; of who sends more the rest is not
_MAX_SIZE = 16 * 1024  # bytes of an answer


class OnvifFinder(MulticastFinder):
    """One Device for each camera, with the address from which it has answered."""

    asked = "cameras are asked"

    async def ask(self, address: str, scope: ScanScope) -> None:
        """Probes, and what matches them."""
        message = str(uuid.uuid4())

        def take(data: bytes, host: str) -> None:
            for camera in discovery.matches_of(data, message):
                if url := discovery.address_at(camera, host):
                    scope.found(Finding("onvif", "onvif", host, {"url": url}, {**camera.scopes, "id": camera.id}))

        transport = await MulticastAnswers(scope, take, messages=_MAX_MESSAGES, size=_MAX_SIZE).open(address)
        try:
            for pause in _ROUNDS:
                await asyncio.sleep(pause)
                await scope.packet()
                transport.sendto(discovery.probe(message), (discovery.GROUP, discovery.PORT))
            await asyncio.sleep(_LISTEN)
        finally:
            transport.close()
