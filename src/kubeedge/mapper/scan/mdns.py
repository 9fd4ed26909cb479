"""Multicast DNS: services that devices announce in their network (RFC 6762, 6763), by questions that are answered to us alone (6.7 there).

IPv4. What is asked for is a list of services that a mapper of ours can use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kubeedge.mapper.scan import dns_records
from kubeedge.mapper.scan.core import Finding, ScanRequest
from kubeedge.mapper.scan.dns_records import PTR, SRV, TXT, A, DnsRecord
from kubeedge.mapper.scan.finder import ScanScope
from kubeedge.mapper.scan.multicast import MulticastAnswers, MulticastFinder

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


class MdnsFinder(MulticastFinder):
    """One Device for each service."""

    asked = "multicast DNS is asked"

    async def ask(self, address: str, scope: ScanScope) -> None:
        """All services, and what belongs to those that have answered."""
        heard = _Heard()

        def take(data: bytes, host: str) -> None:
            for record in dns_records.records(data):
                heard.add(record)
            for name, kind in heard.instances.items():
                if finding := _finding(name, kind, heard, scope.request):
                    scope.found(finding)

        transport = await MulticastAnswers(scope, take, messages=_MAX_MESSAGES, size=_MAX_SIZE).open(address)
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
