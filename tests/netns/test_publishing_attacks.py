"""A tenant's published services and its web clients do their worst; the tenant beside it, the cloud and the agent hardly notice.

internet ── attackers, victims' clients ── cloud :8080 ══ edge1 (tenant default): hostile services
                                                      ══ edge2 (tenant other): a page, and pings to the cloud
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

from tests.kit import endless
from tests.kit.topology import Host, descendants, edges_behind_nat, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
CLOUD = "http://203.0.113.1:8080"
MB = 1024 * 1024
CLIENTS = 16
BUDGET = 64 * MB  # of a tenant in the cloud; 16 MB in the agent (limits.py, module.py)

PAGE = r"""
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *argv):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8001), Page).serve_forever()
"""


class Site:
    def __init__(self, directory: Path, cloud: Host, edges: list[Host], internet: Host) -> None:
        self.directory, self.cloud, self.edges, self.internet = directory, cloud, edges, internet
        config = directory / "cloud.yaml"
        config.write_text(
            "kind: CloudCore\nadvertise: [203.0.113.1]\ntenants: [default, other]\ntun: {enable: false}\n"
            f"paths: {{state: {directory}/state, run: {directory}/run}}\n"
        )
        cloud_process = cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=directory / "cloud.log")
        until((directory / "run/cloud.sock").exists, what="the cloud's socket")
        agents = [self._join(n, edge) for n, edge in enumerate(edges, 1)]
        for n, (argv, name) in enumerate(((("-m", "tests.kit.endless", "serve"), "bad"), (("-c", PAGE), "page")), 1):
            edges[n - 1].spawn(sys.executable, *argv, log=directory / f"service{n}.log", env={"PYTHONPATH": str(ROOT)})
            edges[n - 1].run(*KUBEEDGE, "publish", name, "8001", "--socket", str(self.socket(n)))
        until(self.page_answers, what="the first page")
        until(lambda: self.status("default/edge1/bad/") != 404, what="the hostile services")
        self.pids = {"cloud": descendants(cloud_process.pid)[0], "agent": descendants(agents[0].pid)[0]}

    def socket(self, n: int) -> Path:
        return self.directory / f"edge{n}/run/kubeedge/edge.sock"

    def _join(self, n: int, edge: Host) -> Any:
        root = self.directory / f"edge{n}"
        config = root / "etc/kubeedge/kubeedge.yaml"
        config.parent.mkdir(parents=True)
        paths = {
            "state": "var/lib/kubeedge/edge", "run": "run/kubeedge", "pki": "etc/kubeedge/pki", "logs": "var/log/pods"
        }  # fmt: skip
        config.write_text(
            json.dumps(
                {
                    "kind": "EdgeCore",
                    "paths": {name: str(root / path) for name, path in paths.items()},
                    "modules": {"appengine": {"enable": False}},
                }
            )
        )
        tenant = ("default", "other")[n - 1]
        token = self.cloud.run(
            *KUBEEDGE, "token", "create", "--tenant", tenant, "--node", f"edge{n}",
            "--socket", str(self.directory / "run/cloud.sock"),
        )  # fmt: skip
        edge.run(
            *KUBEEDGE, "join", "--token-file", "-", "--name", f"edge{n}", "--root-dir", str(root), "--no-start",
            "203.0.113.1", input=token,
        )  # fmt: skip
        process = edge.spawn(*KUBEEDGE, "edge", "--root-dir", str(root), log=self.directory / f"edge{n}.log")
        until(self.socket(n).exists, what=f"the socket of edge{n}")
        return process

    def status(self, path: str) -> int:
        out = self.internet.run(
            "curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", f"{CLOUD}/{path}", check=False
        )
        return int(out or 0)

    def page_answers(self) -> bool:
        return self.status("other/edge2/page/") == 200

    def memory(self) -> dict[str, int]:
        """Bytes of the largest resident set since the last call; and forget it."""
        found = {}
        for name, pid in self.pids.items():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            found[name] = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        return found

    def lost_pings(self, count: int) -> int:
        """Of the victim's, to the cloud."""
        argv = ("ping", "cloud", "-c", str(count), "-i", "0.05", "-o", "json", "--socket", str(self.socket(2)))
        out = self.edges[1].run(*KUBEEDGE, *argv, check=False, timeout=120)
        told = json.loads(out)
        return int(told["sent"] - told["received"])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=f"kbatk{os.getpid()}"))  # the path of a socket must be short
    try:
        with edges_behind_nat(2) as (_, cloud, edges, _, internet):
            yield Site(directory, cloud, edges, internet)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("kind", endless.KINDS)
def test_a_service_without_end_and_clients_that_do_not_read_cost_what_a_tenant_may(site: Site, kind: str) -> None:
    assert site.lost_pings(5) == 0 and site.page_answers()
    site.memory()
    before = site.memory()
    log = site.directory / f"attack-{kind}.log"
    attack = site.internet.spawn(
        sys.executable, "-m", "tests.kit.endless", "ask", "203.0.113.1", "/default/edge1/bad/", kind, str(CLIENTS),
        log=log, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        until(lambda: "ready" in log.read_text(), what="the attack")
        for _ in range(8):
            assert site.page_answers(), "the page of the other tenant"
            assert site.lost_pings(20) == 0, "pings of the other tenant"
    finally:
        site.internet.stop(attack)
    growth = {name: now - before[name] for name, now in site.memory().items()}
    print(f"{kind}: " + ", ".join(f"the {name} grew by {size / MB:.1f} MB" for name, size in growth.items()))
    assert growth["agent"] < 32 * MB
    assert growth["cloud"] < 64 * MB + BUDGET  # L4's own windows, and the proxies' buffers
    for name in ("cloud", "edge1"):
        assert "Traceback" not in (site.directory / f"{name}.log").read_text()
