"""The proxies' fast path, in C in the data plane's thread (_fastpath/http/proxy.h): it asks here where requests go, and hands over what is not plain.

A target is asked for when a request needs it, and again after a while, or when something has changed; what is denied goes the slow way, which
says why. Limits are counted there, for both paths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubeedge.kubebus.http.limits import Busy, ProxyLimits, TooFast, once
from kubeedge.kubebus.http.url import Target

NODE_SECONDS = 30.0  # a node that was removed and joined again may have another number
SERVICE_SECONDS = 60.0  # every change of the table is told; this is a safety net
POOLED = 64  # idle connections to one target: each is a few hundred bytes here


def settings(limits: ProxyLimits) -> dict[str, Any]:
    """What a proxy in C wants to know."""
    return {
        "connections": limits.connections,
        "per_client": limits.per_client,
        "concurrent": limits.concurrent,
        "pooled": POOLED,
        "interim": limits.http.interim,
        "interim_most": limits.http.interim_most,
        "memory": limits.memory,
        "rate": limits.rate,
        "burst": max(1.0, limits.burst),
        "connect": limits.connect,
        "answer": limits.answer,
        "idle": limits.http.idle,
        "head": limits.http.head,
        "stall": limits.http.stall,
        "kept": limits.pooled_seconds,
    }


class FastPathLimiter:
    """The counters of a proxy in C."""

    def __init__(self, proxy: Any, limits: ProxyLimits, what: str) -> None:
        self._proxy = proxy
        self._limits = limits
        self._what = what
        self._held = 0

    def take(self, name: str) -> Callable[[], None]:
        """Take a slot (LocalLimiter.take), counted together with those of the fast path."""
        match self._proxy.take(name):
            case 429:
                rate = f"{self._limits.rate:g} requests a second"
                raise TooFast(
                    f"{self._what} {name} has sent more than {rate}; try again later",
                    retry_after=1.0 / self._limits.rate,
                )
            case 503:
                limit = f"{self._limits.concurrent} requests in progress"
                raise Busy(f"{self._what} {name} has {limit} already; try again later")
        self._held += 1

        def free() -> None:
            self._held -= 1
            self._proxy.give(name)

        return once(free)

    def in_progress(self) -> int:
        """Requests that hold a slot from take()."""
        return self._held

    def by_name(self) -> dict[str, int]:
        """Requests in progress on both paths, by account."""
        return {
            name: account["in_progress"] for name, account in self._proxy.accounts().items() if account["in_progress"]
        }


def learn_targets(proxy: Any, service: str, targets: Sequence[Target]) -> bool:
    """False: not all of them are addresses, or there are too many; such a service goes the slow way."""
    return bool(proxy.learn_service(service, [(t.host, t.port) for t in targets], SERVICE_SECONDS))
