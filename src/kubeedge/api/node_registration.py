"""What a machine may say of its Node when it joins: labels and taints, as a kubelet's --node-labels and --register-with-taints. Pure.

A node is not trusted with labels by which others are kept apart, so the rules are those of Kubernetes' admission plugin NodeRestriction: below
kubernetes.io and k8s.io only the labels that are a kubelet's own. They count when the Node is made; afterwards it is its cluster's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeedge.api.selectors import is_label_key, is_label_value
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

MAX_LABELS = 64
MAX_TAINTS = 32
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_RESERVED = ("kubernetes.io", "k8s.io")
_OWN_NAMESPACES = ("node.kubernetes.io", "kubelet.kubernetes.io")
_OWN_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    )
)

Taint = Mapping[str, str]  # key, value, effect, as in a Node's spec


@dataclass(frozen=True, slots=True)
class NodeRegistration:
    """Labels and taints of a Node that is to be made."""

    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Taint] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.taints)

    def encode(self) -> dict[str, Any]:
        """JSON without what there is not."""
        found = {"labels": dict(self.labels), "taints": [dict(taint) for taint in self.taints]}
        return {name: value for name, value in found.items() if value}


NOTHING = NodeRegistration()


def parse(labels: Iterable[str], taints: Iterable[str]) -> NodeRegistration:
    """Of KEY=VALUE each, and of KEY=VALUE:EFFECT or KEY:EFFECT; a later label or taint replaces an earlier one. Raises Invalid."""
    found: dict[str, str] = {}
    for text in labels:
        key, _, value = text.partition("=")
        found[key] = value
    made: dict[tuple[str, str], Taint] = {}
    for text in taints:
        what, colon, effect = text.rpartition(":")
        if not colon:
            raise Invalid(f"taint {text[:80]!r} is not KEY=VALUE:EFFECT or KEY:EFFECT")
        key, _, value = what.partition("=")
        made[key, effect] = {"key": key, **({"value": value} if value else {}), "effect": effect}
    return checked(NodeRegistration(found, tuple(made.values())))


def decode(body: Mapping[str, Any]) -> NodeRegistration:
    """The registration in the JSON of a machine or a record. Raises Invalid."""
    labels, taints = body.get("labels", {}), body.get("taints", [])
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise Invalid("a mapping of texts is required", path="labels")
    if not isinstance(taints, list) or not all(_is_taint(taint) for taint in taints):
        raise Invalid("a list of {key, value, effect} is required", path="taints")
    if len(labels) > MAX_LABELS or len(taints) > MAX_TAINTS:
        raise Invalid(f"at most {MAX_LABELS} labels and {MAX_TAINTS} taints")
    return checked(NodeRegistration(labels, tuple(taints)))


def _is_taint(taint: Any) -> bool:
    if not isinstance(taint, dict) or not taint.keys() <= {"key", "value", "effect"}:
        return False
    return all(isinstance(value, str) for value in taint.values())


def checked(registration: NodeRegistration) -> NodeRegistration:
    """The same. Raises Invalid for what Kubernetes would refuse, and for what is not a node's to say."""
    if len(registration.labels) > MAX_LABELS or len(registration.taints) > MAX_TAINTS:
        raise Invalid(f"at most {MAX_LABELS} labels and {MAX_TAINTS} taints")
    for key, value in registration.labels.items():
        _check_pair("label", key, value)
        if not is_of_nodes(key):
            raise Invalid(
                f"label {key!r:.300} is not a node's to set: below kubernetes.io and k8s.io these are node.kubernetes.io/, "
                f"kubelet.kubernetes.io/ and {', '.join(sorted(_OWN_LABELS))}"
            )
    seen = set()
    for taint in registration.taints:
        key, effect = taint.get("key", ""), taint.get("effect", "")
        _check_pair("taint", key, taint.get("value", ""))
        if effect not in EFFECTS:
            raise Invalid(f"taint {key!r:.300} has effect {effect!r:.80}: {', '.join(EFFECTS)} are supported")
        if (key, effect) in seen:
            raise Invalid(f"taint {key!r:.300} is there twice with effect {effect}")
        seen.add((key, effect))
    return registration


def is_of_nodes(key: str) -> bool:
    """Whether NodeRestriction lets a node set that label on itself."""
    namespace = key.rpartition("/")[0]
    if not _is_within(namespace, _RESERVED):
        return True
    return key in _OWN_LABELS or _is_within(namespace, _OWN_NAMESPACES)


def _is_within(namespace: str, domains: Sequence[str]) -> bool:
    return any(namespace == domain or namespace.endswith(f".{domain}") for domain in domains)


def _check_pair(what: str, key: str, value: str) -> None:
    if not is_label_key(key):
        raise Invalid(f"{what} {key!r:.300} is not [PREFIX/]NAME")
    if not is_label_value(value):
        raise Invalid(
            f"{what} {key!r:.300}: {value!r:.80} is not a label's value (at most 63 letters, digits, '-', '_', '.')"
        )
