"""Module "cloudhub": WebSocket server for the nodes' channels. Identity comes from the certificate alone.

A node that is attached has a session key in the store (kubeedge.api.keys.session); EdgeController reads it as "Ready". A second
channel of the same node replaces the first: the newer one is the one that the network lets through. Its process writes the key again, and
the process that held the node sees that and closes its channel; likewise when the key is deleted because the node was removed, or another machine joined
under its name.

Lives elsewhere: who is admitted (admission.py), what a change of the key means (core.py), what runs over a channel (kubeedge.sync),
                 tenants and nodes (kubeedge_cloud.tenants).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from kubeedge import faults
from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import KubeEdgeError, Refused
from kubeedge.hub.core import CLOSE_REPLACED, CLOUD_TIMEOUT, REPLACED, ChannelSession, ChannelSettings
from kubeedge.hub.driver import Channel, ChannelCounters, ChannelSocket
from kubeedge.hub.queued_bytes import QueuedBytes
from kubeedge.hub.stream import Rejected, Stream
from kubeedge.kit.acceptor import BACKLOG, Accepted, Acceptor
from kubeedge.kit.bucket import Buckets
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.reflector.driver import reflect
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.pki import identity
from kubeedge.store.model import Compare, CompareTarget, Delete, Store
from kubeedge.sync.bounds import Bounds
from kubeedge.sync.driver import run_cloud
from kubeedge.sync.progress import Progress
from kubeedge_cloud.cloudhub.admission import Admission
from kubeedge_cloud.cloudhub.core import Close, KeyChange, NodePace, SessionKey
from kubeedge_cloud.cloudhub.session_keys import SessionKeys, SessionName
from kubeedge_cloud.processes.membership import Alone, Membership
from kubeedge_cloud.tenants.directory import NodeLookup

log = logging.getLogger("kubeedge.cloudhub")

_CHANNELS_OF_A_NODE = 4  # a new one replaces the one before, which takes a moment to end


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudHubSettings:
    """Listener and limits; times in seconds."""

    address: str = "0.0.0.0"
    port: int = 10000
    session: ChannelSettings = field(default_factory=lambda: ChannelSettings(follows=True, timeout=CLOUD_TIMEOUT))
    handshake_timeout: float = 10.0  # seconds for TLS, and again for the upgrade: what an unauthenticated peer may hold
    max_unauthenticated: int = (
        256  # connections whose owner is not known yet: their handshakes take about a second of processor
    )
    max_channels: int = 10_000
    bounds: Bounds = field(default_factory=Bounds)  # of what a node reports


@dataclass(slots=True)
class AttachedNode:
    """A node whose channel is here."""

    tenant: TenantId
    node: NodeName
    channel: Channel
    key: SessionKey
    down: Progress = field(default_factory=Progress)
    up: Progress = field(default_factory=Progress)

    @property
    def address(self) -> str:
        """The address that the channel comes from."""
        return self.key.address

    @property
    def since(self) -> float:
        """The time at which the channel was attached, in seconds since 1970."""
        return self.key.since

    @property
    def counters(self) -> ChannelCounters:
        """Messages and bytes of the channel since it began."""
        return self.channel.counters


class CloudHub:
    """Accepts channels of nodes and keeps their session keys with the lease of `membership`; without one, the process is alone. `pressure`:
    seconds for which the store's history has no room for more of a tenant."""

    name = "cloudhub"

    def __init__(
        self,
        settings: CloudHubSettings,
        store: Store,
        directory: NodeLookup,
        tls: Callable[[], ssl.SSLContext],
        *,
        membership: Membership | None = None,
        pressure: Callable[[TenantId], float] = lambda _: 0.0,
    ) -> None:
        self._settings = settings
        self._pressure = pressure
        self._membership = membership or Alone()
        self._membership.on_loss(self._let_go)
        self._store = store
        self._tls = tls
        self._paces: Buckets[tuple[TenantId, NodeName]] = settings.bounds.paces(settings.max_channels)
        self._admission = Admission(directory, self._check_room, settings.handshake_timeout)
        self._attached: dict[tuple[TenantId, NodeName], AttachedNode] = {}
        self._queued: WeakValueDictionary[TenantId, QueuedBytes[Channel]] = WeakValueDictionary()
        self._holding: set[asyncio.Task[Any]] = set()  # of channels, not of unauthenticated connections
        self.acceptor: Acceptor | None = None  # while it listens

    def attached(self) -> list[AttachedNode]:
        """A copy: the nodes whose channel is at this process now."""
        return list(self._attached.values())

    async def disconnect(self, tenant: TenantId, node: NodeName) -> None:
        """End the node's channel, for a node that was removed."""
        if attachment := self._attached.get((tenant, node)):
            attachment.channel.close("the node was removed", 1008)

    async def follow_session_keys(self) -> None:
        """Release nodes whose session key is another process's, or gone; until the store is closed."""
        async with contextlib.aclosing(reflect(SessionKeys(self._store, self._held, self._changed))) as steps:
            async for _ in steps:
                pass

    def _held(self) -> list[SessionName]:
        return list(self._attached)

    def _changed(self, name: SessionName, change: KeyChange) -> None:
        if attachment := self._attached.get(name):
            _end(attachment, attachment.key.changed(change))

    def _let_go(self) -> None:
        """The session keys are gone with the lease: the nodes shall attach again, here or elsewhere."""
        for attachment in self.attached():
            attachment.channel.close("the cloud process lost its lease", 1012)

    async def forget_the_past(self) -> None:
        """Sessions that a process left behind when it was killed: no node is attached yet. With leases they go by themselves."""
        if not isinstance(self._membership, Alone):
            return
        await self._store.delete(keys.SESSIONS, keys.prefix_end(keys.SESSIONS))

    async def run(self, ready: asyncio.Event) -> None:
        """Without leases, session keys that an earlier run left are deleted first; then it listens until it is cancelled."""
        await self.forget_the_past()
        s = self._settings
        context = self._tls()
        limits = ConnectionLimits(
            unauthenticated=s.max_unauthenticated, first_byte=s.handshake_timeout, per_identity=_CHANNELS_OF_A_NODE
        )
        visits: set[asyncio.Task[None]] = set()

        def begin(accepted: Accepted) -> None:
            task = asyncio.create_task(self._serve(accepted, context), name="channel of a node")
            accepted.cut = task.cancel
            visits.add(task)
            task.add_done_callback(visits.discard)

        with listening_socket(s.address, s.port, backlog=BACKLOG) as listener:
            self.acceptor = acceptor = Acceptor(limits, begin)
            accepting = asyncio.create_task(acceptor.run([listener]), name="accept loop of the hub")
            ready.set()
            try:
                await self.follow_session_keys()
                await asyncio.get_running_loop().create_future()
            finally:
                await cancel_and_wait(accepting)
                for attachment in self.attached():
                    attachment.channel.close("the cloud process stops", 1001)
                for task in visits - self._holding:
                    task.cancel()
                if visits:  # those that are attached say goodbye, and take their session keys away
                    await asyncio.wait(visits)

    async def _serve(self, accepted: Accepted, context: ssl.SSLContext) -> None:
        """Serve one connection from TLS to its end. Whatever goes wrong ends it alone."""
        address, task = accepted.address, asyncio.current_task()
        assert task is not None
        stream: Stream | None = None
        try:
            stream = Stream(accepted.socket, context)
            accepted.socket = stream.get_extra_info("socket")
            if (who := await self._admission.admit(stream, accepted)) is None:
                return
            self._holding.add(task)
            try:
                await self.hold(stream, who, address)
            finally:
                self._holding.discard(task)
        except (OSError, KubeEdgeError) as exc:
            log.debug("channel failed address=%s: %s", address, exc)
        except Exception:
            log.exception("channel failed address=%s", address)
        finally:
            if stream is not None:
                stream.abort()
            accepted.ended()

    def _check_room(self) -> None:
        if len(self._holding) >= self._settings.max_channels:
            raise Rejected(503, "too many channels")
        _ = self._membership.lease  # without one no other process would know that the node is here

    async def hold(self, socket: ChannelSocket, who: identity.NodeIdentity, address: str) -> None:
        """Serve one channel, from attach to detach, for a node whose identity is proven."""
        loop = asyncio.get_running_loop()
        queued = self._queued.setdefault(who.tenant, QueuedBytes())  # for as long as one of its channels has it
        channel = Channel(socket, ChannelSession({}, self._settings.session), loop.time, queued)
        key = SessionKey(uuid.uuid4().hex, address, time.time())
        attachment = AttachedNode(who.tenant, who.node, channel, key)
        node_key = (who.tenant, who.node)
        if older := self._attached.get(node_key):
            older.channel.close(REPLACED, CLOSE_REPLACED)
        self._attached[node_key] = attachment

        async def use(channel: Channel) -> None:
            if self._attached.get(node_key) is not attachment:
                return  # replaced before it was attached: the newer one's record must stay
            faults.at("cloudhub.before_session")
            revision = await self._store.put(keys.session(*node_key), key.encode(), self._membership.lease)
            close = key.written(revision)
            faults.at("cloudhub.after_session")
            _end(attachment, close)
            await self._admission.check(
                who
            )  # again: what ends its authorization from now on ends the session that is written
            log.info("attached tenant=%s node=%s address=%s", who.tenant, who.node, attachment.address)
            await run_cloud(
                channel,
                self._store,
                *node_key,
                attachment.down,
                attachment.up,
                self._settings.bounds,
                NodePace(self._paces.of(node_key, loop.time()), lambda: self._pressure(who.tenant)),
            )

        reason = "cancelled"
        try:
            reason = await channel.run(use)
        except Refused as exc:
            reason = str(exc)
        except Exception as exc:
            reason = str(exc) or type(exc).__name__
            log.exception("channel failed tenant=%s node=%s", who.tenant, who.node)
        finally:
            if self._attached.get(node_key) is attachment:
                del self._attached[node_key]
            log.info("detached tenant=%s node=%s: %s", who.tenant, who.node, reason)
            await self._forget(attachment)

    async def _forget(self, attachment: AttachedNode) -> None:
        """Delete the session key, if it is still this session's."""
        faults.at("cloudhub.before_forget")
        key = keys.session(attachment.tenant, attachment.node)
        with contextlib.suppress(KubeEdgeError):
            await self._store.txn((Compare(key, CompareTarget.VALUE, "=", attachment.key.encode()),), (Delete(key),))


def _end(attachment: AttachedNode, close: Close | None) -> None:
    if close is not None:
        attachment.channel.close(close.reason, close.code)
