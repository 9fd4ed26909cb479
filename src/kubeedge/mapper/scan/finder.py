"""Those who look for devices, and what they get to do it with. A finder is a class without arguments; it is loaded when it is asked for."""

from __future__ import annotations

import asyncio
import socket
from importlib import import_module
from typing import Protocol

from kubeedge.kit.bucket import Bucket
from kubeedge.mapper.scan.core import Finding, ScanNetwork, ScanRequest, ScanResult

RATE = 250.0  # packets a second, of all finders together

#: name -> module:class. Who adds one adds it here, and to docs/guide/mappers.md
FINDERS = {
    "modbus": "kubeedge.mapper.scan.modbus:ModbusFinder",
    "mdns": "kubeedge.mapper.scan.mdns:MdnsFinder",
    "onvif": "kubeedge.mapper.scan.onvif:OnvifFinder",
    "ble": "kubeedge.mapper.scan.ble:BleFinder",
}


class PacketsSpent(Exception):
    """The scan has sent all packets that it may. Finders let it pass: it ends them."""


class ScanScope:
    """What one scan may still do. Every finder of the scan has the same one."""

    def __init__(self, request: ScanRequest, result: ScanResult) -> None:
        self.request = request
        self.result = result
        self.packets = 0
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(RATE, RATE / 10, self._loop.time())

    async def packet(self) -> None:
        """To be awaited before each packet, each connection and each radio command that is sent: waits for its turn. Raises PacketsSpent."""
        if self.packets >= self.request.packets:
            raise PacketsSpent
        self.packets += 1
        if wait := self._bucket.charge(1.0, self._loop.time()):
            await asyncio.sleep(wait)

    def found(self, finding: Finding) -> None:
        """A device has answered."""
        self.result.add(finding)

    def local_address(self, network: ScanNetwork) -> str:
        """This machine's address in the network, for who sends to a multicast group there. Raises OSError where it has none."""
        family = socket.AF_INET6 if network.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(network[1 if network.num_addresses > 1 else 0]), 9))  # sends nothing
            address = str(probe.getsockname()[0])
        if not self.request.covers(address):
            raise OSError(f"this machine has no address in {network}")
        return address


class Finder(Protocol):
    """Looks for devices of one kind."""

    def wants(self, request: ScanRequest) -> bool:
        """The request has something for it: networks, or a radio."""
        ...

    async def find(self, scope: ScanScope) -> None:
        """Reports what it finds by `scope.found` as it comes; ends by itself, or is cancelled when the time is over. Raises OSError and
        KubeEdgeError, which end this finder alone."""
        ...


def finder(name: str) -> Finder:
    """The finder of that name. Raises KeyError."""
    module, _, cls = FINDERS[name].partition(":")
    made: Finder = getattr(import_module(f"kubeedge.mapper.scan.{module.rpartition('.')[2]}"), cls)()
    return made
