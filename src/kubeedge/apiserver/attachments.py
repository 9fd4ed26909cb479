"""What else is written together with an object: the address and node ports of a Service, the lease of an Event."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubeedge.api import keys, meta
from kubeedge.api.meta import Randbytes
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import EVENTS, SERVICES, Row
from kubeedge.api.status import InvalidObject, ServerUnavailable, invalid
from kubeedge.apiserver.cluster_ips import ClusterIps
from kubeedge.apiserver.writing import Writing
from kubeedge.kit.ip import IpNetwork
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store

NODE_PORTS = range(30_000, 32_768)  # the default of kube-apiserver
EVENT_TTL = 3600.0  # seconds; the default of kube-apiserver
_LEASE_SHARED = 300.0  # seconds during which new events share one lease: a lease is a write of its own


class Attachments:
    """For one tenant: allocates cluster IPs and node ports of Services, and lets Events expire with a lease that several of them share."""

    def __init__(
        self,
        store: Store,
        tenant: TenantId,
        *,
        wall: Callable[[], float],
        randbytes: Randbytes,
        services: Sequence[IpNetwork],
    ) -> None:
        self._store = store
        self._cluster_ips = ClusterIps(store, tenant, randbytes=randbytes, networks=services)
        self._wall = wall
        self._randbytes = randbytes
        self._ports = f"{keys.registry(tenant)}_ports/services/"
        self._lease = 0
        self._lease_until = 0.0

    async def of_write(self, row: Row, old: Object | None, new: Object) -> Writing:
        """To be used once: after a lost race it is asked again."""
        if row.resource == EVENTS:
            return Writing(new, lease=await self._event_lease())
        if row.resource != SERVICES:
            return Writing(new)
        address = await self._cluster_ips.of_write(row, old, new)
        ports = await self._node_ports(row, old, address.obj)
        return Writing(ports.obj, [*address.compares, *ports.compares], [*address.ops, *ports.ops])

    def of_removal(self, row: Row, obj: Object) -> Sequence[Op]:
        """The operations that delete what belongs to an object together with it."""
        if row.resource != SERVICES:
            return ()
        ports = [Delete(f"{self._ports}{number}") for number in sorted(_node_ports_of(obj))]
        return [*self._cluster_ips.of_removal(obj), *ports]

    async def _event_lease(self) -> int:
        now = self._wall()
        if now >= self._lease_until or now < self._lease_until - _LEASE_SHARED:  # the clock may have been set back
            self._lease = await self._store.lease_grant(EVENT_TTL + _LEASE_SHARED)
            self._lease_until = now + _LEASE_SHARED
        return self._lease

    async def _node_ports(self, row: Row, old: Object | None, new: Object) -> Writing:
        """A port that a Service has once, it has for all protocols; one that it gives up is free."""
        spec = dict(new.get("spec") or {})
        held = _node_ports_of(old) if old is not None else set()
        wants = spec.get("type") == "NodePort" or (
            spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
        )
        entries = [dict(port) for port in spec.get("ports") or () if isinstance(port, dict)]
        if not wants:
            if spec.get("type") != "LoadBalancer":
                for entry in entries:
                    entry.pop("nodePort", None)
        else:
            before = _numbers_by_name(old)
            taken = {number for entry in entries if (number := entry.get("nodePort"))}
            for entry in entries:
                if not entry.get("nodePort"):
                    kept = before.get((str(entry.get("name") or ""), entry.get("protocol")))
                    entry["nodePort"] = kept if kept and kept not in taken else await self._free_port(taken)
                    taken.add(entry["nodePort"])
        if entries:
            spec["ports"] = entries
        new = {**new, "spec": spec}
        now, name = _node_ports_of(new), meta.name_of(new)
        for number in sorted(now - held):
            if number not in NODE_PORTS:
                message = f"provided port is not in the valid range. The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
                raise InvalidObject.of(row.resource, name, [invalid("spec.ports[0].nodePort", number, message)])
            if await self._store.get(f"{self._ports}{number}") is not None:
                error = invalid("spec.ports[0].nodePort", number, "provided port is already allocated")
                raise InvalidObject.of(row.resource, name, [error])
        owner = meta.encode({"namespace": meta.namespace_of(new), "name": name})
        return Writing(
            new,
            [Compare(f"{self._ports}{number}", CompareTarget.VERSION, "=", 0) for number in sorted(now - held)],
            [
                *(Put(f"{self._ports}{number}", owner) for number in sorted(now - held)),
                *(Delete(f"{self._ports}{number}") for number in sorted(held - now)),
            ],
        )

    async def _free_port(self, taken: set[int]) -> int:
        start = int.from_bytes(self._randbytes(4)) % len(NODE_PORTS)
        for step in range(len(NODE_PORTS)):
            number = NODE_PORTS[(start + step) % len(NODE_PORTS)]
            if number not in taken and await self._store.get(f"{self._ports}{number}") is None:
                return number
        raise ServerUnavailable("all node ports are taken: delete services that are not needed")


def _node_ports_of(service: Object) -> set[int]:
    ports = (service.get("spec") or {}).get("ports") or ()
    return {
        number
        for port in ports
        if isinstance(port, dict) and isinstance(number := port.get("nodePort"), int) and number
    }


def _numbers_by_name(service: Object | None) -> dict[tuple[str, object], int]:
    ports = ((service or {}).get("spec") or {}).get("ports") or ()
    return {(str(p.get("name") or ""), p.get("protocol")): p["nodePort"] for p in ports if p.get("nodePort")}
