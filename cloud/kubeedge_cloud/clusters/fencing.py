"""A client of a user's API for the work of one leader: another server knows nothing of our leases, so they are checked before each write.

What was decided on old reading is caught by the write's own precondition (resourceVersion, uid); between the check and the write is a moment
that no check can close.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from kubeedge.api.client import ForwardingClient, Resource
from kubeedge.api.names import NodeName, Object
from kubeedge.api.status import ObjectModified
from kubeedge.store.model import Compare, Store
from kubeedge_cloud.clusters.client import RemoteClient

Leads = Callable[[], Awaitable[bool]]


def leads(store: Store, fence: Callable[[], Sequence[Compare]]) -> Leads:
    """Whether the work that the fence stands for is still ours, by the store."""

    async def ask() -> bool:
        compares = fence()
        return not compares or (await store.txn(compares, ())).succeeded

    return ask


class FencedClient(ForwardingClient):
    """Reads pass; a write by who does not lead any more is ObjectModified."""

    def __init__(self, client: RemoteClient, leads: Leads) -> None:
        super().__init__(client)
        self._remote = client
        self._leads = leads

    def as_node(self, node: NodeName) -> FencedClient:
        """A client with the identity of a node."""
        return FencedClient(self._remote.as_node(node), self._leads)

    async def moved(self) -> None:
        """Returns once the source leads to another server."""
        await self._remote.moved()

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        """Create an object. Raises ObjectModified once another process leads."""
        await self._check()
        return await super().create(resource, namespace, obj)

    async def update(self, resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        """Update an object. Raises ObjectModified once another process leads."""
        await self._check()
        return await super().update(resource, namespace, obj, subresource=subresource)

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> Object:
        """Apply a JSON merge patch. Raises ObjectModified once another process leads."""
        await self._check()
        return await super().merge_patch(resource, namespace, name, patch, subresource=subresource)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, grace_period: int | None = None, uid: str = ""
    ) -> None:
        """Delete an object. Raises ObjectModified once another process leads."""
        await self._check()
        await super().delete(resource, namespace, name, grace_period=grace_period, uid=uid)

    async def create_token(self, namespace: str, account: str, request: Object) -> Object:
        """Request a token of a service account. Raises ObjectModified once another process leads."""
        await self._check()
        return await self._remote.create_token(namespace, account, request)

    async def account_rules(self, namespace: str, account: str) -> Sequence[Mapping[str, Any]]:
        """What the account may, asked in its name."""
        return await self._remote.account_rules(namespace, account)

    async def issuer_keys(self) -> Sequence[Mapping[str, Any]]:
        """Public keys of who signs tokens."""
        return await self._remote.issuer_keys()

    async def _check(self) -> None:
        if not await self._leads():
            raise ObjectModified("another process does this work now")
