"""What becomes of a connection, by where it came in and the name in its handshake: whose it is, and whether HTTP, a pod or nobody gets it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kubeedge.api.names import TenantId
from kubeedge.gateway.model import EVERY_HOST, CompiledRoutes, ListenPoint, StreamEntry, tcp_claim
from kubeedge.gateway.table import patterns


class StreamTable:
    """The streams of all tenants. `owners`: who has which host name, address and port."""

    def __init__(self, owners: Mapping[str, TenantId], routes: Mapping[TenantId, CompiledRoutes]) -> None:
        self._owners = owners
        self._listeners = {tenant: found.listeners for tenant, found in routes.items()}
        self._streams = {
            tenant: {(entry.at, entry.hostname): entry for entry in found.streams} for tenant, found in routes.items()
        }

    def tenant(self, at: ListenPoint, name: str | None) -> TenantId | None:
        """Whose a connection is; `name` None: it is plain TCP."""
        if at.address:
            return self._owners.get(at.address)
        if name is None:
            return self._owners.get(tcp_claim(at.port))
        return next((self._owners[p] for p in patterns(name) if p in self._owners), None)

    def speaks_http(self, at: ListenPoint, name: str) -> bool:
        """The listener for that name is of protocol HTTPS."""
        return self._scheme(self.tenant(at, name), at, name) == "https"

    def stream(self, at: ListenPoint, name: str | None) -> tuple[TenantId, StreamEntry] | None:
        """The route of a connection that is not HTTP, and its tenant."""
        tenant = self.tenant(at, name)
        if tenant is None or (name is not None and self._scheme(tenant, at, name) != "tls"):
            return None
        streams = self._streams.get(tenant, {})
        wanted = [""] if name is None else patterns(name)
        entry = next((streams[at, p] for p in wanted if (at, p) in streams), None)
        return None if entry is None else (tenant, entry)

    def _scheme(self, tenant: TenantId | None, at: ListenPoint, name: str) -> str:
        listeners = self._listeners.get(tenant, {}) if tenant is not None else {}
        found = next((listeners[at, p] for p in patterns(name or EVERY_HOST) if (at, p) in listeners), "")
        # an Ingress has no listener
        return found or ("https" if tenant is not None and not at.address else "")
