"""What a mapper shows of itself: Prometheus metrics, and whether it is ready. Loaded only by a mapper that is asked to show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kubeedge.kit import dataclasses
from kubeedge.kit.metrics import Family, exposition, family
from kubeedge.mapper.driver import MapperStats
from kubeedge.metrics.module import MetricsServer

_HELP = {
    "connects": "attempts to connect to a device",
    "connect_errors": "attempts to connect to a device that failed",
    "reads": "calls of the handler that reads",
    "read_errors": "properties that could not be read",
    "writes": "calls of the handler that writes",
    "write_errors": "properties that could not be written",
    "calls": "calls of methods of devices",
    "call_errors": "calls of methods that failed",
    "reports": "messages about devices that the broker has acknowledged",
}


def families(stats: MapperStats, health: Mapping[str, Any]) -> Iterable[Family]:
    """All metrics of a mapper; their number does not grow with that of its devices."""
    for name, value in dataclasses.asdict(stats).items():
        yield family(f"kubeedge_mapper_{name}_total", "counter", _HELP[name], value)
    states = Counter(device["state"] or "unknown" for device in health["devices"].values())
    shown = [({"state": state}, states[state]) for state in ("online", "offline", "unhealthy", "unknown")]
    yield family("kubeedge_mapper_devices", "gauge", "devices by their state", shown)
    yield family("kubeedge_mapper_broker_up", "gauge", "1: the broker is there", float(health["broker"]))


def metrics_server(
    stats: MapperStats, health: Callable[[], Mapping[str, Any]], address: str, port: int
) -> MetricsServer:
    """The server of /metrics, /healthz and /readyz; a mapper is ready when it has the broker."""
    return MetricsServer(
        address,
        port,
        lambda: exposition(families(stats, health())),
        waiting=lambda: [] if health()["broker"] else ["broker"],
    )
