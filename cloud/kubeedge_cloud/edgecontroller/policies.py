"""NetworkPolicies as nodes get them: with the peers' addresses (ADR 56). Pure.

A node has the policies of the namespaces of its pods. Which pods a rule means is found here, where all pods and namespaces are known, and is
kept as pods change, so that one pod costs one look at each rule. What all policies of a tenant ask of one pod is bounded (MAX_LOOKS), as is what is
found (MAX_FOUND), and each method is a generator that stops after some of that (_PORTION), so that a tenant with many pods and many selectors holds nobody else up. The row of a policy is the same for all nodes:

    {"metadata", "spec": {"podSelector", "policyTypes", "ingress": [RULE], "egress": [RULE]}}
    RULE: {"ports", "all", "blocks": [IPBLOCK], "selectors": [{"namespaces": [NAME] or "*", "podSelector"}],
           "pods": [[ADDRESS, NODE, {"NAME/PROTOCOL": NUMBER}]]}

`selectors` are for the node's own pods, which it knows better than the cloud; `pods` has the others. What would be too much is left out,
which allows less and not more; `left_out` counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kubeedge.api import local_pods, meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.selectors import LabelSelector, of_selector
from kubeedge.api.validation_networkpolicies import MAX_PEERS, MAX_PORTS, MAX_RULES, MAX_SELECTORS
from kubeedge.errors import Invalid
from kubeedge_cloud.controllers.objects import key_of
from kubeedge_cloud.edgecontroller.node_objects import canonical
from kubeedge_cloud.edgecontroller.policy_pods import addresses

PREFIX = "networkpolicies/"
ALL = "*"
MAX_PODS = 5_000  # whose addresses are in one rule
MAX_LOOKS = 8_192  # rules, selectors and requirements in them, of all policies of a tenant: each is asked of each pod
MAX_FOUND = (
    200_000  # pods in the rules of all policies of a tenant: each takes a few hundred bytes in each rule that means it
)
_ROOM = (
    MAX_FOUND * 3 // 4
)  # how many they are when those that were left out are looked at again: not for each pod that goes
_NO_PORTS: Mapping[str, int] = {}
_PORTION = 2_000  # of these before others have their turn
_NAME_LABEL = "kubernetes.io/metadata.name"

#: an address, its node, and the ports that rules name, as "NAME/PROTOCOL"
PeerRow: TypeAlias = tuple[str, str, Mapping[str, int]]
#: what is done in portions, and gives the namespaces whose policies have changed
Steps: TypeAlias = Generator[None, None, set[str]]


@dataclass(slots=True)
class _Peer:
    """One selector of a rule. `namespaces`: the names that it means; None: it has a selector of namespaces that means all."""

    pods: LabelSelector
    written: Object  # podSelector as it is written
    of_namespaces: LabelSelector | None  # None: the policy's own
    namespaces: frozenset[str] | None

    @property
    def weight(self) -> int:
        """How much it asks of a pod."""
        return 1 + len(self.pods.requirements)

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
    crowded: bool = False  # there was no room for all pods
    matched: dict[NamespacedName, list[PeerRow]] = field(default_factory=dict)
    encoded: bytes | None = None  # while the rest of its policy is being encoded

    @property
    def weight(self) -> int:
        """How much it asks of a pod."""
        return 1 + sum(peer.weight for peer in self.peers)

    def is_about(self, pod: Object) -> bool:
        """Whether the address of a pod belongs in the rule."""
        if self.everybody:  # only where a port has a name, which each pod gives another number
            return self.egress and bool(self.names)
        namespace, labels = meta.namespace_of(pod), meta.labels_of(pod)
        return any(peer.means(namespace, labels) for peer in self.peers)

    def rows(self, pod: Object) -> list[PeerRow]:
        """What nodes need of a pod that the rule is about."""
        named = self.names if self.egress else frozenset()
        found = {
            f"{name}/{protocol}": number
            for name, protocol in sorted(named)
            if (number := local_pods.port_number(pod, name, protocol))
        }
        numbers = found or _NO_PORTS
        node = str((pod.get("spec") or {}).get("nodeName") or "")
        return [(address, node, numbers) for address in addresses(pod)]

    def value(self) -> Object:
        """As a node gets it."""
        found = [row for key in sorted(self.matched) for row in self.matched[key]]
        left_out = self.left_out + max(len(found) - MAX_PODS, 0) + self.crowded
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
    spec: Any  # as it is written
    selector: Any
    kinds: list[Any]
    ingress: list[_Rule]
    egress: list[_Rule]
    short: bool  # other policies of the tenant left no room for all of it

    @property
    def weight(self) -> int:
        """How much it asks of a pod."""
        return sum(rule.weight for rule in self.rules)

    @property
    def rules(self) -> Iterator[_Rule]:
        yield from self.ingress
        yield from self.egress

    @property
    def found(self) -> int:
        """How many pods its rules have."""
        return sum(len(rule.matched) for rule in self.rules)


class PolicyCatalogue:
    """All policies of a tenant. `pods` gives all pods. One change is finished before the next one begins."""

    def __init__(self, pods: Callable[[], Iterable[Object]]) -> None:
        self._pods = pods
        self._namespaces: dict[str, Mapping[str, str]] = {}  # labels by name
        self._policies: dict[str, dict[str, _Policy]] = {}
        self._encoded: dict[tuple[str, str], bytes] = {}
        self.weight = 0  # how much all of them ask of a pod
        self.found = 0  # pods in all their rules
        self._crowded = False  # there was no room for some, and there has been none since

    def has_room_again(self, weight: int) -> bool:
        """Whether those that are `short` should be looked at: other policies took `weight` before, or there was no room for pods."""
        freed = self._crowded and self.found <= _ROOM
        self._crowded = self._crowded and not freed
        return freed or self.weight < weight

    @property
    def short(self) -> list[tuple[str, str]]:
        """(namespace, name) of those that others left no room for; a change of theirs is to be looked at when there is some (`has_room_again`)."""
        return [
            (space, name) for space, found in self._policies.items() for name, policy in found.items() if policy.short
        ]

    def policy_changed(self, namespace: str, name: str, after: Object | None) -> Steps:
        """A NetworkPolicy came, changed or went (None)."""
        old = self._policies.get(namespace, {}).get(name)
        if after is None:
            if old is None:
                return set()
            del self._policies[namespace][name]
            if not self._policies[namespace]:
                del self._policies[namespace]
        elif old is not None and not old.short and old.spec == after.get("spec"):
            return set()
        self.weight -= old.weight if old is not None else 0
        if after is not None:
            policy = self._policy(namespace, after)
            self.weight += policy.weight
            yield from self._fill([policy], instead=old.found if old is not None else 0)
            self._policies.setdefault(namespace, {})[name] = policy  # the old one held until now
        self.found -= old.found if old is not None else 0
        self._stale(namespace, name)
        return {namespace}

    def namespace_changed(self, name: str, after: Object | None) -> Steps:
        """A Namespace came, changed its labels, or went (None)."""
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
        yield from self._fill([policy for _, _, policy in concerned], of=name)
        for namespace, key, _ in concerned:
            self._stale(namespace, key)
        return {namespace for namespace, _, _ in concerned}

    def pod_changed(self, namespace: str, name: str, after: Object | None) -> Steps:
        """A pod came, went (None), or has another address, node or other labels."""
        key = (namespace, name)
        there = after is not None and bool(addresses(after))
        found, looks = set(), 0
        for space, policies in self._policies.items():
            for policy_name, policy in policies.items():
                for rule in policy.rules:
                    about = after if there and after is not None and rule.is_about(after) else None
                    if self._note(policy, rule, key, about):
                        self._stale(space, policy_name)
                        found.add(space)
                looks += policy.weight
                if looks >= _PORTION:
                    looks = 0
                    yield
        return found

    def encode(self, namespaces: Iterable[str]) -> Generator[None, None, None]:
        """Make what `of` gives of them, a rule at a time: one with MAX_PODS is some ten milliseconds of work."""
        for namespace in namespaces:
            for name in list(self._policies.get(namespace, ())):
                if (policy := self._policies.get(namespace, {}).get(name)) is None or (
                    namespace,
                    name,
                ) in self._encoded:
                    continue
                for rule in policy.rules:
                    if rule.encoded is None:
                        rule.encoded = canonical(rule.value())
                        yield
                if self._policies.get(namespace, {}).get(name) is policy:
                    self._row(namespace, name)

    def _stale(self, namespace: str, name: str) -> None:
        """What was encoded of a policy holds no longer."""
        self._encoded.pop((namespace, name), None)
        policy = self._policies.get(namespace, {}).get(name)
        for rule in policy.rules if policy is not None else ():
            rule.encoded = None

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
            # the same as canonical() makes of the whole
            found = b'{"metadata":%s,"spec":{"egress":%s,"ingress":%s,"podSelector":%s,"policyTypes":%s}}' % (
                canonical({"name": name, "namespace": namespace}),
                _encoded(policy.egress),
                _encoded(policy.ingress),
                canonical(policy.selector),
                canonical(policy.kinds),
            )
            self._encoded[namespace, name] = found
            for rule in policy.rules:
                rule.encoded = None
        return found

    def _note(self, policy: _Policy, rule: _Rule, key: NamespacedName, pod: Object | None, instead: int = 0) -> bool:
        """That the rule is about a pod, or not (None); whether that changes it. `instead`: pods in rules that go when this is done."""
        known = rule.matched.get(key)
        if pod is None:
            self.found -= known is not None
            return rule.matched.pop(key, None) is not None
        if known is None and self.found >= MAX_FOUND + instead:  # what is left out is allowed less
            new, rule.crowded = not rule.crowded, True
            policy.short = self._crowded = True
            return new
        self.found += known is None
        rows = rule.matched[key] = rule.rows(pod)
        return rows != known

    def _fill(self, policies: Iterable[_Policy], of: str = "", instead: int = 0) -> Iterator[None]:
        """Look at all pods, or at those of one namespace. One that changes meanwhile is looked at again, after this."""
        rules = [(policy, rule) for policy in policies for rule in policy.rules if rule.peers or rule.everybody]
        looks = 0
        for pod in list(self._pods()) if rules else ():
            if (of and meta.namespace_of(pod) != of) or not addresses(pod):
                continue
            key = key_of(pod)
            for policy, rule in rules:
                self._note(policy, rule, key, pod if rule.is_about(pod) else None, instead)
                looks += rule.weight
                if looks >= _PORTION:
                    looks = 0
                    yield

    def _policy(self, namespace: str, obj: Object) -> _Policy:
        spec = obj.get("spec") or {}
        kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        found: dict[str, list[_Rule]] = {}
        room, looks, short = MAX_SELECTORS, MAX_LOOKS - self.weight, False
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            found[direction] = []
            for rule in (spec.get(direction) or [])[:MAX_RULES]:
                made = self._rule(namespace, rule, rule.get(peers) or [], direction == "egress", room)
                room -= len(made.peers)
                short = _cut(made, looks) or short
                if made.weight <= looks:  # a rule that is left out allows nothing
                    looks -= made.weight
                    found[direction].append(made)
        return _Policy(
            obj.get("spec"), spec.get("podSelector") or {}, list(kinds), found["ingress"], found["egress"], short
        )

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


def _encoded(rules: Iterable[_Rule]) -> bytes:
    return b"[%s]" % b",".join(canonical(rule.value()) if rule.encoded is None else rule.encoded for rule in rules)


def _cut(rule: _Rule, looks: int) -> bool:
    """Leave out the selectors that there is no room for; whether there were any, or is none for the rule itself."""
    had = len(rule.peers)
    while rule.peers and rule.weight > looks:
        rule.peers.pop()
    rule.left_out += had - len(rule.peers)
    return had > len(rule.peers) or rule.weight > looks
