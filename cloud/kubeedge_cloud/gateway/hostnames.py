"""Which tenant has a host name: the first that wanted it, for as long as it does. Pure.

    /gateway/hosts/HOST {"tenant": T, "since": milliseconds}

HOST is a host name, an address that a Gateway has to itself, or "tcp:PORT" for a port of the cloud's addresses.

A name and a "*." that covers it are one thing: the row that was made first holds, whatever its tenant. "*" stands for every host that nobody
has and is the operator's to give (`publishing.defaultTenant`); the names of the cloud itself are nobody's: published services of all tenants
are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kubeedge.api.names import TenantId
from kubeedge.gateway.model import EVERY_HOST
from kubeedge.gateway.table import covers, patterns


@dataclass(frozen=True, slots=True)
class HostClaim:
    """A row: for whom it was written, and when, in milliseconds since 1970."""

    hostname: str
    tenant: TenantId
    since: int


def owners(claims: Iterable[HostClaim], default: str) -> dict[str, TenantId]:
    """Host names and "*." with their tenants. Every process comes to the same result, whichever of two overlapping rows it wrote itself."""
    found: dict[str, TenantId] = {}
    below: dict[str, set[TenantId]] = {}  # a pattern -> tenants with names that it covers
    for claim in sorted(claims, key=lambda c: (c.since, c.hostname)):
        above = [p for p in patterns(claim.hostname) if p != EVERY_HOST]
        if any(found.get(pattern, claim.tenant) != claim.tenant for pattern in above):
            continue
        if below.get(claim.hostname, set()) - {claim.tenant}:
            continue
        found[claim.hostname] = claim.tenant
        for pattern in above:
            below.setdefault(pattern, set()).add(claim.tenant)
    if default:
        found[EVERY_HOST] = TenantId(default)
    return found


def tenants_below(found: Mapping[str, TenantId]) -> dict[str, set[TenantId]]:
    """Of what `owners` says: a name or "*." -> the tenants that have it, or names that it covers."""
    below: dict[str, set[TenantId]] = {}
    for hostname, tenant in found.items():
        for pattern in patterns(hostname):
            below.setdefault(pattern, set()).add(tenant)
    return below


def is_free(
    hostname: str, tenant: TenantId, found: Mapping[str, TenantId], below: Mapping[str, Collection[TenantId]]
) -> bool:
    """Whether a row for it, made now, would hold: nobody else has the name, or one that overlaps with it."""
    above = (found.get(pattern, tenant) for pattern in patterns(hostname) if pattern != EVERY_HOST)
    return all(owner == tenant for owner in above) and not set(below.get(hostname, ())) - {tenant}


def refusals(
    wanted: Iterable[str], tenant: TenantId, found: Mapping[str, TenantId], reserved: Collection[str], default: str
) -> dict[str, str]:
    """Of the names that a tenant wants, those that it cannot have, and why. `found`: what `owners` says; `reserved`: names of the cloud."""
    result: dict[str, str] = {}
    for hostname in wanted:
        if hostname == EVERY_HOST:
            if tenant != default:
                result[hostname] = (
                    "without a host name it is for the tenant that publishing.defaultTenant of the cloud names"
                )
        elif any(covers(hostname, name) for name in reserved):
            result[hostname] = f"{hostname} is the cloud's own name, where published services of all tenants are"
        elif found.get(hostname) != tenant:
            result[hostname] = f"{hostname}: another tenant has it, or a name that overlaps with it"
    return result
