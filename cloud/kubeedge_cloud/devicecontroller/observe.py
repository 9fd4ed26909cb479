"""What the metrics say of the devices of all tenants: of so many of each tenant one by one, of all by state."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

from kubeedge.api.names import NamespacedName, TenantId
from kubeedge.kit.metrics import Family, family
from kubeedge_cloud.devicecontroller.core import DeviceFigures

OF_TENANT = 1_000  # devices of a tenant with series of their own
OF_ALL = 20_000  # of all tenants together


def families(tenants: Mapping[TenantId, Mapping[NamespacedName, DeviceFigures]]) -> list[Family]:
    """Which devices have series: those that came first. A tenant that makes more takes none from another but for OF_ALL, which is shared evenly."""
    share = min(OF_TENANT, OF_ALL // max(1, len(tenants)))
    states = [
        ({"tenant": tenant, "state": state}, float(count))
        for tenant, devices in tenants.items()
        for state, count in Counter(one.state for one in devices.values()).items()
    ]
    reasons = [
        ({"tenant": tenant, "reason": reason}, float(count))
        for tenant, devices in tenants.items()
        for reason, count in Counter(one.reason for one in devices.values()).items()
    ]
    named = [
        ({"tenant": tenant, "namespace": key[0], "device": key[1]}, one)
        for tenant, devices in tenants.items()
        for key, one in itertools.islice(devices.items(), share)
    ]
    return [
        family("kubeedge_devices", "gauge", "devices of a tenant by state", states),
        family("kubeedge_devices_ready", "gauge", "devices of a tenant by the reason of the condition Ready", reasons),
        family(
            "kubeedge_device_reports_total",
            "counter",
            "changes of a device's row that came from its node, since the start of this process",
            [(labels, float(one.reports)) for labels, one in named],
        ),
        family(
            "kubeedge_device_errors",
            "gauge",
            "properties of a device whose newest value its node has refused",
            [(labels, float(one.errors)) for labels, one in named],
        ),
        family(
            "kubeedge_device_last_report_timestamp_seconds",
            "gauge",
            "when a device was heard of last, by its node's clock",
            [(labels, one.seen) for labels, one in named if one.seen],
        ),
        family(
            "kubeedge_device_state",
            "gauge",
            "1 for the state that a device is in",
            [({**labels, "state": one.state}, 1.0) for labels, one in named],
        ),
    ]
