"""Pods of this node as its kubelet API lists them: what a node keeps of a specification, and the status that it reports."""

from __future__ import annotations

from kubeedge.api.names import Object
from kubeedge.api.pod import Container, Pod
from kubeedge.appengine.worker import Worker

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"  # annotation: the one that is meant when none is named


def entry(worker: Worker, node: str) -> Object:
    """A pod without a status yet has an empty one, and one whose specification is lost none of that."""
    metadata: Object = {"namespace": worker.namespace, "name": worker.name, "uid": worker.uid}
    pod = worker.desired or worker.last
    if pod is None:
        return {"metadata": metadata, "spec": {"nodeName": node}, "status": worker.reported or {}}
    if pod.deleted_at:
        metadata["deletionTimestamp"] = pod.deleted_at
    if DEFAULT_CONTAINER in pod.annotations:
        metadata["annotations"] = {DEFAULT_CONTAINER: pod.annotations[DEFAULT_CONTAINER]}
    return {"metadata": metadata, "spec": _spec(pod, node), "status": worker.reported or {}}


def _spec(pod: Pod, node: str) -> Object:
    spec: Object = {"nodeName": node, "containers": [_container(c) for c in pod.containers]}
    if pod.init_containers:
        spec["initContainers"] = [_container(c) for c in pod.init_containers]
    if pod.ephemeral_containers:
        spec["ephemeralContainers"] = [_container(c) for c in pod.ephemeral_containers]
    return spec


def _container(container: Container) -> Object:
    policy = "Always" if container.sidecar else container.restart_policy
    return {
        "name": container.name,
        "image": container.image,
        **({"restartPolicy": policy} if policy else {}),
        **({"tty": True} if container.tty else {}),
        **({"stdin": True} if container.stdin else {}),
    }
