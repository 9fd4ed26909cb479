"""WS-Discovery (2005/04, as ONVIF has it): the question who is there, and its answers. Pure: ids come in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.mapper.onvif.elements import XmlElement, parse

GROUP, PORT = "239.255.255.250", 3702
_MAX_ADDRESSES = 8  # of one device
_ID = re.compile(r"[A-Za-z0-9:._-]{1,128}")
_SCOPE = "onvif://www.onvif.org/"
_KEPT = ("name", "hardware", "location", "type", "profile")
_DISCOVERY = "http://schemas.xmlsoap.org/ws/2005/04/discovery"


@dataclass(frozen=True, slots=True)
class DiscoveredCamera:
    """`id`: of the device, mostly urn:uuid:...; `addresses`: URLs of its service, as it says; `scopes`: name, hardware, location, ..."""

    id: str
    addresses: tuple[str, ...]
    scopes: Mapping[str, str] = field(default_factory=dict)


def probe(message: str) -> bytes:
    """Asks for all cameras. `message`: a UUID, which the answers relate to."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        f'xmlns:d="{_DISCOVERY}" xmlns:dn="http://www.onvif.org/ver10/network/wsdl"><s:Header>'
        f"<a:Action>{_DISCOVERY}/Probe</a:Action><a:MessageID>uuid:{message}</a:MessageID>"
        "<a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header>"
        "<s:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></s:Body></s:Envelope>"
    ).encode()


def matches_of(data: bytes, message: str) -> list[DiscoveredCamera]:
    """Of an answer to the probe of that id; [] for what is another's. Raises PeerError for what is no XML."""
    root = parse(data)
    if root.value("Header", "RelatesTo").removeprefix("urn:").removeprefix("uuid:") != message:
        return []
    found = []
    for one in root.all("ProbeMatch"):
        identifier = one.value("EndpointReference", "Address")
        addresses = tuple(a for a in one.value("XAddrs").split()[:_MAX_ADDRESSES] if _host(a))
        if addresses and _ID.fullmatch(identifier):
            found.append(DiscoveredCamera(identifier, addresses, _scopes(one)))
    return found


def address_at(camera: DiscoveredCamera, host: str) -> str:
    """Its URL that has this host, from which it has answered; "": none has, and what others may be at is not to be trusted."""
    return next((address for address in camera.addresses if _host(address) == host), "")


def _host(address: str) -> str:
    """Of a URL of HTTP; "" for none."""
    if len(address) > 256 or not all("!" <= c <= "~" for c in address):
        return ""
    try:
        parts = urlsplit(address)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        return ""
    return (parts.hostname or "") if parts.scheme in ("http", "https") and port_is_one and not parts.username else ""


def _scopes(one: XmlElement) -> dict[str, str]:
    found: dict[str, str] = {}
    for scope in one.value("Scopes").split()[:64]:
        key, _, value = scope.removeprefix(_SCOPE).partition("/")
        if scope.startswith(_SCOPE) and key.lower() in _KEPT and value and key.lower() not in found:
            found[key.lower()] = unquote(value)[:128]
    return found
