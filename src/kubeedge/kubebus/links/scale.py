"""Whether a node has links beyond those that are configured: what the data plane counts, for the autoscaler (l2/autoscaler.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kubeedge.kubebus.l2.autoscaler import LinkAutoscaler
from kubeedge.kubebus.l3.plane import Plane
from kubeedge.kubebus.links.link import Link


class LinkScale:
    """Either `more` is set or `fewer`, once it has looked."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._autoscaler = LinkAutoscaler()
        self.more, self.fewer = asyncio.Event(), asyncio.Event()

    def look(self, links: Sequence[Link], best: Link, now: float) -> None:
        """`links`: all that are up; the path is judged by the `best` of them."""
        counters = [c for link in links if (c := self._plane.counters(link.port)) is not None]
        congestion = self._plane.congestion(best.port)
        wanted = self._autoscaler.look(
            now,
            moved=sum(c.rx_bytes + c.tx_bytes for c in counters),
            congestion=congestion[0] if congestion else "",
            rtt=max((c.min_rtt for c in counters), default=0) / 1e6,
        )
        for event, state in ((self.more, wanted), (self.fewer, not wanted)):
            (event.set if state else event.clear)()
