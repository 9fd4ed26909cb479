"""What the agent reports of itself: the JSON documents behind `kubeedge status`, `links`, `routes` and `sync status`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kubeedge import __version__
from kubeedge.agent.parts import Parts, SyncChannel
from kubeedge.api import keys

if TYPE_CHECKING:
    from kubeedge.appengine.module import AppEngine
    from kubeedge.beehive.supervisor import ModuleState
    from kubeedge.kubebus.module import KubeBus
    from kubeedge.sync.progress import Progress


async def status(parts: Parts, modules: Sequence[ModuleState]) -> dict[str, Any]:
    """Everything at a glance; what is switched off is left out. Times are seconds."""
    own = parts.credentials
    answer: dict[str, Any] = {
        "version": __version__,
        "tenant": own.tenant,
        "node": own.node,
        "address": own.address,
        "podCIDR": own.pod_cidr,
        **({"ipv6": own.ipv6.encode()} if own.ipv6 else {"noIpv6": parts.no_ipv6} if parts.no_ipv6 else {}),
    }
    if parts.channel is not None:
        answer["channel"] = _channel(parts.channel)
        down, up = _progress(parts.channel.down), _progress(parts.channel.up)
        answer["sync"] = {"down": down, "up": up, "revision": parts.store.revision}
    if (sealing := parts.store.sealing).enabled or sealing.unreadable:
        answer["secretsEncryption"] = {
            "key": sealing.key if sealing.lasting else "",
            "unreadable": sealing.unreadable,
            "problem": sealing.problem,
        }
    if parts.writes is not None:
        answer["writes"] = {"pending": await parts.writes.pending(), **parts.writes.outcomes}
    if parts.bus is not None:
        answer["link"] = _link(parts.bus)
        answer["links"] = links(parts)["links"]
    if parts.engine is not None:
        answer["pods"] = _pods(parts.engine)
    answer["modules"] = [
        {"name": m.name, "state": m.state, "restarts": m.restarts, "lastError": m.last_error} for m in modules
    ]
    return answer


def links(parts: Parts) -> dict[str, Any]:
    """The links of KubeBus, each with its counters. Raises Unavailable when KubeBus is switched off."""
    from kubeedge.kubebus.observe import edge_links

    bus = parts.network
    found = bus.status
    return {
        "up": found.up,
        "lastError": found.last_error,
        "links": edge_links(bus, asyncio.get_running_loop().time()),
        "problems": list(found.conflicts),
    }


def routes(parts: Parts) -> dict[str, Any]:
    """What is reached through KubeBus, and whether this node is a router. Raises Unavailable when KubeBus is switched off."""
    router, own = parts.config.modules.router, parts.credentials
    return {
        "routes": parts.network.routes(),
        "overlay": list(own.overlay),
        "router": router.enable,
        "masquerade": router.masquerade,
    }


async def sync_status(parts: Parts) -> dict[str, Any]:
    """Last sync revisions, lag and bytes of both directions. Raises NotFound when the channel is switched off."""
    from kubeedge.sync import observe

    channel = parts.sync
    hub = channel.hub.status
    answer: dict[str, Any] = {
        "attached": hub.attached,
        "endpoint": hub.endpoint,
        "store": parts.store.store_id,
        "down": await observe.sink(parts.store, keys.DESIRED, keys.SYNC_DOWN, channel.down),
        "up": await observe.source(parts.store, keys.REPORTED, channel.up),
        "wire": {"bytesIn": hub.counters.bytes_in, "bytesOut": hub.counters.bytes_out},
    }
    if (sealing := parts.store.sealing).enabled or sealing.unreadable:
        answer["secretsEncryption"] = {
            "key": sealing.key if sealing.lasting else "",
            "unreadable": sealing.unreadable,
            "problem": sealing.problem,
        }
    if parts.writes is not None:
        answer["writes"] = {"pending": await parts.writes.pending(), **parts.writes.outcomes}
    return answer


def _channel(channel: SyncChannel) -> dict[str, Any]:
    hub = channel.hub.status
    return {
        "attached": hub.attached,
        "endpoint": hub.endpoint,
        "seconds": round(asyncio.get_running_loop().time() - hub.since, 1),
        "rtt": hub.rtt,
        "bytesIn": hub.counters.bytes_in,
        "bytesOut": hub.counters.bytes_out,
        "lastError": hub.last_error,
    }


def _progress(progress: Progress) -> dict[str, int]:
    return {
        "revision": progress.revision,
        "batches": progress.batches,
        "changes": progress.changes,
        "bytes": progress.bytes,
        "snapshots": progress.snapshots,
    }


def _link(bus: KubeBus) -> dict[str, Any]:
    found = bus.status
    return {
        "up": found.up,
        "relay": found.relay,
        "seconds": round(asyncio.get_running_loop().time() - found.since, 1),
        "rtt": found.rtt,
        "lastError": found.last_error,
        "conflicts": list(found.conflicts),
    }


def _pods(engine: AppEngine) -> list[dict[str, Any]]:
    return [
        {
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "phase": pod["status"].get("phase", "Pending"),
            "ip": pod["status"].get("podIP", ""),
        }
        for pod in engine.pod_list()
    ]
