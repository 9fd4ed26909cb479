"""Keeps the records of kubeconfigs in the store: /kubeconfigs/T/ID. No key and no certificate is kept."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from kubeedge.api import keys
from kubeedge.api.names import TenantId, node_name
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge.store.model import Compare, CompareTarget, Delete, Put, Store
from kubeedge_cloud.kubeconfigs import core
from kubeedge_cloud.kubeconfigs.core import Kubeconfig

_ID_BYTES = 5


class KubeconfigRecords:
    """Each call goes to the store; `clock` gives seconds since 1970."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def create(self, tenant: TenantId, user: str, ttl: float = core.DEFAULT_TTL, *, file: str = "") -> Kubeconfig:
        """Write the record of a new kubeconfig, valid for `ttl` seconds; the records of old ones make room. Raises Invalid for a bad name or
        ttl, Conflict when the tenant has MAX_KUBECONFIGS that are valid."""
        if not 0 < ttl <= core.MAX_TTL:
            raise Invalid(
                f"{ttl:g} seconds; a kubeconfig is valid for more than 0 and at most {core.MAX_TTL:.0f}", path="ttl"
            )
        try:
            name = str(node_name(user))
        except Invalid as exc:
            raise Invalid("an RFC 1123 label is required (lower case letters, digits and '-')", path="user") from exc
        await self._make_room(tenant)
        now = self._clock()
        record = Kubeconfig(secrets.token_hex(_ID_BYTES), name, now, now + ttl, file=file)
        key = keys.kubeconfigs(tenant) + record.id
        done = await self._store.txn((Compare(key, CompareTarget.VERSION, "=", 0),), (Put(key, record.encode()),))
        if not done.succeeded:
            raise Conflict("two kubeconfigs with one id; try again")
        return record

    async def list(self, tenant: TenantId) -> list[Kubeconfig]:
        """The kubeconfigs of a tenant, revoked and expired ones included while their records are kept."""
        prefix = keys.kubeconfigs(tenant)
        found = await self._store.range(prefix, keys.prefix_end(prefix))
        return [core.decode(kv.value) for kv in found.kvs]

    async def get(self, tenant: TenantId, id: str) -> Kubeconfig | None:
        """A kubeconfig; None when the tenant has none with that ID."""
        kv = await self._store.get(keys.kubeconfigs(tenant) + id)
        return core.decode(kv.value) if kv is not None else None

    async def note_earlier(self, tenant: TenantId, user: str) -> None:
        """Certificates of an earlier version are about: they are listed from now on, and can be revoked."""
        key = keys.kubeconfigs(tenant) + core.EARLIER
        record = Kubeconfig(core.EARLIER, user, self._clock(), 0.0)
        await self._store.txn((Compare(key, CompareTarget.VERSION, "=", 0),), (Put(key, record.encode()),))

    async def revoke(self, tenant: TenantId, id: str) -> Kubeconfig:
        """The record as it is then. Raises NotFound."""
        key = keys.kubeconfigs(tenant) + id
        if id == core.EARLIER:
            await self.note_earlier(tenant, "admin")
        while (kv := await self._store.get(key)) is not None:
            record = core.decode(kv.value)
            if record.revoked:
                return record
            revoked = replace(record, revoked=self._clock())
            same = Compare(key, CompareTarget.MOD, "=", kv.mod_revision)
            if (await self._store.txn((same,), (Put(key, revoked.encode()),))).succeeded:
                return revoked
        raise NotFound(f"no kubeconfig {id} of tenant {tenant}")

    async def _make_room(self, tenant: TenantId) -> None:
        records, now = await self.list(tenant), self._clock()
        gone = core.forgettable(records, now, core.MAX_KUBECONFIGS - 1)
        for start in range(0, len(gone), 100):
            await self._store.txn((), tuple(Delete(keys.kubeconfigs(tenant) + r.id) for r in gone[start : start + 100]))
        if len(records) - len(gone) >= core.MAX_KUBECONFIGS:
            raise Conflict(f"tenant {tenant} has {core.MAX_KUBECONFIGS} kubeconfigs: revoke those that are not needed")
