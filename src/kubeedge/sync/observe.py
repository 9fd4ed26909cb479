"""What an operator asks about sync: last sync revisions, lag, queue, bytes; as values for the command line and for Prometheus.

lag     revisions of the source's store that the sink has not acknowledged
queue   keys among them that concern this direction: what a fetch would send now
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubeedge.api import keys
from kubeedge.kit.metrics import Family, family, renamed
from kubeedge.store.model import Store
from kubeedge.sync.progress import Progress, refusal

_COUNTERS = (
    ("batches", "kubeedge_sync_batches_total", "batches of changes"),
    ("changes", "kubeedge_sync_changes_total", "changes of keys"),
    ("bytes", "kubeedge_sync_bytes_total", "bytes of sync messages, above TLS and WebSocket"),
    ("snapshots", "kubeedge_sync_snapshots_total", "snapshots that were begun"),
    (
        "throttled",
        "kubeedge_sync_throttled_seconds_total",
        "seconds that sources were throttled because they change more than they may",
    ),
)


def progress(of: Progress) -> dict[str, Any]:
    """The progress of one direction as JSON: revision, counters, and what is refused or throttled."""
    found: dict[str, Any] = {
        "revision": of.revision,
        "batches": of.batches,
        "changes": of.changes,
        "bytes": of.bytes,
        "snapshots": of.snapshots,
    }
    if of.refused and of.refused.count:
        found |= {"refused": of.refused.count, "refusal": refusal(of.refused)}
    if of.throttled:
        found["throttledSeconds"] = round(of.throttled, 1)
    return found


async def source(store: Store, prefix: str, of: Progress) -> dict[str, Any]:
    """This end has the truth; `of.revision` is what the other end has acknowledged."""
    found = (await store.range(prefix, keys.prefix_end(prefix), keys_only=True)).kvs
    return {
        **progress(of),
        "head": store.revision,
        "lag": max(0, store.revision - of.revision),
        "queue": sum(kv.mod_revision > of.revision for kv in found),
        "keys": len(found),
    }


async def sink(store: Store, prefix: str, lsr_key: str, of: Progress) -> dict[str, Any]:
    """This end follows; what the other end has more it does not know."""
    record = await store.get(lsr_key)
    found = (await store.range(prefix, keys.prefix_end(prefix), keys_only=True)).kvs
    return {
        **progress(of),
        "durable": record.value.decode(errors="replace") if record else "",
        "keys": len(found),
    }


def families(directions: Mapping[str, Iterable[Progress]]) -> list[Family]:
    """`directions`: "down" and "up", with one Progress a peer; peers are added up."""
    summed = {name: list(some) for name, some in directions.items()}
    found = [
        family(
            metric,
            "counter",
            f"{text}, since the channel or the agent began",
            [({"direction": name}, float(sum(getattr(p, field) for p in some))) for name, some in summed.items()],
        )
        for field, metric, text in _COUNTERS
    ]
    refused = family(
        "kubeedge_sync_refused_keys",
        "gauge",
        "keys that a sink does not take because its source has too many, of channels that are attached",
        [
            ({"direction": name}, float(sum(p.refused.count for p in some if p.refused)))
            for name, some in summed.items()
        ],
    )
    *others, throttled = found
    return [refused, *others, *renamed(throttled, old="kubeedge_sync_held_seconds_total")]


def channels(attached: int, bytes_in: int, bytes_out: int) -> list[Family]:
    """Of the hub: at the edge 0 or 1 channel, in the cloud those that this process holds."""
    return [
        family("kubeedge_hub_channels", "gauge", "channels that are attached", attached),
        family(
            "kubeedge_hub_bytes_total",
            "counter",
            "bytes of messages on channels, of those that are attached now",
            [({"direction": "in"}, float(bytes_in)), ({"direction": "out"}, float(bytes_out))],
        ),
    ]
