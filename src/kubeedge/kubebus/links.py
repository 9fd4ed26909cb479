"""The links of a node to its relay: one to eight TCP connections, each in a slot of its own, all to the same relay.

    slot 0    finds a relay when there is no link at all: it races those that are configured (l2/relays.py)
    slot 1..  follow to the relay that slot 0 found; those beyond the configured number are there while l2/autoscaler.py wants them

A slot keeps its link as long as it is good. When a link becomes doubtful (its questions are not answered, or the address that it came
from is gone) the slot begins a new one beside it, and the old one ends when the new one is up: make before break. If the old one answers
meanwhile, the attempt is dropped. The data plane pins each flow to one of the links and moves it when that link goes.

Lives elsewhere: what is said on a link (l2/core.py), names, routes and connections (module.py), packets (the data plane).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeedge.errors import PeerError, suspect_clock
from kubeedge.kit.backoff import Backoff
from kubeedge.kubebus.l2.autoscaler import LINKS, LinkAutoscaler
from kubeedge.kubebus.l2.core import Hello, Link, LinkDown, LinkEvent, LinkSettings, LinkUp, Role, Subnet
from kubeedge.kubebus.l2.relays import KNOCK, STAGGER, RelayOrder
from kubeedge.kubebus.l3.plane import CONTROL, Plane, PortCounters, TlsContext, told

log = logging.getLogger("kubeedge.kubebus")

_CLOUD_URI = "spiffe://kubeedge/cloud/"  # whom a relay's certificate must name (kubeedge.pki.identity)
_TENANT = 0  # an edge has one routing table
_RELAY = 0  # whoever is not ourselves is reached through it
_SIDE_KEEPALIVE = 3.0  # times: the links of slots above 0 are asked less often, for traffic has a price
_LOOK_BUSY, _LOOK_IDLE = 0.5, 2.5  # seconds between two looks at the counters of all links
_HASTE = (
    0.5  # seconds, or three round trips: a link that was asked because of another one's doubts has answered by then
)
_YOUNG = 60.0  # seconds of an outage in which each second counts; after that each SYN does
_NO_ECHO = 1.5  # seconds in which we sent data and heard nothing: ask


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksSettings:
    relays: Sequence[str]  # "host:port"
    connections: int = 2
    link: LinkSettings = field(default_factory=LinkSettings)
    congestion: str = ""
    subnets: Sequence[Subnet] = ()  # networks behind this node
    connect_timeout: float = 3.0  # seconds for TCP to all relays, and again for TLS and welcome
    backoff_first: float = 0.25  # seconds between two attempts, doubling
    backoff_last: float = 1.0  # while the outage is young
    backoff_hopeless: float = 5.0  # after a minute of failures: each attempt costs a SYN


@dataclass(slots=True, eq=False)
class Held:
    """A link, from TCP on."""

    slot: int
    port: int
    relay: str
    local: str
    begun: float
    up: asyncio.Future[None]
    ended: asyncio.Future[str]
    core: Link
    doubt: asyncio.Event = field(default_factory=asyncio.Event)
    calm: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False  # the plane has no such port any more
    stay_away: float = 0.0
    relay_name: str = ""
    since: float = 0.0  # loop time, when it came up
    received: tuple[int, int] = (0, 0)
    sent: int = 0
    no_echo: bool = False  # we sent data, and have heard nothing since
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class LinkInfo:
    slot: int
    relay: str
    relay_name: str
    state: str  # up, doubtful, opening
    since: float
    rtt: float | None
    local: str
    congestion: str
    counters: PortCounters | None


class Links:
    """`judge` looks at each event of a conversation; a text from it ends the link. `changed` hears when the first link is up or the
    last one gone."""

    def __init__(
        self,
        settings: LinksSettings,
        plane: Plane,
        tls: TlsContext,
        *,
        judge: Callable[[Held, LinkEvent], str | None],
        changed: Callable[[bool], None],
        lost: Callable[[Held], None],
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._plane = plane
        self._tls = tls
        self._judge = judge
        self._changed = changed
        self._lost = lost
        self._rng = rng
        self._instance = f"{rng.getrandbits(64):016x}"
        self._relays = RelayOrder(settings.relays)
        # who wants one connection gets one
        crowd = max(settings.connections, LINKS) if settings.connections > 1 else settings.connections
        self._slots: list[Held | None] = [None] * crowd
        self._autoscaler = LinkAutoscaler()
        self._crowded, self._calm = asyncio.Event(), asyncio.Event()
        self._ports: dict[int, Held] = {}
        self._news = asyncio.Event()  # the network changed; each change makes a new one
        self._moved = asyncio.Event()  # a link came up or went away
        self._last_up = asyncio.get_running_loop().time()
        self.relay = ""  # of the links that are up, or the last one that was tried
        self.last_error = ""
        self.established = 0  # links that came up, since the start
        self.failures = 0  # attempts and links that ended

    # -- for the stack -------------------------------------------------------------------------------------------------

    def best(self) -> Held | None:
        """A link that is up, the least doubtful one."""
        up = [held for held in self._slots if held is not None and not held.ended.done()]
        return min(up, key=lambda held: (held.core.doubtful, held.slot), default=None)

    def flush(self, held: Held) -> None:
        if not held.gone:
            for payload in held.core.payloads_to_send():
                self._plane.send(held.port, CONTROL, payload)
            self._arm(held)

    def network_changed(self) -> None:
        """Ask at once whether links still stand; those whose address is gone are doubtful without asking."""
        now = asyncio.get_running_loop().time()
        for held in list(self._ports.values()):
            self._count(held, now)  # what came before the change answers no question about the time after it
            held.core.probe(now)
            self.flush(held)
            if not _is_ours(held.local):
                held.doubt.set()
        self._news.set()
        self._news = asyncio.Event()

    def infos(self) -> list[LinkInfo]:
        return [self._info(held) for held in sorted(self._ports.values(), key=lambda held: (held.slot, held.begun))]

    def _info(self, held: Held) -> LinkInfo:
        state = "opening" if not held.up.done() else "doubtful" if held.core.doubtful else "up"
        control = self._plane.congestion(held.port)
        return LinkInfo(
            held.slot, held.relay, held.relay_name, state, held.since or held.begun, held.core.rtt, held.local,
            told(control), self._plane.counters(held.port),
        )  # fmt: skip

    # -- events of the plane -------------------------------------------------------------------------------------------

    def on_up(self, port: int, uri: str) -> None:
        held = self._ports.get(port)
        if held is None:
            return
        if not uri.startswith(_CLOUD_URI):
            self._end(held, f"the relay's certificate is for {uri}, which is no process of the cloud")
            return
        hello = Hello(
            instance=self._instance,
            slot=held.slot,
            keepalive=held.core.settings.keepalive,
            subnets=self._settings.subnets,
        )
        held.core.open(asyncio.get_running_loop().time(), hello)
        self.flush(held)

    def on_control(self, port: int, payload: bytes) -> None:
        held = self._ports.get(port)
        if held is None:
            return
        now = asyncio.get_running_loop().time()
        try:
            events = held.core.receive(payload, now)
        except PeerError as exc:
            self._end(held, str(exc))
            return
        for event in events:
            self._on_event(held, event, now)
        self._settle(held)
        self.flush(held)

    def on_down(self, port: int, reason: str) -> None:
        held = self._ports.pop(port, None)
        if held is not None:
            held.gone = True
            self._end(held, reason)

    def _on_event(self, held: Held, event: LinkEvent, now: float) -> None:
        problem = self._judge(held, event)
        if problem:
            self._end(held, problem)
            return
        match event:
            case LinkUp(welcome):
                if not self._plane.admit(held.port, tenant=_TENANT, number=_RELAY, prefixes=[]):
                    return  # its PortClosed is on the way
                held.relay_name, held.since = welcome.relay, now
                if not held.up.done():
                    held.up.set_result(None)
            case LinkDown(reason, retry_after):
                held.stay_away = retry_after
                self._end(held, reason)

    # -- slots ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        looking = asyncio.create_task(self._look(), name="kubebus counters")
        try:
            async with asyncio.TaskGroup() as slots:
                for slot in range(len(self._slots)):
                    keep = self._keep(slot) if slot < self._settings.connections else self._keep_sometimes(slot)
                    slots.create_task(keep, name=f"kubebus link {slot}")
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            for held in list(self._ports.values()):
                self._drop(held, "the agent stops")

    async def _keep(self, slot: int) -> None:
        while True:
            held = self._slots[slot]
            if held is None:
                self._take(slot, await self._establish(slot))
                continue
            await _first(held.ended, held.doubt.wait())
            if held.ended.done():
                self._leave(held)
            else:
                await self._replace(slot, held)

    async def _keep_sometimes(self, slot: int) -> None:
        while True:
            await self._crowded.wait()
            keeping = asyncio.create_task(self._keep(slot), name=f"kubebus link {slot}, for now")
            try:
                await _first(keeping, self._calm.wait())
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
            if (held := self._slots[slot]) is not None:
                self._leave(held)
                self._retire(held, "there is little to say")

    def _crowd(self, now: float) -> None:
        if len(self._slots) == self._settings.connections or (best := self.best()) is None:
            return
        counters = [
            c for held in self._slots if held is not None and (c := self._plane.counters(held.port)) is not None
        ]
        control = self._plane.congestion(best.port)
        wanted = self._autoscaler.look(
            now,
            moved=sum(c.rx_bytes + c.tx_bytes for c in counters),
            control=control[0] if control else "",
            rtt=max((c.min_rtt for c in counters), default=0) / 1e6,
        )
        for event, state in ((self._crowded, wanted), (self._calm, not wanted)):
            (event.set if state else event.clear)()

    async def _replace(self, slot: int, held: Held) -> None:
        """A link is doubtful: begin another beside it, until one of three: the new one is up, the old one answers or ends."""
        attempt = asyncio.create_task(self._establish(slot), name=f"kubebus link {slot}, another")
        try:
            held.calm.clear()
            await _first(attempt, held.ended, held.calm.wait())
            if attempt.done():
                self._take(slot, attempt.result())
            elif held.ended.done():
                self._leave(held)
                self._take(slot, await attempt)
            else:
                held.doubt.clear()
        finally:
            if not attempt.done():
                attempt.cancel()
                await asyncio.gather(attempt, return_exceptions=True)

    def _take(self, slot: int, held: Held) -> None:
        """A link is up and has the slot from here."""
        older, was_up = self._slots[slot], self.best() is not None
        self._slots[slot] = held
        if older is not None:
            self._retire(older, "a newer link took its place")
        if held.relay != self.relay:
            for other in self._slots:  # the node has moved: no flow may be left at the relay that it came from
                if other is not None and other.relay != held.relay:
                    self._leave(other)
                    self._retire(other, f"the node moved to {held.relay}")
        self.relay = held.relay
        self._relays.worked(held.relay)
        self._last_up, self.last_error = held.since, ""
        self.established += 1
        log.info("link up slot=%d relay=%s", slot, held.relay)
        if (control := self._plane.congestion(held.port)) and control[1]:
            log.warning("link slot=%d: congestion control %s", slot, told(control))
        self._moved.set()
        if not was_up:
            self._changed(True)

    def _leave(self, held: Held) -> None:
        if self._slots[held.slot] is not held:
            return
        self._slots[held.slot] = None
        self._moved.set()
        self._lost(held)
        if self.best() is None:
            self._changed(False)

    def _retire(self, held: Held, reason: str) -> None:
        self._lost(held)
        self._drop(held, reason)

    def _drop(self, held: Held, reason: str) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        if not held.gone:
            held.gone = True
            self._ports.pop(held.port, None)
            self._plane.drop(held.port, reason)
        if not held.ended.done():
            held.ended.set_result(reason)

    def _end(self, held: Held, reason: str) -> None:
        if not held.ended.done():
            if held.up.done():
                self._failed(held.relay, reason, held.stay_away)
            held.ended.set_result(reason)
        self._drop(held, reason)

    # -- making one ----------------------------------------------------------------------------------------------------

    async def _establish(self, slot: int) -> Held:
        """Attempts until a link is up, with pauses that grow; news of the network end a pause."""
        attempt = 0
        while True:
            news = self._news
            if (held := await self._attempt(slot)) is not None:
                return held
            attempt += 1
            s = self._settings
            last = s.backoff_last if self._outage_is_young() else s.backoff_hopeless
            backoff = Backoff(s.backoff_first, last, jitter=0.5)
            await self._pause(news, backoff.delay(attempt + 1, self._rng.random()))

    def _outage_is_young(self) -> bool:
        return asyncio.get_running_loop().time() - self._last_up < _YOUNG

    async def _pause(self, news: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()

    async def _attempt(self, slot: int) -> Held | None:
        loop = asyncio.get_running_loop()
        relays = await self._candidates(slot)
        if not relays:
            await asyncio.sleep(min(max(self._relays.wait_until() - loop.time(), 1.0), 60.0))
            return None
        if slot == 0 and self.best() is None:
            self.relay = relays[0]
        connection, relay = await self._race(relays)
        if connection is None:
            return None
        held = self._open(slot, connection, relay)
        if held is None:
            return None
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await _first(held.up, held.ended)
        except TimeoutError:
            self._drop(held, "no TLS and no welcome in time")
        except BaseException:
            self._drop(held, "the attempt was given up")
            raise
        if held.up.done() and not held.ended.done():
            return held
        reason = held.ended.result() if held.ended.done() else "no welcome in time"
        self._failed(relay, reason, held.stay_away)
        return None

    async def _candidates(self, slot: int) -> list[str]:
        """Slot 0 may go anywhere when all links are gone or do not answer; otherwise all stay at one relay."""
        while True:
            self._moved.clear()
            now = asyncio.get_running_loop().time()
            others = [h for h in self._slots if h and not (h.ended.done() or h.core.doubtful or h.doubt.is_set())]
            open_ = [h for h in others if h.core.unanswered(now)]
            if len(open_) < len(others):
                return [self.relay]
            if all(h.core.unanswered(now) > max(_HASTE, 3 * (h.core.rtt or 0.0)) for h in open_):
                if slot == 0:
                    return self._relays.order(now)
                await self._moved.wait()
            else:
                await asyncio.sleep(0.1)  # the answer to a question decides

    async def _race(self, relays: Sequence[str]) -> tuple[socket.socket | None, str]:
        """TCP to the first relay that answers. While the outage is young those that are silent are asked again and again: a network that
        comes back somewhere on the way tells nobody, and the kernel repeats a SYN after 1 s, then 3 s, then 7 s."""
        loop = asyncio.get_running_loop()
        end = loop.time() + STAGGER * (len(relays) - 1) + self._settings.connect_timeout
        waiting: dict[asyncio.Task[socket.socket], str] = {}
        todo = list(relays)
        try:
            while todo or waiting:
                if todo:
                    relay = todo.pop(0)
                    waiting[asyncio.create_task(self._connect(relay, end), name=f"TCP to {relay}")] = relay
                done, _ = await asyncio.wait(
                    waiting, timeout=STAGGER if todo else KNOCK, return_when=asyncio.FIRST_COMPLETED
                )
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
                        self._failed(relay, str(error) or "no answer in time")
                if not done and not todo and loop.time() < end and self._outage_is_young():
                    todo = list(dict.fromkeys(waiting.values()))
            return None, ""
        finally:
            for task in waiting:
                task.cancel()
            for late in await asyncio.gather(*waiting, return_exceptions=True):
                if isinstance(late, socket.socket):
                    late.close()

    async def _connect(self, relay: str, end: float) -> socket.socket:
        host, _, port = relay.rpartition(":")
        async with asyncio.timeout_at(end):
            return await open_connection(host.strip("[]"), int(port))

    def _open(self, slot: int, connection: socket.socket, relay: str) -> Held | None:
        loop = asyncio.get_running_loop()
        local = connection.getsockname()[0]
        host = relay.rpartition(":")[0].strip("[]")
        try:
            port = self._plane.add_link(
                connection.fileno(), self._tls, server_name=host, congestion=self._settings.congestion
            )
        except OSError as exc:
            connection.close()
            self._failed(relay, str(exc))
            return None
        connection.detach()  # the plane's from here
        core = Link(Role.EDGE, self._settings.link if slot == 0 else _rarely(self._settings.link))
        held = Held(
            slot, port, relay, local, loop.time(), up=loop.create_future(), ended=loop.create_future(), core=core
        )
        self._ports[port] = held
        return held

    def _failed(self, relay: str, reason: str, stay_away: float = 0.0) -> None:
        self.failures += 1
        self._relays.failed(relay, asyncio.get_running_loop().time(), stay_away=stay_away)
        reason = suspect_clock(reason)
        text = f"{relay}: {reason}" if len(self._settings.relays) > 1 else reason
        if text != self.last_error:  # an outage of a week is one line
            log.warning("link relay=%s: %s", relay, reason)
        self.last_error = text

    # -- time ----------------------------------------------------------------------------------------------------------

    def _arm(self, held: Held) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        if not held.gone and held.up.done() and (at := held.core.next_timer()) is not None:
            held.timer = asyncio.get_running_loop().call_at(at, self._on_timer, held)

    def _on_timer(self, held: Held) -> None:
        held.timer = None
        now = asyncio.get_running_loop().time()
        self._count(held, now)
        for event in held.core.handle_timer(now):
            if isinstance(event, LinkDown):
                self._end(held, event.reason)
                return
        self._settle(held)
        self.flush(held)

    def _settle(self, held: Held) -> None:
        if held.core.doubtful:
            if not held.doubt.is_set():
                log.info("link is doubtful slot=%d relay=%s", held.slot, held.relay)
                held.doubt.set()
                self._ask_others(held)
        elif held.doubt.is_set() and _is_ours(held.local):
            held.calm.set()

    def _ask_others(self, doubtful: Held) -> None:
        """They take the same way to the same relay, and an idle one would not be asked for a while."""
        now = asyncio.get_running_loop().time()
        for held in self._slots:
            if held is not None and held is not doubtful and not held.gone:
                self._count(held, now)
                held.core.ask(now)
                self.flush(held)

    def _count(self, held: Held, now: float) -> bool:
        """Data that moved counts as heard, so a busy link is not asked. True: something moved."""
        counters = self._plane.counters(held.port)
        if counters is None:
            return False
        received, sent = (counters.rx_bytes, counters.rx_segments), counters.tx_packets + counters.tx_segments
        heard, said = received != held.received, sent != held.sent
        held.received, held.sent = received, sent
        if heard:
            held.core.heard(now)
            held.no_echo = said
        else:
            held.no_echo = held.no_echo or said
            if held.no_echo and now - held.core.silent_since > _NO_ECHO:
                held.core.ask(now)
        return heard or held.no_echo

    async def _look(self) -> None:
        """Data that goes out and no echo: the link is asked early, not after the whole silence."""
        loop = asyncio.get_running_loop()
        busy = False
        while True:
            await asyncio.sleep(_LOOK_BUSY if busy else _LOOK_IDLE)
            busy = False
            for held in [h for h in self._slots if h is not None]:
                if not held.gone and self._count(held, loop.time()):
                    busy = True
                self._settle(held)
                self.flush(held)
            self._crowd(loop.time())


def _rarely(settings: LinkSettings) -> LinkSettings:
    return LinkSettings(
        keepalive=settings.keepalive * _SIDE_KEEPALIVE,
        ask_again=settings.ask_again,
        dead_after=settings.dead_after,
        probe_timeout=settings.probe_timeout,
        opening=settings.opening,
    )


async def _first(*awaitables: asyncio.Future[Any] | Coroutine[Any, Any, Any]) -> None:
    """Until one of them is done. Coroutines among them are ended then; futures and tasks stay as they are."""
    made = [asyncio.ensure_future(one) for one in awaitables if not isinstance(one, asyncio.Future)]
    futures = [one for one in awaitables if isinstance(one, asyncio.Future)]
    try:
        await asyncio.wait([*futures, *made], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in made:
            task.cancel()
        await asyncio.gather(*made, return_exceptions=True)


def _is_ours(address: str) -> bool:
    """Does this machine have the address? The kernel says so when a socket is bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as exc:  # any other reason, like no descriptors left, says nothing about the address
        return exc.errno != errno.EADDRNOTAVAIL
    return True


async def open_connection(host: str, port: int) -> socket.socket:
    """The first address that answers."""
    loop = asyncio.get_running_loop()
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, address)
            return connection
        except OSError as exc:
            connection.close()
            problem = exc
        except BaseException:
            connection.close()
            raise
    raise problem
