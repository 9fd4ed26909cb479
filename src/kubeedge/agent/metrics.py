"""The figures of the agent for Prometheus: those of each component that runs, read at each scrape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubeedge.agent.parts import Parts

if TYPE_CHECKING:
    from kubeedge.beehive.supervisor import ModuleState
    from kubeedge.kit.metrics import Family


def families(parts: Parts, modules: Sequence[ModuleState]) -> list[Family]:
    """Imports are here, so that an agent that is not scraped does without them."""
    from kubeedge.kit.metrics import modules as module_families
    from kubeedge.store import observe as of_store

    found = module_families(modules)
    if parts.bus is not None:
        from kubeedge.kubebus.observe import edge_metrics

        found += edge_metrics(parts.bus)
    found += of_store.families(parts.store)
    if parts.channel is not None:
        from kubeedge.sync import observe as of_sync

        hub = parts.channel.hub.status
        found += of_sync.families({"down": [parts.channel.down], "up": [parts.channel.up]})
        found += of_sync.channels(int(hub.attached), hub.counters.bytes_in, hub.counters.bytes_out)
    if parts.writes is not None:
        from kubeedge.metaserver.observe import families as of_writes

        found += of_writes(parts.writes, parts.api)
    if parts.mesh is not None:
        from kubeedge.mesh.observe import families as of_mesh

        found += of_mesh(parts.mesh.dns, parts.mesh.proxy, parts.mesh.enforcer)
    if parts.twins is not None:
        from kubeedge.devices.observe import families as of_devices

        found += of_devices(parts.twins, parts.events)
    if parts.upstream is not None:
        from kubeedge.devices.upstream.observe import families as of_messages

        found += of_messages(parts.upstream)
    if parts.push is not None:
        from kubeedge.devices.sinks.observe import families as of_push

        found += of_push(parts.push)
    return found
