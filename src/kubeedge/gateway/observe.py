"""Metrics of the Gateways of a node."""

from __future__ import annotations

from kubeedge.gateway.module import NodeGateways
from kubeedge.kit.metrics import Family, family


def families(gateways: NodeGateways) -> list[Family]:
    """What one node's Gateways have answered, and what is open."""
    accounts = gateways.accounts.all().values()
    answers = [
        ({"code": f"{status}xx"}, float(count))
        for status in range(1, 6)
        if (count := sum(account.answers[status] for account in accounts))
    ]
    bytes_ = [
        ({"direction": "in"}, float(sum(account.bytes_in for account in accounts))),
        ({"direction": "out"}, float(sum(account.bytes_out for account in accounts))),
    ]
    refused = float(sum(account.refused for account in accounts))
    failed = len(gateways.failed)
    ports = [({"state": "open"}, float(len(gateways.points) - failed)), ({"state": "failed"}, float(failed))]
    return [
        family("kubeedge_gateway_requests_total", "counter", "answers of this node's Gateways, by class of status", answers),
        family("kubeedge_gateway_refused_total", "counter", "requests and connections beyond a limit", refused),
        family("kubeedge_gateway_bytes_total", "counter", "of bodies, upgraded connections and streams", bytes_),
        family(
            "kubeedge_gateway_in_progress", "gauge", "requests and streams at this moment",
            float(gateways.slots.in_progress()),
        ),
        family("kubeedge_gateway_ports", "gauge", "ports that Gateways have here", ports),
    ]  # fmt: skip
