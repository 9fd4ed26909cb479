"""A Modbus device (pymodbus), and one whose mapper speaks DMI (grpcio), are set and read by kubectl through a cut: real cloud, real agent, mappers
beside it."""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from tests.kit.topology import CommandFailed, until
from tests.netns.test_join import KUBEEDGE, Site, site  # noqa: F401
from tests.netns.test_node_conditions import uplink_of

pytestmark = pytest.mark.root

DMI_MAPPER = str(Path(__file__).parents[1] / "kit/dmi/mapper.py")
BOILER = """
import asyncio
from pymodbus.server import StartAsyncTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
registers = [SimData(0, values=[215, 20], datatype=DataType.REGISTERS)]
asyncio.run(StartAsyncTcpServer(SimDevice(1, simdata=registers), address=("0.0.0.0", 502)))
"""
MANIFEST = """
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: boiler, annotations: {kubeedge.io/history: "target"}}
spec:
  deviceModelRef: {name: boiler}
  nodeName: edge1
  protocol: {protocolName: modbus, configData: {host: 127.0.0.1, port: 502}}
  methods:
  - {name: heat, description: to a target, propertyNames: [target]}
  properties:
  - {name: temperature, collectCycle: 200}
  - {name: target, collectCycle: 200, desired: {value: "21"}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: valve}
spec:
  deviceModelRef: {name: boiler}
  nodeName: edge1
  protocol: {protocolName: acme}
  properties:
  - {name: target, desired: {value: "7"}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: boiler}
spec:
  protocol: modbus
  properties:
  - name: temperature
    type: FLOAT
    accessMode: ReadOnly
    visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 0, scale: 0.1}}
  - name: target
    type: INT
    maximum: "30"
    visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 1}}
"""


def test_devices_are_set_and_read_by_kubectl_through_a_cut(site: Site) -> None:  # noqa: F811
    def status(device: str = "boiler") -> object:
        found = json.loads(site.kubectl("get", "device", device, "-o", "json")).get("status", {})
        ready = {one["type"]: one["status"] for one in found.get("conditions", ())}.get("Ready")
        twins = {
            twin["propertyName"]: twin["reported"]["value"] for twin in found.get("twins", ()) if "reported" in twin
        }
        return ready, twins

    def reason(device: str) -> object:
        items = json.loads(site.kubectl("get", "devices", "-o", "json"))["items"]
        conditions = {one["metadata"]["name"]: one.get("status", {}).get("conditions", ()) for one in items}
        return {one["type"]: one["reason"] for one in conditions.get(device, ())}.get("Ready")

    site.join()
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    head, name, tail = config.read_text().partition("  devices:")
    assert name
    sockets = tempfile.TemporaryDirectory()  # pytest's paths are too long for a socket
    agent = f"{sockets.name}/dmi.sock"
    tail = re.sub(r"^    dmi: .*$", f"    dmi: unix://{agent}", tail, count=1, flags=re.MULTILINE)
    config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
    dmi = site.machine.spawn(
        sys.executable, DMI_MAPPER, "acme", "acme", agent, f"{sockets.name}/m.sock",
        log=site.directory / "dmi.log",
    )  # fmt: skip
    mapper = site.machine.spawn(*KUBEEDGE, "mapper", "modbus", log=site.directory / "mapper.log")  # before its broker
    site.kubectl("apply", "-f", "-", input=MANIFEST)
    site.start_agent()
    boiler = site.machine.spawn(sys.executable, "-c", BOILER, log=site.directory / "boiler.log")
    try:
        until(lambda: status() == ("True", {"temperature": "21.5", "target": "21"}), what="the device's values")
        shown = json.loads(site.machine.run(*KUBEEDGE, "devices", "get", "boiler", "-o", "json"))
        assert shown["state"] == "online" and shown["reported"]["target"]["value"] == "21"
        until(lambda: status("valve") == ("True", {"temperature": "21.5", "target": "7"}), what="the values by DMI")
        uplink = uplink_of(site.machine)
        site.machine.ip("link", "set", uplink, "down")
        site.admin("devices", "set", "boiler", "target=22")
        site.admin("devices", "set", "valve", "target=8")
        site.machine.ip("link", "set", uplink, "up")
        until(lambda: status() == ("True", {"temperature": "21.5", "target": "22"}), what="the value after the cut")
        until(lambda: status("valve") == ("True", {"temperature": "21.5", "target": "8"}), what="likewise, by DMI")
        site.admin("devices", "scan", "--node", "edge1", "--finder", "modbus", "127.0.0.1", "127.0.0.2")
        found = "edge1-modbus-127-0-0-2-1"  # the boiler at an address that no Device has
        until(lambda: reason(found) == "NotApproved", what="the Device that the scan has made")
        site.admin("devices", "approve", found, "--model", "boiler", "--name", "twin")
        until(lambda: status("twin") == ("True", {"temperature": "21.5", "target": "22"}), what="the approved device")
        kept = json.loads(site.machine.run(*KUBEEDGE, "devices", "history", "boiler", "target", "-o", "json"))
        assert {"21", "22"} <= {value for _, value in kept}, kept
        methods = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices/boiler/methods"
        assert json.loads(site.kubectl("get", "--raw", methods))["methods"][0]["parameters"][0]["maximum"] == "30"
        said = site.kubectl("create", "--raw", f"{methods}/heat", "-f", "-", input='{"parameters": {"target": 25}}')
        assert json.loads(said)["result"] is None
        until(lambda: status() == ("True", {"temperature": "21.5", "target": "25"}), what="what the method has set")
        assert site.machine.run(*KUBEEDGE, "devices", "call", "boiler", "heat", "target=26") == "done\n"
        until(lambda: status() == ("True", {"temperature": "21.5", "target": "26"}), what="what the node has set")
        with pytest.raises(CommandFailed, match="greater than the maximum, 30"):
            site.admin("devices", "call", "boiler", "heat", "target=31", "--cloud")
        assert site.admin("devices", "call", "boiler", "heat", "target=22", "--cloud") == "done\n"
        until(lambda: status() == ("True", {"temperature": "21.5", "target": "22"}), what="what is desired, again")
    finally:
        for process in (mapper, boiler, dmi):
            site.machine.signal(process, signal.SIGTERM)
            process.wait(90)
        sockets.cleanup()
