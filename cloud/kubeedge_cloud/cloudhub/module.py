"""Module "cloudhub": WebSocket server for the nodes' channels. Identity comes from the certificate alone.

A node that is attached has a session key in the store (kubeedge.api.keys.session); EdgeController reads it as "Ready". A second
channel of the same node replaces the first: the newer one is the one that the network lets through. Its process writes the key anew, and
the process that held the node sees it and lets go; likewise when the key is deleted because the node was removed, or another machine joined
in its node_key. Only certificates of the join that the node's record names are let in (ADR 0025).

Lives elsewhere: what runs over a channel (kubeedge.sync), tenants and nodes (kubeedge_cloud.tenants).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubeedge import faults
from kubeedge.api import keys
from kubeedge.api.names import NodeName, Revision, TenantId
from kubeedge.errors import Gone, KubeEdgeError, PeerError, Refused, outward
from kubeedge.hub.core import CLOSE_REPLACED, CLOUD_TIMEOUT, REPLACED, Session, SessionSettings
from kubeedge.hub.driver import Channel, ChannelCounters, WebSocket
from kubeedge.hub.stream import Rejected, Stream
from kubeedge.kit.acceptor import BACKLOG, Accepted, Acceptor
from kubeedge.kit.bucket import Buckets
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.pki import identity
from kubeedge.store.model import Change, ChangeKind, Compare, CompareTarget, Delete, Store
from kubeedge.sync.bounds import Bounds
from kubeedge.sync.driver import Progress, run_cloud
from kubeedge_cloud.bootstrap.core import check_join
from kubeedge_cloud.processes.membership import Alone, Membership

log = logging.getLogger("kubeedge.cloudhub")

_CHANNELS_OF_A_NODE = 4  # a new one replaces the one before, which takes a moment to end


class NodeRecord(Protocol):
    @property
    def join(self) -> str:
        """Certificates of this join stand for the node."""
        ...


class NodeDirectory(Protocol):
    async def lookup(self, tenant: TenantId, node: NodeName) -> NodeRecord | None:
        """None: there is no such node; its certificate is worth nothing any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudHubSettings:
    address: str = "0.0.0.0"
    port: int = 10000
    session: SessionSettings = field(default_factory=lambda: SessionSettings(follows=True, timeout=CLOUD_TIMEOUT))
    handshake_timeout: float = 10.0  # seconds for TLS, and again for the upgrade: what an unauthenticated peer may hold
    max_unauthenticated: int = (
        256  # connections whose owner is not known yet: their handshakes take about a second of processor
    )
    max_channels: int = 10_000
    bounds: Bounds = field(default_factory=Bounds)  # of what a node reports


@dataclass(slots=True)
class Attachment:
    tenant: TenantId
    node: NodeName
    session_id: str
    address: str
    since: float  # wall clock
    channel: Channel
    down: Progress = field(default_factory=Progress)
    up: Progress = field(default_factory=Progress)
    revision: Revision = Revision(0)  # of its session key; 0 until it is written
    overtaken: Change | None = None  # a change of the key that was seen before we knew the revision of our own

    @property
    def counters(self) -> ChannelCounters:
        return self.channel.counters


class CloudHub:
    name = "cloudhub"

    def __init__(
        self,
        settings: CloudHubSettings,
        store: Store,
        directory: NodeDirectory,
        tls: Callable[[], ssl.SSLContext],
        *,
        member: Membership | None = None,
    ) -> None:
        self._settings = settings
        self._member = member or Alone()
        self._member.on_loss(self._let_go)
        self._store = store
        self._directory = directory
        self._tls = tls
        self._paces: Buckets[tuple[TenantId, NodeName]] = settings.bounds.paces(settings.max_channels)
        self._attached: dict[tuple[TenantId, NodeName], Attachment] = {}
        self._holding: set[asyncio.Task[Any]] = set()  # of channels, not of unauthenticated connections
        self.acceptor: Acceptor | None = None  # while it listens

    def sessions(self) -> list[Attachment]:
        return list(self._attached.values())

    async def disconnect(self, tenant: TenantId, node: NodeName) -> None:
        """End the node's channel, for a node that was removed."""
        if attachment := self._attached.get((tenant, node)):
            attachment.channel.close("the node was removed", 1008)

    async def follow_sessions(self) -> None:
        """Let go of nodes whose session is somebody else's, or nobody's, for ever."""
        while True:
            try:
                batches = self._store.watch(keys.SESSIONS, after=self._store.revision, progress=True)
                async with contextlib.aclosing(batches):
                    async for batch in batches:
                        for change in batch.changes:
                            tenant, _, node = change.key.removeprefix(keys.SESSIONS).partition("/")
                            if attachment := self._attached.get((TenantId(tenant), NodeName(node))):
                                _heard(attachment, change)
                return  # the store was closed
            except Gone:  # what was missed cannot be known: whoever is still ours comes back at once
                for attachment in self.sessions():
                    attachment.channel.close("the cloud process lost sight of its sessions", 1012)

    def _let_go(self) -> None:
        """The session keys are gone with the lease: the nodes shall attach again, here or elsewhere."""
        for attachment in self.sessions():
            attachment.channel.close("the cloud process lost its lease", 1012)

    async def forget_the_past(self) -> None:
        """Sessions that a process left behind when it was killed: nobody is attached yet. With leases they go by themselves."""
        if not isinstance(self._member, Alone):
            return
        await self._store.delete(keys.SESSIONS, keys.prefix_end(keys.SESSIONS))

    async def run(self, ready: asyncio.Event) -> None:
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
                await self.follow_sessions()
                await asyncio.get_running_loop().create_future()
            finally:
                await cancel_and_wait(accepting)
                for attachment in self.sessions():
                    attachment.channel.close("the cloud process stops", 1001)
                for task in visits - self._holding:
                    task.cancel()
                if visits:  # those that are attached say goodbye, and take their session keys away
                    await asyncio.wait(visits)

    async def _serve(self, accepted: Accepted, context: ssl.SSLContext) -> None:
        """One connection, from TLS to its end. Whatever goes wrong ends it alone."""
        address, task = accepted.address, asyncio.current_task()
        assert task is not None
        limit = self._settings.handshake_timeout
        stream: Stream | None = None
        try:
            stream = Stream(accepted.socket, context)
            accepted.socket = stream.get_extra_info("socket")
            async with asyncio.timeout(limit):
                await stream.handshake()
            async with asyncio.timeout(limit):
                who = await self._admit(stream, accepted)
            if who is None:
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

    async def _admit(self, stream: Stream, accepted: Accepted) -> identity.NodeIdentity | None:
        """Answers the upgrade. None: reject an unauthenticated peer, and say nothing else."""
        try:
            path, answer = await stream.asked()
            if path != "/v1/channel":
                raise Rejected(404, "not found")
            if len(self._holding) >= self._settings.max_channels:
                raise Rejected(503, "too many channels")
            _ = self._member.lease  # without one nobody would know that the node is here
            who = await self._who(stream)
            if (refusal := accepted.authenticated(who.tenant, who.uri)) is not None:
                raise Rejected(429, refusal.value)
        except Rejected as exc:
            stream.refuse(exc.status, exc.text)
        except Refused as exc:
            log.warning("refused address=%s: %s", accepted.address, exc)
            stream.refuse(403, str(exc))
        except PeerError as exc:
            stream.refuse(400, str(exc))
        except KubeEdgeError as exc:
            stream.refuse(503, outward(exc))
        else:
            stream.accept(answer)
            return who
        return None

    async def _who(self, stream: Stream) -> identity.NodeIdentity:
        who = identity.of_peer(stream.peer_certificate())
        if not isinstance(who, identity.NodeIdentity):
            raise Refused(f"{who.uri} is not a node")
        await self._check(who)
        return who

    async def _check(self, who: identity.NodeIdentity) -> None:
        """Raises Refused when that certificate does not stand for the node, or not any more."""
        record = await self._directory.lookup(who.tenant, who.node)
        check_join(who.node, who.join, record.join if record is not None else None)

    async def hold(self, socket: WebSocket, who: identity.NodeIdentity, address: str) -> None:
        """One channel, from attach to detach, for a node whose identity is proven."""
        loop = asyncio.get_running_loop()
        channel = Channel(socket, Session({}, self._settings.session), loop.time)
        attachment = Attachment(who.tenant, who.node, uuid.uuid4().hex, address, time.time(), channel)
        node_key = (who.tenant, who.node)
        if older := self._attached.get(node_key):
            older.channel.close(REPLACED, CLOSE_REPLACED)
        self._attached[node_key] = attachment

        async def use(channel: Channel) -> None:
            if self._attached.get(node_key) is not attachment:
                return  # replaced before it was attached: the newer one's record must stay
            faults.at("cloudhub.before_session")
            attachment.revision = await self._store.put(
                keys.session(*node_key), _record(attachment), self._member.lease
            )
            faults.at("cloudhub.after_session")
            if attachment.overtaken:
                _heard(attachment, attachment.overtaken)
            await self._check(who)  # again: what ends its rights from now on ends the session that is written
            log.info("attached tenant=%s node=%s address=%s", who.tenant, who.node, attachment.address)
            await run_cloud(
                channel,
                self._store,
                *node_key,
                attachment.down,
                attachment.up,
                self._settings.bounds,
                self._paces.of(node_key, loop.time()),
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

    async def _forget(self, attachment: Attachment) -> None:
        """Delete the session key, if it is still this session's."""
        faults.at("cloudhub.before_forget")
        key = keys.session(attachment.tenant, attachment.node)
        with contextlib.suppress(KubeEdgeError):
            await self._store.txn((Compare(key, CompareTarget.VALUE, "=", _record(attachment)),), (Delete(key),))


def _heard(attachment: Attachment, change: Change) -> None:
    """A change of the session key of a node that is attached here."""
    if not attachment.revision:
        attachment.overtaken = change
    elif change.revision > attachment.revision:
        if change.kind is ChangeKind.PUT:
            attachment.channel.close(REPLACED, CLOSE_REPLACED)
        else:
            attachment.channel.close("the session was ended: the node was removed, or its lease is over", 1008)


def _record(attachment: Attachment) -> bytes:
    record: dict[str, Any] = {
        "session": attachment.session_id,
        "address": attachment.address,
        "since": attachment.since,
    }
    return json.dumps(record, separators=(",", ":"), sort_keys=True).encode()


__all__ = ["Attachment", "CloudHub", "CloudHubSettings", "NodeDirectory"]
