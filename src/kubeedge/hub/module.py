"""The edge end of the channel: reach some cloud process, stay attached, come back soon.

Lives elsewhere: what runs over the channel is given as a function (kubeedge.sync.driver.run_edge).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

from kubeedge import __version__
from kubeedge.config import forms
from kubeedge.errors import PeerError, suspect_clock
from kubeedge.hub.core import REPLACED, ChannelSession, ChannelSettings
from kubeedge.hub.driver import Channel, ChannelCounters, ChannelSocket
from kubeedge.hub.stream import Rejected, Stream
from kubeedge.kit.backoff import Backoff, OutageBackoff
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.tcp import connect

log = logging.getLogger("kubeedge.edgehub")

_STABLE_AFTER = (
    5.0  # seconds attached; a channel that fails sooner, again and again, must not cost a handshake each moment
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeHubSettings:
    """Where the cloud is, and how often a channel to it is attempted."""

    endpoints: Sequence[str]  # "host:port" of the cloud processes, tried in turn
    session: ChannelSettings = field(default_factory=ChannelSettings)
    connect_timeout: float = 3.0  # seconds for TCP, while the outage is young
    handshake_timeout: float = (
        10.0  # seconds for TLS and the upgrade: a cloud that has just started has all its nodes connecting at once
    )
    backoff_first: float = 0.25  # seconds between two attempts, doubling
    backoff_last: float = 1.5  # in the first minute of an outage: Ready again soon after the link is back
    backoff_late: float = 5.0  # after that: each attempt costs a SYN
    backoff_overloaded: float = (
        4.0  # when the cloud is overloaded: nodes that reconnect at the same time must be spread at random
    )

    @property
    def backoff(self) -> OutageBackoff:
        """The back-off between attempts to attach."""
        return OutageBackoff(self.backoff_first, self.backoff_last, self.backoff_late)


@dataclass(frozen=True, slots=True)
class HubStatus:
    """The channel, for `kubeedge status`."""

    attached: bool
    endpoint: str  # of the current or the last channel
    since: float  # loop time of the last change of `attached`
    rtt: float | None
    counters: ChannelCounters
    last_error: str


class EdgeHub:
    """Module "edgehub". `use` runs on every channel for as long as it is attached."""

    name = "edgehub"

    def __init__(
        self,
        settings: EdgeHubSettings,
        tls: Callable[[], ssl.SSLContext],
        use: Callable[[Channel], Awaitable[None]],
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._use = use
        self._rng = rng or random.Random()
        self._channel: Channel | None = None
        self._hint = asyncio.Event()
        self._endpoint = ""
        self._since = 0.0  # when the channel, or the time without one, began
        self._last_error = ""
        self._rejected = 0  # times in a row
        self._total = ChannelCounters()

    async def run(self, ready: asyncio.Event) -> None:
        """Ready at once, for a node works without its cloud. Tries one endpoint after the other, with back-off."""
        ready.set()  # an edge without its cloud is a normal edge
        loop = asyncio.get_running_loop()
        first = self._rng.randrange(len(self._settings.endpoints))  # the nodes spread over the cloud processes
        attempt = 0
        warned = False
        last_attached = self._since = loop.time()
        while True:
            self._endpoint = self._settings.endpoints[(first + attempt) % len(self._settings.endpoints)]
            self._hint.clear()
            factor = self._settings.backoff.timeout_factor(loop.time() - last_attached)
            attached_for = await self._attach(self._endpoint, factor)
            if REPLACED in self._last_error:
                if not warned:
                    log.warning("another agent has the identity of this node; the two take turns")
                warned = True
                attempt, last_attached = attempt + 1, -math.inf
            elif attached_for >= _STABLE_AFTER:
                first, attempt = first + attempt, 0  # stay with the process that had time for us
                last_attached, warned = loop.time(), False
            else:
                attempt += 1
            await self._pause(attempt, loop.time() - last_attached)

    def network_changed(self) -> None:
        """An address or route changed: probe the channel, or try again at once."""
        self._hint.set()
        if self._channel:
            self._channel.probe()

    @property
    def status(self) -> HubStatus:
        """The state of the channel now."""
        channel = self._channel
        return HubStatus(
            channel is not None,
            self._endpoint,
            self._since,
            channel.rtt if channel else None,
            _sum(self._total, channel.counters) if channel else self._total,
            self._last_error,
        )

    async def _attach(self, endpoint: str, timeout_factor: float) -> float:
        """One channel from connect to end; for how long it was attached, 0.0 if it never was."""
        loop = asyncio.get_running_loop()
        attached_at: float | None = None

        async def use(channel: Channel) -> None:
            nonlocal attached_at
            attached_at = loop.time()
            self._channel, self._since, self._last_error = channel, attached_at, ""
            log.info("attached endpoint=%s", endpoint)
            await self._use(channel)

        reached = False
        try:
            async with asyncio.timeout(self._settings.connect_timeout * timeout_factor):
                tcp = await self._dial(endpoint)
            reached = True
            async with asyncio.timeout(self._settings.handshake_timeout):
                websocket = await self._connect(endpoint, tcp)
        except (OSError, PeerError, Rejected) as exc:
            self._rejected = self._rejected + 1 if reached and isinstance(exc, TimeoutError) else 0
            self._failed(endpoint, exc)
            return 0.0
        self._rejected = 0
        hello = {"agent": __version__, "keepalive": self._settings.session.keepalive}
        channel = Channel(websocket, ChannelSession(hello, self._settings.session), loop.time)
        try:
            reason = await channel.run(use)
            self._last_error = reason
            log.info("detached endpoint=%s: %s", endpoint, reason)
        finally:
            self._total = _sum(self._total, channel.counters)
            self._channel, self._since = None, loop.time()
            websocket.transport.abort()
        return 0.0 if attached_at is None else loop.time() - attached_at

    async def _dial(self, endpoint: str) -> socket.socket:
        return await connect(*forms.endpoint(endpoint))

    async def _connect(self, endpoint: str, tcp: socket.socket) -> ChannelSocket:
        """TLS and the upgrade; closes the socket when they fail."""
        try:
            context = self._tls()
        except BaseException:
            tcp.close()
            raise
        stream = Stream(tcp, context, server_hostname=forms.endpoint(endpoint)[0])
        try:
            await stream.handshake()
            await stream.upgrade(endpoint, "/v1/channel")
        except BaseException:
            stream.abort()
            raise
        return stream

    def _failed(self, endpoint: str, exc: BaseException) -> None:
        text = explain(exc)
        if text != self._last_error:  # an outage of a week is one line
            log.warning("cannot attach endpoint=%s: %s", endpoint, text)
        self._last_error = text

    async def _pause(self, attempt: int, failing_for: float) -> None:
        s = self._settings
        delay = s.backoff.delay(attempt + 1, failing_for, self._rng.random())
        if self._rejected:
            overloaded = Backoff(2.0, s.backoff_overloaded, jitter=1.0)
            delay = max(delay, overloaded.delay(self._rejected, self._rng.random()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._hint.wait()


def explain(exc: BaseException) -> str:
    """What a person needs to know of a failed connection."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return suspect_clock(f"the cloud's certificate was refused: {exc.verify_message}")
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, Rejected):
        return f"the cloud refused the channel ({exc.status}): {exc.text[:300]}"
    return str(exc) or type(exc).__name__


def _sum(a: ChannelCounters, b: ChannelCounters) -> ChannelCounters:
    return ChannelCounters(
        a.messages_in + b.messages_in,
        a.messages_out + b.messages_out,
        a.bytes_in + b.bytes_in,
        a.bytes_out + b.bytes_out,
    )
