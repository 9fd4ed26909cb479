"""Connections without end to every port of a real cloud process, silent and half way through TLS, from one address and from a thousand: a valid
node joins beside them, and a user is served. One node's certificate does not take the API's connections."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.topology import DEFAULT_TIMEOUT, Host, edges_behind_nat, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
KUBECTL = str(ROOT / "build/debian/usr/bin/kubectl")
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
CLOUD, CLOUD6 = "203.0.113.1", "2001:db8::1"
INTERNET, INTERNET6 = "203.0.113.200", "2001:db8::200"
PORTS = {"kubernetes": 6443, "web": 8080, "channel": 10000, "bootstrap": 10002, "links": 10010}
SOURCES = {
    "one address": [INTERNET],
    "a thousand addresses": [f"198.51.{100 + n // 250}.{n % 250 + 1}" for n in range(1000)],
    "one network of IPv6": [f"2001:db8:1:1::{n:x}" for n in range(1, 1000)],
    "a thousand networks of IPv6": [f"2001:db8:1:{n:x}::1" for n in range(1, 1000)],
}


class Site:
    def __init__(self, directory: Path, cloud: Host, edge: Host, internet: Host) -> None:
        self.directory, self.cloud, self.edge, self.internet = directory, cloud, edge, internet
        self.control = directory / "run/cloud.sock"
        for host, near, far in ((cloud, CLOUD6, INTERNET6), (internet, INTERNET6, CLOUD6)):
            device = json.loads(host.ip("-j", "route", "get", INTERNET if host is cloud else CLOUD))[0]["dev"]
            host.ip("addr", "add", f"{near}/64", "dev", device, "nodad")
            until(lambda h=host, f=far: f in h.ip("-6", "route", "get", f), what="IPv6")
        cloud.ip("route", "add", "198.51.0.0/16", "via", INTERNET)
        cloud.ip("route", "add", "2001:db8:1::/48", "via", INTERNET6)
        internet.ip("route", "add", "local", "198.51.0.0/16", "dev", "lo")
        internet.ip("route", "add", "local", "2001:db8:1::/48", "dev", "lo")
        internet.run("tee", "/proc/sys/net/ipv4/ip_nonlocal_bind", input="1")
        internet.run("tee", "/proc/sys/net/ipv6/ip_nonlocal_bind", input="1")
        everywhere = {"address": "::"}
        config = {
            "kind": "CloudCore",
            "advertise": [CLOUD],
            "paths": {"state": f"{directory}/state", "run": f"{directory}/run"},
            "listeners": {name: everywhere for name in ("api", "web", "hub", "bootstrap", "relay")},
        }
        (directory / "cloud.yaml").write_text(json.dumps(config))
        cloud.spawn(*KUBEEDGE, "cloud", "--config", str(directory / "cloud.yaml"), log=directory / "cloud.log")
        until(self.control.exists, what="the cloud's socket")

    def kubectl(self, *argv: str) -> str:
        config = self.directory / "state/kubeconfig-default"
        return self.cloud.run("env", f"HOME={self.directory}", KUBECTL, f"--kubeconfig={config}", *argv)

    def join(self, name: str) -> Path:
        root = self.directory / name
        settings = root / "etc/kubeedge/kubeedge.yaml"
        settings.parent.mkdir(parents=True)
        paths = {"state": "var/lib/kubeedge/edge", "run": "run", "pki": "etc/kubeedge/pki", "logs": "var/log/pods"}
        settings.write_text(
            json.dumps(
                {
                    "kind": "EdgeCore",
                    "paths": {k: str(root / v) for k, v in paths.items()},
                    "modules": {"appengine": {"evictionHard": ["none"]}},
                }
            )
        )
        token = self.cloud.run(*KUBEEDGE, "token", "create", "--node", name, "--socket", str(self.control))
        self.edge.run(
            *KUBEEDGE, "join", "--token-file", "-", "--name", name, "--root-dir", str(root), "--no-start", CLOUD,
            input=token,
        )  # fmt: skip
        return root

    def comes_up(self, name: str) -> None:
        """Join, channel and link."""
        agent = self.edge.spawn(*KUBEEDGE, "edge", "--root-dir", str(self.join(name)), log=self.directory / "edge.log")
        try:
            until(lambda: " Ready " in self.kubectl("get", "nodes", name), what=f"node {name}")
            ping = [*KUBEEDGE, "ping", "--socket", str(self.control), "-c", "1", name]
            until(lambda: "1 received" in self.cloud.run(*ping, check=False), what=f"the link of {name}")
        finally:
            self.edge.stop(agent)

    @contextlib.contextmanager
    def flood(self, host: Host, **config: Any) -> Iterator[dict[str, int]]:
        argv = host.command("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.kit.flood", json.dumps(config))
        result: dict[str, int] = {}
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield result
            out, _ = process.communicate("\n", timeout=DEFAULT_TIMEOUT)
            result |= json.loads(out)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=f"kbflo{os.getpid()}"))
    try:
        with edges_behind_nat(1) as (_, cloud, edges, _, internet):
            yield Site(directory, cloud, edges[0], internet)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("says", ["", "160301"], ids=["silent", "half a handshake"])
@pytest.mark.parametrize("whence", SOURCES)
def test_a_flood_of_connections_keeps_no_node_out(site: Site, whence: str, says: str) -> None:
    sources = SOURCES[whence]
    ports = [PORTS[name] for name in ("kubernetes", "channel", "bootstrap", "links")]
    targets = [[CLOUD6 if ":" in sources[0] else CLOUD, port] for port in ports]
    name = f"n{list(SOURCES).index(whence)}{len(says)}"
    with site.flood(site.internet, targets=targets, sources=sources, count=1200 * len(ports), says=says) as told:
        site.comes_up(name)
        assert site.kubectl("get", "nodes", "-o", "name").count("node/") >= 1
    print(told)
    assert told["opened"] >= 1200 * len(ports)
    log = (site.directory / "cloud.log").read_text()
    assert "Traceback" not in log, log


def test_the_certificate_of_one_node_does_not_take_the_connections_of_the_api(site: Site) -> None:
    pki = site.join("greedy") / "etc/kubeedge/pki"
    tls = {"ca": str(pki / "ca.crt"), "cert": str(pki / "node.crt"), "key": str(pki / "node.key")}
    with site.flood(site.edge, targets=[[CLOUD, 6443]], sources=[""], count=1100, tls=tls) as told:
        for _ in range(5):
            site.kubectl("get", "nodes")
    print(told)
    assert told["opened"] >= 1100
    assert told["held"] <= 200, "4, those that are being told why they are refused, and the last 50"
    assert told["left"] <= 4


def test_a_network_of_ipv6_has_as_many_web_connections_as_an_address(site: Site) -> None:
    url = f"http://[{CLOUD6}]:{PORTS['web']}/"

    def status(source: str) -> str:
        return site.internet.run(
            "curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", "--interface", source, url, check=False
        )

    network = SOURCES["one network of IPv6"]
    with site.flood(site.internet, targets=[[CLOUD6, PORTS["web"]]], sources=network, count=600):
        until(lambda: status("2001:db8:1:1:1:2:3:4") == "000", what="a full network")  # perClient is 256
        assert status(INTERNET6) == "404"
        assert status("2001:db8:1:2::1") == "404"
