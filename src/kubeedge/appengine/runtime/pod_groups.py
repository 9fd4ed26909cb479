"""The control groups of pods, in the tree that a kubelet with --cgroup-root=/PREFIX makes. Blocking.

    PREFIX/kubepods                     all pods: what they may have of this machine
    PREFIX/kubepods/podUID              Guaranteed
    PREFIX/kubepods/burstable/podUID    as many shares as all of them ask for
    PREFIX/kubepods/besteffort/podUID   the least that there is

A pod's group has the sum of its containers' resources, and of processes as many as one pod may have; a container's group is below it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from kubeedge.api.pod import ResourceRequirements
from kubeedge.appengine.runtime import cgroups
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.runtime.group_limits import LEAST_SHARES, NO_LIMIT, GroupLimits, PodBounds, shares_of
from kubeedge.appengine.runtime.oci_spec import limits_of

log = logging.getLogger("kubeedge.appengine.runtime")

_ALL = "kubepods"
_BURSTABLE, _BEST_EFFORT = f"{_ALL}/burstable", f"{_ALL}/besteffort"
_CLASSES = {"Guaranteed": _ALL, "Burstable": _BURSTABLE, "BestEffort": _BEST_EFFORT}


class PodGroups:
    """By the uid of the pod. `pids` is the number of processes that one may have; 0: this machine cannot count them, or it is not known yet."""

    def __init__(self, prefix: str, root: Path = cgroups.ROOT) -> None:
        self._prefix, self._root = prefix, root
        self._groups: dict[str, str] = {}
        self._shares: dict[str, int] = {}  # of burstable pods
        self._warned = False
        self.pids = 0

    def of(self, uid: str) -> str:
        """The pod's group, without a slash before it."""
        return self._groups.get(uid) or self._flat(uid)

    def clear(self) -> None:
        """Forget every pod, before they are read again."""
        self._groups.clear()
        self._shares.clear()

    def restore(self, uid: str, group: str) -> None:
        """A pod that was there when the agent started. One of an agent that had no classes is where that put it, whatever `group` says."""
        self._groups[uid] = group if group in self.possible(uid) else self._flat(uid)
        if self._is_burstable(uid):
            self._shares[uid] = cgroups.shares(self._groups[uid], self._root)

    def choose(self, uid: str, qos: str) -> str:
        """The group that a pod of this class gets; create() makes it."""
        self._groups[uid] = f"{self._prefix}/{_CLASSES[qos]}/pod{uid}"
        return self._groups[uid]

    def prepare(self, bounds: PodBounds) -> None:
        """The groups that all pods are in. A controller that is missing on this machine is only an entry in the log."""
        self.pids = self._bound_processes(bounds)
        shares = shares_of(bounds.cpu) if bounds.cpu else 0
        if shares:
            self._limit(self._prefix, GroupLimits(shares=shares))
        self._limit(f"{self._prefix}/{_ALL}", GroupLimits(shares=shares, memory=bounds.memory or NO_LIMIT))
        self._limit(f"{self._prefix}/{_BEST_EFFORT}", GroupLimits(shares=LEAST_SHARES))
        self._share()

    def _bound_processes(self, bounds: PodBounds) -> int:
        """Of all pods together; what one of them may have, 0 where nothing counts them."""
        machine = cgroups.machine_processes()
        every = min(bounds.all_pids or machine * 3 // 4, machine)
        try:
            cgroups.limit_processes(self._prefix, every, self._root)
        except OSError as exc:
            log.error("the number of processes in pods has no bound: %s", exc)
            return 0
        return min(bounds.pod_pids, every)

    def create(self, uid: str, resources: ResourceRequirements | None) -> None:
        """Raises OSError where processes are to be bounded and cannot be."""
        if self.pids:
            cgroups.limit_processes(self.of(uid), self.pids, self._root)
        if resources is not None:
            self.update(uid, resources)

    def update(self, uid: str, resources: ResourceRequirements) -> None:
        """What the pod has as a whole has changed. Processes of a pod of an agent without classes have no limit together. Raises StartError for a limit of
        memory below what is in use: the kernel would end containers for it."""
        if self._groups.get(uid, self._flat(uid)) == self._flat(uid):
            return
        limits = limits_of(resources)
        cpu, memory = limits["cpu"], limits.get("memory", {}).get("limit", NO_LIMIT)
        found = GroupLimits(shares=cpu["shares"], quota=cpu.get("quota", NO_LIMIT), memory=memory)
        if (used := cgroups.memory_in_use(self.of(uid), self._root)) > memory > 0:
            raise StartError("Error", f"the memory limit {memory} of the pod is below what is in use ({used} bytes)")
        self._limit(self.of(uid), found)
        if self._is_burstable(uid):
            self._shares[uid] = cpu["shares"]
            self._share()

    def remove(self, uid: str) -> None:
        """With what runs in it, wherever it is. Tolerant: it is tried again at the next sweep."""
        for group in self.possible(uid):
            cgroups.kill_and_remove(group, self._root)
        self._groups.pop(uid, None)
        if self._shares.pop(uid, None) is not None:
            self._share()

    def leave(self) -> None:
        """Remove the tree, but for what something runs in, and for groups that others have made beside it."""
        cgroups.remove_empty(f"{self._prefix}/{_ALL}", self._root)
        for group in cgroups.groups(self._prefix, self._root):
            with contextlib.suppress(OSError):
                group.rmdir()

    def uids(self) -> set[str]:
        """Of the pods that have a group."""
        return {
            group.name.removeprefix("pod")
            for directory in (self._prefix, *(f"{self._prefix}/{of}" for of in _CLASSES.values()))
            for parent in cgroups.groups(directory, self._root)
            for group in parent.glob("pod*")
        }

    def possible(self, uid: str) -> Sequence[str]:
        """The groups that a pod may have: that of an agent without classes, and one of each class."""
        return (self._flat(uid), *(f"{self._prefix}/{of}/pod{uid}" for of in _CLASSES.values()))

    def _flat(self, uid: str) -> str:
        return f"{self._prefix}/pod{uid}"

    def _is_burstable(self, uid: str) -> bool:
        return self.of(uid).startswith(f"{self._prefix}/{_BURSTABLE}/")

    def _share(self) -> None:
        shares = max(LEAST_SHARES, sum(self._shares.values()))
        self._limit(f"{self._prefix}/{_BURSTABLE}", GroupLimits(shares=shares))

    def _limit(self, group: str, limits: GroupLimits) -> None:
        try:
            cgroups.limit(group, limits, self._root)
        except OSError as exc:
            (log.debug if self._warned else log.warning)("limits of control group %s: %s", group, exc)
            self._warned = True
