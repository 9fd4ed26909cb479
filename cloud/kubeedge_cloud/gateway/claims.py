"""Which tenant has which host name: the rows in the store, as all processes see them, and how they are written. What they mean is hostnames.py's."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import TypeAlias

from kubeedge.api import keys
from kubeedge.api.names import TenantId
from kubeedge.gateway.model import EVERY_HOST
from kubeedge.gateway.table import patterns
from kubeedge.store.model import Compare, Delete, Put, Store, absent, unchanged
from kubeedge.store.reflector import PrefixView, follow_view
from kubeedge_cloud.gateway.hostnames import HostClaim, is_free, owners, refusals, tenants_below

log = logging.getLogger("kubeedge.gateway")

_ROWS = 100_000  # of all tenants

_Row: TypeAlias = tuple[TenantId, int]  # tenant, since


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
        self._view = PrefixView(store, keys.GATEWAY_HOSTS, keep=_row)
        self.owners: dict[str, TenantId] = owners((), default)
        self._below: tuple[dict[str, TenantId], dict[str, set[TenantId]]] = {}, {}  # made of which owners

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
        claims, names = self._claims(), set(wanted) - {EVERY_HOST}
        above = {pattern for name in names for pattern in patterns(name)} - {EVERY_HOST}
        for claim in claims:
            if claim.tenant == tenant:
                if claim.hostname not in wanted:
                    await self._drop(claim.hostname, fence)
            elif claim.hostname in above or not names.isdisjoint(patterns(claim.hostname)):
                if not await exists(claim.tenant):
                    await self._drop(claim.hostname, fence)
        mine = {claim.hostname for claim in claims if claim.tenant == tenant}
        for hostname in sorted(set(wanted) - mine):
            refused = refusals([hostname], tenant, {hostname: tenant}, self._reserved, self._default)
            if (
                refused
                or hostname == EVERY_HOST
                or len(self._view.values) >= _ROWS
                or not self._is_free(hostname, tenant)
            ):
                continue
            key = keys.GATEWAY_HOSTS + hostname
            row = json.dumps({"tenant": tenant, "since": int(self._wall() * 1000)}).encode()
            if (await self._store.txn([absent(key), *fence()], [Put(key, row)])).succeeded:
                self._known(key, _row(row))
                log.info("host name %s is of tenant %s", hostname, tenant)

    def _is_free(self, hostname: str, tenant: TenantId) -> bool:
        """A tenant may want many names that others have, and be looked at often: what all of that needs is made once for each state."""
        if self._below[0] is not self.owners:
            self._below = self.owners, tenants_below(self.owners)
        return is_free(hostname, tenant, *self._below)

    async def _drop(self, hostname: str, fence: Callable[[], Sequence[Compare]]) -> None:
        key = keys.GATEWAY_HOSTS + hostname
        kv = await self._store.get(key)
        if kv is None or (found := _row(kv.value)) is None:
            return
        if (await self._store.txn([unchanged(kv), *fence()], [Delete(key)])).succeeded:
            self._known(key, None)
            log.info("host name %s is free; it was of tenant %s", hostname, found[0])

    def _known(self, key: str, row: _Row | None) -> None:
        """What was just written; the watch brings the same."""
        if row is None:
            self._view.values.pop(key, None)
        else:
            self._view.values[key] = row
        self.owners = owners(self._claims(), self._default)

    def _claims(self) -> list[HostClaim]:
        return [
            HostClaim(key.removeprefix(keys.GATEWAY_HOSTS), *row)
            for key, row in self._view.values.items()
            if row is not None
        ]


def _row(value: bytes) -> _Row | None:
    try:
        row = json.loads(value)
        return TenantId(str(row["tenant"])), int(row["since"])
    except (ValueError, TypeError, KeyError):
        return None
