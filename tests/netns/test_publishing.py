"""Publishing as people use it: a real cloud, two real edge agents behind NAT, ordinary services, ordinary tools.

internet ── curl, websockets, raw sockets ── cloud :8080 ══ edge1: mirror, streams, websocket
                                             edge2 127.0.0.1:10080 ══╝
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.topology import Host, edges_behind_nat, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
CLOUD = "http://203.0.113.1:8080"
LOCAL = "http://127.0.0.1:10080"


class Site:
    def __init__(self, directory: Path, cloud: Host, edges: list[Host], internet: Host, more: str = "") -> None:
        self.directory, self.cloud, self.edges, self.internet = directory, cloud, edges, internet
        config = directory / "cloud.yaml"
        config.write_text(
            "kind: CloudCore\nadvertise: [203.0.113.1]\ntenants: [default, other]\ntun: {enable: false}\n"
            f"paths: {{state: {directory}/state, run: {directory}/run}}\n{more}"
        )
        self.socket = directory / "run/cloud.sock"
        self.cloud_process = cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=directory / "cloud.log")
        until(self.socket.exists, timeout=20, what="the cloud's socket")
        self.agents = [self._join(n, edge) for n, edge in enumerate(edges, 1)]
        edges[0].spawn(
            sys.executable, "-m", "tests.kit.web_services", "8001", "8002", "8003",
            log=directory / "services.log", env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        for name, port in (("mirror", "8001"), ("streams", "8002"), ("ws", "8003"), ("gone", "8099")):
            self.publish(name, port)
        until(
            lambda: (
                self.status(internet, f"{CLOUD}/default/edge1/mirror/") == 200
                and self.status(edges[1], f"{LOCAL}/default/edge1/mirror/") == 200
            ),
            timeout=20,
            what="the first page",
        )

    def _join(self, n: int, edge: Host) -> Any:
        root = self.directory / f"edge{n}"
        config = root / "etc/kubeedge/kubeedge.yaml"
        config.parent.mkdir(parents=True)
        paths = {
            "state": "var/lib/kubeedge/edge", "run": "run/kubeedge", "pki": "etc/kubeedge/pki", "logs": "var/log/pods"
        }  # fmt: skip
        settings = {
            "kind": "EdgeCore",
            "paths": {name: str(root / path) for name, path in paths.items()},
            "modules": {"appengine": {"enable": False}},
        }
        config.write_text(json.dumps(settings))
        token = self.cloud.run(*KUBEEDGE, "token", "create", "--node", f"edge{n}", "--socket", str(self.socket))
        edge.run(
            *KUBEEDGE, "join", "--token-file", "-", "--name", f"edge{n}", "--root-dir", str(root), "--no-start",
            "203.0.113.1", input=token,
        )  # fmt: skip
        process = edge.spawn(*KUBEEDGE, "edge", "--root-dir", str(root), log=self.directory / f"edge{n}.log")
        until((root / "run/kubeedge/edge.sock").exists, timeout=20, what=f"the socket of edge{n}")
        return process

    def publish(self, *argv: str) -> str:
        return self.edges[0].run(
            *KUBEEDGE, "publish", *argv, "--socket", str(self.directory / "edge1/run/kubeedge/edge.sock")
        )

    def curl(self, host: Host, *argv: str, check: bool = False, timeout: float = 60) -> str:
        return host.run("curl", "-s", "--max-time", "20", *argv, check=check, timeout=timeout)

    def status(self, host: Host, *argv: str) -> int:
        return int(self.curl(host, "-o", "/dev/null", "-w", "%{http_code}", *argv) or 0)

    def answer(self, host: Host, *argv: str) -> tuple[int, Any]:
        """Status and JSON."""
        body, _, status = self.curl(host, "-w", " %{http_code}", *argv).rpartition(" ")
        return int(status), json.loads(body or "null")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=f"kbpub{os.getpid()}"))  # not tmp_path: the path of a socket must be short
    try:
        with edges_behind_nat(2) as (_, cloud, edges, _, internet):
            yield Site(directory, cloud, edges, internet)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_a_page_looks_the_same_from_outside_and_from_another_node(site: Site) -> None:
    status, seen = site.answer(site.internet, f"{CLOUD}/default/edge1/mirror/a%20b?c=d")
    assert (status, seen["target"], seen["headers"]["x-forwarded-for"]) == (200, "/a%20b?c=d", "203.0.113.200")
    assert seen["headers"]["x-forwarded-prefix"] == "/default/edge1/mirror"
    status, seen = site.answer(site.edges[1], f"{LOCAL}/default/edge1/mirror/a")
    assert (status, seen["target"], seen["headers"]["x-forwarded-for"]) == (200, "/a", "127.0.0.1")


def test_a_service_of_the_tenant_exists_for_its_nodes_alone(site: Site) -> None:
    site.publish("inner", "8001", "--access", "tenant")
    assert "inner" in site.publish("--list") and "tenant" in site.publish("--list")
    for edge in site.edges:
        assert site.status(edge, f"{LOCAL}/default/edge1/inner/") == 200
    outside = site.answer(site.internet, f"{CLOUD}/default/edge1/inner/")
    nobody = site.answer(site.internet, f"{CLOUD}/default/edge1/other/")
    assert outside[0] == nobody[0] == 404
    assert json.dumps(outside[1]).replace("inner", "other") == json.dumps(nobody[1])
    assert site.status(site.internet, "-H", "X-Forwarded-For: 100.64.0.2", f"{CLOUD}/default/edge1/inner/") == 404


def test_a_token_opens_from_everywhere_until_it_is_revoked(site: Site) -> None:
    told = site.publish("guarded", "8001", "--access", "token")
    token = told.split()[-1]
    second = site.publish("guarded", "--new-token").strip()
    assert token != second and token not in site.publish("--list")
    url = f"{CLOUD}/default/edge1/guarded/x"
    head = site.curl(site.internet, "-i", url)
    assert " 401 " in head.splitlines()[0] and 'www-authenticate: Bearer realm="kubeedge"' in head
    assert site.status(site.edges[1], f"{LOCAL}/default/edge1/guarded/") == 401
    assert site.status(site.internet, "-H", "Authorization: Bearer wrong", url) == 401
    for one in (token, second):
        status, seen = site.answer(site.internet, "-H", f"Authorization: Bearer {one}", url)
        assert status == 200 and "authorization" not in seen["headers"]
    status, seen = site.answer(
        site.edges[1], "-H", f"X-KubeEdge-Token: {token}", "-u", "me:you", f"{LOCAL}/default/edge1/guarded/"
    )
    assert status == 200 and seen["headers"]["authorization"].startswith("Basic ")
    assert "x-kubeedge-token" not in seen["headers"]
    site.publish("guarded", "--revoke-tokens")
    assert site.status(site.internet, "-H", f"Authorization: Bearer {token}", url) == 401
    for log in site.directory.glob("*.log"):
        assert token not in log.read_text(errors="replace")
    assert token.encode() not in b"".join(
        p.read_bytes() for p in site.directory.glob("edge1/var/lib/kubeedge/edge/*.db*")
    )
