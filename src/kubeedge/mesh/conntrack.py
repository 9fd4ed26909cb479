"""UDP flows that the kernel's connection tracking knows, over ctnetlink: read, and deleted when they lead to what is gone.

UDP has no end: as long as a client sends from the same port, its flow keeps the translation that it began with.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.ip import IpAddress
from kubeedge.kubebus.l3.netlink import pack_attribute, parse_attributes, parse_messages
from kubeedge.mesh.nft import NETFILTER

_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_NEW = 1 << 8
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300  # NLM_F_*
_ERROR, _DONE = 2, 3
_ORIGINAL, _REPLY, _ID, _ZONE = 1, 2, 12, 18  # CTA_*
_NESTED = 0x8000
_IP, _PROTOCOL = 1, 2  # CTA_TUPLE_*
_ADDRESSES: dict[int, tuple[int, int]] = {
    socket.AF_INET: (1, 2),
    socket.AF_INET6: (3, 4),
}  # CTA_IP_V4_SRC, _DST, CTA_IP_V6_SRC, _DST
_NUMBER, _SOURCE_PORT, _PORT = 1, 2, 3  # CTA_PROTO_NUM, _SRC_PORT, _DST_PORT
_UDP = 17
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_MOST = 1 << 18  # bytes of one answer
_SETTINGS = Path("/proc/sys/net/netfilter")
_DELETIONS = 10_000  # at a time: what is left is found with the next change


def lacks_sctp(settings: Path = _SETTINGS) -> bool:
    """Whether the kernel tracks connections, and none of SCTP (CONFIG_NF_CT_PROTO_SCTP): it cannot translate them then."""
    tcp, sctp = (settings / f"nf_conntrack_{name}_timeout_established" for name in ("tcp", "sctp"))
    return tcp.exists() and not sctp.exists()


@dataclass(frozen=True, slots=True)
class Flow:
    """Where a client sends to, and from where it is answered: another address when it is translated. `key` names the flow to the kernel."""

    destination: IpAddress
    port: int
    answers_from: IpAddress
    answers_port: int
    family: int
    key: bytes


def delete_flows(wanted: Callable[[Flow], bool]) -> int:
    """Delete the UDP flows that are `wanted`; how many there were. Blocking. Raises OSError where the kernel cannot say."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER) as kernel:
        found: list[Flow] = []
        for family in _ADDRESSES:
            for flow in _flows(kernel, family):
                if len(found) < _DELETIONS and wanted(flow):
                    found.append(flow)
        return sum(_delete(kernel, flow) for flow in found)


def _flows(kernel: socket.socket, family: int) -> Iterator[Flow]:
    _send(kernel, _GET, _DUMP, family, b"")
    while True:
        for kind, _, body in parse_messages(kernel.recv(_MOST)):
            if kind == _DONE:
                return
            if kind == _ERROR:
                _raise(body)
            if kind == _NEW and (flow := flow_of(family, body[4:])) is not None:
                yield flow


def flow_of(family: int, attributes: bytes) -> Flow | None:
    """Of the attributes of one entry; None when it is not a UDP flow."""
    found = parse_attributes(attributes)
    original, reply = (_tuple(family, found.get(kind, b"")) for kind in (_ORIGINAL, _REPLY))
    if original is None or reply is None:
        return None
    key = pack_attribute(_ORIGINAL | _NESTED, found[_ORIGINAL])
    for kind in (_ID, _ZONE):
        if kind in found:
            key += pack_attribute(kind, found[kind])
    return Flow(original[2], original[3], reply[0], reply[1], family, key)


def _tuple(family: int, data: bytes) -> tuple[IpAddress, int, IpAddress, int] | None:
    """Source, its port, destination, its port; None when it is not UDP."""
    parts = parse_attributes(data)
    protocol, addresses = parse_attributes(parts.get(_PROTOCOL, b"")), parse_attributes(parts.get(_IP, b""))
    source, destination = (addresses.get(kind, b"") for kind in _ADDRESSES[family])
    if protocol.get(_NUMBER) != bytes((_UDP,)) or len(source) not in (4, 16) or len(destination) not in (4, 16):
        return None
    ports = [int.from_bytes(protocol.get(kind, b""), "big") for kind in (_SOURCE_PORT, _PORT)]
    return ipaddress.ip_address(source), ports[0], ipaddress.ip_address(destination), ports[1]


def _delete(kernel: socket.socket, flow: Flow) -> bool:
    _send(kernel, _DELETE, _ACK, flow.family, flow.key)
    for kind, _, body in parse_messages(kernel.recv(_MOST)):
        if kind == _ERROR:
            _raise(body, but=errno.ENOENT)  # it has ended by itself
            return not any(body[:4])
    return False


def _send(kernel: socket.socket, kind: int, flags: int, family: int, attributes: bytes) -> None:
    body = struct.pack("=BBH", family, 0, 0) + attributes
    kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, 1, 0) + body)


def _raise(body: bytes, but: int = 0) -> None:
    (code,) = struct.unpack_from("=i", body)
    if code and -code != but:
        raise OSError(-code, os.strerror(-code))
