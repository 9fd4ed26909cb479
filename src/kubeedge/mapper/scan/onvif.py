"""Cameras that answer to a probe of WS-Discovery, which goes to everybody of a network. IPv4, as cameras have it."""

from __future__ import annotations

import asyncio
import socket
import uuid
from typing import Any

from kubeedge.errors import PeerError
from kubeedge.mapper.onvif import discovery
from kubeedge.mapper.scan.core import Finding, ScanRequest
from kubeedge.mapper.scan.finder import ScanScope

_ROUNDS = (0.0, 0.5, 1.5)  # seconds between two probes: packets of multicast get lost
_LISTEN = 2.0  # seconds after the last one
_MAX_MESSAGES = 1000  # that are read; of who sends more the rest is not
_MAX_SIZE = 16 * 1024  # bytes of an answer


class OnvifFinder:
    """One Device for each camera, with the address from which it has answered."""

    def wants(self, request: ScanRequest) -> bool:
        return bool(request.networks)

    async def find(self, scope: ScanScope) -> None:
        """Raises OSError where this machine is in none of the networks."""
        here, why = [], ""
        for network in scope.request.networks:
            if network.version == 6:
                why = f"{network}: cameras are asked over IPv4 alone"
                continue
            try:
                here.append(scope.local_address(network))
            except OSError as exc:
                why = str(exc)
        if not here:
            raise OSError(why)
        async with asyncio.TaskGroup() as group:
            for address in dict.fromkeys(here):
                group.create_task(self._ask(address, scope))

    async def _ask(self, address: str, scope: ScanScope) -> None:
        message = str(uuid.uuid4())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((address, 0))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Cameras(message, scope), sock=sock.dup()
            )
        try:
            for pause in _ROUNDS:
                await asyncio.sleep(pause)
                await scope.packet()
                transport.sendto(discovery.probe(message), (discovery.GROUP, discovery.PORT))
            await asyncio.sleep(_LISTEN)
        finally:
            transport.close()


class _Cameras(asyncio.DatagramProtocol):
    def __init__(self, message: str, scope: ScanScope) -> None:
        self._message = message
        self._scope = scope
        self._left = _MAX_MESSAGES

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """An answer, from a network that was asked for; what is none is not looked at."""
        host = str(addr[0])
        self._left -= 1
        if self._left < 0 or len(data) > _MAX_SIZE or not self._scope.request.covers(host):
            return
        try:
            found = discovery.matches_of(data, self._message)
        except PeerError:
            return
        for camera in found:
            if url := discovery.address_at(camera, host):
                self._scope.found(Finding("onvif", "onvif", host, {"url": url}, {**camera.scopes, "id": camera.id}))

    def error_received(self, exc: Exception) -> None:
        """Somebody does not want our packet; the others may."""
