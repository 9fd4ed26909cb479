"""When a node wants more links than it is configured to keep. Pure.

A link whose TCP has no BBR on a long path takes every lost packet for congestion, and what all flows of a node may send is what its links may.
More links make up for it (each flow keeps to one), and cost a handshake and a ping now and then. So they are there while a node on
such a path has much to send, and not before.
"""

from __future__ import annotations

from kubeedge.kit.dataclasses import dataclass

LINKS = 8  # altogether: what the relay keeps of one node
LONG_PATH = 0.003  # seconds of round trip, from which a link would have BBR (_fastpath/link/tcp_path.c)
MUCH = 64 * 1024  # bytes a second, both ways
CALM = 60.0  # seconds with less, after which the additional links go


@dataclass(slots=True)
class LinkAutoscaler:
    """`wanted`: more links than configured."""

    wanted: bool = False
    _seen: int = 0
    _at: float | None = None
    _busy_at: float = 0.0

    def look(self, now: float, *, moved: int, congestion: str, rtt: float) -> bool:
        """`moved`: bytes that the links have carried so far; `congestion` and `rtt` (seconds, 0: not known) are of the first link."""
        before, self._at = self._at, now
        rate = (moved - self._seen) / max(now - before, 0.1) if before is not None else 0.0
        self._seen = moved
        if rate >= MUCH:
            self._busy_at = now
            self.wanted = self.wanted or (congestion not in ("", "bbr") and rtt >= LONG_PATH)
        elif now - self._busy_at >= CALM:
            self.wanted = False
        return self.wanted
