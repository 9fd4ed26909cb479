"""Noise on every port of a real cloud process and a real agent, in the clear, as an unauthenticated peer inside TLS, and as a node that
turned bad: it costs bounded memory, the log shows no traceback, and the good node does not notice."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.topology import Host, descendants, edges_behind_nat, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
KUBECTL = str(ROOT / "build/debian/usr/bin/kubectl")
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
CLOUD = "203.0.113.1"
PORTS = {"kubernetes": 6443, "web": 8080, "channel": 10000, "bootstrap": 10002, "links": 10010}
GROWTH = 24 * 1024  # KiB: what all the noise together may leave behind in a process


@dataclass
class Site:
    directory: Path
    cloud: Host
    good: Host
    bad: Host
    internet: Host
    cloud_pid: int
    agent_pid: int

    def kubectl(self, *argv: str) -> str:
        config = self.directory / "state/kubeconfig-default"
        return self.cloud.run("env", f"HOME={self.directory}", KUBECTL, f"--kubeconfig={config}", *argv)

    def noise(self, host: Host, address: str, port: int, tls: dict[str, str] | None) -> dict[str, dict[str, Any]]:
        config = json.dumps({"host": address, "port": port, "tls": tls})
        out = host.run("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.kit.noise", config, timeout=300)
        outcomes: dict[str, dict[str, Any]] = json.loads(out)
        return outcomes

    def pki(self, node: str) -> Path:
        return self.directory / node / "etc/kubeedge/pki"


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} is gone")


def python_below(pid: int) -> int:
    """The process that nsenter became: spawn's child."""
    found = descendants(pid)
    assert found
    return found[0]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=f"kbbad{os.getpid()}"))
    try:
        with edges_behind_nat(2) as (_, cloud, edges, _, internet):
            config = directory / "cloud.yaml"
            config.write_text(
                f"kind: CloudCore\nadvertise: [{CLOUD}]\npaths: {{state: {directory}/state, run: {directory}/run}}\n"
            )
            cloud_process = cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=directory / "cloud.log")
            control = directory / "run/cloud.sock"
            until(control.exists, what="the cloud's socket")
            agent_process = None
            for name, edge in zip(("good", "bad"), edges, strict=True):
                root = directory / name
                settings = root / "etc/kubeedge/kubeedge.yaml"
                settings.parent.mkdir(parents=True)
                paths = {
                    "state": "var/lib/kubeedge/edge",
                    "run": "run",
                    "pki": "etc/kubeedge/pki",
                    "logs": "var/log/pods",
                }
                settings.write_text(
                    json.dumps(
                        {
                            "kind": "EdgeCore",
                            "paths": {k: str(root / v) for k, v in paths.items()},
                            "modules": {"appengine": {"cgroupPrefix": f"kbbad{os.getpid()}", "evictionHard": ["none"]}},
                        }
                    )
                )
                token = cloud.run(*KUBEEDGE, "token", "create", "--node", name, "--socket", str(control))
                edge.run(
                    *KUBEEDGE, "join", "--token-file", "-", "--name", name, "--root-dir", str(root), "--no-start", CLOUD,
                    input=token,
                )  # fmt: skip
                if name == "good":
                    agent_process = edge.spawn(*KUBEEDGE, "edge", "--root-dir", str(root), log=directory / "good.log")
            assert agent_process is not None
            site = Site(
                directory, cloud, edges[0], edges[1], internet,
                python_below(cloud_process.pid), 0,
            )  # fmt: skip
            until(lambda: " Ready " in site.kubectl("get", "nodes"), what="the good node")
            site.agent_pid = python_below(agent_process.pid)
            until(lambda: answers(site), what="the client proxy of the good node")
            yield site
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def answers(site: Site) -> bool:
    return "HTTP/1.1" in site.good.run("curl", "-si", "-m2", "http://127.0.0.1:10080/default/good/none/", check=False)


@pytest.mark.parametrize("who", ["in the clear", "an unauthenticated peer in TLS", "a node that turned bad"])
def test_noise_on_every_port_of_the_cloud_harms_nobody(site: Site, who: str) -> None:
    before = resident(site.cloud_pid)
    pki = site.pki("bad")
    tls = None
    if who != "in the clear":
        tls = {"ca": str(pki / "ca.crt")}
    if who == "a node that turned bad":
        tls |= {"cert": str(pki / "node.crt"), "key": str(pki / "node.key")}  # type: ignore[operator]
    ports = [port for name, port in PORTS.items() if tls is None or name != "web"]  # the web port speaks no TLS here
    with ThreadPoolExecutor(len(ports)) as all_at_once:
        heard = all_at_once.map(lambda port: site.noise(site.bad, CLOUD, port, tls), ports)
        for port, outcomes in zip(ports, heard, strict=True):
            for noise, outcome in outcomes.items():
                assert outcome["got"] < 65536, (port, noise, outcome)
    growth = resident(site.cloud_pid) - before
    print(f"the cloud grew by {growth} KiB")
    assert growth < GROWTH
    log = (site.directory / "cloud.log").read_text()
    assert "Traceback" not in log, log
    assert " Ready " in site.kubectl("get", "node", "good")
    # the bad node said much and wrote nothing
    there = set(site.kubectl("get", "pods,configmaps,secrets", "-A", "-o", "name").split())
    assert there == {"configmap/kube-root-ca.crt"}, "what each namespace has"


def test_a_node_that_rewrites_its_keys_without_end_gets_its_share_of_the_store(site: Site) -> None:
    """2 MB of values, again and again. The bounds are those of every cloud: 16 MiB at once, as much in half a minute."""
    pki = site.pki("bad")
    size, limit, pace = 20_000, 16 << 20, (16 << 20) / 30
    config = {
        "endpoint": f"{CLOUD}:{PORTS['channel']}", "ca": str(pki / "ca.crt"), "cert": str(pki / "node.crt"),
        "key": str(pki / "node.key"), "keys": 100, "size": size, "seconds": 6, "share": [limit, pace],
    }  # fmt: skip
    out = site.bad.run(
        "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.kit.rewriter", json.dumps(config), timeout=300
    )
    told = json.loads(out)
    written = told["changes"] * size
    print(f"{told}: {written / told['took'] / 1e6:.1f} MB/s")
    assert limit < written < limit + pace * told["took"] + 2 * (1 << 20), "a window on its way"
    log = (site.directory / "cloud.log").read_text()
    assert "/t/default/edge/bad/reported/ changes faster than it may" in log and "Traceback" not in log
    assert " Ready " in site.kubectl("get", "node", "good")


def test_noise_on_the_ports_of_an_agent_harms_nobody(site: Site) -> None:
    before = resident(site.agent_pid)
    listening = {
        int(line.split()[3].rsplit(":", 1)[1]) for line in site.good.run("ss", "-Htln").splitlines() if line.split()
    }
    assert 10080 in listening
    for port in sorted(listening):
        for noise, outcome in site.noise(site.good, "127.0.0.1", port, None).items():
            assert outcome["got"] < 65536, (port, noise, outcome)
    growth = resident(site.agent_pid) - before
    print(f"the agent grew by {growth} KiB")
    assert growth < GROWTH
    log = (site.directory / "good.log").read_text()
    assert "Traceback" not in log, log
    assert " Ready " in site.kubectl("get", "node", "good")
    assert answers(site)
