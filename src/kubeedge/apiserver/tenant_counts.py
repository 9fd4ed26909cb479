"""How much of a kind a tenant has open."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from kubeedge.api.names import TenantId
from kubeedge.api.status import TooManyRequests


@contextlib.contextmanager
def counted_for(counter: Counter[TenantId], tenant: TenantId, limit: int, what: str) -> Iterator[None]:
    """Each tenant has its own limit: one that asks too much hears of it, the others do not."""
    if counter[tenant] >= limit:
        raise TooManyRequests(f"{limit} {what} of tenant {tenant} are open: wait, or close some of them")
    counter[tenant] += 1
    try:
        yield
    finally:
        counter[tenant] -= 1
        if not counter[tenant]:
            del counter[tenant]
