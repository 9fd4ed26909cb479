"""Devices in the embedded API, seen with kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kubeedge.api.devices import DEVICES
from kubeedge.apiserver.devices import ROWS
from tests.kubectl.conftest import DEBIAN, Cluster, Kubectl

MODEL = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: thermostat}
spec:
  protocol: virtual
  properties:
  - {name: temperature, type: FLOAT, accessMode: ReadOnly, unit: celsius}
  - {name: target, type: INT, accessMode: ReadWrite, minimum: "5", maximum: "30"}
"""
DEVICE = """
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: hall}
spec:
  deviceModelRef: {name: thermostat}
  nodeName: edge1
  protocol: {protocolName: virtual, configData: {address: 7}}
  properties:
  - {name: temperature, reportToCloud: true, collectCycle: 1000}
  - {name: target, desired: {value: "20"}}
"""


@pytest.fixture
def inside(cluster: Cluster, namespace: str) -> Iterator[tuple[str, str]]:
    async def register() -> None:
        for row in ROWS:
            cluster.registry.served.register(row)

    async def remove() -> None:
        for row in ROWS:
            await cluster.registry.unregister(row.resource)

    cluster.call(register())
    yield "-n", namespace
    cluster.call(remove())


def test_a_device_is_applied_explained_set_and_printed(
    kubectl: Kubectl, cluster: Cluster, inside: tuple[str, str]
) -> None:
    kubectl("api-resources")
    for manifest in (DEVICE, MODEL):  # in any order
        assert "created" in kubectl("apply", *inside, "-f", "-", stdin=manifest)
        assert "unchanged" in kubectl("apply", *inside, "-f", "-", stdin=manifest)
    if kubectl.binary != DEBIAN:  # an old one explains from OpenAPI version 2, which has no types
        explained = kubectl("explain", "device.spec.properties")
        assert "reportToCloud" in explained and "collectCycle" in explained
    changed = DEVICE.replace('"20"', '"21"')
    assert "configured" in kubectl("apply", *inside, "-f", "-", stdin=changed)
    status = {
        "state": "online",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ValueRefused"}],
        "twins": [{"propertyName": "temperature", "reported": {"value": "19.5"}}],
    }
    cluster.call(
        cluster.registry.merge_patch(DEVICES, inside[1], "hall", {"status": status}, subresource="status"),
    )
    header, row = kubectl("get", *inside, "devices").splitlines()
    assert header.split() == ["NAME", "MODEL", "NODE", "STATE", "READY", "AGE"]
    assert row.split()[:5] == ["hall", "thermostat", "edge1", "online", "ValueRefused"]
    assert "temperature=19.5" in kubectl("get", *inside, "devices", "-o", "wide")
    assert "temperature:FLOAT" in kubectl("get", *inside, "devicemodels", "-o", "wide")
    assert "ValueRefused" in kubectl("describe", *inside, "device", "hall")
    assert kubectl("get", *inside, "devices", "--field-selector", "spec.nodeName=edge2", "-o", "name") == ""


def test_what_is_wrong_is_refused_with_its_field(kubectl: Kubectl, inside: tuple[str, str]) -> None:
    kubectl("api-resources")
    said = kubectl.fails("apply", *inside, "-f", "-", stdin=MODEL.replace("INT", "int"))
    assert "spec.properties[1].type" in said and "BOOLEAN" in said
    if kubectl.binary != DEBIAN:  # an old one does not ask for strict validation
        said = kubectl.fails("apply", *inside, "-f", "-", stdin=DEVICE.replace("reportToCloud", "reportToClout"))
        assert "reportToClout" in said
    said = kubectl.fails("apply", *inside, "-f", "-", stdin=DEVICE.replace('"20"', "20"))
    assert "spec.properties[1].desired.value" in said
    kubectl("apply", *inside, "-f", "-", stdin=DEVICE)
    said = kubectl.fails("apply", *inside, "-f", "-", stdin=DEVICE.replace("thermostat", "boiler"))
    assert "spec.deviceModelRef.name" in said
    said = kubectl.fails("patch", *inside, "device", "hall", "--type=strategic", "-p", '{"spec": {"nodeName": "b"}}')
    assert "strategic merge patch is not supported" in said or "application/merge-patch+json" in said


OLD = Path(__file__).resolve().parents[1] / "unit/devices/manifests/v1alpha2.yaml"


def test_manifests_of_v1alpha2_apply_unchanged_and_both_versions_are_read(
    kubectl: Kubectl, cluster: Cluster, inside: tuple[str, str]
) -> None:
    kubectl("api-resources")
    text = OLD.read_text().replace("namespace: default", f"namespace: {inside[1]}")
    first = kubectl("apply", *inside, "-f", "-", stdin=text)
    assert first.count("created") == 6
    again = kubectl("apply", *inside, "-f", "-", stdin=text)
    assert again.count("created") == 0
    newest = json.loads(kubectl("get", *inside, "device", "boiler-1", "-o", "json"))
    assert newest["apiVersion"] == "devices.kubeedge.io/v1beta1" and newest["spec"]["nodeName"] == "edge1"
    old = json.loads(kubectl("get", *inside, "devices.v1alpha2.devices.kubeedge.io", "boiler-1", "-o", "json"))
    (applied,) = (obj for obj in yaml.safe_load_all(text) if obj["metadata"]["name"] == "boiler-1")
    assert old["spec"] == applied["spec"]
    changed = text.replace('value: "30"', 'value: "31"').replace(
        "offset: 2, limit: 1, scale", "offset: 3, limit: 1, scale"
    )
    assert "configured" in kubectl("apply", *inside, "-f", "-", stdin=changed)
    newest = json.loads(kubectl("get", *inside, "device", "boiler-1", "-o", "json"))
    prop = newest["spec"]["properties"][0]
    assert prop["desired"]["value"] == "31" and prop["visitors"]["configData"]["offset"] == 3
    assert kubectl("get", *inside, "devices.v1alpha2.devices.kubeedge.io").splitlines()[0].split()[:2] == [
        "NAME",
        "MODEL",
    ]
    assert "deleted" in kubectl("delete", *inside, "devices.v1alpha2.devices.kubeedge.io", "tag")
