"""Who may have a channel: from a connection that was accepted to a node whose identity is proven.

Whatever is not a node of this cloud gets an HTTP error and no WebSocket. Identity comes from the certificate alone (ADR 0025).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kubeedge.errors import KubeEdgeError, PeerError, Refused, outward
from kubeedge.hub.stream import Rejected, Stream
from kubeedge.kit.acceptor import Accepted
from kubeedge.pki import identity
from kubeedge_cloud.tenants.directory import NodeLookup
from kubeedge_cloud.tenants.model import check_join

log = logging.getLogger("kubeedge.cloudhub")

_PATH = "/v1/channel"


class Admission:
    """`check_room` raises when this process takes no more channels, Rejected or any KubeEdgeError; `timeout`: seconds for TLS, and again for the upgrade."""

    def __init__(self, directory: NodeLookup, check_room: Callable[[], None], timeout: float) -> None:
        self._directory = directory
        self._check_room = check_room
        self._timeout = timeout

    async def admit(self, stream: Stream, accepted: Accepted) -> identity.NodeIdentity | None:
        """Answers the upgrade. None: it was rejected. Raises OSError and TimeoutError for a peer that says nothing."""
        async with asyncio.timeout(self._timeout):
            await stream.handshake()
        async with asyncio.timeout(self._timeout):
            return await self._answer(stream, accepted)

    async def check(self, who: identity.NodeIdentity) -> None:
        """Raises Refused when that certificate does not stand for the node, or not any more."""
        record = await self._directory.lookup(who.tenant, who.node)
        check_join(who.node, who.join, record.join if record is not None else None)

    async def _answer(self, stream: Stream, accepted: Accepted) -> identity.NodeIdentity | None:
        try:
            path, answer = await stream.asked()
            if path != _PATH:
                raise Rejected(404, "not found")
            self._check_room()
            who = await self._identify(stream)
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

    async def _identify(self, stream: Stream) -> identity.NodeIdentity:
        who = identity.of_peer(stream.peer_certificate())
        if not isinstance(who, identity.NodeIdentity):
            raise Refused(f"{who.uri} is not a node")
        await self.check(who)
        return who
