"""Pods as NetworkPolicies see them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object


def differs(before: Object | None, after: Object | None) -> bool:
    """Whether a pod is another one for rules."""
    return before is None or after is None or _seen(before) != _seen(after)


def isolated_namespaces(pods: Iterable[Object]) -> frozenset[str]:
    """Those whose policies concern a node: of its pods that have a network of their own."""
    return frozenset(meta.namespace_of(pod) for pod in pods if not (pod.get("spec") or {}).get("hostNetwork"))


def addresses(pod: Object) -> list[str]:
    """What others see of it: none of a pod in the network of its node, which is the node, nor of one that has ended."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return []
    listed = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    return [address for address in listed[:2] if isinstance(address, str) and address]


def _seen(pod: Object) -> Any:
    """What rules depend on. Ports of containers do not change."""
    return addresses(pod), meta.labels_of(pod), (pod.get("spec") or {}).get("nodeName")
