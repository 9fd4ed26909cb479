"""An Event of a tenant whose board two machines want to be: `kubectl get events`, and `kubectl describe node` where the board has a name."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from kubeedge.api import meta
from kubeedge.api.client import KubeClient
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import EVENTS
from kubeedge.errors import KubeEdgeError
from kubeedge_cloud.bootstrap.board_record import SHOWN_KEY, BoardRecord
from kubeedge_cloud.bootstrap.boards import default_name

log = logging.getLogger("kubeedge.bootstrap")

_NAMESPACE = "default"  # of what is about nodes
_TIMEOUT = 5.0  # seconds: the board waits for its answer meanwhile


class BoardEvents:
    """`api_of`: a tenant's API; `clock`: seconds since 1970."""

    def __init__(self, api_of: Callable[[TenantId], Awaitable[KubeClient]], clock: Callable[[], float]) -> None:
        self._api_of = api_of
        self._clock = clock

    async def contested(self, tenant: TenantId, board: BoardRecord) -> None:
        """Best effort: the record itself is what `kubeedge board list` shows."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                await (await self._api_of(tenant)).create(EVENTS, _NAMESPACE, self._event(board))
        except (KubeEdgeError, OSError, TimeoutError) as exc:
            log.warning("no Event about board serial=%s tenant=%s: %s", board.serial, tenant, exc)

    def _event(self, board: BoardRecord) -> Object:
        name, stamp = board.node or default_name(board.serial), meta.timestamp(self._clock())
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": _NAMESPACE, "name": f"{name}.{os.urandom(8).hex()}"},
            # as kubelets name their Nodes in Events
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": name, "uid": name},
            "type": "Warning",
            "reason": "BoardContested",
            "message": (
                f"two machines ask with the serial number {board.serial}: key {board.key[:SHOWN_KEY]} from {board.address}, and key "
                f"{board.rival[:SHOWN_KEY]} from {board.rival_address}. Neither gets a token before `kubeedge board approve {board.serial} "
                "--key KEY`; one that has joined already is a node until then"
            ),
            "source": {"component": "kubeedge-bootstrap"},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
