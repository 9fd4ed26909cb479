"""What the metrics say of values on their way to other servers."""

from __future__ import annotations

from collections import Counter

from kubeedge.devices.sinks.core import parsed
from kubeedge.devices.sinks.module import DevicePush
from kubeedge.kit.metrics import Family, family


def families(push: DevicePush) -> list[Family]:
    """By kind of destination: devices can name any number of servers."""
    waiting: Counter[str] = Counter()
    for spec, count in push.queue.waiting().items():
        waiting[parsed(spec).kind] += count
    results = {"sent": push.sent, "refused": push.refused, "lost": push.queue.lost, "unnamed": push.unnamed}
    return [
        family(
            "kubeedge_device_push_values_total",
            "counter",
            "values for servers that pushMethod names: sent, refused by one, given up as the queue was full or they were too old, or as no Device names "
            "their server any more",
            [({"result": name}, float(count)) for name, count in results.items()],
        ),
        family(
            "kubeedge_device_push_waiting_values",
            "gauge",
            "values in the queue, by kind of server",
            [({"destination": kind}, float(count)) for kind, count in sorted(waiting.items())],
        ),
        family("kubeedge_device_push_queue_bytes", "gauge", "bytes of the values in the queue", push.queue.bytes),
        family(
            "kubeedge_device_push_failing_destinations", "gauge", "servers that take nothing now", len(push.problems)
        ),
    ]
