"""What a scan may do, and what it has found. Pure.

A scan has an end in seconds, packets and findings, and touches only the networks and radios that were asked for. What it finds is what strangers say
of themselves: every text is cut and cleaned before anybody sees it.

Lives elsewhere: who looks (finder.py and the finders beside it); the Devices that are made of it (kubeedge_cloud.devicecontroller).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

ScanNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_SECONDS = 300.0
MAX_ADDRESSES = 4096  # of all networks together that are asked one by one
MAX_PACKETS = 20_000
MAX_FINDINGS = 128
MAX_NETWORKS = 16
MAX_RADIOS = 4
_MAX_TEXT = 128  # characters of what a device says of itself
_MAX_NAME = 57  # of a Device
_MAX_INFO = 16  # texts of one finding
_MAX_KEY = 64  # characters of what such a text is called
_MAX_SAID = 2048  # bytes of all of them, as JSON: the agent takes so much of a scan and no more
_RADIO = re.compile(r"hci[0-9]{1,2}")
_OTHER = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """What is asked for. `networks` are those that finders may send to and hear from, `radios` Bluetooth adapters ("hci0"); `finders`: names
    out of finder.FINDERS, () for all that have something to look at. `units`: Modbus units that are tried at each address."""

    networks: Sequence[ScanNetwork] = ()
    radios: Sequence[str] = ()
    finders: Sequence[str] = ()
    seconds: float = 20.0
    packets: int = 5000
    units: Sequence[int] = (1, 255)

    def covers(self, address: str) -> bool:
        """The address is in a network that was asked for; an answer from anywhere else counts for nothing."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(found in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Finding:
    """A device that has answered. `protocol`, `config`: protocolName and configData of its Device; `key`: what tells it from others of the
    protocol, such as its address; `info`: what it says of itself, for a person to decide by."""

    finder: str
    protocol: str
    key: str
    config: Mapping[str, Any]
    info: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the Device; the same for each scan."""
        return _OTHER.sub("-", f"{self.protocol}-{self.key}".lower()).strip("-")[:_MAX_NAME].rstrip("-")

    def as_json(self) -> dict[str, Any]:
        """As it is printed, and reported to the cloud."""
        return {
            "name": self.name,
            "finder": self.finder,
            "protocol": self.protocol,
            "config": dict(self.config),
            "info": _said(self.info),
        }


class ScanResult:
    """What was found, once each, and what went wrong, by finder."""

    def __init__(self, most: int = MAX_FINDINGS) -> None:
        self.errors: dict[str, str] = {}
        self.left_out = 0
        self._found: dict[str, Finding] = {}
        self._most = most

    def add(self, finding: Finding) -> bool:
        """False: it is known already, or there is no room for it."""
        if finding.name in self._found or not finding.name:
            return False
        if len(self._found) >= self._most:
            self.left_out += 1
            return False
        self._found[finding.name] = finding
        return True

    @property
    def findings(self) -> list[Finding]:
        """In the order of their names."""
        return [self._found[name] for name in sorted(self._found)]


def _said(info: Mapping[str, str]) -> dict[str, str]:
    """The first of the texts, as many as there is room for."""
    found: dict[str, str] = {}
    left = _MAX_SAID
    for key, text in list(info.items())[:_MAX_INFO]:
        key, text = clean(key)[:_MAX_KEY], clean(text)
        left -= len(json.dumps((key, text)))
        if left >= 0:
            found[key] = text
    return found


def clean(text: str) -> str:
    """What a stranger has sent, without what a terminal would obey, and not too long."""
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_TEXT])


def networks(texts: Iterable[str]) -> list[ScanNetwork]:
    """The networks of CIDRs or addresses. Raises Invalid for what is none, and for more than a scan may have."""
    found: list[ScanNetwork] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError as exc:
            raise Invalid(f"{text[:64]!r} is no network, like 192.168.1.0/24") from exc
    if len(found) > MAX_NETWORKS:
        raise Invalid(f"a scan has at most {MAX_NETWORKS} networks")
    return found


def radios(texts: Iterable[str]) -> list[str]:
    """Names of Bluetooth adapters. Raises Invalid."""
    found = list(texts)
    if wrong := [text for text in found if not _RADIO.fullmatch(text)]:
        raise Invalid(f"{wrong[0][:64]!r} is no Bluetooth adapter, like hci0")
    if len(found) > MAX_RADIOS:
        raise Invalid(f"a scan has at most {MAX_RADIOS} adapters")
    return found


def hosts(request: ScanRequest) -> list[str]:
    """Every address of the networks, for who asks each of them. Raises Invalid when there are too many."""
    if sum(network.num_addresses for network in request.networks) > MAX_ADDRESSES:
        raise Invalid(f"the networks have more than {MAX_ADDRESSES} addresses: ask for smaller ones")
    return list(dict.fromkeys(str(host) for network in request.networks for host in network.hosts()))
