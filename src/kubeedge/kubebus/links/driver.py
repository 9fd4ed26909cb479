"""Keeps a link in each slot: attempts, replacements, timers. What is decided without I/O is in core.py."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from kubeedge.api.names import PortId
from kubeedge.errors import PeerError
from kubeedge.kit.tasks import first_of
from kubeedge.kit.ticks import tick
from kubeedge.kubebus.core import RELAY, TENANT
from kubeedge.kubebus.l2.autoscaler import LINKS
from kubeedge.kubebus.l2.core import LinkCore, LinkDown, LinkEvent, LinkUp, Role
from kubeedge.kubebus.l2.messages import Hello
from kubeedge.kubebus.l3.plane import CONTROL, Plane, told
from kubeedge.kubebus.links.attempts import Attempts
from kubeedge.kubebus.links.core import Candidates, LinksSettings, candidates
from kubeedge.kubebus.links.link import Link, LinkInfo, info
from kubeedge.kubebus.links.scale import LinkScale
from kubeedge.kubebus.links.transport import LinkTransport, Path, is_ours

log = logging.getLogger("kubeedge.kubebus")

_CLOUD_URI = "spiffe://kubeedge/cloud/"  # whom a relay's certificate must name (kubeedge.pki.identity)

_UNDECIDED = 0.1  # seconds until a slot looks again whether a probe was answered
_LOOK_BUSY, _LOOK_IDLE = 0.5, 2.0  # seconds between two looks at the counters of all links


class Links:
    """`check` looks at each event of a conversation; a text from it ends the link. `changed` is called when the first link is up or the
    last one is gone, `lost` for each link that ends."""

    def __init__(
        self,
        settings: LinksSettings,
        plane: Plane,
        transport: LinkTransport,
        *,
        check: Callable[[Link, LinkEvent], str | None],
        changed: Callable[[bool], None],
        lost: Callable[[Link], None],
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._plane = plane
        self._attempts = Attempts(settings, transport, rng)
        self._check_event = check
        self._changed = changed
        self._lost = lost
        self._instance = f"{rng.getrandbits(64):016x}"
        # a node that is configured for one connection gets one
        most = max(settings.connections, LINKS) if settings.connections > 1 else settings.connections
        self._slots: list[Link | None] = [None] * most
        self._scale = LinkScale(plane)
        self._ports: dict[PortId, Link] = {}
        self._moved = asyncio.Event()  # a link came up or went away
        self.relay = ""  # of the links that are up, or the last one that was tried

    # -- for KubeBus ---------------------------------------------------------------------------------------------------

    @property
    def last_error(self) -> str:
        """Why the last attempt or link failed; "" since a link is up."""
        return self._attempts.last_error

    @property
    def totals(self) -> tuple[int, int]:
        """(links that came up, attempts and links that failed) since the start."""
        return self._attempts.established, self._attempts.failures

    def best(self) -> Link | None:
        """A link that is up, the least suspect one."""
        up = [link for link in self._slots if link is not None and not link.ended.done()]
        return min(up, key=lambda link: (link.core.suspect, link.slot), default=None)

    def flush(self, link: Link) -> None:
        """Send what the conversation has to say, and set its timer."""
        if not link.gone:
            for payload in link.core.payloads_to_send():
                self._plane.send(link.port, CONTROL, payload)
            self._arm(link)

    def network_changed(self) -> None:
        """Ask at once whether links still stand; those whose address is gone are suspect without asking."""
        now = asyncio.get_running_loop().time()
        for link in list(self._ports.values()):
            self._count(link, now)  # what came before the change answers no question about the time after it
            link.core.probe(now)
            self.flush(link)
            if not is_ours(link.local):
                link.suspect.set()
        self._attempts.network_changed()

    def infos(self) -> list[LinkInfo]:
        """The links of all slots, those that are opening included."""
        links = sorted(self._ports.values(), key=lambda link: (link.slot, link.begun))
        return [info(link, self._plane) for link in links]

    # -- events of the plane -------------------------------------------------------------------------------------------

    def on_up(self, port: PortId, uri: str) -> None:
        """PortConnected: the handshake is done; `uri` is the identity of the peer."""
        link = self._ports.get(port)
        if link is None:
            return
        if not uri.startswith(_CLOUD_URI):
            self._end(link, f"the relay's certificate is for {uri}, which is not a cloud process")
            return
        hello = Hello(
            instance=self._instance,
            slot=link.slot,
            keepalive=link.core.settings.keepalive,
            subnets=self._settings.subnets,
        )
        link.core.open(asyncio.get_running_loop().time(), hello)
        self.flush(link)

    def on_control(self, port: PortId, payload: bytes) -> None:
        """Take in a CONTROL frame (FrameReceived) of a link."""
        link = self._ports.get(port)
        if link is None:
            return
        now = asyncio.get_running_loop().time()
        try:
            events = link.core.receive(payload, now)
        except PeerError as exc:
            self._end(link, str(exc))
            return
        for event in events:
            self._on_event(link, event, now)
        self._settle(link)
        self.flush(link)

    def on_down(self, port: PortId, reason: str) -> None:
        """PortClosed: the link ends with that reason."""
        link = self._ports.pop(port, None)
        if link is not None:
            link.gone = True
            self._end(link, reason)

    def _on_event(self, link: Link, event: LinkEvent, now: float) -> None:
        problem = self._check_event(link, event)
        if problem:
            self._end(link, problem)
            return
        match event:
            case LinkUp(welcome):
                if not self._plane.admit(link.port, tenant=TENANT, number=RELAY, prefixes=[]):
                    return  # its PortClosed is on the way
                link.relay_name, link.since = welcome.relay, now
                if not link.up.done():
                    link.up.set_result(None)
            case LinkDown(reason, retry_after):
                link.stay_away = retry_after
                self._end(link, reason)

    # -- slots ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """One task for each slot, until it is cancelled; then all links are closed."""
        looking = asyncio.create_task(self._look(), name="kubebus counters")
        try:
            async with asyncio.TaskGroup() as slots:
                for slot in range(len(self._slots)):
                    keep = self._keep(slot) if slot < self._settings.connections else self._keep_while_wanted(slot)
                    slots.create_task(keep, name=f"kubebus link {slot}")
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            for link in list(self._ports.values()):
                self._drop(link, "the agent stops")

    async def _keep(self, slot: int) -> None:
        while True:
            link = self._slots[slot]
            if link is None:
                self._take(slot, await self._establish(slot))
                continue
            await first_of(link.ended, link.suspect.wait())
            if link.ended.done():
                self._leave(link)
            else:
                await self._replace(slot, link)

    async def _keep_while_wanted(self, slot: int) -> None:
        while True:
            await self._scale.more.wait()
            keeping = asyncio.create_task(self._keep(slot), name=f"kubebus link {slot}, for now")
            try:
                await first_of(keeping, self._scale.fewer.wait())
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
            if (link := self._slots[slot]) is not None:
                self._leave(link)
                self._retire(link, "there is little traffic")

    def _autoscale(self, now: float) -> None:
        if len(self._slots) > self._settings.connections and (best := self.best()) is not None:
            self._scale.look([link for link in self._slots if link is not None], best, now)

    async def _replace(self, slot: int, link: Link) -> None:
        """A link is suspect: begin another beside it, until one of three: the new one is up, the old one answers or ends."""
        attempt = asyncio.create_task(self._establish(slot), name=f"kubebus link {slot}, another")
        try:
            link.answered.clear()
            await first_of(attempt, link.ended, link.answered.wait())
            if attempt.done():
                self._take(slot, attempt.result())
            elif link.ended.done():
                self._leave(link)
                self._take(slot, await attempt)
            else:
                link.suspect.clear()
        finally:
            if not attempt.done():
                attempt.cancel()
                await asyncio.gather(attempt, return_exceptions=True)

    def _take(self, slot: int, link: Link) -> None:
        """A link is up and has the slot from here."""
        older, was_up = self._slots[slot], self.best() is not None
        self._slots[slot] = link
        if older is not None:
            self._retire(older, "a newer link replaced it")
        if link.relay != self.relay:
            for other in self._slots:  # the node has moved: no flow may be left at the relay that it came from
                if other is not None and other.relay != link.relay:
                    self._leave(other)
                    self._retire(other, f"the node moved to {link.relay}")
        self.relay = link.relay
        self._attempts.worked(link.relay, link.since)
        log.info("link up slot=%d relay=%s", slot, link.relay)
        if (congestion := self._plane.congestion(link.port)) and congestion[1]:
            log.warning("link slot=%d: congestion control %s", slot, told(congestion))
        self._moved.set()
        if not was_up:
            self._changed(True)

    def _leave(self, link: Link) -> None:
        if self._slots[link.slot] is not link:
            return
        self._slots[link.slot] = None
        self._moved.set()
        self._lost(link)
        if self.best() is None:
            self._changed(False)

    def _retire(self, link: Link, reason: str) -> None:
        self._lost(link)
        self._drop(link, reason)

    def _drop(self, link: Link, reason: str) -> None:
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None
        if not link.gone:
            link.gone = True
            self._ports.pop(link.port, None)
            self._plane.drop(link.port, reason)
        if not link.ended.done():
            link.ended.set_result(reason)

    def _end(self, link: Link, reason: str) -> None:
        if not link.ended.done():
            if link.up.done():
                self._attempts.failed(link.relay, reason, link.stay_away)
            link.ended.set_result(reason)
        self._drop(link, reason)

    # -- making one ----------------------------------------------------------------------------------------------------

    async def _establish(self, slot: int) -> Link:
        """Attempts until a link is up, with pauses that grow; news of the network end a pause."""
        attempt = 0
        while True:
            news = self._attempts.news
            if (link := await self._attempt(slot)) is not None:
                return link
            attempt += 1
            await self._attempts.pause(attempt, news)

    async def _attempt(self, slot: int) -> Link | None:
        relays = await self._candidates(slot)
        if not relays:
            await self._attempts.stay_away()
            return None
        if slot == 0 and self.best() is None:
            self.relay = relays[0]
        found = await self._attempts.race(relays)
        link = self._open(slot, *found) if found is not None else None
        return link if link is not None and await self._comes_up(link) else None

    async def _comes_up(self, link: Link) -> bool:
        """Handshake and welcome; False: the link has ended, and why is told."""
        try:
            async with asyncio.timeout(self._attempts.setup_timeout()):
                await first_of(link.up, link.ended)
        except TimeoutError:
            self._drop(link, "no TLS and no welcome in time")
        except BaseException:
            self._drop(link, "the attempt was given up")
            raise
        if link.up.done() and not link.ended.done():
            return True
        reason = link.ended.result() if link.ended.done() else "no welcome in time"
        self._attempts.failed(link.relay, reason, link.stay_away)
        return False

    async def _candidates(self, slot: int) -> list[str]:
        """Empty: all relays asked us to stay away."""
        while True:
            self._moved.clear()
            now = asyncio.get_running_loop().time()
            match candidates(slot, [link.core for link in self._slots if link is not None and link.is_good], now):
                case Candidates.SAME:
                    return [self.relay]
                case Candidates.ANY:
                    return self._attempts.order()
                case Candidates.FOLLOW:
                    await self._moved.wait()
                case Candidates.UNDECIDED:
                    await asyncio.sleep(_UNDECIDED)

    def _open(self, slot: int, path: Path, relay: str) -> Link | None:
        loop = asyncio.get_running_loop()
        local, remote = path.local, path.remote
        try:
            port = path.attach(self._plane)
        except OSError as exc:
            self._attempts.failed(relay, str(exc))
            return None
        core = LinkCore(Role.EDGE, self._settings.of_slot(slot))
        up, ended = loop.create_future(), loop.create_future()
        link = Link(slot, port, relay, local, remote, loop.time(), core, up=up, ended=ended)
        self._ports[port] = link
        return link

    # -- time ----------------------------------------------------------------------------------------------------------

    def _arm(self, link: Link) -> None:
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None
        if not link.gone and link.up.done() and (at := link.core.next_timer()) is not None:
            link.timer = asyncio.get_running_loop().call_at(at, self._on_timer, link)

    def _on_timer(self, link: Link) -> None:
        link.timer = None
        now = asyncio.get_running_loop().time()
        self._count(link, now)
        for event in link.core.handle_timer(now):
            if isinstance(event, LinkDown):
                self._end(link, event.reason)
                return
        self._settle(link)
        self.flush(link)

    def _settle(self, link: Link) -> None:
        if link.core.suspect:
            if not link.suspect.is_set():
                log.info("link is suspect slot=%d relay=%s", link.slot, link.relay)
                link.suspect.set()
                self._ask_others(link)
        elif link.suspect.is_set() and is_ours(link.local):
            link.answered.set()

    def _ask_others(self, suspect: Link) -> None:
        """They take the same way to the same relay, and an idle one would not be asked for a while."""
        now = asyncio.get_running_loop().time()
        for link in self._slots:
            if link is not None and link is not suspect and not link.gone:
                self._count(link, now)
                link.core.ask(now)
                self.flush(link)

    def _count(self, link: Link, now: float) -> bool:
        """Tell the conversation what its data says. True: something moved."""
        c = self._plane.counters(link.port)
        if c is None:
            return False
        return link.activity.look(link.core, (c.rx_bytes, c.rx_segments), c.tx_packets + c.tx_segments, now)

    async def _look(self) -> None:
        """Data that goes out and no echo: the link is asked early, not after the whole silence."""
        loop = asyncio.get_running_loop()
        busy = False
        while True:
            await tick(_LOOK_BUSY if busy else _LOOK_IDLE)
            busy = False
            for link in [h for h in self._slots if h is not None]:
                if not link.gone and self._count(link, loop.time()):
                    busy = True
                self._settle(link)
                self.flush(link)
            self._autoscale(loop.time())
