"""A Modbus device behind NAT, set and read by kubectl, also while its node is away: a step of the demo."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from typing import Any

from bench.demo.kubectl import Kubectl, ready
from bench.report import ROOT
from tests.kit.topology import Host

KUBEEDGE = ROOT / ".venv" / "bin" / "kubeedge"
NAME = "boiler"
PORT = 5020
#: of pymodbus: 21.5 degrees in register 0, the target in register 1
SERVER = f"""
import asyncio
from pymodbus.server import StartAsyncTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
registers = [SimData(0, values=[215, 18], datatype=DataType.REGISTERS)]
asyncio.run(StartAsyncTcpServer(SimDevice(1, simdata=registers), address=("127.0.0.1", {PORT})))
"""


def manifests(node: str, target: str) -> str:
    """The device comes before its model: the order does not matter."""
    device = {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": NAME},
        "spec": {
            "deviceModelRef": {"name": NAME},
            "nodeName": node,
            "protocol": {"protocolName": "modbus", "configData": {"host": "127.0.0.1", "port": PORT}},
            "properties": [
                {"name": "temperature", "collectCycle": 200},
                {"name": "target", "collectCycle": 200, "desired": {"value": target}},
            ],
        },
    }
    registers = {
        name: {
            "protocolName": "modbus",
            "configData": {"register": "HoldingRegister", "offset": offset, "scale": scale},
        }
        for name, offset, scale in (("temperature", 0, 0.1), ("target", 1, 1))
    }
    model = {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": NAME},
        "spec": {
            "protocol": "modbus",
            "properties": [
                {
                    "name": "temperature",
                    "type": "FLOAT",
                    "accessMode": "ReadOnly",
                    "visitors": registers["temperature"],
                },
                {"name": "target", "type": "INT", "maximum": "30", "visitors": registers["target"]},
            ],
        },
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [device, model]})


def values(device: dict[str, Any]) -> dict[str, str]:
    """Property -> reported value."""
    twins = device.get("status", {}).get("twins", [])
    return {twin["propertyName"]: twin["reported"]["value"] for twin in twins if "reported" in twin}


class DemoDevice:
    """The device and its mapper run on `host`, from `start` to the end of `stack`."""

    def __init__(self, host: Host, kubectl: Kubectl, stack: contextlib.ExitStack) -> None:
        self._host, self._kubectl = host, kubectl
        self._stack = stack

    def start(self, log: Any) -> float:
        """Seconds from kubectl apply until kubectl shows the device's values."""
        for argv in ([sys.executable, "-c", SERVER], [str(KUBEEDGE), "mapper", "modbus"]):
            process = self._host.spawn(*argv, log=log)
            self._stack.callback(self._host.signal, process, signal.SIGTERM)
        self.watch = self._stack.enter_context(contextlib.closing(self._kubectl.watch("devices")))
        begun = time.monotonic()
        self._kubectl("apply", "-f", "-", input=manifests(self._host.name, "20"))
        return self.has("20") - begun

    def set(self, target: str) -> float:
        """When it was asked for, time.monotonic()."""
        patch = [{"op": "replace", "path": "/spec/properties/1/desired/value", "value": target}]
        begun = time.monotonic()
        self._kubectl("patch", "device", NAME, "--type=json", "-p", json.dumps(patch))
        return begun

    def shown(self) -> str:
        """The target that kubectl shows."""
        return values(self._kubectl.json("get", "device", NAME)).get("target", "")

    def has(self, target: str) -> float:
        """When kubectl got to know that the device has it and is Ready."""
        return self.watch.until(
            NAME,
            lambda one: values(one) == {"temperature": "21.5", "target": target} and ready(one),
            timeout=90,
            what=f"target {target} of the device",
        )
