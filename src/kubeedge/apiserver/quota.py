"""How much a tenant may store: what the registry asks before it writes. Pure.

Lives here:      the numbers, what is refused and in which words.
Lives elsewhere: counting what there is (kubeedge_cloud.tenants.usage).

A creation needs room for an object, and a write that makes an object larger needs room for the difference. Deletions and what makes an
object smaller are always possible. A status is written by nodes and controllers for objects that were let in: it may use a reserve beyond
the limit, so that what runs goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeAlias

from kubeedge.api.client import Resource
from kubeedge.api.names import Revision
from kubeedge.api.status import Forbidden
from kubeedge.kit.dataclasses import dataclass

RESERVE = 1.25  # of the limit, for status
UNLIMITED = 1 << 62  # bytes


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may have stored."""

    objects: int
    size: int  # bytes of all objects, encoded


@dataclass(frozen=True, slots=True)
class Used:
    """What a tenant has stored."""

    objects: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Growth:
    """What one write adds: objects, and bytes of key and value."""

    resource: Resource
    name: str
    objects: int
    size: int
    written: int  # bytes; what was there before stays in the store's history until it is compacted
    status: bool = False


#: called with key, bytes and revision when the transaction succeeded
Wrote: TypeAlias = Callable[[str, int, Revision], None]


class Quota(Protocol):
    """What a tenant may store; it is asked before each write."""

    def reserve(self, growth: Growth) -> AbstractContextManager[Wrote]:
        """Around the transaction, so that a hundred writes at once do not all find the same room. Raises Forbidden."""
        ...


class Unlimited:
    """The quota of an API that has no limits."""

    def reserve(self, growth: Growth) -> AbstractContextManager[Wrote]:
        return nullcontext(lambda key, size, revision: None)


def check(limits: TenantLimits, used: Used, growth: Growth) -> None:
    """Raises Forbidden when a write would exceed a limit, worded as that of a ResourceQuota."""
    if growth.objects <= 0 and growth.size <= 0:
        return
    factor = RESERVE if growth.status else 1.0
    over = []
    if growth.objects > 0 and used.objects + growth.objects > limits.objects * factor:
        over.append(("objects", growth.objects, used.objects, limits.objects))
    if growth.size > 0 and used.size + growth.size > limits.size * factor:
        over.append(("bytes", growth.size, used.size, limits.size))
    if over:
        requested, there, most = (", ".join(f"{row[0]}={row[column]}" for row in over) for column in (1, 2, 3))
        raise Forbidden.of(
            growth.resource,
            growth.name,
            f"exceeded quota: tenant, requested: {requested}, used: {there}, limited: {most}",
        )
