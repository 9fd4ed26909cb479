"""What the metrics say of a node's devices: of so many of them one by one, of the rest together."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from kubeedge.devices.module import DeviceTwins
from kubeedge.kit.metrics import Family, family

if TYPE_CHECKING:
    from kubeedge.devices.eventbus.module import EventBus

MOST = 500  # devices with series of their own: four of each


def families(twins: DeviceTwins, bus: EventBus | None = None) -> list[Family]:
    """Devices beyond MOST count in the series without a name, and in the number by state. `bus`: of the broker, where there is one."""
    devices = twins.twins.devices
    states = Counter(device.state for device in devices.values())
    named = sorted(itertools.islice(devices.items(), MOST))
    labels = [({"namespace": key[0], "device": key[1]}, device) for key, device in named]
    others = list(itertools.islice(devices.values(), MOST, None))
    rest = {"namespace": "", "device": ""}
    reports = [(label, float(device.reports)) for label, device in labels]
    errors = [(label, float(device.errors)) for label, device in labels]
    if others:
        reports.append((rest, float(sum(device.reports for device in others))))
        errors.append((rest, float(sum(device.errors for device in others))))
    found = [
        family("kubeedge_devices", "gauge", "devices by state", [({"state": s}, float(n)) for s, n in states.items()]),
        family("kubeedge_device_reports_total", "counter", "reports of a device since the agent's start", reports),
        family("kubeedge_device_errors_total", "counter", "values of a device that were refused", errors),
        family(
            "kubeedge_device_last_report_timestamp_seconds",
            "gauge",
            "when a device was heard of last, to about ten seconds; without a series: never, or by a node without a clock",
            [(label, device.seen / 1000) for label, device in labels if device.seen],
        ),
        family(
            "kubeedge_device_state",
            "gauge",
            "1 for the state that a device is in",
            [({**label, "state": device.state}, 1.0) for label, device in labels],
        ),
    ]
    if bus is not None:
        what = "logins at the broker, and messages, for which the client had no right"
        found.append(family("kubeedge_device_broker_refused_total", "counter", what, bus.refusals))
    return found
