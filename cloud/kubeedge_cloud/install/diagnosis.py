"""Why the cloud side in a cluster is not Ready, and what belongs into a report about it. No Secret is read."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from kubeedge.api.names import Object
from kubeedge.errors import KubeEdgeError, Refused
from kubeedge_cloud.install import permissions
from kubeedge_cloud.install.cluster import TargetCluster

_SELECTOR = "app.kubernetes.io/name=kubeedge,app.kubernetes.io/component=cloud"
_COLLECTED = (
    ("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("v1", "Pod"), ("v1", "Service"), ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"), ("v1", "Event"), ("discovery.k8s.io/v1", "EndpointSlice"),
    ("networking.k8s.io/v1", "NetworkPolicy"), ("policy/v1", "PodDisruptionBudget"),
)  # fmt: skip
_IN_CLUSTER = "=in-cluster"  # a tenant of cloud.yaml that has this cluster
_LOG_LINES = "2000"
_LOG_BYTES = str(4 * 1024 * 1024)


def reasons(cluster: TargetCluster, namespace: str) -> list[str]:
    """What keeps it from being Ready, each in one sentence; [] when nothing is seen."""
    found = []
    pods = cluster.list("v1", "Pod", namespace, _SELECTOR)
    if not pods:
        found += list(_why_no_pod(cluster, namespace))
    for pod in pods:
        found += [f"pod {pod['metadata']['name']}: {reason}" for reason in _of_pod(pod)]
    found += _missing_rights(
        cluster, namespace, {str(pod["spec"].get("serviceAccountName", "default")) for pod in pods}
    )
    used = {name for pod in pods for name in _claims(pod)}  # one of earlier values stays, and holds up nothing
    for claim in cluster.list("v1", "PersistentVolumeClaim", namespace):
        if claim["metadata"]["name"] in used and claim.get("status", {}).get("phase") == "Pending":
            found.append(
                f"volume claim {claim['metadata']['name']} is Pending: {_last_event(cluster, claim)} "
                "(--set store.persistence.storageClass=NAME chooses a class)"
            )
    return [*found, *without_address(cluster, namespace)]


def without_address(cluster: TargetCluster, namespace: str) -> Iterator[str]:
    """Services that wait for a load balancer: the process is Ready, and no machine can reach it."""
    for service in cluster.list("v1", "Service", namespace, _SELECTOR):
        if service["spec"]["type"] == "LoadBalancer" and not service["status"].get("loadBalancer", {}).get("ingress"):
            yield (
                f"service {service['metadata']['name']} has no address: this cluster has no load balancer, or it is not done yet "
                "(--set expose.type=NodePort or HostNetwork do without)"
            )


def collect(cluster: TargetCluster, namespace: str, path: Path) -> list[str]:
    """A tar.gz with the objects of the namespace, nodes of the edge, and logs; the names of what is in it."""
    names = []
    with tarfile.open(path, "w:gz") as tar:
        for name, data in _files(cluster, namespace):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), int(time.time())
            tar.addfile(info, io.BytesIO(data))
            names.append(name)
    return names


def _files(cluster: TargetCluster, namespace: str) -> Iterator[tuple[str, bytes]]:
    yield "version.json", _json(cluster.request("GET", "/version"))
    for api_version, kind in _COLLECTED:
        try:
            yield f"{kind}.json", _json(cluster.list(api_version, kind, namespace))
        except KubeEdgeError as exc:
            yield f"{kind}.error", str(exc).encode()
    try:
        yield "Node.json", _json(cluster.list("v1", "Node", selector="node-role.kubernetes.io/edge"))
    except KubeEdgeError as exc:
        yield "Node.error", str(exc).encode()
    for pod in cluster.list("v1", "Pod", namespace, _SELECTOR):
        name = pod["metadata"]["name"]
        for previous in (False, True):
            path = cluster.path("v1", "Pod", namespace, name) + "/log"
            try:
                log = cluster.request(
                    "GET", path, container="cloud", tailLines=_LOG_LINES, limitBytes=_LOG_BYTES, previous=previous
                )
            except KubeEdgeError as exc:
                log = {"text": str(exc)}
            yield f"{name}{'.previous' if previous else ''}.log", str(log.get("text", "")).encode()


def _claims(pod: Object) -> Iterator[str]:
    for volume in pod.get("spec", {}).get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield str(claim["claimName"])


def _of_pod(pod: Object) -> Iterator[str]:
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            yield f"not scheduled: {condition.get('message', '')}"
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting, last = container.get("state", {}).get("waiting"), container.get("lastState", {}).get("terminated")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            yield f"{container['name']} is {waiting.get('reason')}: {waiting.get('message', '')}"
        if last and not container.get("ready"):
            yield f"{container['name']} ended with {last.get('exitCode')} ({last.get('reason')}): {last.get('message', '')}"
        elif "running" in container.get("state", {}) and not container.get("ready"):
            yield f"{container['name']} runs and is not ready"


def _why_no_pod(cluster: TargetCluster, namespace: str) -> Iterator[str]:
    """Quotas, Pod Security and webhooks refuse pods where only the ReplicaSet hears it."""
    sets = cluster.list("apps/v1", "ReplicaSet", namespace, _SELECTOR)
    for each in (*cluster.list("apps/v1", "Deployment", namespace, _SELECTOR), *sets):
        for condition in each.get("status", {}).get("conditions", ()):
            if condition["type"] == "ReplicaFailure":
                yield str(condition.get("message", ""))
    if not sets:
        yield (
            f"namespace {namespace} has no cloud side: install it with `kubeedge init --kube-config FILE --advertise HOST`, or name "
            "its namespace with --namespace; just after an installation the cluster's controllers have not seen it yet"
        )


def _missing_rights(cluster: TargetCluster, namespace: str, accounts: Iterable[str]) -> Iterator[str]:
    """Of the accounts of its pods, where the cluster that they run in is a tenant's. Nothing for a user who may not ask."""
    configs = cluster.list("v1", "ConfigMap", namespace, _SELECTOR)
    if not any(_IN_CLUSTER in each.get("data", {}).get("cloud.yaml", "") for each in configs):
        return
    asked = [(*right, name) for rule in permissions.RULES for right in rule.asked() for name in rule.names or ("",)]
    try:
        for account in sorted(accounts):
            missing = [
                (verb, group, resource, "")
                for group, resource, verb, name in asked
                if not cluster.account_may(namespace, account, verb, group, resource, name)
            ]
            if missing:
                yield (
                    f"the service account {account} may not: {permissions.summary(missing)} "
                    "(`kubeedge upgrade --kube-config FILE`, or helm upgrade, gives these rights again)"
                )
    except Refused:
        return


def _last_event(cluster: TargetCluster, each: Object) -> str:
    namespace, name = each["metadata"]["namespace"], each["metadata"]["name"]
    events = [
        event
        for event in cluster.list("v1", "Event", namespace)
        if event["involvedObject"].get("name") == name and event["involvedObject"].get("kind") == each["kind"]
    ]
    return str(events[-1].get("message", "")) if events else "no event says why"


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
