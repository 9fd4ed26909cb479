"""Gathers what dashboards read (dashboards.py), at the moment of the request: nothing of it is kept but what walks over the disk found last.

One object for each kubelet API; it is made for the first scrape.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge.appengine import dashboards
from kubeedge.appengine.dashboards import ClaimUse, KubeletState, NodeDetail, ProbedContainer, ProcessUse
from kubeedge.appengine.node import KUBELET_VERSION
from kubeedge.appengine.runtime import detail_files
from kubeedge.appengine.volumes.claim_stats import ClaimStats
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.disk_use import DiskUse

if TYPE_CHECKING:
    from kubeedge.appengine.module import AppEngine
    from kubeedge.appengine.worker import Workers

_WALKS = 4  # pods whose layers are walked over for one answer
_FRESH = 300.0  # seconds for which a walk counts


class Figures:
    """Makes the expositions when they are asked for. `clock` is monotonic, in seconds."""

    def __init__(self, engine: AppEngine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._layers: dict[str, tuple[float, Mapping[str, DiskUse]]] = {}  # by uid of the pod
        self._walking = asyncio.Lock()
        self._volumes: ClaimStats | None = None

    async def cadvisor(self) -> Iterator[str]:
        """The exposition of /metrics/cadvisor: processor, memory, disks and network of each container. Raises OSError."""
        use = await self._engine.use()
        pods = {pod.uid: pod for pod in await self._engine.runtime.details()}
        machine = await asyncio.to_thread(detail_files.of_machine, self._engine.settings.state)
        layers = await self._walked([pod.uid for pod in use.pods])
        return dashboards.cadvisor_metrics(use, NodeDetail(machine, pods, layers))

    async def kubelet(self) -> Iterator[str]:
        """The exposition of /metrics: pods, volumes, the process, and the agent's own metrics."""
        process = await asyncio.to_thread(process_use)
        claims = await self._claim_stats()
        return dashboards.kubelet_metrics(
            kubelet_state(self._engine.settings.node, self._engine.workers, process, claims)
        )

    async def _claim_stats(self) -> list[ClaimUse]:
        claims = self._engine.claims()
        if not claims:
            return []
        self._volumes = self._volumes or ClaimStats(self._engine.slow_threads)
        return await self._volumes.read(claims)

    def probes(self) -> Iterator[str]:
        """The exposition of /metrics/probes: results of probes by container, kind and outcome."""
        return dashboards.probe_metrics(
            ProbedContainer(worker.namespace, worker.name, worker.uid, name, counts)
            for worker in self._engine.workers
            for name, counts in worker.probed.items()
        )

    async def _walked(self, uids: list[str]) -> dict[str, Mapping[str, DiskUse]]:
        """Of some pods it may be a while ago, of new ones it may be missing: a walk takes long on a card."""
        async with self._walking:
            self._layers = {uid: self._layers[uid] for uid in uids if uid in self._layers}
            never = float("-inf")
            oldest = sorted(uids, key=lambda uid: self._layers[uid][0] if uid in self._layers else never)
            for uid in oldest[:_WALKS]:
                if uid not in self._layers or self._clock() - self._layers[uid][0] >= _FRESH:
                    try:
                        self._layers[uid] = self._clock(), await self._engine.runtime.disk_usage(uid)
                    except (KubeEdgeError, OSError):  # it has just ended
                        self._layers.pop(uid, None)
            return {uid: layers for uid, (_, layers) in self._layers.items()}


def kubelet_state(node: str, workers: Workers, process: ProcessUse, claims: Sequence[ClaimUse] = ()) -> KubeletState:
    """The state of this node and all its pods, for the metrics."""
    states: Counter[str] = Counter()
    volumes: Counter[str] = Counter()
    running = desired = 0
    for worker in workers:
        containers = worker.observed.containers.values()
        running += worker.observed.sandbox and any(c.running for c in containers)
        desired += worker.desired is not None
        states.update("running" if c.running else "exited" if c.exited else "created" for c in containers)
        if worker.desired is not None:
            volumes.update(f"kubernetes.io/{_plugin(volume.kind)}" for volume in worker.desired.volumes.values())
    own_users = (workers.with_own_users, workers.failed_with_own_users)
    return KubeletState(node, KUBELET_VERSION, desired, running, states, volumes, process, claims, own_users)


def _plugin(kind: str) -> str:
    """The name of a volume's plugin in Kubernetes: emptyDir is empty-dir."""
    return {
        "hostPath": "host-path",
        "emptyDir": "empty-dir",
        "configMap": "configmap",
        "downwardAPI": "downward-api",
        "persistentVolumeClaim": "persistent-claim",
    }.get(kind, kind.lower())


def process_use(proc: Path = Path("/proc")) -> ProcessUse:
    """Resource usage of this process. Raises OSError."""
    fields = (proc / "self/stat").read_text().rpartition(")")[2].split()  # from the third on, as proc(5) counts them
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    boot = next(line for line in (proc / "stat").read_text().splitlines() if line.startswith("btime "))
    limit = next(line for line in (proc / "self/limits").read_text().splitlines() if line.startswith("Max open files"))
    most = limit.split()[3]
    return ProcessUse(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / ticks,
        resident=int(fields[21]) * page,
        virtual=int(fields[20]),
        started_at=int(boot.split()[1]) + int(fields[19]) / ticks,
        open_files=len(os.listdir(proc / "self/fd")),
        most_files=int(most) if most.isdigit() else 0,
    )
