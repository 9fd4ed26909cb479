"""Module "kubeconfigs": which users the API server admits, by records that it follows: what is revoked in any process ends here at once.

Lives elsewhere: what a record says (core.py), connections (kubeedge.apiserver.server).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from kubeedge.api import keys
from kubeedge.api.names import TenantId
from kubeedge.api.status import Unauthorized
from kubeedge.pki.identity import UserIdentity
from kubeedge.store.model import Store
from kubeedge.store.reflector import reflect
from kubeedge_cloud.kubeconfigs import core
from kubeedge_cloud.kubeconfigs.core import Kubeconfig

log = logging.getLogger("kubeedge.kubeconfigs")

#: told of a kubeconfig that opens nothing any more: tenant, and its id as certificates name it ("": of an earlier version)
Ended = Callable[[TenantId, str], None]


class Kubeconfigs:
    """Reflects the records of all tenants; the API server asks it about every certificate."""

    name = "kubeconfigs"

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._records: dict[str, Kubeconfig] = {}  # by key
        self._listeners: list[Ended] = []

    def on_ended(self, listener: Ended) -> None:
        """Call the listener for each kubeconfig that is revoked or deleted from now on."""
        self._listeners.append(listener)

    async def check(self, who: UserIdentity) -> None:
        """Raises Unauthorized for what is revoked or not known. While the store is unavailable, the last known state counts."""
        key = keys.kubeconfigs(who.tenant) + (who.kubeconfig or core.EARLIER)
        record = self._records.get(key)
        if record is None:  # made in another process a moment ago, perhaps
            kv = await self._store.get(key)
            record = core.decode(kv.value) if kv is not None else None
        if not core.opens(who.kubeconfig, record, self._clock()):
            state = record.state(self._clock()) if record is not None else "not known here"
            raise Unauthorized(f"Unauthorized: this kubeconfig is {state}; ask the administrator for another")

    async def run(self, ready: asyncio.Event) -> None:
        """Ready once all records were read."""
        async with aclosing(reflect(self._store, keys.KUBECONFIGS)) as changes:
            async for values, changed in changes:
                for key in changed:
                    self._changed(key, values.get(key))
                ready.set()

    def _changed(self, key: str, value: bytes | None) -> None:
        before = self._records.pop(key, None)
        if value is not None:
            self._records[key] = core.decode(value)
        now = self._records.get(key)
        if before is not None and now == before:
            return
        tenant, _, id = key.removeprefix(keys.KUBECONFIGS).partition("/")
        if not core.opens("" if id == core.EARLIER else id, now, self._clock()):
            log.info("a kubeconfig ended tenant=%s id=%s", tenant, id)
            for listener in self._listeners:
                listener(TenantId(tenant), "" if id == core.EARLIER else id)
