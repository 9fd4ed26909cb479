"""From the tenant's API to a mapper and back: a real cloud and a real agent in namespaces, on a wire without delay, so half a round trip of it is nothing.

*Desired*: from a PATCH until the delta is with a client of the node's broker. *Reported*: from a twin/update until a watch of the API shows it. A value that was
replaced before it came counts as the one that replaced it. Needs root.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.report import ROOT, Report
from kubeedge.appengine.runtime import cgroups
from tests.kit.topology import Topology, until
from tests.netns.test_join import PREFIX, Site

COUNT = 200
MODEL = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: probe}
spec:
  properties:
  - {name: target, type: INT, accessMode: ReadWrite}
  - {name: reading, type: INT, accessMode: ReadOnly}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: probe}
spec:
  deviceModelRef: {name: probe}
  nodeName: edge1
  protocol: {protocolName: probe}
"""


def measure(report: Report) -> None:
    """Both ways, once."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with Topology() as net:
            site = Site(net, directory)
            site.join()
            config = site.root / "etc/kubeedge/kubeedge.yaml"
            head, name, tail = config.read_text().partition("  devices:")
            config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
            site.start_agent()
            site.kubectl("apply", "-f", "-", input=MODEL)
            until(lambda: "MapperSilent" in site.kubectl("get", "devices", "-o", "json"), what="the device on its node")
            _measure(report, site)
    finally:
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


def _measure(report: Report, site: Site) -> None:
    probe = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "bench.devices.probe")
    kubeconfig = str(site.directory / "state/kubeconfig-default")
    edge = _started(site.machine.command(*probe, "edge", str(COUNT)))
    assert _line(edge) == {"ready": True}
    cloud = _started(site.cloud.command(*probe, "cloud", kubeconfig, str(COUNT)))
    asked = [_line(cloud) for _ in range(COUNT)]
    assert _line(cloud) == {"ready": True}
    came = _until_last(edge)
    _add(report, "desired", asked, came, must=30, aim=10)
    assert edge.stdin is not None
    edge.stdin.write(b"\n")
    edge.stdin.flush()
    reported = [_line(edge) for _ in range(COUNT)]
    _add(report, "reported", reported, _until_last(cloud), must=60, aim=25)
    for process in (edge, cloud):
        process.wait(60)


def _started(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def _until_last(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    found = [_line(process)]
    while int(found[-1]["value"]) % 1000 != COUNT - 1:
        found.append(_line(process))
    return found


def _add(
    report: Report, name: str, sent: list[dict[str, Any]], came: list[dict[str, Any]], *, must: float, aim: float
) -> None:
    took = sorted(
        min(one["at"] for one in came if int(one["value"]) >= int(first["value"])) - first["at"] for first in sent
    )
    report.add(f"{name}_p50", took[len(took) // 2] * 1000, unit="ms")
    report.add(f"{name}_p99", took[len(took) * 99 // 100] * 1000, unit="ms", must=must, aim=aim)
