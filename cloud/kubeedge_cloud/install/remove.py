"""`kubeedge reset cloud`: removes what `init` installed; the data of the nodes only when that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable

from kubeedge.errors import Conflict, Refused, Unavailable, with_next
from kubeedge_cloud.install.apply import ANY, AUTHORITY, CREATED, NAME, SERVICE, installed
from kubeedge_cloud.install.cluster import TargetCluster

_POLL = 0.25  # seconds
_EDGE = "node-role.kubernetes.io/edge"


def remove(cluster: TargetCluster, namespace: str, say: Callable[[str], None], *, data: bool, timeout: float) -> None:
    """Idempotent. Raises Conflict for an installation that is not ours, Unavailable when something does not go within `timeout` seconds."""
    cluster.version()
    for found in cluster.list("apps/v1", "Deployment", namespace, ANY):
        if (manager := found["metadata"]["labels"].get("app.kubernetes.io/managed-by")) != SERVICE:
            raise with_next(
                Conflict(f"the cloud side in namespace {namespace} is managed by {manager or 'somebody else'}"),
                "helm uninstall" if manager == "Helm" else "remove it in the way it was installed",
            )
    objects = installed(cluster, namespace)
    if data:
        objects += [
            {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}
            for kind, name in (("PersistentVolumeClaim", NAME), ("Secret", AUTHORITY))
        ]
    gone = [each for each in objects if cluster.delete(each)]
    for each in gone:
        say(f"{each['kind']} {each['metadata']['name']}: removed")
    found_namespace = cluster.get("v1", "Namespace", namespace)
    if data and found_namespace and CREATED in found_namespace["metadata"].get("annotations", {}):
        cluster.delete(found_namespace)
        gone.append(found_namespace)
        say(f"Namespace {namespace}: removed")
    if not gone:
        say("there was nothing to remove")
    deadline = time.monotonic() + timeout
    while left := [each for each in gone if _is_there(cluster, each)]:
        if time.monotonic() > deadline:
            each = left[0]
            raise Unavailable(f"{each['kind']} {each['metadata']['name']} is still there after {timeout:g} s")
        time.sleep(_POLL)
    if data and (nodes := _nodes(cluster)):
        say(
            f"next: nodes of the edge are still in the cluster ({', '.join(nodes)}): `kubectl delete node NAME` removes one"
        )
    if not data and found_namespace:
        say(f"kept: the data of namespace {namespace} (--delete-data removes it)")


def _nodes(cluster: TargetCluster) -> list[str]:
    """Names of the edge's Nodes: without a cloud side nobody takes them away."""
    try:
        return [each["metadata"]["name"] for each in cluster.list("v1", "Node", selector=_EDGE)]
    except Refused:
        return []


def _is_there(cluster: TargetCluster, each: dict[str, object]) -> bool:
    metadata = each["metadata"]
    assert isinstance(metadata, dict)
    return (
        cluster.get(str(each["apiVersion"]), str(each["kind"]), metadata["name"], metadata.get("namespace", ""))
        is not None
    )
