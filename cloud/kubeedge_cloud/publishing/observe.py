"""Metrics of the public client proxy. The label tenant is "" for names that no tenant has."""

from __future__ import annotations

import types
from collections.abc import Mapping

from kubeedge.kit.metrics import Family, family
from kubeedge.kubebus.http.accounts import Account


def families(
    accounts: Mapping[str, Account],
    in_progress: Mapping[str, int],
    rejected: Mapping[int, int],
    fast: Mapping[str, int] = types.MappingProxyType({}),
) -> list[Family]:
    """`in_progress` by tenant, `rejected` connections by status, `fast`: Proxy.counters."""
    answers = [
        ({"tenant": tenant, "code": f"{status}xx"}, float(count))
        for tenant, account in accounts.items()
        for status, count in enumerate(account.answers)
        if count
    ]
    bytes_ = [
        ({"tenant": tenant, "direction": direction}, float(count))
        for tenant, account in accounts.items()
        for direction, count in (("in", account.bytes_in), ("out", account.bytes_out))
    ]
    refused = [({"tenant": tenant}, float(account.refused)) for tenant, account in accounts.items()]
    known = {tenant: float(in_progress.get(tenant, 0)) for tenant in accounts}
    known[""] = float(sum(in_progress.values()) - sum(known.values()))
    return [
        family("kubeedge_publishing_requests_total", "counter", "answers to web clients, by class of status", answers),
        family("kubeedge_publishing_refused_total", "counter", "requests beyond a limit of the tenant", refused),
        family("kubeedge_publishing_fast_requests_total", "counter", "requests that the fast path answered", fast.get("requests", 0)),
        family(
            "kubeedge_publishing_fast_handed_over_total", "counter", "connections that the fast path handed to the slow path",
            fast.get("handed_over", 0),
        ),
        family("kubeedge_publishing_bytes_total", "counter", "of bodies and upgraded connections", bytes_),
        family(
            "kubeedge_publishing_in_progress", "gauge", "requests and upgraded connections",
            [({"tenant": tenant}, count) for tenant, count in known.items()],
        ),
        family(
            "kubeedge_publishing_connections_refused_total", "counter", "503: all are taken; 429: one client has too many",
            [({"code": str(status)}, float(rejected.get(status, 0))) for status in (429, 503)],
        ),
    ]  # fmt: skip
