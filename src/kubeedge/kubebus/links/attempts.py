"""Attempts to reach a relay: the race, the pauses between attempts, and how it went so far.

The first of several relays that answers wins. Attempts of one race start one after the other (l2/relays.py says how far apart). While an outage is
young, relays that are silent are asked again beside the first question: a network that comes back somewhere on the way is not announced, and
the kernel repeats a SYN after 1 s, then 3 s, then 7 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence

from kubeedge.errors import suspect_clock
from kubeedge.kubebus.l2.relays import KNOCK, STAGGER, RelayOrder
from kubeedge.kubebus.links.core import LinksSettings
from kubeedge.kubebus.links.transport import LinkTransport, Path

log = logging.getLogger("kubeedge.kubebus")


class Attempts:
    """Attempts to bring links up, of all slots together: which relays, how far apart, with which timeouts."""

    def __init__(self, settings: LinksSettings, transport: LinkTransport, rng: random.Random) -> None:
        self._settings = settings
        self._transport = transport
        self._rng = rng
        self._relays = RelayOrder(settings.relays)
        self._last_up = self._now()
        self.news = asyncio.Event()  # the network changed; each change makes a new one
        self.last_error = ""
        self.established = 0  # links that came up, since the start
        self.failures = 0  # attempts and links that failed, since the start

    def network_changed(self) -> None:
        """The network changed: pauses between attempts end now."""
        self.news.set()
        self.news = asyncio.Event()

    def worked(self, relay: str, at: float) -> None:
        """A link to the relay came up."""
        self._relays.worked(relay)
        self._last_up, self.last_error = at, ""
        self.established += 1

    def failed(self, relay: str, reason: str, stay_away: float = 0.0) -> None:
        """`stay_away`: seconds, as the relay asked."""
        self.failures += 1
        self._relays.failed(relay, self._now(), stay_away=stay_away)
        reason = suspect_clock(reason)
        text = f"{relay}: {reason}" if len(self._settings.relays) > 1 else reason
        if text != self.last_error:  # an outage of a week is one line
            log.warning("link relay=%s: %s", relay, reason)
        self.last_error = text

    def order(self) -> list[str]:
        """All relays that did not ask us to stay away, the best first."""
        return self._relays.order(self._now())

    async def stay_away(self) -> None:
        """Wait until the first relay may be asked again, or for a minute."""
        await asyncio.sleep(min(max(self._relays.wait_until() - self._now(), 1.0), 60.0))

    async def pause(self, attempt: int, news: asyncio.Event) -> None:
        """After the n-th attempt (1, 2, ...) that failed; `news`: as it was before the attempt."""
        delay = self._settings.backoff.delay(attempt + 1, self._outage(), self._rng.random())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await news.wait()

    def setup_timeout(self) -> float:
        """Seconds for handshake and welcome."""
        return self._settings.setup_timeout(self._outage())

    async def race(self, relays: Sequence[str]) -> tuple[Path, str] | None:
        """(path, relay) of the first that answers, or None."""
        end = self._now() + STAGGER * (len(relays) - 1) + self._settings.connect_timeout
        waiting: dict[asyncio.Task[Path], str] = {}
        todo = list(relays)
        try:
            while todo or waiting:
                if todo:
                    relay = todo.pop(0)
                    waiting[asyncio.create_task(self._dial(relay, end), name=f"path to {relay}")] = relay
                pause = STAGGER if todo else KNOCK
                done, _ = await asyncio.wait(waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    relay = waiting.pop(task)
                    error = task.exception()
                    if error is None:
                        for other in done & waiting.keys():  # two at the same moment
                            waiting.pop(other)
                            if other.exception() is None:
                                other.result().close()
                        return task.result(), relay
                    if relay not in waiting.values():
                        self.failed(relay, str(error) or "no answer in time")
                if not done and not todo and self._now() < end and self._settings.backoff.is_young(self._outage()):
                    todo = list(dict.fromkeys(waiting.values()))
            return None
        finally:
            for task in waiting:
                task.cancel()
            for late in await asyncio.gather(*waiting, return_exceptions=True):
                if not isinstance(late, BaseException):
                    late.close()

    async def _dial(self, relay: str, end: float) -> Path:
        async with asyncio.timeout_at(end):
            return await self._transport.dial(relay)

    def _outage(self) -> float:
        return self._now() - self._last_up

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
