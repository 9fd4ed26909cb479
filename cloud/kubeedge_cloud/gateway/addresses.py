"""Which Gateway has which address to itself. Pure.

The operator names the addresses (`publishing.addresses`); each is one Gateway's, which has every host name and every port there. A Gateway keeps the one
that its status has. Without a free one it is at the cloud's own addresses, with all others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object

_KINDS = ("IPAddress", "")  # "" is the default, IPAddress


@dataclass(frozen=True, slots=True)
class AddressAssignment:
    """`address` "": those of the cloud. `unsupported`: why the Gateway is not accepted; `unusable`: why it is not programmed."""

    address: str = ""
    unsupported: str = ""
    unusable: str = ""


def assign(
    gateways: Sequence[Object], pool: Sequence[str], limit: int, occupied: Collection[str] = ()
) -> Mapping[NamespacedName, AddressAssignment]:
    """Of the Gateways of a tenant, the oldest first. `occupied`: what other tenants have; `limit`: as many as this one may have."""
    free = dict.fromkeys(address for address in pool if address not in occupied)
    found: dict[NamespacedName, AddressAssignment] = {}
    later: list[Object] = []
    have = 0
    for gateway in gateways:
        faulty = _fault(gateway)
        wanted = _asked(gateway)
        held = next((address for address in _held(gateway) if address in free), "")
        if faulty is not None:
            found[_key(gateway)] = faulty
        elif not wanted and not held:
            later.append(gateway)
        elif have >= limit or (wanted and wanted not in free):
            unusable = f"{wanted} is not free for this tenant's Gateways" if wanted else ""
            found[_key(gateway)] = AddressAssignment(unusable=unusable)
        else:
            found[_key(gateway)] = AddressAssignment(wanted or held)
            del free[wanted or held]
            have += 1
    for gateway in later:
        address = next(iter(free), "") if have < limit else ""
        if address:
            have += 1
            del free[address]
        found[_key(gateway)] = AddressAssignment(address)
    return found


def _fault(gateway: Object) -> AddressAssignment | None:
    entries = _entries(gateway)
    for entry in entries:
        if str(entry.get("type") or "") not in _KINDS:
            return AddressAssignment(unsupported=f"addresses of type {entry.get('type')} are not supported")
    if len(entries) > 1:
        return AddressAssignment(unusable="a Gateway has one address")
    return None


def _asked(gateway: Object) -> str:
    return next((str(entry.get("value") or "") for entry in _entries(gateway)), "")


def _held(gateway: Object) -> Iterable[str]:
    status = gateway.get("status") or {}
    return [str(a.get("value")) for a in status.get("addresses") or () if isinstance(a, dict)]


def _entries(gateway: Object) -> list[Object]:
    found = (gateway.get("spec") or {}).get("addresses")
    return [entry for entry in found if isinstance(entry, dict)][:16] if isinstance(found, list) else []


def _key(obj: Object) -> NamespacedName:
    return meta.namespace_of(obj), meta.name_of(obj)
