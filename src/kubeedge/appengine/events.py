"""Events of pods, for `kubectl describe`: the newest 100 of them, in the local store, from where they go up.

Lives here:      what an Event looks like; an event that repeats is counted, not written again.
Lives elsewhere: when something is worth an event (driver.py and those that it asks).
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from kubeedge.api import keys
from kubeedge.api.meta import timestamp
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store.model import Delete, Op, Put, Store

log = logging.getLogger("kubeedge.appengine")

MAX_EVENTS = 100  # kept for the cloud; older ones go
_TRIM_EVERY = 10  # new events
_MAX_MESSAGE = 1024  # characters, as in Kubernetes


@dataclass(frozen=True, slots=True)
class About:
    """The pod that an event is about."""

    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class _Series:
    name: str
    first: str
    count: int


class EventRecorder:
    """Writes Events (v1) to the local store below /reported/events, at most 100 of them. `clock` is the time of day."""

    def __init__(self, store: Store, node: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._series: OrderedDict[tuple[str, str, str, str], _Series] = OrderedDict()
        self._new = 0

    async def record(self, about: About, kind: str, reason: str, message: str, container: str = "") -> None:
        """Best effort: a full disk must not stop a pod for it."""
        message = message[:_MAX_MESSAGE]
        at = timestamp(self._clock())
        same = (about.uid, container, reason, message)
        series = self._series.pop(same, None) or _Series(f"{about.name}.{secrets.token_hex(8)}", at, 0)
        series.count += 1
        self._series[same] = series
        while len(self._series) > MAX_EVENTS:
            self._series.popitem(last=False)
        event: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": series.name, "namespace": about.namespace},
            "involvedObject": {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
                **({"fieldPath": f"spec.containers{{{container}}}"} if container else {}),
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": self._node},
            "firstTimestamp": series.first,
            "lastTimestamp": at,
            "count": series.count,
        }
        value = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
        try:
            ops: list[Op] = [Put(keys.reported("events", about.namespace, series.name), value)]
            if series.count == 1:
                self._new += 1
                if self._new % _TRIM_EVERY == 1:
                    ops += await self._oldest()
            await self._store.txn((), ops)
        except KubeEdgeError as exc:
            log.warning("event %s of pod %s/%s is not kept: %s", reason, about.namespace, about.name, exc)

    async def _oldest(self) -> list[Op]:
        prefix = f"{keys.REPORTED}events/"
        kept = (await self._store.range(prefix, keys.prefix_end(prefix), keys_only=True)).kvs
        oldest = sorted(kept, key=lambda kv: kv.mod_revision)[: max(0, len(kept) - (MAX_EVENTS - _TRIM_EVERY))]
        return [Delete(kv.key) for kv in oldest]
