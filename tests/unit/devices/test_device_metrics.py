"""Figures of devices for Prometheus: one by one for so many, together for the rest; read by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kubeedge.devices import observe
from kubeedge.devices.module import DeviceTwins
from kubeedge.kit.metrics import Family, MetricsRegistry
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.devicecontroller import observe as in_cloud
from kubeedge_cloud.devicecontroller.core import DeviceFigures

NOON = 1_790_000_000.0


def series(families: list[Family]) -> dict[str, list[tuple[dict[str, str], float]]]:
    registry = MetricsRegistry()
    registry.collect(lambda: families)
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(registry.text()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def test_a_node_has_series_for_so_many_devices_and_one_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "MOST", 2)

    async def run() -> None:
        twins = DeviceTwins(MemoryStore(), wall=lambda: NOON)
        for name in ("hall", "attic", 'ce"llar\n', "roof"):
            row = {"metadata": {"uid": name}, "properties": {"t": {"type": "INT"}}}
            twins.twins.desire(("default", name), json.dumps(row).encode())
            for value in ("1", "x", "2"):
                twins.twins.report(("default", name), {"t": value}, int(NOON * 1000))
        twins.twins.set_state(("default", "roof"), "offline", int(NOON * 1000))
        found = series(observe.families(twins))
        assert found["kubeedge_devices"] == [({"state": "online"}, 3.0), ({"state": "offline"}, 1.0)]
        reports = {labels["device"]: value for labels, value in found["kubeedge_device_reports_total"]}
        assert reports == {"hall": 3, "attic": 3, "": 6}
        assert {labels["device"]: value for labels, value in found["kubeedge_device_errors_total"]} == {
            "hall": 1,
            "attic": 1,
            "": 2,
        }
        assert [value for _, value in found["kubeedge_device_last_report_timestamp_seconds"]] == [NOON, NOON]
        assert {labels["state"] for labels, _ in found["kubeedge_device_state"]} == {"online"}
        assert sum(map(len, found.values())) <= 6 + 4 * observe.MOST

    asyncio.run(run())


def test_the_cloud_has_series_for_so_many_devices_of_each_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_cloud, "OF_TENANT", 50)
    monkeypatch.setattr(in_cloud, "OF_ALL", 80)
    figures = DeviceFigures()
    status = {"state": "online", "conditions": [{"type": "Ready", "reason": "NotApplied"}]}
    figures.take(status, {"seen": int(NOON * 1000), "refused": {"a": "x", "b": "y"}})
    small = {("default", "hall"): figures}
    large = {("default", f"d{number}"): DeviceFigures() for number in range(10_000)}
    found = series(in_cloud.families({"a": large, "b": small}))  # type: ignore[dict-item]
    of = {
        name: [(labels["device"], value) for labels, value in all_ if labels["tenant"] == "b"]
        for name, all_ in found.items()
        if name.startswith("kubeedge_device_")
    }
    assert of == {
        "kubeedge_device_reports_total": [("hall", 0.0)],
        "kubeedge_device_errors": [("hall", 2.0)],
        "kubeedge_device_last_report_timestamp_seconds": [("hall", NOON)],
        "kubeedge_device_state": [("hall", 1.0)],
    }
    assert len(found["kubeedge_device_state"]) == 41, "half of what all may have"
    assert ({"tenant": "a", "state": "unknown"}, 10_000.0) in found["kubeedge_devices"]
    assert ({"tenant": "b", "reason": "NotApplied"}, 1.0) in found["kubeedge_devices_ready"]
