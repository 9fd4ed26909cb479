"""What KubeBus reports to operators and Prometheus: links, routes and counters as rows and as metrics, for both sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kubeedge.api.names import PortId
from kubeedge.kit.dataclasses import asdict, fields
from kubeedge.kit.metrics import Family, family

if TYPE_CHECKING:
    from kubeedge.kubebus.l3.plane import PortCounters
    from kubeedge.kubebus.module import KubeBus

DROPS = (
    "no_route", "no_link", "bad_source", "bad_header", "ttl_exceeded", "too_big", "queue_full", "delay_dropped", "tun_full",
    "events_full",
)  # fmt: skip

_PRESENT = frozenset(("queued", "rtt", "min_rtt", "rate", "lowat"))  # what a port has, not what it has done


def drops(counters: PortCounters) -> dict[str, int]:
    """Packets that went no further, by reason; reasons without any are left out."""
    return {reason: count for reason in DROPS if (count := getattr(counters, reason))}


def link_row(counters: PortCounters | None, *, rtt: float | None) -> dict[str, Any]:
    """The part of a link's row that both sides have: seconds, bytes, packets."""
    row: dict[str, Any] = {"rtt": rtt}
    if counters is not None:
        row |= {
            "tcpRtt": counters.rtt / 1e6 or None,
            "queuedBytes": counters.queued,
            "rxBytes": counters.rx_bytes,
            "txBytes": counters.tx_bytes,
            "drops": drops(counters),
        }
    return row


def edge_links(bus: KubeBus, now: float) -> list[dict[str, Any]]:
    """Rows of `kubeedge links` on an edge node; `now`: loop time."""
    return [
        {
            "slot": info.slot,
            "relay": info.relay,
            "relayName": info.relay_name,
            "state": info.state,
            "seconds": round(now - info.since, 1),
            "local": info.local,
            "congestion": info.congestion,
            **link_row(info.counters, rtt=info.rtt),
        }
        for info in bus.links()
    ]


def edge_metrics(bus: KubeBus) -> list[Family]:
    """Figures of an edge node's links and TUN for Prometheus."""
    links = [(str(i.slot), i.counters, i.rtt, i.state) for i in bus.links() if i.state != "opening"]
    established, failures = bus.totals
    found = [
        family("kubeedge_kubebus_up", "gauge", "1 when a link to a relay is up", int(bus.status.up)),
        family("kubeedge_kubebus_links_established_total", "counter", "links that came up", established),
        family("kubeedge_kubebus_link_failures_total", "counter", "links that ended and attempts that failed", failures),
        family("kubeedge_kubebus_routes", "gauge", "prefixes reached through KubeBus", len(bus.routes())),
        family(
            "kubeedge_kubebus_link_rtt_seconds", "gauge", "round trip of the last ping on the link",
            [({"slot": slot}, rtt) for slot, _, rtt, _ in links if rtt is not None],
        ),
        *traffic("kubeedge_kubebus_link", [({"slot": slot}, c) for slot, c, _, _ in links if c is not None]),
    ]  # fmt: skip
    tun = bus.tun_counters()
    if tun is not None:
        found += traffic("kubeedge_kubebus_tun", [({}, tun)])
    return found


def traffic(name: str, counters: Iterable[tuple[Mapping[str, str], PortCounters]]) -> list[Family]:
    """Bytes, packets, segments, drops and queues of ports, one series for each set of labels."""
    ports = list(counters)
    found = [
        family(f"{name}_{key}_total", "counter", help, [(labels, getattr(c, key)) for labels, c in ports])
        for key, help in (
            ("rx_bytes", "bytes received"),
            ("tx_bytes", "bytes sent"),
            ("rx_packets", "packets received, large ones as one"),
            ("tx_packets", "packets sent, large ones as one"),
            ("rx_segments", "L4 segments received"),
            ("tx_segments", "L4 segments sent"),
        )
    ]
    reasons = [({**labels, "reason": reason}, getattr(c, reason)) for labels, c in ports for reason in DROPS]
    found.append(family(f"{name}_drops_total", "counter", "packets that were dropped", reasons))
    found.append(
        family(f"{name}_queued_bytes", "gauge", "bytes in the queue", [(labels, c.queued) for labels, c in ports])
    )
    return found


class CounterTotals:
    """All ports as one, for a relay whose links are too many for a label each. What a port had when it was last looked at stays in
    the sum after its end: Prometheus takes a counter that goes back for a reset and counts its whole value again."""

    def __init__(self) -> None:
        self._last: dict[PortId, PortCounters] = {}
        self._past: dict[str, int] = {}

    def total(self, ports: Mapping[PortId, PortCounters]) -> PortCounters | None:
        """`ports`: those that are there now; their numbers are never used again. None: there has been none."""
        for port in self._last.keys() - ports.keys():
            for key, value in asdict(self._last.pop(port)).items():
                if key not in _PRESENT:
                    self._past[key] = self._past.get(key, 0) + value
        self._last.update(ports)
        if not ports and not self._past:
            return None
        from kubeedge.kubebus.l3.plane import (
            PortCounters,
        )  # here: `kubeedge status` of an agent without KubeBus does without

        rows = list(ports.values())
        return PortCounters(
            **{
                f.name: self._past.get(f.name, 0) + sum(getattr(row, f.name) for row in rows)
                for f in fields(PortCounters)
            }
        )
