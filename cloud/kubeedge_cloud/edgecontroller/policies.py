"""NetworkPolicies as nodes get them: with the peers' addresses (ADR 56). Pure.

A node has the policies of the namespaces of its pods. Which pods a rule means is found here, where all pods and namespaces are known, and is
kept as pods change, so that one pod costs one look at each rule. The row of a policy is the same for all nodes:

    {"metadata", "spec": {"podSelector", "policyTypes", "ingress": [RULE], "egress": [RULE]}}
    RULE: {"ports", "all", "blocks": [IPBLOCK], "selectors": [{"namespaces": [NAME] or "*", "podSelector"}],
           "pods": [[ADDRESS, NODE, {"NAME/PROTOCOL": NUMBER}]]}

`selectors` are for the node's own pods, which it knows better than the cloud; `pods` has the others. What would be too much is left out,
which allows less and not more; `left_out` counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kubeedge.api import local_pods, meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.selectors import LabelSelector, of_selector
from kubeedge.api.validation_networkpolicies import MAX_PEERS, MAX_PORTS, MAX_RULES, MAX_SELECTORS
from kubeedge.errors import Invalid
from kubeedge_cloud.controllers.objects import key_of
from kubeedge_cloud.edgecontroller.node_objects import canonical

PREFIX = "networkpolicies/"
ALL = "*"
MAX_PODS = 5_000  # whose addresses are in one rule
_NAME_LABEL = "kubernetes.io/metadata.name"

#: an address, its node, and the ports that rules name, as "NAME/PROTOCOL"
PeerRow: TypeAlias = tuple[str, str, Mapping[str, int]]


@dataclass(slots=True)
class _Peer:
    """One selector of a rule. `namespaces`: the names that it means; None: it has a selector of namespaces that means all."""

    pods: LabelSelector
    written: Object  # podSelector as it is written
    of_namespaces: LabelSelector | None  # None: the policy's own
    namespaces: frozenset[str] | None

    def means(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod is one of these."""
        return (self.namespaces is None or namespace in self.namespaces) and self.pods.matches(labels)


@dataclass(slots=True)
class _Rule:
    ports: list[Any]
    names: frozenset[tuple[str, str]]  # (name, protocol) of ports that are given by name
    everybody: bool
    blocks: list[Any]
    peers: list[_Peer]
    egress: bool
    left_out: int = 0
    matched: dict[NamespacedName, list[PeerRow]] = field(default_factory=dict)

    def is_about(self, pod: Object) -> bool:
        """Whether the address of a pod belongs in the rule."""
        if self.everybody:  # only where a port has a name, which each pod gives another number
            return self.egress and bool(self.names)
        namespace, labels = meta.namespace_of(pod), meta.labels_of(pod)
        return any(peer.means(namespace, labels) for peer in self.peers)

    def rows(self, pod: Object) -> list[PeerRow]:
        """What nodes need of a pod that the rule is about."""
        named = self.names if self.egress else frozenset()
        numbers = {
            f"{name}/{protocol}": number
            for name, protocol in sorted(named)
            if (number := local_pods.port_number(pod, name, protocol))
        }
        node = str((pod.get("spec") or {}).get("nodeName") or "")
        return [(address, node, numbers) for address in _addresses(pod)]

    def value(self) -> Object:
        """As a node gets it."""
        found = [row for key in sorted(self.matched) for row in self.matched[key]]
        left_out = self.left_out + max(len(found) - MAX_PODS, 0)
        return {
            "ports": self.ports,
            "all": self.everybody,
            "blocks": self.blocks,
            "selectors": [
                {
                    "namespaces": ALL if peer.namespaces is None else sorted(peer.namespaces),
                    "podSelector": peer.written,
                }
                for peer in self.peers
            ],
            "pods": [list(row) for row in found[:MAX_PODS]],
            **({"left_out": left_out} if left_out else {}),
        }


@dataclass(slots=True)
class _Policy:
    selector: Any
    kinds: list[Any]
    ingress: list[_Rule]
    egress: list[_Rule]

    @property
    def rules(self) -> Iterator[_Rule]:
        yield from self.ingress
        yield from self.egress


class PolicyCatalogue:
    """All policies of a tenant. `pods` gives all pods; methods return the namespaces whose policies have changed."""

    def __init__(self, pods: Callable[[], Iterable[Object]]) -> None:
        self._pods = pods
        self._namespaces: dict[str, Mapping[str, str]] = {}  # labels by name
        self._policies: dict[str, dict[str, _Policy]] = {}
        self._encoded: dict[tuple[str, str], bytes] = {}

    def policy_changed(self, before: Object | None, after: Object | None) -> set[str]:
        """A NetworkPolicy came, changed or went."""
        obj = after or before or {}
        namespace, name = meta.namespace_of(obj), meta.name_of(obj)
        if before is not None and after is not None and before.get("spec") == after.get("spec"):
            return set()
        self._encoded.pop((namespace, name), None)
        if after is None:
            self._policies.get(namespace, {}).pop(name, None)
            if not self._policies.get(namespace):
                self._policies.pop(namespace, None)
            return {namespace}
        policy = self._policy(namespace, after)
        self._policies.setdefault(namespace, {})[name] = policy
        self._fill([policy])
        return {namespace}

    def namespace_changed(self, before: Object | None, after: Object | None) -> set[str]:
        """A Namespace came, changed its labels, or went."""
        name = meta.name_of(after or before or {})
        labels = None if after is None else {_NAME_LABEL: name, **meta.labels_of(after)}
        if labels == self._namespaces.get(name):
            return set()
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        concerned = [
            (namespace, key, policy)
            for namespace, policies in self._policies.items()
            for key, policy in policies.items()
            if any([self._look_at_namespaces(peer, name) for rule in policy.rules for peer in rule.peers])
        ]
        self._fill([policy for _, _, policy in concerned], of=name)
        for namespace, key, _ in concerned:
            self._encoded.pop((namespace, key), None)
        return {namespace for namespace, _, _ in concerned}

    def pod_changed(self, before: Object | None, after: Object | None) -> set[str]:
        """A pod came, went, or has another address, node or other labels."""
        pod = after or before or {}
        if before is not None and after is not None and _seen(before) == _seen(after):
            return set()
        key = key_of(pod)
        there = after is not None and bool(_addresses(after))
        found = set()
        for namespace, policies in self._policies.items():
            for name, policy in policies.items():
                changed = False
                for rule in policy.rules:
                    rows = rule.rows(after) if there and after is not None and rule.is_about(after) else None
                    if rows != rule.matched.get(key):
                        changed = True
                        if rows is None:
                            del rule.matched[key]
                        else:
                            rule.matched[key] = rows
                if changed:
                    self._encoded.pop((namespace, name), None)
                    found.add(namespace)
        return found

    def of(self, namespaces: Iterable[str]) -> Mapping[str, bytes]:
        """Key below a node's desired prefix -> value."""
        return {
            f"{PREFIX}{namespace}/{name}": self._row(namespace, name)
            for namespace in namespaces
            for name in self._policies.get(namespace, ())
        }

    def _row(self, namespace: str, name: str) -> bytes:
        found = self._encoded.get((namespace, name))
        if found is None:
            policy = self._policies[namespace][name]
            spec = {
                "podSelector": policy.selector,
                "policyTypes": policy.kinds,
                "ingress": [rule.value() for rule in policy.ingress],
                "egress": [rule.value() for rule in policy.egress],
            }
            found = canonical({"metadata": {"name": name, "namespace": namespace}, "spec": spec})
            self._encoded[namespace, name] = found
        return found

    def _fill(self, policies: Iterable[_Policy], of: str = "") -> None:
        """Look at all pods, or at those of one namespace."""
        rules = [rule for policy in policies for rule in policy.rules if rule.peers or rule.everybody]
        for pod in self._pods() if rules else ():
            if (of and meta.namespace_of(pod) != of) or not _addresses(pod):
                continue
            key = key_of(pod)
            for rule in rules:
                if rule.is_about(pod):
                    rule.matched[key] = rule.rows(pod)
                else:
                    rule.matched.pop(key, None)

    def _policy(self, namespace: str, obj: Object) -> _Policy:
        spec = obj.get("spec") or {}
        kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        found: dict[str, list[_Rule]] = {}
        room = MAX_SELECTORS
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            found[direction] = []
            for rule in (spec.get(direction) or [])[:MAX_RULES]:
                made = self._rule(namespace, rule, rule.get(peers) or [], direction == "egress", room)
                found[direction].append(made)
                room -= len(made.peers)
        return _Policy(spec.get("podSelector") or {}, list(kinds), found["ingress"], found["egress"])

    def _rule(self, namespace: str, rule: Object, peers: list[Object], egress: bool, room: int) -> _Rule:
        """`room`: for so many selectors; the rest are left out."""
        ports = rule.get("ports") or []
        names = frozenset(
            (port["port"], port.get("protocol", "TCP")) for port in ports if isinstance(port.get("port"), str)
        )
        blocks = [peer["ipBlock"] for peer in peers[:MAX_PEERS] if peer.get("ipBlock")]
        written = [peer for peer in peers[:MAX_PEERS] if not peer.get("ipBlock")]
        selected = [self._peer(namespace, peer) for peer in written[:room]]
        left_out = max(len(peers) - MAX_PEERS, 0) + max(len(ports) - MAX_PORTS, 0) + len(written) - len(selected)
        return _Rule(
            # if there are any, some are left: a rule without ports allows all of them
            ports=ports[:MAX_PORTS],
            names=names,
            everybody=not peers,
            blocks=blocks,
            peers=[peer for peer in selected if peer is not None],
            egress=egress,
            left_out=left_out + selected.count(None),
        )

    def _peer(self, namespace: str, peer: Object) -> _Peer | None:
        """None: its selectors cannot be understood, and it means nothing."""
        written, of_namespaces = peer.get("podSelector") or {}, peer.get("namespaceSelector")
        try:
            pods = of_selector(written)
            selector = None if of_namespaces is None else of_selector(of_namespaces)
        except Invalid:
            return None
        if selector is None:
            return _Peer(pods, written, None, frozenset((namespace,)))
        if not selector.requirements:
            return _Peer(pods, written, selector, None)
        found = frozenset(name for name, labels in self._namespaces.items() if selector.matches(labels))
        return _Peer(pods, written, selector, found)

    def _look_at_namespaces(self, peer: _Peer, name: str) -> bool:
        """Whether the peer means a namespace now that it did not mean before, or the other way round."""
        if peer.of_namespaces is None or peer.namespaces is None:
            return False
        labels = self._namespaces.get(name)
        meant = labels is not None and peer.of_namespaces.matches(labels)
        if meant == (name in peer.namespaces):
            return False
        peer.namespaces = peer.namespaces | {name} if meant else peer.namespaces - {name}
        return True


def isolated_namespaces(pods: Iterable[Object]) -> frozenset[str]:
    """Those whose policies concern a node: of its pods that have a network of their own."""
    return frozenset(meta.namespace_of(pod) for pod in pods if not (pod.get("spec") or {}).get("hostNetwork"))


def _addresses(pod: Object) -> list[str]:
    """What others see of it: none of a pod in the network of its node, which is the node, nor of one that has ended."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return []
    listed = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    return [address for address in listed[:2] if isinstance(address, str) and address]


def _seen(pod: Object) -> Any:
    """What rules depend on. Ports of containers do not change."""
    return _addresses(pod), meta.labels_of(pod), (pod.get("spec") or {}).get("nodeName")
