"""How much of a machine's swap a container may use, as the kubelet counts it (memorySwap.swapBehavior). Pure."""

from __future__ import annotations

from kubeedge.api.pod import Container, Pod
from kubeedge.appengine.eviction import CRITICAL
from kubeedge.appengine.status import qos_class

NO_SWAP, LIMITED_SWAP = "NoSwap", "LimitedSwap"


def limit(pod: Pod, container: Container, behaviour: str, memory: int, swap: int) -> int | None:
    """Bytes; None: no limit is set, where the configuration says nothing. `memory` and `swap` are those of the machine, in bytes.

    With LimitedSwap a container has of the swap what it asked for of the memory; those that have all their memory promised, ask for none, or are critical
    have none."""
    if not behaviour:
        return None
    resources = container.resources
    asked = resources.memory_request or resources.memory_limit or 0
    if (
        behaviour != LIMITED_SWAP
        or pod.priority >= CRITICAL
        or qos_class(pod) != "Burstable"
        or asked == resources.memory_limit
        or not 0 < asked <= memory
    ):
        return 0
    return asked * swap // memory
