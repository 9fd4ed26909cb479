"""A mapper in Go (grpc-go, protobuf-go, a Modbus client of Go) as a Deployment that speaks DMI: its devices come before and after it, are set, called,
changed and removed by kubectl, through deaths of device, agent and mapper; real cloud, real agent, a Modbus server (pymodbus)."""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.kit import images
from tests.kit.topology import CommandFailed, until
from tests.kit.upstream import build as upstream
from tests.netns.test_join import KUBEEDGE, Site, site  # noqa: F401

pytestmark = pytest.mark.root

PROTO = Path(__file__).parents[1] / "kit/dmi/dmi.proto"
IMAGE = "localhost/dmi-mapper:1"
METHODS = "127.0.0.1:7777"
SERVER = """
import asyncio
from pymodbus.server import StartAsyncTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
registers = [SimData(0, values=[215, 20, 48, 5, 216], datatype=DataType.REGISTERS)]
asyncio.run(StartAsyncTcpServer(SimDevice(1, simdata=registers), address=("127.0.0.1", 502)))
"""


def model(name: str) -> str:
    return f"""
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {{name: {name}}}
spec:
  protocol: gomodbus
  properties:
  - {{name: temperature, type: INT, accessMode: ReadOnly}}
  - {{name: target, type: INT, accessMode: ReadWrite, minimum: "0", maximum: "100"}}
---
"""


def device(name: str, of: str, temperature: int, target: int, desired: str) -> str:
    """`temperature`, `target`: its registers."""
    return f"""
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {{name: {name}}}
spec:
  deviceModelRef: {{name: {of}}}
  nodeName: edge1
  protocol: {{protocolName: gomodbus, configData: {{host: 127.0.0.1, port: 502}}}}
  methods: [{{name: heat, propertyNames: [target]}}]
  properties:
  - name: temperature
    collectCycle: 200
    reportToCloud: true
    visitors: {{protocolName: gomodbus, configData: {{offset: {temperature}}}}}
  - name: target
    collectCycle: 200
    reportToCloud: true
    desired: {{value: "{desired}"}}
    visitors: {{protocolName: gomodbus, configData: {{offset: {target}}}}}
---
"""


def deployment(directory: str, agent: str) -> str:
    """As KubeEdge's: the agent's socket and its own are in one directory, which has the same path inside and outside."""
    arguments = ["/bin/dmi-mapper", "-agent", agent, "-own", f"{directory}/own.sock", "-http", METHODS]
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: go-mapper}}
spec:
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: go-mapper}}}}
  template:
    metadata: {{labels: {{app: go-mapper}}}}
    spec:
      hostNetwork: true
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers:
      - name: mapper
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
        command: {json.dumps(arguments)}
        resources: {{limits: {{memory: 64Mi}}}}
        volumeMounts: [{{name: sockets, mountPath: {directory}}}]
      volumes: [{{name: sockets, hostPath: {{path: {directory}}}}}]
"""


class Devices:
    """What the cloud shows of them."""

    def __init__(self, site: Site) -> None:  # noqa: F811
        self._site = site

    def status(self, name: str) -> tuple[str, dict[str, str]]:
        """The condition Ready, or its reason where it is not True; and what was reported."""
        found = json.loads(self._site.kubectl("get", "device", name, "-o", "json")).get("status", {})
        ready = [one for one in found.get("conditions", ()) if one["type"] == "Ready"]
        said = "" if not ready else "True" if ready[0]["status"] == "True" else ready[0]["reason"]
        return said, {
            one["propertyName"]: one["reported"]["value"] for one in found.get("twins", ()) if "reported" in one
        }

    def until(self, name: str, temperature: int, target: int, what: str) -> None:
        wanted = "True", {"temperature": str(temperature), "target": str(target)}
        until(lambda: self.status(name) == wanted, what=f"{name}: {what}")

    def want(self, name: str, target: int) -> None:
        change = [{"op": "replace", "path": "/spec/properties/1/desired/value", "value": str(target)}]
        self._site.kubectl("patch", "device", name, "--type", "json", "-p", json.dumps(change))

    def calls(self, name: str) -> list[str]:
        """Of DMI about a device or a model, that the mapper which runs now has got."""
        lines = [json.loads(line) for line in self._site.kubectl("logs", "deployment/go-mapper").splitlines()]
        key = f"default/{name}"
        return [str(line["call"]) for line in lines if key in (line.get("device"), line.get("model"))]


def test_a_mapper_in_go_serves_its_devices_through_restarts_of_everything(site: Site) -> None:  # noqa: F811
    program = upstream.program("dmi-mapper")
    site.join()
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    head, name, tail = config.read_text().partition("  devices:")
    assert name
    with tempfile.TemporaryDirectory() as sockets:  # pytest's paths are too long for a socket
        agent = f"{sockets}/dmi.sock"
        tail = re.sub(r"^    dmi: .*$", f"    dmi: unix://{agent}", tail, count=1, flags=re.MULTILINE)
        tail = re.sub(
            r"^    methodServers: .*$", f'    methodServers: ["gomodbus={METHODS}"]', tail, count=1, flags=re.MULTILINE
        )
        assert agent in tail and METHODS in tail
        config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
        site.start_agent()
        archive = images.build(
            site.directory / "mapper.tar", IMAGE,
            files={"dmi.proto": PROTO.read_bytes()}, programs={"bin/dmi-mapper": program.read_bytes()},
        )  # fmt: skip
        control = str(site.root / "run/kubeedge/edge.sock")
        site.machine.run(*KUBEEDGE, "image", "import", str(archive), IMAGE, "--socket", control)
        _scenario(site, sockets, agent)


def _scenario(site: Site, sockets: str, agent: str) -> None:  # noqa: F811
    devices = Devices(site)

    def server() -> Any:
        return site.machine.spawn(sys.executable, "-c", SERVER, log=site.directory / "server.log")

    machine = server()
    site.kubectl("apply", "-f", "-", input=device("early", "boiler", 0, 1, "21") + model("boiler"))
    site.kubectl("apply", "-f", "-", input=deployment(sockets, agent))
    devices.until("early", 215, 21, "it was there before the mapper")
    site.kubectl("apply", "-f", "-", input=model("tank") + device("late", "tank", 2, 3, "6"))
    devices.until("late", 48, 6, "it came after the mapper")
    devices.want("early", 22)
    devices.until("early", 215, 22, "it was set")

    heat = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices/early/methods/heat"
    site.kubectl("create", "--raw", heat, "-f", "-", input='{"parameters": {"target": 30}}')
    devices.until("early", 215, 30, "its method was called")
    with pytest.raises(CommandFailed, match="greater than the maximum, 100"):
        site.kubectl("create", "--raw", heat, "-f", "-", input='{"parameters": {"target": 101}}')

    site.kubectl("apply", "-f", "-", input=device("late", "tank", 4, 3, "7"))
    devices.until("late", 216, 7, "another register is its temperature")
    before = {key: devices.calls(key) for key in ("early", "late", "tank")}
    assert before["late"].count("RegisterDevice") == 1 and "UpdateDevice" in before["late"]
    assert before["tank"].count("CreateDeviceModel") == 1

    site.machine.stop(machine)
    site.machine.signal(site.agent, signal.SIGKILL)
    site.agent.wait(90)
    devices.want("late", 8)
    site.start_agent()
    until(lambda: devices.status("late")[0] == "DeviceOffline", what="the mapper, which registers once, has said so")
    machine = server()  # it has forgotten what was written
    devices.until("late", 216, 8, "what the mapper could not write when it was told")
    assert devices.calls("late").count("UpdateDevice") >= before["late"].count("UpdateDevice") + 2
    devices.want("early", 23)
    devices.until("early", 215, 23, "the agent of now asks the mapper of before")
    assert devices.calls("early").count("UpdateDevice") == before["early"].count("UpdateDevice") + 1, (
        "once, as it changed"
    )

    site.kubectl("delete", "pod", "-l", "app=go-mapper")
    devices.want("early", 24)
    devices.until("early", 215, 24, "another mapper has it")
    devices.until("late", 216, 8, "likewise")

    site.kubectl("delete", "device", "late", "--timeout=80s")
    site.kubectl("delete", "devicemodel", "tank")
    until(lambda: devices.calls("late")[-1:] == ["RemoveDevice"], what="the device is gone from the mapper")
    until(lambda: devices.calls("tank")[-1:] == ["RemoveDeviceModel"], what="its model likewise")
    devices.want("early", 25)
    devices.until("early", 215, 25, "the other one is there")
    site.machine.stop(machine)
