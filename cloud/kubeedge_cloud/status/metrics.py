"""The metrics of a cloud process, from all of its parts."""

from __future__ import annotations

from kubeedge.beehive.supervisor import Supervisor
from kubeedge.kit.metrics import Family, modules
from kubeedge.store import observe as store_observe
from kubeedge.store.model import Store
from kubeedge.sync import observe as sync_observe
from kubeedge_cloud.bushub.module import BusHub
from kubeedge_cloud.bushub.observe import relay_metrics
from kubeedge_cloud.cloudhub.module import CloudHub
from kubeedge_cloud.publishing.module import Publishing
from kubeedge_cloud.tenants.module import StorageUsage


def families(
    supervisor: Supervisor, store: Store, hub: CloudHub, bus: BusHub, usage: StorageUsage, web: Publishing | None
) -> list[Family]:
    """`web` is None where web services are not published by this process."""
    attached = hub.attached()
    received, sent = (sum(getattr(s.counters, name) for s in attached) for name in ("bytes_in", "bytes_out"))
    return [
        *modules(supervisor.states()),
        *relay_metrics(bus),
        *(web.metrics() if web else []),
        *store_observe.families(store),
        *usage.families(),
        *sync_observe.families({"down": [s.down for s in attached], "up": [s.up for s in attached]}),
        *sync_observe.channels(len(attached), received, sent),
    ]
