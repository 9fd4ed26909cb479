"""Which tenant has which host name: the rows in the store, as all processes see them, and how they are written. What they mean is hostnames.py's."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing

from kubeedge.api import keys
from kubeedge.api.names import TenantId
from kubeedge.store.model import Compare, Delete, Put, Store, absent, unchanged
from kubeedge.store.reflector import PrefixView, follow_view
from kubeedge_cloud.gateway.hostnames import HostClaim, owners, refusals
from kubeedge_cloud.gateway.model import EVERY_HOST
from kubeedge_cloud.gateway.table import intersection

log = logging.getLogger("kubeedge.gateway")

_ROWS = 100_000  # of all tenants


class HostClaims:
    """`reserved`: names of the cloud; `default`: the tenant that has every host that nobody has, "": none. `changed` is called after each change."""

    def __init__(
        self,
        store: Store,
        *,
        reserved: Collection[str],
        default: str,
        changed: Callable[[], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._reserved, self._default = frozenset(reserved), default
        self._changed, self._wall = changed, wall
        self._view = PrefixView(store, keys.GATEWAY_HOSTS, keep=bytes)
        self.owners: dict[str, TenantId] = owners((), default)

    async def run(self, ready: asyncio.Event) -> None:
        """Follows the rows until it is cancelled."""
        async with aclosing(follow_view(self._view)) as steps:
            async for changed in steps:
                if changed or not ready.is_set():
                    self.owners = owners(self._claims(), self._default)
                    self._changed()
                ready.set()

    def refusals(self, tenant: TenantId, wanted: Collection[str]) -> dict[str, str]:
        """Of the host names that a tenant wants, those that it has not got, and why."""
        return refusals(wanted, tenant, self.owners, self._reserved, self._default)

    async def sync(
        self,
        tenant: TenantId,
        wanted: Collection[str],
        fence: Callable[[], Sequence[Compare]],
        exists: Callable[[TenantId], Awaitable[bool]],
    ) -> None:
        """Write rows for what is wanted and free, delete those that are not wanted any more, and those of tenants that are gone and are in
        the way. The leader of the tenant's Gateways does this."""
        claims = self._claims()
        for claim in claims:
            if claim.tenant == tenant:
                if claim.hostname not in wanted:
                    await self._drop(claim.hostname, fence)
            elif any(intersection(claim.hostname, name) for name in wanted if name != EVERY_HOST):
                if not await exists(claim.tenant):
                    await self._drop(claim.hostname, fence)
        mine = {claim.hostname for claim in claims if claim.tenant == tenant}
        for hostname in sorted(set(wanted) - mine):
            free = refusals([hostname], tenant, {**self.owners, hostname: tenant}, self._reserved, self._default)
            if free or hostname == EVERY_HOST or self._overlaps(hostname, tenant) or len(self._view.values) >= _ROWS:
                continue
            key = keys.GATEWAY_HOSTS + hostname
            row = json.dumps({"tenant": tenant, "since": int(self._wall() * 1000)}).encode()
            if (await self._store.txn([absent(key), *fence()], [Put(key, row)])).succeeded:
                self._known(key, row)
                log.info("host name %s is of tenant %s", hostname, tenant)

    def _overlaps(self, hostname: str, tenant: TenantId) -> bool:
        """Somebody else has it already, or a name that overlaps with it."""
        trial = [*self._claims(), HostClaim(hostname, tenant, int(self._wall() * 1000) + (1 << 40))]
        return owners(trial, "").get(hostname) != tenant

    async def _drop(self, hostname: str, fence: Callable[[], Sequence[Compare]]) -> None:
        key = keys.GATEWAY_HOSTS + hostname
        kv = await self._store.get(key)
        if kv is None or (claim := _claim(key, kv.value)) is None:
            return
        if (await self._store.txn([unchanged(kv), *fence()], [Delete(key)])).succeeded:
            self._known(key, None)
            log.info("host name %s is free; it was of tenant %s", hostname, claim.tenant)

    def _known(self, key: str, row: bytes | None) -> None:
        """What was just written; the watch brings the same."""
        if row is None:
            self._view.values.pop(key, None)
        else:
            self._view.values[key] = row
        self.owners = owners(self._claims(), self._default)

    def _claims(self) -> list[HostClaim]:
        return [claim for key, value in self._view.values.items() if (claim := _claim(key, value)) is not None]


def _claim(key: str, value: bytes) -> HostClaim | None:
    try:
        row = json.loads(value)
        return HostClaim(key.removeprefix(keys.GATEWAY_HOSTS), TenantId(str(row["tenant"])), int(row["since"]))
    except (ValueError, TypeError, KeyError):
        return None
