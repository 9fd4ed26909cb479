"""Module "networkwatch": when an address or a route changes, links and channel are checked at once instead of after their keepalive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeedge.networkwatch.driver import address_changes

_SETTLE = 0.1  # seconds after the first message of a burst


class NetworkWatch:
    """Ready at once: it only speeds up what happens anyway."""

    name = "networkwatch"

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called after each burst of changes."""
        self._changed = changed

    async def run(self, ready: asyncio.Event) -> None:
        """Calls `changed` once for a burst of rtnetlink messages (rtnetlink(7)), when it has settled."""
        ready.set()
        async for _ in address_changes(settle=_SETTLE):
            self._changed()
