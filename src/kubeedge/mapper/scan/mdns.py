"""Multicast DNS: services that devices announce in their network (RFC 6762, 6763), by questions that are answered to us alone (6.7 there).

IPv4. What is asked for is a list of services that a mapper of ours can use.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from kubeedge.errors import PeerError
from kubeedge.mapper.scan import dns_records
from kubeedge.mapper.scan.core import Finding, ScanRequest
from kubeedge.mapper.scan.dns_records import PTR, SRV, TXT, A, DnsRecord
from kubeedge.mapper.scan.finder import ScanScope

GROUP, PORT = "224.0.0.251", 5353
_ROUNDS = (0.0, 0.5, 2.0)  # seconds between two times that the same is asked: packets of multicast get lost
_MAX_MESSAGES = 2000  # that are read; of who sends more the rest is not
_MAX_NAMES = 512  # of services, hosts and texts that are kept
_MAX_SIZE = 9000  # bytes of a message
_SERVICES = {
    "_modbus._tcp.local": "modbus",
    "_opcua-tcp._tcp.local": "opcua",
    "_http._tcp.local": "http",
    "_https._tcp.local": "http",
    "_mqtt._tcp.local": "mqtt",
    "_secure-mqtt._tcp.local": "mqtt",
    "_rtsp._tcp.local": "onvif",
}


class _Heard:
    """What was announced, by name."""

    def __init__(self) -> None:
        self.instances: dict[str, str] = {}  # name of a service -> its kind
        self.servers: dict[str, tuple[int, str]] = {}
        self.texts: dict[str, Mapping[str, str]] = {}
        self.addresses: dict[str, str] = {}

    def add(self, record: DnsRecord) -> None:
        """One record; of what is too much nothing is kept."""
        name, value = record.name.lower(), record.value
        if record.kind == PTR and name in _SERVICES and isinstance(value, str) and value.lower().endswith(f".{name}"):
            _keep(self.instances, value, name)
        elif record.kind == SRV and isinstance(value, tuple):
            _keep(self.servers, name, value)
        elif record.kind == TXT and isinstance(value, dict):
            _keep(self.texts, name, value)
        elif record.kind == A and isinstance(value, str):
            _keep(self.addresses, name, value)

    def missing(self) -> list[tuple[str, int]]:
        """What has to be asked for, of services that are known by their name alone."""
        found = []
        for name in self.instances:
            server = self.servers.get(name.lower())
            if server is None:
                found.append((name, SRV))
            elif server[1].lower() not in self.addresses:
                found.append((server[1], A))
        return found[:32]


def _keep(table: dict[str, Any], key: str, value: Any) -> None:
    if key in table or len(table) < _MAX_NAMES:
        table[key] = value


class MdnsFinder:
    """One Device for each service."""

    def wants(self, request: ScanRequest) -> bool:
        """It sends to a group in each of the networks."""
        return bool(request.networks)

    async def find(self, scope: ScanScope) -> None:
        """Raises OSError where this machine is in none of the networks."""
        here, why = [], ""
        for network in scope.request.networks:
            if network.version == 6:
                why = f"{network}: multicast DNS is asked over IPv4 alone"
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
        heard = _Heard()
        loop = asyncio.get_running_loop()
        protocol = _Answers(heard, scope)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((address, 0))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=sock.dup())
        try:
            for pause in _ROUNDS:
                await asyncio.sleep(pause)
                await self._send(transport, [(name, PTR) for name in _SERVICES], scope)
                await asyncio.sleep(0.5)
                if missing := heard.missing():
                    await self._send(transport, missing, scope)
            await asyncio.sleep(1.0)
        finally:
            transport.close()

    async def _send(self, transport: asyncio.DatagramTransport, names: list[tuple[str, int]], scope: ScanScope) -> None:
        await scope.packet()
        transport.sendto(dns_records.question(names), (GROUP, PORT))


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, heard: _Heard, scope: ScanScope) -> None:
        self._heard = heard
        self._scope = scope
        self._left = _MAX_MESSAGES

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """An answer, from a network that was asked for; what is none is not looked at."""
        self._left -= 1
        if self._left < 0 or len(data) > _MAX_SIZE or not self._scope.request.covers(str(addr[0])):
            return
        try:
            found = dns_records.records(data)
        except PeerError:
            return
        for record in found:
            self._heard.add(record)
        for name, kind in self._heard.instances.items():
            if finding := _finding(name, kind, self._heard, self._scope.request):
                self._scope.found(finding)

    def error_received(self, exc: Exception) -> None:
        """Somebody does not want our packet; the others may."""


def _finding(name: str, kind: str, heard: _Heard, request: ScanRequest) -> Finding | None:
    port, host = heard.servers.get(name.lower(), (0, ""))
    address = heard.addresses.get(host.lower())
    if not port or address is None or not request.covers(address):
        return None
    texts = heard.texts.get(name.lower(), {})
    protocol, path = _SERVICES[kind], texts.get("path", "")
    path = path if path.startswith("/") and path.isascii() and path.isprintable() and " " not in path else ""
    config: dict[str, Any]
    match kind.partition(".")[0]:
        case "_modbus":
            config = {"host": address, "port": port}
        case "_opcua-tcp":
            config = {"url": f"opc.tcp://{address}:{port}{path}"}
        case "_rtsp":
            config = {"url": f"rtsp://{address}:{port}{path}"}
        case service:
            scheme = {"_http": "http", "_https": "https", "_mqtt": "mqtt", "_secure-mqtt": "mqtts"}[service]
            config = {"url": f"{scheme}://{address}:{port}{path if scheme[:4] == 'http' else ''}"}
    label = ".".join(dns_records.split_name(name[: -len(kind) - 1]))
    return Finding("mdns", protocol, f"{address}-{port}", config, {"service": label, "host": host, **texts})
