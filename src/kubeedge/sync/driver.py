"""Sync over a hub channel: a sink and a source at each end.

Lives elsewhere: the two roles (sink.py, source.py), what they decide (core.py), messages (codec.py).
"""

from __future__ import annotations

import asyncio

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.hub.core import BOUNDS, SYNC2, SYNC_DOWN, SYNC_UP
from kubeedge.hub.driver import Channel
from kubeedge.store.model import Store
from kubeedge.sync.bounds import Bounds, Pace
from kubeedge.sync.codec import Send
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source


async def run_edge(channel: Channel, store: Store, down: Progress, up: Progress) -> None:
    """Both directions, as the edge sees them, for as long as the channel lives."""
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_sink(
                store,
                keys.DESIRED,
                keys.SYNC_DOWN,
                _sender(channel, SYNC_DOWN),
                channel.stream(SYNC_DOWN),
                down,
                rich=SYNC2 in channel.features,
            ),
            name="sync from the cloud",
        )
        await run_source(store, keys.REPORTED, _sender(channel, SYNC_UP), channel.stream(SYNC_UP), up)


async def run_cloud(
    channel: Channel,
    store: Store,
    tenant: TenantId,
    node: NodeName,
    down: Progress,
    up: Progress,
    bounds: Bounds | None = None,
    pace: Pace | None = None,
) -> None:
    """Both directions, as the cloud sees them, for one node. Which node is the certificate's to say. `bounds`: of what it reports;
    `pace`: how often."""
    lsr_key = keys.edge_sync_up(tenant, node)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_sink(
                store,
                keys.edge_reported(tenant, node),
                lsr_key,
                _sender(channel, SYNC_UP),
                channel.stream(SYNC_UP),
                up,
                rich=SYNC2 in channel.features,
                bounds=bounds,
                pace=pace,
                tells=BOUNDS in channel.features,
                is_key=keys.is_row,
            ),
            name=f"sync from {tenant}/{node}",
        )
        # not a task of its own, for there are thousands of nodes
        await run_source(
            store, keys.edge_desired(tenant, node), _sender(channel, SYNC_DOWN), channel.stream(SYNC_DOWN), down
        )


def _sender(channel: Channel, kind: int) -> Send:
    async def send(payload: bytes) -> None:
        await channel.send(kind, payload)

    return send
