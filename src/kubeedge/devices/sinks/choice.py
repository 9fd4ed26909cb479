"""Which sender speaks to a destination. A node loads those that its devices ask for."""

from __future__ import annotations

from kubeedge.devices.sinks.core import Destination
from kubeedge.devices.sinks.sender import Sender, SenderSettings
from kubeedge.errors import Invalid


def sender_for(destination: Destination, settings: SenderSettings) -> Sender:
    """Raises Invalid for a kind that this node has no driver for."""
    match destination.kind:
        case "http" | "influxdb2" | "otel" | "TDEngine":
            from kubeedge.devices.sinks.http import SENDERS

            return SENDERS[destination.kind](destination, settings)
        case "redis":
            from kubeedge.devices.sinks.redis import RedisSender

            return RedisSender(destination, settings)
        case "mqtt":
            from kubeedge.devices.sinks.broker import BrokerSender

            return BrokerSender(destination, settings)
        case "mysql" | "postgres":
            from kubeedge.devices.sinks.databases import DatabaseSender

            return DatabaseSender(destination, settings)
    raise Invalid(f"there is no sender for {destination.kind}")
