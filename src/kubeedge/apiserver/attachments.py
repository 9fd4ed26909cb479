"""What else is written together with an object: the address of a Service, the lease of an Event."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubeedge.api import keys, meta
from kubeedge.api.meta import Randbytes
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import EVENTS, SERVICES, Row
from kubeedge.api.status import InvalidObject, ServerUnavailable, invalid
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store

SERVICE_RANGE = ipaddress.IPv4Network("10.96.0.0/12")  # the default of kubeadm
EVENT_TTL = 3600.0  # seconds; the default of kube-apiserver
_LEASE_SHARED = 300.0  # seconds during which new events share one lease: a lease is a write of its own


@dataclass(frozen=True, slots=True)
class Writing:
    """An object to write, and what is written with it in one transaction."""

    obj: Object
    compares: Sequence[Compare] = ()
    ops: Sequence[Op] = ()
    lease: int = 0


class Attachments:
    """For one tenant: allocates cluster IPs of Services and lets Events expire with a lease that several of them share."""

    def __init__(self, store: Store, tenant: TenantId, *, wall: Callable[[], float], randbytes: Randbytes) -> None:
        self._store = store
        self._wall = wall
        self._randbytes = randbytes
        self._addresses = f"{keys.registry(tenant)}_addresses/services/"
        self._lease = 0
        self._lease_until = 0.0

    async def of_write(self, row: Row, old: Object | None, new: Object) -> Writing:
        """To be used once: after a lost race it is asked again."""
        if row.resource == EVENTS:
            return Writing(new, lease=await self._event_lease())
        return await self._service(row, old, new) if row.resource == SERVICES else Writing(new)

    def of_removal(self, row: Row, obj: Object) -> Sequence[Op]:
        """What is deleted together with the object."""
        if row.resource != SERVICES:
            return ()
        address = _address_of(obj)
        return [Delete(self._addresses + address)] if address else ()

    async def _event_lease(self) -> int:
        now = self._wall()
        if now >= self._lease_until or now < self._lease_until - _LEASE_SHARED:  # the clock may have been set back
            self._lease = await self._store.lease_grant(EVENT_TTL + _LEASE_SHARED)
            self._lease_until = now + _LEASE_SHARED
        return self._lease

    async def _service(self, row: Row, old: Object | None, new: Object) -> Writing:
        held = _address_of(old) if old is not None else ""
        spec = dict(new.get("spec") or {})
        wanted = spec.get("clusterIP") or ""
        if spec.get("type") == "ExternalName":
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
            return Writing({**new, "spec": spec}, ops=[Delete(self._addresses + held)] if held else ())
        if wanted == "None" or (wanted and wanted == held):
            spec["clusterIPs"] = [wanted]
            return Writing({**new, "spec": spec})
        name = meta.name_of(new)
        if wanted:
            if ipaddress.ip_address(wanted) not in SERVICE_RANGE:
                error = invalid(
                    "spec.clusterIPs",
                    [wanted],
                    f"the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {SERVICE_RANGE}",
                )
                raise InvalidObject.of(row.resource, name, [error])
            if await self._store.get(self._addresses + wanted) is not None:
                error = invalid(
                    "spec.clusterIPs", [wanted], f"failed to allocate IP {wanted}: provided IP is already allocated"
                )
                raise InvalidObject.of(row.resource, name, [error])
        else:
            wanted = await self._free_address()
        spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted]
        key = self._addresses + wanted
        owner = meta.encode({"namespace": meta.namespace_of(new), "name": name})
        return Writing({**new, "spec": spec}, [Compare(key, CompareTarget.VERSION, "=", 0)], [Put(key, owner)])

    async def _free_address(self) -> str:
        """Random tries: of a million addresses, even half taken leaves no doubt after 64."""
        size = SERVICE_RANGE.num_addresses - 2
        for _ in range(64):
            address = str(SERVICE_RANGE[1 + int.from_bytes(self._randbytes(4)) % size])
            if await self._store.get(self._addresses + address) is None:
                return address
        raise ServerUnavailable(
            f"no free service address found in {SERVICE_RANGE}: delete services that are not needed"
        )


def _address_of(service: Object) -> str:
    address = str((service.get("spec") or {}).get("clusterIP") or "")
    return "" if address == "None" else address
