"""Questions to a group of each of the networks, and the answers of those who hear them. IPv4."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from kubeedge.errors import PeerError
from kubeedge.mapper.scan.core import ScanRequest
from kubeedge.mapper.scan.finder import ScanScope


class MulticastFinder(ABC):
    """`asked`: what goes to the groups, in words."""

    asked: str

    def wants(self, request: ScanRequest) -> bool:
        """It sends to a group in each of the networks."""
        return bool(request.networks)

    async def find(self, scope: ScanScope) -> None:
        """Raises OSError where this machine is in none of the networks."""
        here, why = [], ""
        for network in scope.request.networks:
            if network.version == 6:
                why = f"{network}: {self.asked} over IPv4 alone"
                continue
            try:
                here.append(scope.local_address(network))
            except OSError as exc:
                why = str(exc)
        if not here:
            raise OSError(why)
        async with asyncio.TaskGroup() as group:
            for address in dict.fromkeys(here):
                group.create_task(self.ask(address, scope))

    @abstractmethod
    async def ask(self, address: str, scope: ScanScope) -> None:
        """Asks in the network in which this machine has the address, until enough time has passed."""


class MulticastAnswers(asyncio.DatagramProtocol):
    """`take` gets an answer and the address that it is from; it may raise PeerError. At most `messages` are read, of at most `size` bytes, from networks
    that were asked for."""

    def __init__(self, scope: ScanScope, take: Callable[[bytes, str], None], *, messages: int, size: int) -> None:
        self._scope, self._take = scope, take
        self._left, self._size = messages, size

    async def open(self, address: str) -> asyncio.DatagramTransport:
        """A socket at that address of this machine, from which packets go one hop far. Raises OSError."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((address, 0))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            loop = asyncio.get_running_loop()
            return (await loop.create_datagram_endpoint(lambda: self, sock=sock.dup()))[0]

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """An answer, from a network that was asked for; what is none is not looked at."""
        self._left -= 1
        if self._left < 0 or len(data) > self._size or not self._scope.request.covers(str(addr[0])):
            return
        try:
            self._take(data, str(addr[0]))
        except PeerError:
            return

    def error_received(self, exc: Exception) -> None:
        """Somebody does not want our packet; the others may."""
