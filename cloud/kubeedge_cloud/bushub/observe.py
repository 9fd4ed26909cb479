"""What the relay reports to operators and Prometheus. Metrics have no label for each node: there are thousands."""

from __future__ import annotations

import asyncio
from typing import Any

from kubeedge.kit.metrics import Family, family, renamed
from kubeedge.kubebus.observe import link_row, traffic
from kubeedge_cloud.bushub.module import BusHub


def node_links(bus: BusHub) -> list[dict[str, Any]]:
    """Rows of GET /v1/links, one for each link of a node to this relay. Needs the running loop's clock."""
    now = asyncio.get_running_loop().time()
    return [
        {
            "tenant": link.tenant,
            "node": link.node,
            "slot": link.slot,
            "state": link.state,
            "seconds": round(now - link.since, 1),
            "congestion": link.congestion,
            "problem": link.duplicate,
            **link_row(link.counters, rtt=link.rtt),
        }
        for link in bus.links()
    ]


def relay_state(bus: BusHub) -> dict[str, Any]:
    """What `kubeedge links` shows in the cloud."""
    return {"links": node_links(bus), "relays": bus.peers(), "problems": bus.problems()}


def relay_metrics(bus: BusHub) -> list[Family]:
    """The metrics of a relay: links, traffic and drops in sum, read at each scrape."""
    links, peers = bus.links(), bus.peers()
    found = [
        family("kubeedge_bushub_links", "gauge", "links of nodes", len(links)),
        family(
            "kubeedge_bushub_nodes", "gauge", "nodes that have a link here", len({(i.tenant, i.node) for i in links})
        ),
        family(
            "kubeedge_bushub_links_established_total", "counter", "links that were admitted", bus.counts.established
        ),
        family("kubeedge_bushub_links_refused_total", "counter", "links that were refused", bus.counts.refused),
        family(
            "kubeedge_bushub_relays", "gauge", "other relays that are linked", sum(p["state"] == "up" for p in peers)
        ),
        *renamed(
            family("kubeedge_bushub_problems", "gauge", "problems that `kubeedge links` names", len(bus.problems())),
            old="kubeedge_bushub_troubles",
        ),
        *renamed(
            family(
                "kubeedge_bushub_suspect_links",
                "gauge",
                "links that do not answer now",
                sum(i.state == "suspect" for i in links),
            ),
            old="kubeedge_bushub_doubtful_links",
        ),
    ]
    everything, tun = bus.traffic(), bus.tun_counters()
    if everything is not None:
        found += traffic("kubeedge_bushub_link", [({}, everything)])
    if tun is not None:
        found += traffic("kubeedge_bushub_tun", [({}, tun)])
    return found
