"""What keeps a pod on a node that is away: tolerations of the lifecycle controller's taints, without an end. Pure (ADR 51).

Kubernetes gives every pod both tolerations for 300 s, after which it evicts. Their tolerationSeconds is one of the few things in a pod that may
be changed after it was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object

LABEL, AUTONOMY = "app-offline.kubeedge.io", "autonomy"  # of a pod, as KubeEdge has it, or of a Node: all pods there
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_EFFECT = "NoExecute"


def stays(pod: Object, node: Object | None) -> bool:
    """Whether the user wants it to go on at the edge while its node is away."""
    return any(meta.labels_of(obj).get(LABEL) == AUTONOMY for obj in (pod, node) if obj is not None)


def without_end(tolerations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """The tolerations with which a pod is never evicted because its node is away; None: it has them."""
    before = [dict(toleration) for toleration in tolerations]
    after = [_endless(toleration) for toleration in before]
    for taint in _TAINTS:
        if not any(_tolerates(toleration, taint) for toleration in after):
            after.append({"key": taint, "operator": "Exists", "effect": _EFFECT})
    return None if after == before else after


def _endless(toleration: dict[str, Any]) -> dict[str, Any]:
    """The first one that fits a taint counts, so all of them must be without an end."""
    if any(_tolerates(toleration, taint) for taint in _TAINTS):
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}
    return toleration


def _tolerates(toleration: Mapping[str, Any], taint: str) -> bool:
    """Whether a toleration matches a taint of that key, which has no value."""
    if toleration.get("effect") not in (None, "", _EFFECT):
        return False
    operator, key = toleration.get("operator") or "Equal", toleration.get("key") or ""
    if operator == "Exists":
        return key in ("", taint)
    return operator == "Equal" and key == taint and not toleration.get("value")
