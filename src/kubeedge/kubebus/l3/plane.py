"""The interface of the data plane: its calls, and what it reports, as values.

The plane runs in a C thread (kubeedge._fastpath.plane); docs/ARCHITECTURE.md describes it, docs/adr/0002 gives the reason. Its reference
implementation in Python is in tests/reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from kubeedge._fastpath import plane as fastpath
from kubeedge.api.names import L4Port, NodeNumber, PortId, TenantNumber
from kubeedge.kit.dataclasses import dataclass
from kubeedge.wire_format import frame
from kubeedge.wire_format.frame import CONTROL, MAX_CONTROL_BYTES, PACKET, SEGMENT

_HTTP = L4Port(80)
MAX_SEGMENT_BYTES = frame.MAX_SEGMENT_BYTES - frame.ADDRESS  # bytes of one segment, its 8-byte address not counted

__all__ = [
    "CONTROL",
    "MAX_CONTROL_BYTES",
    "MAX_SEGMENT_BYTES",
    "PACKET",
    "SEGMENT",
    "FrameReceived",
    "Plane",
    "PlaneEvent",
    "PortClosed",
    "PortConnected",
    "PortCounters",
    "SegmentReceived",
    "TlsContext",
    "told",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PortConnected:
    """TLS is up; nothing but control frames flows until `admit`. peer_uri is the one URI name of the peer's certificate."""

    port: PortId
    peer_uri: str


@dataclass(frozen=True, slots=True)
class PortClosed:
    """Final: the port is gone. Comes exactly once for every port that add_link gave, and for a TUN whose device was deleted."""

    port: PortId
    reason: str


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A frame that is for the control plane: a kind of kubeedge.wire_format.frame, and its payload."""

    port: PortId
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SegmentReceived:
    """An L4 segment for this plane's own number."""

    port: PortId
    tenant: TenantNumber
    source: NodeNumber
    payload: bytes


PlaneEvent: TypeAlias = PortConnected | PortClosed | FrameReceived | SegmentReceived


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCounters:
    """Of one port since it was made. Packets and segments are counts, except where a unit is given."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    rx_segments: int
    tx_segments: int
    no_route: int
    no_link: int  # packets for a node that is known and not connected
    bad_source: int  # packets and segments from addresses that are not the link's
    bad_header: int
    ttl_exceeded: int
    too_big: int  # for the MTU of their route
    queue_full: int
    delay_dropped: int  # by CoDel: they, or those before them, waited too long
    marked: int  # congestion experienced (ECN) instead
    tun_full: int
    events_full: int
    icmp_sent: int
    queued: int  # bytes, now
    rtt: int  # us, of the TCP connection when it was last looked at; 0: none
    min_rtt: int  # us
    rate: int  # bytes/s that the path delivered
    lowat: int  # bytes that may wait unsent in the kernel


class TlsContext:
    """Credentials for links: TLS 1.3, certificates on both sides. Raises OSError when a file cannot be used."""

    def __init__(self, ca: Path | str, cert: Path | str, key: Path | str, *, server: bool) -> None:
        self.raw = fastpath.TlsContext(str(ca), str(cert), str(key), server=server)


class Plane:
    """One data plane with its thread. `number` is our own node number: segments for it become events."""

    def __init__(self, number: NodeNumber) -> None:
        self._raw = fastpath.Plane(number)

    def close(self) -> None:
        """Ends the thread and closes every port; idempotent."""
        self._raw.close()

    def l4(self, tenant: TenantNumber, *, pace: tuple[int, int] = (0, 0)) -> fastpath.L4:
        """The tenant's L4 connections, which live in the plane's thread: kubebus.l4.driver takes it. From the first one on, segments for our
        number go there and are no events. `pace`: connections in a second that are accepted of a node and of the tenant; 0: any number."""
        return fastpath.L4(plane=self._raw, tenant=tenant, pace=pace)

    def web_proxy(
        self, *, listener: int = -1, l4: fastpath.L4 | None = None, port: L4Port = _HTTP, **settings: Any
    ) -> fastpath.Proxy:
        """The fast path of the web proxies (kubebus.http.fast): in front of a listening descriptor, which is the proxy's from here, or of
        who listens on a port of `l4`. Raises OSError; the descriptor is the caller's then."""
        return fastpath.Proxy(self._raw, listener=listener, l4=l4, port=port, **settings)

    def fileno(self) -> int:
        """Readable when events() has something."""
        descriptor: int = self._raw.fileno()
        return descriptor

    def events(self, limit: int = 256) -> list[PlaneEvent]:
        """At most `limit` events, the oldest first; never blocks. Those that remain keep the descriptor readable."""
        return [_event(*raw) for raw in self._raw.raw_events(limit)]

    def add_tun(self, fd: int, *, tenant: TenantNumber, vnet_hdr: bool, uso: bool = True) -> PortId:
        """The port; the plane owns the descriptor from here. What the device does not take (packets of up to 64 KiB without
        vnet_hdr, UDP ones without uso) is cut in software."""
        port: PortId = self._raw.add_tun(fd, tenant=tenant, vnet_hdr=vnet_hdr, uso=uso)
        return port

    def set_source(self, tenant: TenantNumber, address: str, *, tun: bool = False) -> None:
        """Where ICMP errors come from, per version of IP: those into links or, with `tun`, those into our own TUN, whose kernel
        refuses packets from its own address. Before, they come from 192.0.0.8 (RFC 7600) or fe80::1."""
        self._raw.set_source(tenant, address, tun)

    def add_link(self, fd: int, tls: TlsContext, *, server_name: str = "", congestion: str = "") -> PortId:
        """A connected TCP socket, whose descriptor the plane owns from here. The handshake runs in the plane: PortConnected or
        PortClosed will say how it went. server_name is what the server's certificate must be for (a host name or an address).
        congestion: the socket's congestion control; without one, bbr on a path with a round trip of 3 ms or more, else cubic."""
        port: PortId = self._raw.add_link(fd, tls.raw, server_name=server_name, congestion=congestion)
        return port

    def admit(self, port: PortId, *, tenant: TenantNumber, number: NodeNumber, prefixes: Sequence[str]) -> bool:
        """From here data flows. Packets from the link must have a source within `prefixes`, segments the source `number`;
        with no prefixes neither is checked (the edge trusts its relay). False: the link is gone.

        Several links may be admitted for one node (at most 8, then the oldest gets no more): each flow keeps to one of them, and
        when that goes down its flows move to the others."""
        admitted: bool = self._raw.admit(port, tenant=tenant, number=number, prefixes=prefixes)
        return admitted

    def admit_peer(self, port: PortId) -> bool:
        """The link leads to another relay, which is trusted with the data of every tenant. What comes from it goes to nodes that
        are linked here, or to our TUN, never to another relay. False: the link is gone."""
        admitted: bool = self._raw.admit_peer(port)
        return admitted

    def add_next_hop(self, tenant: TenantNumber, number: NodeNumber, port: PortId) -> bool:
        """The node is linked to the relay behind this port, until `remove_next_hops` or the port goes down. Links of the node to ourselves
        come first. Up to 4 ports may be named. False: the port is no peer, or there are too many."""
        bound: bool = self._raw.add_next_hop(tenant, number, port)
        return bound

    def remove_next_hops(self, tenant: TenantNumber, number: NodeNumber) -> None:
        """Remove the next hops of one node on all ports. Links of the node to ourselves stay."""
        self._raw.remove_next_hops(tenant, number)

    def add_route(self, tenant: TenantNumber, prefix: str, number: NodeNumber, *, mtu: int = 0) -> None:
        """A route to a node; it stays while the node's links come and go. Our own number stands for the tenant's TUN. `mtu`: the
        smallest of the networks behind the node, if it is known. Replaces a route of the same prefix."""
        self._raw.add_route(tenant, prefix, number, mtu)

    def remove_route(self, tenant: TenantNumber, prefix: str) -> None:
        """Remove a route; one that is not there is no error."""
        self._raw.remove_route(tenant, prefix)

    def lookup(self, tenant: TenantNumber, address: str) -> NodeNumber | None:
        """The number of the node that an address is routed to."""
        number: NodeNumber | None = self._raw.lookup(tenant, address)
        return number

    def send(self, port: PortId, kind: int, payload: bytes) -> bool:
        """A CONTROL frame, or a SEGMENT with its 8-byte address. False: the queue is full, or the link is gone."""
        sent: bool = self._raw.send(port, kind, payload)
        return sent

    def send_segment(self, tenant: TenantNumber, number: NodeNumber, payload: bytes) -> bool:
        """To a link of that node, or through a relay. False: the queue is full, or there is no way to the node."""
        sent: bool = self._raw.send_segment(tenant, number, payload)
        return sent

    def congestion(self, port: PortId) -> tuple[str, str] | None:
        """(the congestion control that the kernel uses, why it is not the one that was wanted). None: the port is gone."""
        found: tuple[str, str] | None = self._raw.congestion(port)
        return found

    def drop(self, port: PortId, reason: str) -> None:
        """Close a port; PortClosed follows with the reason."""
        self._raw.drop(port, reason)

    def counters(self, port: PortId) -> PortCounters | None:
        """The counters of a port; None when the port is closed."""
        raw = self._raw.raw_counters(port)
        return None if raw is None else PortCounters(**raw)


def told(congestion: tuple[str, str] | None) -> str:
    """Congestion control, for display: "bbr", or "cubic (bbr: not allowed)"."""
    if congestion is None:
        return ""
    return f"{congestion[0]} ({congestion[1]})" if congestion[1] else congestion[0]


def _event(type: int, port: PortId, kind: int, tenant: TenantNumber, source: NodeNumber, payload: bytes) -> PlaneEvent:
    match type:
        case 1:
            return PortConnected(port, payload.decode(errors="replace"))
        case 2:
            return FrameReceived(port, kind, payload)
        case 3:
            return SegmentReceived(port, tenant, source, payload)
    return PortClosed(port, payload.decode(errors="replace"))
