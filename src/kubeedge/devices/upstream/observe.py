"""What the metrics say of messages for the cloud."""

from __future__ import annotations

from kubeedge.devices.upstream.module import MessageUpstream
from kubeedge.kit.metrics import Family, family


def families(upstream: MessageUpstream) -> list[Family]:
    """Of the node as a whole: programs can name any number of topics."""
    queue = upstream.queue
    results = {"kept": queue.kept, "lost": queue.lost, "dropped": upstream.dropped, "refused": upstream.refused}
    return [
        family(
            "kubeedge_device_messages_total",
            "counter",
            "messages for the cloud: kept on the disk, given up there for room or age, or not taken as there was no room on the way to it, or as they are too large",
            [({"result": name}, float(count)) for name, count in results.items()],
        ),
        family("kubeedge_device_messages_waiting", "gauge", "messages that the cloud does not have yet", queue.count),
        family("kubeedge_device_messages_bytes", "gauge", "bytes of these messages on the disk", queue.bytes),
    ]
