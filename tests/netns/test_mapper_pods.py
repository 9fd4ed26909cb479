"""The agent's mappers as pods of one image, made here, with the manifest of the guide: each sets and reads a device by a program that nobody here wrote;
real cloud, real agent, a broker beside the node's (mosquitto)."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit import cloud_image
from tests.kit.data_servers import DEBIAN
from tests.kit.field_devices import HTTP, MODBUS, OPCUA
from tests.kit.topology import until
from tests.netns.test_join import KUBEEDGE, Site, site  # noqa: F401

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/guide/mappers.md"
BROKER = 1884
MODEL = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: thermostat}
spec:
  properties:
  - {name: temperature, type: FLOAT, accessMode: ReadOnly}
  - {name: target, type: INT, accessMode: ReadWrite, maximum: "100"}
"""
#: protocol -> its configData, the visitors' of temperature and target, the temperature that the device has
DEVICES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "modbus": (
        {"host": "127.0.0.1", "port": MODBUS},
        {"register": "HoldingRegister", "offset": 0, "scale": 0.1},
        {"register": "HoldingRegister", "offset": 1},
        "21.5",
    ),
    "opcua": (
        {"url": f"opc.tcp://127.0.0.1:{OPCUA}/boiler", "securityPolicy": "None"},
        {"nodeID": "ns=2;s=Boiler.temperature"},
        {"nodeID": "ns=2;s=Boiler.target"},
        "22.5",
    ),
    "http": (
        {"url": f"http://127.0.0.1:{HTTP}"},
        {"path": "/", "pointer": "/temperature"},
        {
            "path": "/",
            "pointer": "/target",
            "write": {"method": "PUT", "path": "/target", "body": '{"target": {value}}'},
        },
        "23.5",
    ),
    "mqtt": (
        {"url": f"mqtt://127.0.0.1:{BROKER}"},
        {"topic": "plug", "pointer": "/temperature"},
        {"topic": "plug", "pointer": "/target", "write": {"topic": "plug/set", "body": '{"target": {value}}'}},
        "24.5",
    ),
    "serial": (
        {},
        {"request": "T?", "start": "T=", "field": 0},
        {"request": "S?", "start": "S=", "write": "S={value}", "answer": "OK"},
        "25.5",
    ),
    "virtual": ({}, {"value": "26.5"}, {}, "26.5"),
}


def device(protocol: str, tty: str) -> dict[str, Any]:
    config, *visitors, _ = DEVICES[protocol]
    if protocol == "serial":
        config = {"serialPort": tty}
    properties = [
        {
            "name": name,
            **({} if protocol == "mqtt" else {"collectCycle": 200}),
            "visitors": {"protocolName": protocol, "configData": visitor},
        }
        for name, visitor in zip(("temperature", "target"), visitors, strict=True)
    ]
    properties[1]["desired"] = {"value": "20"}
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": protocol},
        "spec": {
            "deviceModelRef": {"name": "thermostat"},
            "nodeName": "edge1",
            "protocol": {"protocolName": protocol, "configData": config},
            "properties": properties,
        },
    }


def manifest(protocol: str, port: int) -> dict[str, Any]:
    """The guide's Deployment, for another mapper; http's as a DaemonSet, serial's with what the guide says that a device of the machine needs."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = [one for one in blocks if "name: modbus-mapper" in one]
    (more,) = [one for one in blocks if "path: /dev}" in one]
    found: dict[str, Any] = yaml.safe_load(text.replace("modbus", protocol).replace("10021", str(port)))
    spec, pod = found["spec"], found["spec"]["template"]["spec"]
    if protocol == "serial":
        added = yaml.safe_load(more)
        pod["volumes"] = added["volumes"]
        pod["containers"][0] |= added["containers"][0]
    if protocol == "http":
        found["kind"] = "DaemonSet"
        del spec["strategy"], pod["nodeSelector"]
    return found


@pytest.fixture
def line() -> Iterator[Path]:
    """A name that serial lines have, for one that is made later."""
    path = Path(f"/dev/ttyKB{os.getpid()}")
    yield path
    path.unlink(missing_ok=True)


def test_each_mapper_is_a_pod_within_32_mib(site: Site, line: Path) -> None:  # noqa: F811
    archive = cloud_image.build_mappers(site.directory / "image")
    site.join()
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    head, name, tail = config.read_text().partition("  devices:")
    assert name
    config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
    site.start_agent()
    socket = str(site.root / "run/kubeedge/edge.sock")
    site.machine.run(*KUBEEDGE, "image", "import", str(archive), "--socket", socket)
    site.machine.spawn(str(DEBIAN / "usr/sbin/mosquitto"), "-p", str(BROKER))
    log = site.directory / "devices.log"
    until(lambda: f":{BROKER} " in site.machine.run("ss", "-ltn"), what="the broker")
    environment = {"PYTHONPATH": str(ROOT)}
    site.machine.spawn(sys.executable, "-m", "tests.kit.field_devices", str(BROKER), log=log, env=environment)
    until(lambda: "tty" in log.read_text(), what="the devices")
    (tty,) = [json.loads(said)["tty"] for said in log.read_text().splitlines() if said.startswith('{"tty"')]
    line.symlink_to(Path(tty).relative_to("/dev"))  # of the machine's devices, wherever they are mounted

    def ready(protocol: str) -> tuple[str, dict[str, str]]:
        found = json.loads(site.kubectl("get", "device", protocol, "-o", "json")).get("status", {})
        said = [one["status"] for one in found.get("conditions", ()) if one["type"] == "Ready"]
        twins = found.get("twins", ())
        return "".join(said), {one["propertyName"]: one["reported"]["value"] for one in twins if "reported" in one}

    def has(protocol: str, target: str) -> bool:
        return ready(protocol) == ("True", {"temperature": DEVICES[protocol][3], "target": target})

    wanted = [yaml.safe_load(MODEL), *(device(protocol, str(line)) for protocol in DEVICES)]
    wanted += [manifest(protocol, 10021 + number) for number, protocol in enumerate(DEVICES)]
    site.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(wanted))
    for protocol in DEVICES:
        until(lambda: has(protocol, "20"), what=f"what the device of {protocol} has")  # noqa: B023
    change = '[{"op":"replace","path":"/spec/properties/1/desired/value","value":"22"}]'
    for protocol in DEVICES:
        site.kubectl("patch", "device", protocol, "--type", "json", "-p", change)
    for protocol in DEVICES:
        until(lambda: has(protocol, "22"), what=f"what was set on the device of {protocol}")  # noqa: B023

    def pods() -> list[dict[str, Any]]:
        return [pod["status"] for pod in json.loads(site.kubectl("get", "pods", "-o", "json"))["items"]]

    def states() -> list[tuple[bool, int]]:
        return [(one["ready"], one["restartCount"]) for pod in pods() for one in pod.get("containerStatuses", ())]

    until(lambda: states() == [(True, 0)] * len(DEVICES), what="all mappers are ready, and none was started twice")
