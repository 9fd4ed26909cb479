"""Which machine is the router, and which routes follow for another one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kubeedge.api import meta
from kubeedge.api.names import Object


def reduced(pod: Object) -> Object:
    """The fields of a pod that are read here."""
    inner, status = meta.metadata(pod), pod.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp")
    ready = [condition for condition in status.get("conditions") or () if condition.get("type") == "Ready"]
    return {
        "metadata": {key: inner[key] for key in kept if key in inner},
        "status": {"hostIP": status.get("hostIP", ""), "conditions": ready},
    }


def router_of(pods: Iterable[Object], labels: Mapping[str, str], before: str) -> str:
    """Address of the machine on which the router is Ready. While none is, it stays where it was: a restart changes nothing."""
    found = sorted(address for pod in pods if (address := _serving_at(pod, labels)))
    return before if before in found or not found else found[0]


def _serving_at(pod: Object, labels: Mapping[str, str]) -> str:
    inner, status = meta.metadata(pod), pod["status"]
    own = inner.get("labels") or {}
    if inner.get("deletionTimestamp") or any(own.get(key) != value for key, value in labels.items()):
        return ""
    ready = any(condition.get("status") == "True" for condition in status["conditions"])
    return str(status["hostIP"]) if ready else ""


def gateways(networks: Sequence[str], router: str, own: str) -> dict[str, str]:
    """Network -> the router's address, for the machine with the address `own`; none on the router's machine, or while no router is known."""
    return {} if router in ("", own) else dict.fromkeys(networks, router)
