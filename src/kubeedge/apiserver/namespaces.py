"""The namespaces of a tenant: those that every cluster has, whether one is empty, whether one takes new objects."""

from __future__ import annotations

import asyncio

from kubeedge.api import keys, meta
from kubeedge.api.meta import Randbytes
from kubeedge.api.names import TenantId
from kubeedge.api.resources import NAMESPACES, Resources, Row
from kubeedge.api.status import Forbidden, ObjectNotFound
from kubeedge.apiserver import core, selection
from kubeedge.apiserver.core import WriteOptions
from kubeedge.store.model import Compare, Put, Store, absent, unchanged

_BOOTSTRAP = ("default", "kube-system", "kube-public", "kube-node-lease")


class TenantNamespaces:
    """Over the store of the registry; `served` are the resources whose objects namespaces contain."""

    def __init__(self, store: Store, tenant: TenantId, served: Resources) -> None:
        self._store = store
        self._tenant = tenant
        self._served = served
        self._bootstrapping = asyncio.Lock()

    async def bootstrap(self, *, now: float, randbytes: Randbytes) -> None:
        """Make those of every cluster that are missing. `now`: seconds since 1970."""
        async with self._bootstrapping:
            for name in _BOOTSTRAP:
                key = self._key(name)
                if await self._store.get(key) is None:
                    row, obj = self._served.row_of(NAMESPACES), {"metadata": {"name": name}}
                    made = core.create(row, "", obj, WriteOptions(), now=now, randbytes=randbytes)
                    await self._store.txn([absent(key)], [Put(key, meta.encode(made))])

    async def has_content(self, namespace: str) -> bool:
        """Whether any object of any resource is in it."""
        for row in self._served.stored:
            if row.resource.namespaced:
                start = selection.prefix(self._tenant, row.resource, namespace)
                if (await self._store.range(start, keys.prefix_end(start), limit=1, keys_only=True)).kvs:
                    return True
        return False

    async def open(self, row: Row, namespace: str, name: str) -> Compare:
        """A compare that holds while the namespace is as it is now. Raises ObjectNotFound, or Forbidden when it is Terminating."""
        kv = await self._store.get(self._key(namespace))
        if kv is None:
            raise ObjectNotFound.of(NAMESPACES, namespace)
        if meta.field_of(meta.decode(kv.value), "status.phase") == "Terminating":
            raise Forbidden.of(
                row.resource,
                name,
                f"unable to create new content in namespace {namespace} because it is being terminated",
            )
        return unchanged(kv)

    def _key(self, name: str) -> str:
        return selection.key(self._tenant, NAMESPACES, "", name)
