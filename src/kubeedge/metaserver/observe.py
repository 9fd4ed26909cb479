"""Figures of the edge's own API for Prometheus."""

from __future__ import annotations

from kubeedge.kit.metrics import Family, family
from kubeedge.metaserver.edgewrites.module import EdgeWrites
from kubeedge.metaserver.module import MetaServer


def families(writes: EdgeWrites, api: MetaServer | None) -> list[Family]:
    """Metrics of pending and answered writes and, while the API is on, of its watches. `api` of None: it is off."""
    found = [
        family("kubeedge_edge_writes_pending", "gauge", "writes that wait for the cloud", writes.waiting),
        family(
            "kubeedge_edge_writes_total",
            "counter",
            "writes that the cloud has answered, since the start",
            [({"outcome": outcome}, float(count)) for outcome, count in sorted(writes.outcomes.items())],
        ),
    ]
    if api is not None:
        found.append(
            family("kubeedge_metaserver_watches", "gauge", "open watches of the node's own API", api.open_watches())
        )
    return found
