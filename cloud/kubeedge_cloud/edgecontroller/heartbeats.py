"""The Leases of nodes in the embedded API: one for each node, with the time when it was attached last.

Written when a node attaches for the first time, and when it is lost. Why they are not renewed: kubeedge.apiserver.heartbeats.
"""

from __future__ import annotations

import contextlib

from kubeedge.api import meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import LEASES
from kubeedge.api.status import AlreadyExists
from kubeedge.apiserver.heartbeats import NAMESPACE
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.edgecontroller.leases import DURATION, lease
from kubeedge_cloud.edgecontroller.state import EdgeState


class NodeHeartbeats:
    """Writes and removes the Leases of one tenant's nodes."""

    def __init__(self, state: EdgeState) -> None:
        self._state = state

    async def note(self, node: Object, *, attached: bool) -> None:
        """`node` is attached, or was lost just now, when its grace period was over."""
        name, client = meta.name_of(node), self._state.client
        last = self._state.wall() - (0.0 if attached else self._state.node_grace)
        wanted = lease(node, DURATION, meta.micro_timestamp(last))
        try:
            found = await client.get(LEASES, NAMESPACE, name)
        except NotFound:
            if attached:
                with contextlib.suppress(AlreadyExists):
                    await client.create(LEASES, NAMESPACE, wanted)
            return
        inner = {**meta.metadata(found), "ownerReferences": wanted["metadata"]["ownerReferences"]}
        if not attached or inner != meta.metadata(
            found
        ):  # a Node that was deleted under a running agent comes back as another one
            with contextlib.suppress(Conflict, NotFound):
                await client.update(LEASES, NAMESPACE, {**found, "metadata": inner, "spec": wanted["spec"]})

    async def remove(self, name: NodeName) -> None:
        """Remove the heartbeat of a node; it is no error when there is none."""
        with contextlib.suppress(Conflict, NotFound):
            await self._state.client.delete(LEASES, NAMESPACE, name)
