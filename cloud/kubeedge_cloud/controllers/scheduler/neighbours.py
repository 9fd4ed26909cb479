"""podAffinity and podAntiAffinity, the required parts: near whom a pod must be, and near whom not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from kubeedge.api.names import Object
from kubeedge.api.selectors import LabelSelector, of_selector
from kubeedge.errors import Invalid

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
THEIR_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"


@dataclass(frozen=True, slots=True)
class Term:
    """A PodAffinityTerm v1: `topology` is the label of nodes whose value says what is near."""

    topology: str
    selector: LabelSelector | None  # None: matches nothing
    namespaces: frozenset[str]  # empty: the pod's own
    everywhere: bool = False

    def means(self, own_namespace: str, other: Neighbour) -> bool:
        """Whether the other pod is one of those that the term is about, for a pod in `own_namespace`."""
        if self.selector is None or not self.selector.matches(other.labels):
            return False
        return self.everywhere or other.namespace in (self.namespaces or {own_namespace})


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What a pod shows to the terms of others, and the required anti-affinity that it has itself."""

    namespace: str
    labels: Mapping[str, str]
    repels: Sequence[Term] = ()


def terms_of(spec: Object, kind: str) -> Sequence[Term]:
    """Required terms of a pod's spec; `kind` is "podAffinity" or "podAntiAffinity". A broken selector matches nothing."""
    found = (spec.get("affinity") or {}).get(kind)
    if not isinstance(found, dict):
        return ()
    terms = []
    for term in found.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
        try:
            selector = of_selector(term["labelSelector"]) if term.get("labelSelector") is not None else None
        except Invalid:
            selector = None
        everywhere = isinstance(term.get("namespaceSelector"), dict)
        names = frozenset(map(str, term.get("namespaces") or ()))
        terms.append(Term(str(term.get("topologyKey") or ""), selector, names, everywhere))
    return tuple(terms)


class Surroundings:
    """Where the others are that a pod's terms, and theirs, are about: looked through once for all nodes.

    `attracted`: the pod's podAffinity; `there`: the others, with the labels of their nodes.
    """

    def __init__(
        self, pod: Neighbour, attracted: Sequence[Term], there: Iterable[tuple[Neighbour, Mapping[str, str]]]
    ) -> None:
        others = list(there)
        self._pod = pod
        self._repelled = [(term.topology, _values(term, pod.namespace, others)) for term in pod.repels]
        self._attracted = [
            (term.topology, _values(term, pod.namespace, others), self._is_first(term, others)) for term in attracted
        ]
        self._repelling = {
            (term.topology, labels[term.topology])
            for other, labels in others
            for term in other.repels
            if term.topology in labels and term.means(other.namespace, pod)
        }
        self._theirs = {topology for topology, _ in self._repelling}

    def _is_first(self, term: Term, others: Iterable[tuple[Neighbour, Mapping[str, str]]]) -> bool:
        """The first pod of a group that wants to be together has nothing to join."""
        own = self._pod.namespace
        return term.means(own, self._pod) and not any(term.means(own, other) for other, _ in others)

    def refusal(self, node: Mapping[str, str]) -> str:
        """Why the pod may not be on a node with these labels; "": it may."""
        if any(topology in node and node[topology] in values for topology, values in self._repelled):
            return ANTI_AFFINITY
        if any((topology, node[topology]) in self._repelling for topology in self._theirs if topology in node):
            return THEIR_ANTI_AFFINITY
        for topology, values, first in self._attracted:
            if topology not in node or not (first or node[topology] in values):
                return AFFINITY
        return ""


def _values(term: Term, namespace: str, others: Iterable[tuple[Neighbour, Mapping[str, str]]]) -> Set[str]:
    """Of the topology label, where those are that the term is about."""
    return {
        labels[term.topology] for other, labels in others if term.topology in labels and term.means(namespace, other)
    }
