"""Which node for a pod: filters, then scores. Pure.

The cluster is kept as sums (requests, ports, pods of one owner a node), brought up to date pod by pod, so that a
decision costs the number of nodes and not the number of pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeedge.api import meta, quantities, sidecars
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge_cloud.controllers.objects import (
    UNREACHABLE,
    controller_of,
    is_finished,
    is_ready,
    spec_of,
    status_of,
    uid_of,
)
from kubeedge_cloud.controllers.scheduler.fit import NodeFit, Tolerations, untolerated
from kubeedge_cloud.controllers.scheduler.neighbours import Neighbour, Surroundings, terms_of

#: what a container that asks for nothing is counted as when nodes are compared (not when they are filtled)
_ASSUMED = {"cpu": 100, "memory": 200 * 1024 * 1024}
_NAMES = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True, slots=True)
class Placed:
    """The name of the chosen node."""

    node: str


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """Why no node fits, in the words of kube-scheduler's event FailedScheduling."""

    message: str


@dataclass(frozen=True, slots=True)
class PodInfo:
    """What a pod takes of its node."""

    uid: str
    node: str
    requests: Mapping[str, int]
    ports: frozenset[tuple[str, str, int]]  # protocol, address, port
    owner: str
    neighbour: Neighbour


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A pod that is to be scheduled, read once for all nodes."""

    info: PodInfo
    fit: NodeFit
    tolerations: Tolerations


@dataclass(slots=True)
class NodeInfo:
    """A node and the sums of its pods: requests (CPU in millicores, else bytes or pieces), host ports, pods by owner."""

    node: Object
    allocatable: Mapping[str, int]
    used: Counter[str] = field(default_factory=Counter)
    ports: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    numbers: Counter[tuple[str, int]] = field(default_factory=Counter)  # of those, at whichever address
    owners: Counter[str] = field(default_factory=Counter)
    pods: int = 0

    @property
    def name(self) -> str:
        """The node's name, metadata.name."""
        return meta.name_of(self.node)


def requests_of(spec: Object) -> dict[str, int]:
    """Sum of the containers and sidecars, or the largest init container with the sidecars before it where that is more; CPU in
    thousandths."""
    total: Counter[str] = Counter()
    for container in sidecars.lasting(spec):
        total.update(_amounts((container.get("resources") or {}).get("requests")))
    before: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        amounts = _amounts((container.get("resources") or {}).get("requests"))
        if sidecars.is_sidecar(container):
            before.update(amounts)
            continue
        for name, amount in amounts.items():
            total[name] = max(total[name], amount + before[name])
    for name, amount in _amounts((spec.get("resources") or {}).get("requests")).items():
        total[name] = amount  # of the pod as a whole
    total.update(_amounts(spec.get("overhead")))
    return dict(total)


def _amounts(given: Any) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for name, quantity in (given or {}).items():
        try:
            amounts[name] = quantities.millicores(quantity) if name == "cpu" else quantities.bytes_of(quantity)
        except Invalid:
            continue  # the API refuses such a pod; a node that reports nonsense has none of it
    return amounts


def ports_of(spec: Object) -> frozenset[tuple[str, str, int]]:
    """Host ports of a pod's spec as (protocol, host IP, port); host IP "0.0.0.0" is every address."""
    return frozenset(
        (str(port.get("protocol") or "TCP"), str(port.get("hostIP") or "0.0.0.0"), int(port["hostPort"]))
        for container in sidecars.lasting(spec)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def info_of(pod: Object) -> PodInfo:
    """A pod reduced to what scheduling needs; its spec is parsed here, once."""
    spec = spec_of(pod)
    owner = controller_of(pod) or {}
    return PodInfo(
        uid_of(pod),
        str(spec.get("nodeName") or ""),
        requests_of(spec),
        ports_of(spec),
        str(owner.get("uid") or ""),
        Neighbour(meta.namespace_of(pod), meta.labels_of(pod), terms_of(spec, "podAntiAffinity")),
    )


class SchedulerCache:
    """Nodes and what the pods on them take."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._pods: dict[str, PodInfo] = {}  # uid -> pod that has a node, which we may know or not
        self._on: dict[str, dict[str, None]] = {}  # node -> uids

    def set_node(self, node: Object) -> None:
        """A Node was added or has changed; pods that came before it are counted in."""
        status = status_of(node)
        allocatable = _amounts(status.get("allocatable") or status.get("capacity"))
        name = meta.name_of(node)
        known = self._nodes.get(name)
        if known is not None:
            known.node, known.allocatable = node, allocatable
            return
        info = self._nodes[name] = NodeInfo(node, allocatable)
        for uid in self._on.get(name, ()):
            _count(info, self._pods[uid], 1)

    def remove_node(self, name: str) -> None:
        """The node takes no more pods; those on it are remembered, in case it comes back."""
        self._nodes.pop(name, None)

    def set_pod(self, pod: Object) -> None:
        """A pod without a node, and one that has ended, takes nothing."""
        node = spec_of(pod).get("nodeName")
        uid = uid_of(pod)
        known = self._pods.get(uid)
        if not node or is_finished(pod):
            self.remove_pod(uid)
        elif known is None or known.node != node or known.neighbour.labels != meta.labels_of(pod):
            self.remove_pod(uid)
            self.add(info_of(pod))

    def add(self, info: PodInfo) -> None:
        """Counts a pod in. One that is known must be removed first."""
        self._pods[info.uid] = info
        self._on.setdefault(info.node, {})[info.uid] = None
        if (node := self._nodes.get(info.node)) is not None:
            _count(node, info, 1)

    def remove_pod(self, uid: str) -> None:
        """Idempotent: a uid that is not known is no error."""
        info = self._pods.pop(uid, None)
        if info is None:
            return
        there = self._on[info.node]
        del there[uid]
        if not there:
            del self._on[info.node]
        if (node := self._nodes.get(info.node)) is not None:
            _count(node, info, -1)

    def schedule(self, pod: Object) -> Placed | Unschedulable:
        """The node for a pod, which is not counted in yet, or how many nodes each reason excludes."""
        if not self._nodes:
            return Unschedulable("no nodes available to schedule pods")
        spec = spec_of(pod)
        wanted = _Wanted(info_of(pod), NodeFit(spec), Tolerations(spec.get("tolerations") or ()))
        reasons: Counter[str] = Counter()
        fitting: list[NodeInfo] = []
        for info in self._nodes.values():
            why = _reasons(info, wanted)
            if why:
                reasons.update(why)
            else:
                fitting.append(info)
        if fitting:
            fitting = self._with_good_neighbours(spec, wanted.info, fitting, reasons)
        if not fitting:
            text = ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))
            return Unschedulable(f"0/{len(self._nodes)} nodes are available: {text}.")
        return Placed(min(fitting, key=lambda info: (-score(info, wanted), info.pods, info.name)).name)

    def _with_good_neighbours(
        self, spec: Object, wanted: PodInfo, fitting: list[NodeInfo], reasons: Counter[str]
    ) -> list[NodeInfo]:
        """podAffinity and podAntiAffinity, in both directions. Costs the pods, so only for pods that ask for it."""
        attracted, repelled = terms_of(spec, "podAffinity"), terms_of(spec, "podAntiAffinity")
        shy = any(info.neighbour.repels for info in self._pods.values())
        if not attracted and not repelled and not shy:
            return fitting
        there = [
            (info.neighbour, meta.labels_of(self._nodes[info.node].node))
            for info in self._pods.values()
            if info.node in self._nodes
        ]
        surroundings = Surroundings(wanted.neighbour, attracted, there)
        good = []
        for info in fitting:
            why = surroundings.refusal(meta.labels_of(info.node))
            if why:
                reasons[why] += 1
            else:
                good.append(info)
        return good


def _count(node: NodeInfo, pod: PodInfo, sign: int) -> None:
    """Counts a pod in (1) or out (-1)."""
    for name, amount in pod.requests.items():
        node.used[name] += sign * amount
    for port in pod.ports:
        node.ports[port] += sign
        node.numbers[port[0], port[2]] += sign
    if pod.owner:
        node.owners[pod.owner] += sign
        if not node.owners[pod.owner]:
            del node.owners[pod.owner]
    if sign < 0 and pod.ports:  # what is not there any more takes no memory
        node.ports, node.numbers = +node.ports, +node.numbers
    node.pods += sign


def _reasons(info: NodeInfo, wanted: _Wanted) -> list[str]:
    """Why not this node; worded as kube-scheduler does. The first kind of reason ends the search, resources are all named."""
    node = info.node
    unschedulable = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if spec_of(node).get("unschedulable") and not wanted.tolerations.cover(unschedulable):
        return ["node(s) were unschedulable"]
    taints = list(spec_of(node).get("taints") or ())
    if not is_ready(node):  # the taint is written after the condition
        taints.append({"key": UNREACHABLE, "effect": "NoSchedule"})
    taint = untolerated(wanted.tolerations, taints, ("NoSchedule", "NoExecute"))
    if taint is not None:
        return [f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value', '')}}}"]
    if not wanted.fit.fits(node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if _ports_taken(info, wanted.info.ports):
        return ["node(s) didn't have free ports for the requested pod ports"]
    missing = []
    if info.pods + 1 > info.allocatable.get("pods", 110):
        missing.append("Too many pods")
    for name, amount in wanted.info.requests.items():
        if amount > 0 and info.used[name] + amount > info.allocatable.get(name, 0):
            missing.append(f"Insufficient {name}")
    return missing


def _ports_taken(info: NodeInfo, ports: Iterable[tuple[str, str, int]]) -> bool:
    for protocol, address, port in ports:
        if address == "0.0.0.0":
            if info.numbers[protocol, port] > 0:
                return True
        elif info.ports[protocol, address, port] > 0 or info.ports[protocol, "0.0.0.0", port] > 0:
            return True
    return False


def score(info: NodeInfo, wanted: _Wanted) -> float:
    """Free CPU and memory in per cent, less for every pod of the same owner, more for what the pod prefers."""
    free = 0.0
    for name, assumed in _ASSUMED.items():
        size = info.allocatable.get(name, 0)
        used = info.used[name] + (wanted.info.requests.get(name) or assumed)
        free += max(0.0, 1.0 - used / size) if size else 0.0
    avoided = sum(
        1
        for taint in spec_of(info.node).get("taints") or ()
        if taint.get("effect") == "PreferNoSchedule" and not wanted.tolerations.cover(taint)
    )
    siblings = info.owners[wanted.info.owner] if wanted.info.owner else 0
    return 100.0 * free / len(_ASSUMED) - 100.0 * siblings - 100.0 * avoided + wanted.fit.preferred(info.node)
