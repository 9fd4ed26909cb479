"""Whom the kernel ends first when memory runs out: oom_score_adj by QoS class, as the kubelet sets it. Pure."""

from __future__ import annotations

from kubeedge.api.pod import Container, Pod
from kubeedge.appengine.eviction import CRITICAL
from kubeedge.appengine.status import qos_class

GUARANTEED, BEST_EFFORT = -997, 1000


def score(pod: Pod, container: Container, capacity: int) -> int:
    """From -997 to 1000; `capacity` is the machine's memory in bytes. A burstable container stands the better the more it asked for."""
    if pod.priority >= CRITICAL:
        return GUARANTEED
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return GUARANTEED
    if quality == "BestEffort" or capacity <= 0:
        return BEST_EFFORT
    return min(max(1000 - 1000 * container.resources.memory_request // capacity, 3), BEST_EFFORT - 1)
