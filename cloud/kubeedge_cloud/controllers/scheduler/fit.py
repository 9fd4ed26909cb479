"""Does a pod fit a node: labels, affinity, taints. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.selectors import requirement_of
from kubeedge.errors import Invalid


def fits_labels(spec: Object, node: Object) -> bool:
    """nodeSelector and the required part of nodeAffinity."""
    labels = meta.labels_of(node)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = _node_affinity(spec).get("requiredDuringSchedulingIgnoredDuringExecution")
    if not isinstance(required, dict):
        return True
    return any(matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def preferred(spec: Object, node: Object) -> int:
    """Sum of the weights of the preferences that the node fulfils."""
    wishes = _node_affinity(spec).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(int(wish.get("weight") or 0) for wish in wishes if matches_term(wish.get("preference") or {}, node))


def _node_affinity(spec: Object) -> Object:
    found = (spec.get("affinity") or {}).get("nodeAffinity")
    return found if isinstance(found, dict) else {}


def matches_term(term: Mapping[str, Any], node: Object) -> bool:
    """All expressions must hold; a term without any matches nothing, as does one that cannot be understood."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels, names = meta.labels_of(node), {"metadata.name": meta.name_of(node)}
    try:
        return all(requirement_of(e).matches(labels) for e in expressions) and all(
            requirement_of(f).matches(names) for f in fields
        )
    except Invalid:
        return False


def untolerated(tolerations: Iterable[Any], taints: Iterable[Any], effects: Collection[str]) -> Object | None:
    """The first taint with one of the effects that no toleration covers."""
    given = list(tolerations)
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(toleration, taint) for toleration in given):
            return dict(taint)
    return None


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """As Kubernetes compares them: an empty effect means all effects, Exists without a key all taints."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    key = toleration.get("key") or ""
    if toleration.get("operator", "Equal") == "Exists":
        return not key or key == taint.get("key")
    return key == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")
