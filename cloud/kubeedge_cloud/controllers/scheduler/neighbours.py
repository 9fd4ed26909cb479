"""podAffinity and podAntiAffinity, the required parts: near whom a pod must be, and near whom not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def satisfied(
    pod: Neighbour,
    attracted: Sequence[Term],
    node: Mapping[str, str],
    there: Iterable[tuple[Neighbour, Mapping[str, str]]],
) -> str:
    """ "" or the reason why not. `node` and the second of each pair are labels of nodes."""
    others = list(there)

    def near(term: Term, labels: Mapping[str, str]) -> bool:
        return term.topology in node and labels.get(term.topology) == node[term.topology]

    for term in pod.repels:
        if any(near(term, labels) and term.means(pod.namespace, other) for other, labels in others):
            return ANTI_AFFINITY
    for other, labels in others:
        if any(near(term, labels) and term.means(other.namespace, pod) for term in other.repels):
            return THEIR_ANTI_AFFINITY
    for term in attracted:
        if any(near(term, labels) and term.means(pod.namespace, other) for other, labels in others):
            continue
        # The first pod of a group that wants to be together has nothing to join.
        first = term.means(pod.namespace, pod) and not any(term.means(pod.namespace, other) for other, _ in others)
        if not first or term.topology not in node:
            return AFFINITY
    return ""
