"""The few rtnetlink(7) messages that an overlay needs: links, addresses, routes, rules. Bytes, and one socket to the kernel.

The kernel answers while it is asked, so nothing here blocks. pyroute2 knows all of netlink, and takes seconds and megabytes on a small
machine; the tests compare what it sees.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.ip import IpAddress, IpNetwork

MAIN = 254  # RT_TABLE_MAIN
UNICAST, THROW = 1, 9  # RTN_*

_REQUEST, _ACK, _REPLACE, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x300  # NLM_F_*
_ERROR, _DONE = 2, 3
_NEWLINK, _NEWADDR, _DELADDR, _GETADDR, _NEWROUTE, _DELROUTE, _GETROUTE, _NEWRULE, _DELRULE, _GETRULE = (
    16, 20, 21, 22, 24, 25, 26, 32, 33, 34
)  # fmt: skip
_IFF_UP = 0x1
_IFLA_MTU = 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _NOPREFIXROUTE = 1, 2, 8, 0x200
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 7, 8, 15
_RTAX_MTU = 2
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE, _TO_TABLE = 2, 6, 15, 1
_BOOT = 3  # RTPROT_BOOT, as ip(8) says it
_UNIVERSE, _LINK, _NOWHERE = 0, 253, 255  # RT_SCOPE_*

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_LINK_MESSAGE = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS_MESSAGE = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE_MESSAGE = struct.Struct(
    "=8BI"
)  # struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RULE_MESSAGE = _ROUTE_MESSAGE  # struct fib_rule_hdr: family, dst_len, src_len, tos, table, 0, 0, action, flags
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the kernel, with the attributes that KubeBus uses."""

    network: IpNetwork
    index: int = 0  # of the interface
    table: int = MAIN
    metric: int = 0
    mtu: int = 0  # 0: the interface's
    source: IpAddress | None = None  # of what this machine sends
    kind: int = UNICAST
    gateway: IpAddress | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Packets from `source`, or all, look into `table`. IPv4."""

    priority: int
    table: int
    source: ipaddress.IPv4Network | None = None


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of this machine, and on which interface it is."""

    index: int
    interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Netlink:
    """Routes, rules and addresses of the kernel over rtnetlink(7). All methods raise OSError with the kernel's reason."""

    def __enter__(self) -> Netlink:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        return self

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    # -- links and addresses -------------------------------------------------------------------------------------------

    def bring_up(self, index: int, mtu: int) -> None:
        """ip link set up, with its MTU."""
        body = _LINK_MESSAGE.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP) + _u32(_IFLA_MTU, mtu)
        self._do(_NEWLINK, 0, body)

    def replace_address(self, index: int, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
        """Without a route to its network."""
        bits, packed = interface.network.prefixlen, interface.ip.packed
        body = _ADDRESS_MESSAGE.pack(_family(interface.ip), bits, 0, 0, index)
        body += (
            pack_attribute(_IFA_LOCAL, packed) + pack_attribute(_IFA_ADDRESS, packed) + _u32(_IFA_FLAGS, _NOPREFIXROUTE)
        )
        self._do(_NEWADDR, _CREATE | _REPLACE, body)

    def remove_address(self, index: int, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
        """Remove an address; one that is gone already is no error."""
        body = _ADDRESS_MESSAGE.pack(_family(interface.ip), interface.network.prefixlen, 0, 0, index)
        with _expecting(errno.EADDRNOTAVAIL):
            self._do(_DELADDR, 0, body + pack_attribute(_IFA_LOCAL, interface.ip.packed))

    def addresses(self) -> list[LocalAddress]:
        """All IPv4 addresses of this machine."""
        found = []
        for body in self._ask(_GETADDR, _DUMP, _ADDRESS_MESSAGE.pack(socket.AF_INET, 0, 0, 0, 0), _NEWADDR):
            _, bits, _, _, index = _ADDRESS_MESSAGE.unpack_from(body)
            attributes = parse_attributes(body[_ADDRESS_MESSAGE.size :])
            if (packed := attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)) is not None:
                found.append(LocalAddress(index, ipaddress.ip_interface((packed, bits))))
        return found

    # -- routes --------------------------------------------------------------------------------------------------------

    def replace_route(self, route: Route) -> None:
        """Add a route, or replace the one with its destination, as `ip route replace` does."""
        self._do(_NEWROUTE, _CREATE | _REPLACE, _route_message(route))

    def remove_route(self, route: Route) -> None:
        """Remove a route; one that is gone already is no error."""
        with _expecting(errno.ESRCH, errno.ENOENT):
            self._do(_DELROUTE, 0, _route_message(route))

    def routes(self) -> list[Route]:
        """The IPv4 routes of all tables."""
        body = _ROUTE_MESSAGE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        return [_route_of(found) for found in self._ask(_GETROUTE, _DUMP, body, _NEWROUTE)]

    def route_to(self, address: IpAddress) -> Route:
        """ip route get: the interface and MTU of the way to an address."""
        body = _ROUTE_MESSAGE.pack(_family(address), address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
        (found,) = self._ask(_GETROUTE, 0, body + pack_attribute(_RTA_DST, address.packed), _NEWROUTE)
        return _route_of(found)

    # -- rules ---------------------------------------------------------------------------------------------------------

    def add_rule(self, rule: Rule) -> None:
        """ip rule add; nothing when it is there."""
        with _expecting(errno.EEXIST):
            self._do(_NEWRULE, _CREATE | _EXCL, _rule_message(rule))

    def remove_rule(self, rule: Rule) -> None:
        """ip rule del; nothing when it is not there."""
        with _expecting(errno.ENOENT, errno.ESRCH):
            self._do(_DELRULE, 0, _rule_message(rule))

    def rules(self) -> list[Rule]:
        """ip rule show, for IPv4."""
        body = _RULE_MESSAGE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        found = []
        for message in self._ask(_GETRULE, _DUMP, body, _NEWRULE):
            _, _, bits, _, table, *_ = _RULE_MESSAGE.unpack_from(message)
            attributes = parse_attributes(message[_RULE_MESSAGE.size :])
            source = attributes.get(_FRA_SRC)
            found.append(
                Rule(
                    _number(attributes, _FRA_PRIORITY),
                    _number(attributes, _FRA_TABLE) or table,
                    ipaddress.IPv4Network((source, bits)) if source else None,
                )
            )
        return found

    # -- messages ------------------------------------------------------------------------------------------------------

    def _do(self, kind: int, flags: int, body: bytes) -> None:
        for _ in self._ask(kind, flags | _ACK, body, -1):
            pass

    def _ask(self, kind: int, flags: int, body: bytes, wanted: int) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, self._sequence, 0) + body)
        single = not flags & (_ACK | _DUMP)
        while True:
            for type, sequence, message in parse_messages(self._socket.recv(1 << 18)):
                if sequence != self._sequence:
                    continue
                if type == _ERROR:
                    (code,) = struct.unpack_from("=i", message)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                if type == _DONE:
                    return
                if type == wanted:
                    yield message
                    if single:
                        return


class _expecting:
    """An error that says that it is as it should be."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return isinstance(value, OSError) and value.errno in self._numbers


def parse_messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence number, body) of the messages in a datagram of any netlink family. Raises PeerError."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, type, _, sequence, _ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            raise PeerError("a netlink message that is cut off")
        yield type, sequence, datagram[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def pack_attribute(kind: int, value: bytes) -> bytes:
    """One attribute of a message, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _u32(kind: int, value: int) -> bytes:
    return pack_attribute(kind, struct.pack("=I", value))


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Values of attributes by their number, without the flags of nesting and byte order."""
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _number(attributes: dict[int, bytes], kind: int) -> int:
    value = attributes.get(kind)
    return int.from_bytes(value[:4], "little" if struct.pack("=H", 1)[0] else "big") if value else 0


def _family(address: IpAddress) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _route_message(route: Route) -> bytes:
    far = route.kind == THROW or route.network.version == 6 or route.gateway is not None
    scope = _UNIVERSE if far else _LINK
    family, bits = _family(route.network.network_address), route.network.prefixlen
    body = _ROUTE_MESSAGE.pack(family, bits, 0, 0, 0, _BOOT, scope, route.kind, 0) + _u32(_RTA_TABLE, route.table)
    if bits:
        body += pack_attribute(_RTA_DST, route.network.network_address.packed)
    if route.index:
        body += _u32(_RTA_OIF, route.index)
    if route.gateway:
        body += pack_attribute(_RTA_GATEWAY, route.gateway.packed)
    if route.metric:
        body += _u32(_RTA_PRIORITY, route.metric)
    if route.source:
        body += pack_attribute(_RTA_PREFSRC, route.source.packed)
    if route.mtu:
        body += pack_attribute(_RTA_METRICS, _u32(_RTAX_MTU, route.mtu))
    return body


def _route_of(message: bytes) -> Route:
    family, bits, _, _, table, _, _, kind, _ = _ROUTE_MESSAGE.unpack_from(message)
    attributes = parse_attributes(message[_ROUTE_MESSAGE.size :])
    packed = attributes.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    source, gateway = attributes.get(_RTA_PREFSRC), attributes.get(_RTA_GATEWAY)
    metrics = parse_attributes(attributes.get(_RTA_METRICS, b""))
    return Route(
        ipaddress.ip_network((packed, bits)),
        _number(attributes, _RTA_OIF),
        _number(attributes, _RTA_TABLE) or table,
        _number(attributes, _RTA_PRIORITY),
        _number(metrics, _RTAX_MTU),
        ipaddress.ip_address(source) if source else None,
        kind,
        ipaddress.ip_address(gateway) if gateway else None,
    )


def _rule_message(rule: Rule) -> bytes:
    bits = rule.source.prefixlen if rule.source else 0
    body = _RULE_MESSAGE.pack(socket.AF_INET, 0, bits, 0, 0, 0, 0, _TO_TABLE, 0)
    body += _u32(_FRA_PRIORITY, rule.priority) + _u32(_FRA_TABLE, rule.table)
    return body + (pack_attribute(_FRA_SRC, rule.source.network_address.packed) if rule.source else b"")
