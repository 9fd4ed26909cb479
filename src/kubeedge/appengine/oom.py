"""Whom the kernel ends first when memory runs out: oom_score_adj by QoS class, as the kubelet sets it. Pure."""

from __future__ import annotations

from kubeedge.api.pod import Container, Pod
from kubeedge.appengine.eviction import CRITICAL
from kubeedge.appengine.qos import memory_request
from kubeedge.appengine.status import qos_class

GUARANTEED, BEST_EFFORT = -997, 1000
_NODE_CRITICAL = "system-node-critical"


def _share(pod: Pod) -> int:
    """Of what the pod asks for as a whole, the part of each container that none of them asks for, in bytes."""
    if pod.resources is None:
        return 0
    containers = (*pod.init_containers, *pod.containers)
    left = memory_request(pod.resources) - sum(memory_request(c.resources) for c in containers)
    return max(0, left) // len(containers)


def score(pod: Pod, container: Container, capacity: int) -> int:
    """From -997 to 1000; `capacity` is the machine's memory in bytes. A burstable container stands the better the more it asked for, and a sidecar
    at least as well as the container that asked for least."""
    if pod.priority >= CRITICAL and pod.priority_class == _NODE_CRITICAL:
        return GUARANTEED
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return GUARANTEED
    if quality == "BestEffort" or capacity <= 0:
        return BEST_EFFORT
    asked = memory_request(container.resources)
    if container.sidecar:
        asked = max(asked, min((memory_request(c.resources) for c in pod.containers), default=0))
    asked += _share(pod)
    return min(max(1000 - 1000 * asked // capacity, 1000 + GUARANTEED), BEST_EFFORT - 1)
