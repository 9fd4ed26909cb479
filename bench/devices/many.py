"""10,000 Devices applied by one file: until each is in the store of its node.

One real cloud with the embedded API, and NODES simulated nodes in another process: the production's channel and sync over a store in memory, each with
a certificate of its own (tests/kit/agents.py); all of it shares the machine. *Applied*: kubectl's own time, which makes two requests for each object, one
after the other. *On their nodes*: from the start of kubectl until the last row is in the store of its node. *Created*: the same by `kubectl create`, one
request for each. Needs root.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from bench.demo.memory import pss
from bench.fleet.__main__ import KUBECTL, Agents, Cloud, settled, stage
from bench.report import Report
from kubeedge.api import keys

DEVICES = 10_000
NODES = 100
TIMEOUT = 3600  # seconds for kubectl, far more than it needs on the slowest machine
ROWS = keys.DESIRED + "devices/"
MODEL = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "DeviceModel",
    "metadata": {"name": "meter"},
    "spec": {
        "protocol": "modbus",
        "properties": [
            {"name": "power", "type": "FLOAT", "accessMode": "ReadOnly", "unit": "W"},
            {"name": "limit", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "5000"},
        ],
    },
}


def manifest(count: int, nodes: int) -> str:
    """A List of a model and `count` Devices, which the nodes have in turn."""
    found = [MODEL, *(_device(n, f"n{n % nodes + 1:05}") for n in range(count))]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": found})


def _device(n: int, node: str) -> object:
    def visitors(offset: int) -> object:
        return {"protocolName": "modbus", "configData": {"register": "HoldingRegister", "offset": offset}}

    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": f"meter{n:05}"},
        "spec": {
            "deviceModelRef": {"name": "meter"},
            "nodeName": node,
            "protocol": {"protocolName": "modbus", "configData": {"host": "192.168.1.20", "port": 502, "slaveID": 1}},
            "properties": [
                {"name": "power", "collectCycle": 1000, "visitors": visitors(0)},
                {"name": "limit", "desired": {"value": "3000"}, "visitors": visitors(1)},
            ],
        },
    }


def measure(report: Report, count: int = DEVICES, nodes: int = NODES) -> None:
    """Each way, once, on a cloud of its own."""
    for verb in ("apply", "create"):
        with stage(nodes, 0) as (cloud, agents):
            agents.ask(attached=nodes)
            _measure(report, cloud, agents, verb, count, nodes)


def _measure(report: Report, cloud: Cloud, agents: Agents, verb: str, count: int, nodes: int) -> None:
    file = cloud.directory / "devices.json"
    Path(file).write_text(manifest(count, nodes))
    before, cpu = settled(cloud.pid), _processor(cloud.pid)
    begun = time.monotonic()
    config = f"--kubeconfig={cloud.directory}/state/kubeconfig-default"
    argv = cloud.host.command("env", f"HOME={cloud.directory}", KUBECTL, config, verb, "-f", str(file))
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT)
    report.add(f"{count}_devices_by_{verb}_kubectl", time.monotonic() - begun, unit="s")
    [last] = agents.ask(below=ROWS, count=count)["times"]
    report.add(f"{count}_devices_by_{verb}_on_their_nodes", last - begun, unit="s", must=60, aim=20)
    report.add(f"{count}_devices_by_{verb}_cloud_processor", _processor(cloud.pid) - cpu, unit="s")
    report.add(f"{count}_devices_by_{verb}_cloud_memory", (pss(cloud.pid) - before) / 1e6, unit="MB")


def _processor(pid: int) -> float:
    """Seconds that a process has had of it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
