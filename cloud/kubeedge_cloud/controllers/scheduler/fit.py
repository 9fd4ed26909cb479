"""Does a pod fit a node: labels, affinity, taints. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.selectors import matches_node_term, node_term


class NodeFit:
    """nodeSelector and nodeAffinity of a pod, read once for all nodes."""

    def __init__(self, spec: Object) -> None:
        self._selector: Mapping[str, str] = spec.get("nodeSelector") or {}
        affinity = _node_affinity(spec)
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        self._required = (
            None if not isinstance(required, dict) else [*map(node_term, required.get("nodeSelectorTerms") or ())]
        )
        wishes = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        self._wishes = [(int(wish.get("weight") or 0), node_term(wish.get("preference") or {})) for wish in wishes]

    def fits(self, node: Object) -> bool:
        """nodeSelector and the required part of nodeAffinity."""
        labels = meta.labels_of(node)
        if any(labels.get(key) != value for key, value in self._selector.items()):
            return False
        return self._required is None or any(matches_node_term(term, node) for term in self._required)

    def preferred(self, node: Object) -> int:
        """Sum of the weights of the preferences that the node fulfils."""
        return sum(weight for weight, term in self._wishes if matches_node_term(term, node))


def fits_labels(spec: Object, node: Object) -> bool:
    """NodeFit.fits, for one node."""
    return NodeFit(spec).fits(node)


def _node_affinity(spec: Object) -> Object:
    found = (spec.get("affinity") or {}).get("nodeAffinity")
    return found if isinstance(found, dict) else {}


class Tolerations:
    """The tolerations of a pod, looked up by what a taint is: a pod may have thousands, and a node thousands of taints."""

    def __init__(self, given: Iterable[Mapping[str, Any]]) -> None:
        #: (key, value, effect), None and "" being any -> seconds
        self._seconds: dict[tuple[str | None, str | None, str], float | None] = {}
        for toleration in given:
            key, exists = toleration.get("key") or "", toleration.get("operator", "Equal") == "Exists"
            of = (
                None if exists and not key else key,
                None if exists else toleration.get("value") or "",
                toleration.get("effect") or "",
            )
            seconds = toleration.get("tolerationSeconds")
            limit = float(seconds) if isinstance(seconds, int | float) else None
            self._seconds[of] = _shorter(self._seconds.get(of), limit)

    def _covering(self, taint: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None, str]]:
        key, value = taint.get("key"), taint.get("value") or ""
        for effect in {"", taint.get("effect") or ""}:
            for of in ((None, None, effect), (key, None, effect), (key, value, effect)):
                if of in self._seconds:
                    yield of

    def cover(self, taint: Mapping[str, Any]) -> bool:
        """As Kubernetes compares them: an empty effect means all effects, Exists without a key all taints."""
        return next(self._covering(taint), None) is not None

    def seconds(self, taint: Mapping[str, Any]) -> float | None:
        """The shortest tolerationSeconds of those that cover the taint; None: there is none."""
        shortest: float | None = None
        for of in self._covering(taint):
            shortest = _shorter(shortest, self._seconds[of])
        return shortest


def _shorter(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def untolerated(
    tolerations: Tolerations | Iterable[Any], taints: Iterable[Any], effects: Collection[str]
) -> Object | None:
    """The first taint with one of the effects that no toleration covers."""
    given = tolerations if isinstance(tolerations, Tolerations) else Tolerations(tolerations)
    for taint in taints:
        if taint.get("effect") in effects and not given.cover(taint):
            return dict(taint)
    return None


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Tolerations.cover, for one toleration."""
    return Tolerations((toleration,)).cover(taint)
