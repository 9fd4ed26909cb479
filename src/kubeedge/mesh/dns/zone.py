"""The records of a cluster's domain, as Kubernetes specifies them (DNS-Based Service Discovery 1.1.0), from the table of Services. Pure.

NAME.NAMESPACE.svc.DOMAIN                    A, AAAA: cluster IPs; of a headless Service, its ready endpoints
_PORT._PROTOCOL.NAME.NAMESPACE.svc.DOMAIN    SRV
HOSTNAME.NAME.NAMESPACE.svc.DOMAIN           A, AAAA: that endpoint of a headless Service
1-2-3-4.NAMESPACE.pod.DOMAIN                 A
reverse names of cluster IPs and endpoints   PTR
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.ip import IpAddress
from kubeedge.mesh.dns.message import Code, Name, Record, Type, encode_name, name_of
from kubeedge.mesh.model import Endpoint, Service
from kubeedge.mesh.table import MeshTable

TTL = 5  # seconds, as CoreDNS gives: endpoints come and go
_MAX_RECORDS = 500  # of one answer
_VERSION = b"1.1.0"
_REVERSE = {4: (b"in-addr", b"arpa"), 6: (b"ip6", b"arpa")}


@dataclass(frozen=True, slots=True)
class ZoneAnswer:
    """`target`: the name is another one's (CNAME), which is to be asked for next."""

    code: int = Code.NOERROR
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    target: Name | None = None


class Zone:
    """The answers for the names of one domain."""

    def __init__(self, table: MeshTable, domain: str, *, outside: bool = False) -> None:
        """`outside`: for clients outside of the cluster, who have no search list: NAME.NAMESPACE.svc is a name, too, and a Service has its external
        addresses there, if it has any."""
        self._table = table
        self._domain = name_of(domain)
        self._outside = outside

    def find(self, name: Name, type: int) -> ZoneAnswer | None:
        """None: the name is none of the cluster's. Names are in small letters."""
        if is_reverse(name):
            return self._reverse(name, type)
        size = len(self._domain)
        inside = name[-size:] == self._domain
        if not inside and not (self._outside and name[-1:] == (b"svc",)):
            return None
        found = self._inside(name, name[:-size] if inside else name, type)
        if found.code == Code.NXDOMAIN or (not found.answers and found.target is None):
            return ZoneAnswer(found.code, (), (self._authority() if inside else self._authority((b"svc",)),))
        return found

    def _inside(self, name: Name, labels: Name, type: int) -> ZoneAnswer:
        if labels in ((), (b"svc",), (b"pod",)):
            soa = (self._authority(),) if not labels and type in (Type.SOA, Type.ANY) else ()
            return ZoneAnswer(answers=soa)
        if labels == (b"dns-version",):
            text = bytes((len(_VERSION),)) + _VERSION
            return ZoneAnswer(answers=(Record(name, Type.TXT, TTL, text),) if type in (Type.TXT, Type.ANY) else ())
        if labels[-1] == b"pod" and len(labels) == 3:
            return self._pod(name, labels[0], type)
        if labels[-1] != b"svc":
            return ZoneAnswer(Code.NXDOMAIN)
        namespace = labels[-2].decode("ascii", "replace")
        if len(labels) == 2:
            return ZoneAnswer() if namespace in self._table.namespaces else ZoneAnswer(Code.NXDOMAIN)
        service = self._table.services.get(f"{namespace}/{labels[-3].decode('ascii', 'replace')}")
        if service is None:
            return ZoneAnswer(Code.NXDOMAIN)
        return self._service(name, labels[:-3], service, type)

    def _service(self, name: Name, before: Name, service: Service, type: int) -> ZoneAnswer:
        if service.kind == "ExternalName":
            if before or not service.external_name:
                return ZoneAnswer(Code.NXDOMAIN)
            target = name_of(service.external_name)
            return ZoneAnswer(answers=(Record(name, Type.CNAME, TTL, encode_name(target)),), target=target)
        if not before:
            if not service.headless:
                own = (self._outside and service.external) or service.addresses
                return ZoneAnswer(answers=_addresses(name, own, type))
            return ZoneAnswer(answers=_addresses(name, [e.address for e in self._ready(service)], type))
        if len(before) == 2 and before[0][:1] == before[1][:1] == b"_":
            return self._ports(name, before, service, type)
        if len(before) == 1 and service.headless:
            named = [e.address for e in self._ready(service) if _label(e) == before[0]]
            return ZoneAnswer(answers=_addresses(name, named, type)) if named else ZoneAnswer(Code.NXDOMAIN)
        return ZoneAnswer(Code.NXDOMAIN)

    def _ports(self, name: Name, before: Name, service: Service, type: int) -> ZoneAnswer:
        wanted, protocol = before[0][1:].decode("ascii", "replace"), before[1][1:].decode("ascii", "replace").upper()
        ports = [p for p in service.ports if p.name == wanted and p.protocol == protocol]
        base = name[2:]
        if service.headless:
            targets = [
                ((_label(e), *base), e.ports[p.name][1])
                for p in ports
                for e in self._ready(service)
                if p.name in e.ports
            ]
        else:
            targets = [(base, p.port) for p in ports]
        if not targets:
            return ZoneAnswer() if ports else ZoneAnswer(Code.NXDOMAIN)
        if type not in (Type.SRV, Type.ANY):
            return ZoneAnswer()
        share = max(1, 100 // len(targets))
        made = [
            Record(name, Type.SRV, TTL, struct.pack("!HHH", 0, share, port) + encode_name(target))
            for target, port in targets[:_MAX_RECORDS]
        ]
        return ZoneAnswer(answers=made)

    def _pod(self, name: Name, label: bytes, type: int) -> ZoneAnswer:
        """The address is in the name; nothing says whether there is such a pod."""
        text = label.decode("ascii", "replace")
        for written in (text.replace("-", "."), text.replace("-", ":")):
            try:
                return ZoneAnswer(answers=_addresses(name, [ipaddress.ip_address(written)], type))
            except ValueError:
                continue
        return ZoneAnswer(Code.NXDOMAIN)

    def _reverse(self, name: Name, type: int) -> ZoneAnswer | None:
        address = _address_of(name)
        if address is None:
            return None
        suffix = (b"svc", *self._domain)
        if (service := self._table.service_at(address)) is not None:
            names = [(service.name.encode(), service.namespace.encode(), *suffix)]
        else:
            names = [
                (_label(e), s.name.encode(), s.namespace.encode(), *suffix)
                for s in self._table.services.values()
                if s.headless
                for e in self._ready(s)
                if e.address == address
            ][:8]
        if not names:
            return None
        wanted = type in (Type.PTR, Type.ANY)
        return ZoneAnswer(answers=[Record(name, Type.PTR, TTL, encode_name(n)) for n in names] if wanted else ())

    def _ready(self, service: Service) -> list[Endpoint]:
        return [e for e in self._table.endpoints(service) if e.ready][:_MAX_RECORDS]

    def _authority(self, domain: Name = ()) -> Record:
        """RFC 2308: its last number says for how long a "no" holds."""
        names = encode_name((b"ns", b"dns", *self._domain)) + encode_name((b"hostmaster", *self._domain))
        return Record(domain or self._domain, Type.SOA, TTL, names + struct.pack("!5I", 1, 7200, 1800, 86_400, TTL))


def is_reverse(name: Name) -> bool:
    """The name of an address (in-addr.arpa, ip6.arpa), which becomes one of the cluster's when a Service gets that address."""
    return name[-2:] in _REVERSE.values()


def _addresses(name: Name, addresses: Sequence[IpAddress], type: int) -> list[Record]:
    return [
        Record(name, kind, TTL, address.packed)
        for version, kind in ((4, Type.A), (6, Type.AAAA))
        if type in (kind, Type.ANY)
        for address in dict.fromkeys(addresses)
        if address.version == version
    ]


def _label(endpoint: Endpoint) -> bytes:
    if endpoint.hostname:
        return endpoint.hostname.encode()
    return endpoint.address.exploded.replace(".", "-").replace(":", "-").encode()


def _address_of(name: Name) -> IpAddress | None:
    """The address of a reverse name (in-addr.arpa, ip6.arpa); None when it is no such name."""
    labels = [label.decode("ascii", "replace") for label in reversed(name[:-2])]
    try:
        if name[-2:] == _REVERSE[4] and len(labels) == 4:
            return ipaddress.IPv4Address(".".join(labels))
        if name[-2:] == _REVERSE[6] and len(labels) == 32 and all(len(label) == 1 for label in labels):
            return ipaddress.IPv6Address(int("".join(labels), 16))
    except ValueError:
        pass
    return None
