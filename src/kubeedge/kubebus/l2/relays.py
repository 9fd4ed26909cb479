"""Which relay a node tries, and in which order. Pure.

The one that worked last is first: a node stays where it is. The others follow as they are configured, those that failed lately behind those
that did not. Attempts of one race start `STAGGER` seconds apart (as RFC 8305 does for addresses), so that a relay that does not answer costs a
quarter of a second and not a timeout, and the nearer of two relays that are both there wins. Who is silent is asked again beside it after
`KNOCK` seconds: when a network comes back, the next question is never far.
"""

from __future__ import annotations

from collections.abc import Sequence

STAGGER = 0.25  # seconds between the starts of two attempts
KNOCK = 1.25  # seconds until those that are silent are asked again, beside the first question
_FORGIVE = 10.0  # seconds for which a failure counts


class RelayOrder:
    """Raises ValueError for no relay."""

    def __init__(self, relays: Sequence[str]) -> None:
        if not relays:
            raise ValueError("no relay is configured")
        self._relays = tuple(dict.fromkeys(relays))
        self._failed: dict[str, float] = {}
        self._blocked: dict[str, float] = {}  # until when a relay asked us to stay away
        self._last = ""

    def order(self, now: float) -> list[str]:
        """Which to try now, the best first. Empty: all of them asked us to wait."""
        open_ = [r for r in self._relays if self._blocked.get(r, 0.0) <= now]
        recent = {r for r in open_ if now - self._failed.get(r, -_FORGIVE) < _FORGIVE}
        return sorted(
            open_, key=lambda r: (r in recent, self._failed.get(r, 0.0) if r in recent else 0.0, r != self._last)
        )

    def wait_until(self) -> float:
        """When the first of them may be tried again, if all asked us to wait."""
        return min((self._blocked.get(r, 0.0) for r in self._relays), default=0.0)

    def worked(self, relay: str) -> None:
        """A link to it came up: it is the first from now on."""
        self._last = relay
        self._failed.pop(relay, None)
        self._blocked.pop(relay, None)

    def failed(self, relay: str, now: float, *, stay_away: float = 0.0) -> None:
        """An attempt or a link failed; `stay_away`: seconds, as the relay asked."""
        self._failed[relay] = now
        if stay_away:
            self._blocked[relay] = now + stay_away
