"""Connections that are not HTTP, on their way to pods: TCP, and TLS that passes through or ends here.

They count to the tenant's requests (`publishing.concurrent`, `rate`), each for as long as it is open.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from kubeedge.api.names import TenantId
from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.gateway.model import FindEndpoints, StreamEntry
from kubeedge.gateway.pods import PodConnector, chosen
from kubeedge.kit.streams import abort_writer, close_writer, reset_writer, splice
from kubeedge.kubebus.http.accounts import Accounts
from kubeedge.kubebus.http.limits import RequestLimiter

log = logging.getLogger("kubeedge.gateway")


class StreamProxy:
    """`endpoints(tenant, backend)`: its ready pods; `slots` and `accounts`: those of the requests."""

    def __init__(
        self,
        endpoints: FindEndpoints,
        pods: PodConnector,
        *,
        slots: Callable[[], RequestLimiter],
        accounts: Accounts,
        rng: random.Random | None = None,
    ) -> None:
        self._endpoints, self._pods, self._slots, self._accounts = endpoints, pods, slots, accounts
        self._rng = rng or random.Random()

    async def serve(
        self, tenant: TenantId, entry: StreamEntry, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection to its end. One that no pod can take is reset."""
        self._accounts.exists(tenant)
        try:
            give_back = self._slots().take(tenant)
        except KubeEdgeError:
            self._accounts.of(tenant).refused += 1
            reset_writer(writer)
            return
        try:
            await self._carry(tenant, entry, reader, writer)
        except (OSError, KubeEdgeError) as exc:
            name = entry.rule.name
            log.debug("connection failed tenant=%s route=%s reason=%s", tenant, name, str(exc) or type(exc).__name__)
            reset_writer(writer)
        finally:
            give_back()
            abort_writer(writer)

    async def _carry(
        self, tenant: TenantId, entry: StreamEntry, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        backend = chosen(entry.rule.backends, self._rng)
        if backend is None or backend.fault:
            raise Unavailable(backend.fault if backend else "the route has no backend")
        _, pod = await self._pods.reach(tenant, self._endpoints(tenant, backend))

        def count(out: int, in_: int) -> None:
            account = self._accounts.of(tenant)
            account.bytes_in += out
            account.bytes_out += in_

        try:
            await splice((reader, writer), pod, count=count)
            await close_writer(writer)
        finally:
            abort_writer(pod[1])
