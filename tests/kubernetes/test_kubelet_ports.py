"""A real API server at the kubelet port of an edge node: logs, exec, cp and port-forward over TLS, KubeBus and the node's kubelet API."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit.cluster import KubernetesCluster
from tests.kit.topology import Topology, until
from tests.kit.upstream import build
from tests.netns.test_join import KUBECTL, PREFIX
from tests.netns.test_streams import PODS, StreamSite, lines_until

pytestmark = pytest.mark.root

CLOUD, CONTROL = "198.51.100.1", "198.51.100.10"
PORT = 20250  # of the first node of the first tenant


class Installation:
    """A cluster whose API server reaches one edge node through the cloud process."""

    def __init__(self, net: Topology, directory: Path) -> None:
        self.site = StreamSite(net, directory)
        control = net.host("control")
        net.wire(control, f"{CONTROL}/24", self.site.cloud, f"{CLOUD}/24")
        self.cluster = KubernetesCluster(control, directory / "kubernetes", address=CONTROL)
        self.identities = self.cluster.identities
        serving = self.identities.kubelets.issue("cloud", hosts=[CLOUD], file="serving")
        config = directory / "cloud.yaml"
        config.write_text(
            config.read_text()
            + f"kubelets: {{clientCa: {self.identities.cluster.ca}, certFile: {serving.cert}, keyFile: {serving.key}}}\n"
        )
        self.site.restart_cloud()
        self.cluster.start()
        self.site.begin()
        for pod in PODS:
            self.cluster.apply(self._node(), pod)
        self._status("node", "edge1", self._reached())
        self._status("pod", "box", {"phase": "Running"})  # as its node would report it

    def _status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        self.cluster.kubectl("patch", kind, name, "--subresource=status", "-p", json.dumps({"status": status}))

    def _node(self) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge1"}}

    def _reached(self) -> dict[str, Any]:
        return {
            "addresses": [{"type": "InternalIP", "address": CLOUD}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
        }

    def ask(self, program: str, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(program, *arguments), input=input, capture_output=True, timeout=120, check=False
        )

    def command(self, program: str, *arguments: str) -> list[str]:
        config = str(self.cluster.kubeconfig())
        return self.cluster.host.command(
            "env", f"HOME={self.cluster.directory}", program, "--kubeconfig", config, *arguments
        )

    def connect(self, *certificate: str) -> str:
        """What a TLS client at the port gets: the status line, or the name of the error."""
        script = (
            "import socket,ssl,sys\n"
            "c=ssl.create_default_context(cafile=sys.argv[1])\n"
            "if len(sys.argv)>4: c.load_cert_chain(sys.argv[4],sys.argv[5])\n"
            "try:\n"
            "    s=c.wrap_socket(socket.create_connection((sys.argv[2],int(sys.argv[3])),20),server_hostname=sys.argv[2])\n"
            "    s.sendall(b'GET /healthz HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n')\n"
            "    print(s.recv(100).split(b'\\r\\n')[0].decode() or 'closed')\n"
            "except OSError as e: print('closed')\n"
        )
        ca = str(self.identities.kubelets.ca)
        return self.cluster.host.run("/usr/bin/python3", "-c", script, ca, CLOUD, str(PORT), *certificate).strip()


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    with Topology() as net:
        try:
            yield Installation(net, directory)
        finally:
            net.__exit__()
            cgroups.kill_and_remove(PREFIX)
            shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("generation", ["debian", "newest"])
def test_kubectl_reaches_the_pod_through_the_cluster_s_api_server(installation: Installation, generation: str) -> None:
    kubectl = KUBECTL if generation == "debian" else str(build.program("kubectl"))
    done = installation.ask(kubectl, "exec", "-i", "box", "-c", "main", "--", "sh", "-c", "cat; echo err >&2; exit 7", input=b"x" * 3_000_000)  # fmt: skip
    assert done.stdout == b"x" * 3_000_000 and done.returncode == 7 and done.stderr.startswith(b"err\n"), done.stderr
    there, back = installation.site.directory / "there", installation.site.directory / "back"
    there.write_bytes(b"copied" * 1_000_000)
    for source, target in ((str(there), "box:/tmp/c"), ("box:/tmp/c", str(back))):
        done = installation.ask(kubectl, "cp", source, target, "-c", "main")
        assert done.returncode == 0, done.stderr
    assert back.read_bytes() == there.read_bytes()
    back.unlink()
    installation.ask(kubectl, "exec", "box", "-c", "reader", "--", "sh", "-c", "echo logged > /proc/1/fd/1")
    until(lambda: b"logged" in installation.ask(kubectl, "logs", "box", "-c", "reader").stdout, what="the log")
    forward = subprocess.Popen(
        installation.command(kubectl, "port-forward", "pod/box", ":8080"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert forward.stdout
        port = lines_until(forward.stdout, b"127.0.0.1:").decode().split("127.0.0.1:")[1].split()[0]
        script = "import socket,sys;c=socket.create_connection(('127.0.0.1',int(sys.argv[1])),20);c.sendall(b'echo');print(c.recv(4))"
        assert "b'echo'" in installation.cluster.host.run("/usr/bin/python3", "-c", script, port)
    finally:
        installation.site.end(forward)


def test_use_of_processor_and_memory_is_told_by_the_node(installation: Installation) -> None:
    base = "/api/v1/nodes/edge1/proxy"

    def raw(path: str) -> str:
        return installation.cluster.kubectl("get", "--raw", f"{base}/{path}")

    until(lambda: len(json.loads(raw("stats/summary"))["pods"][0]["containers"]) == 4, what="all are measured")
    summary = json.loads(raw("stats/summary"))
    (pod,) = summary["pods"]
    assert pod["podRef"]["name"] == "box" and len(pod["containers"]) == 4
    assert pod["memory"]["workingSetBytes"] > 0 and summary["node"]["cpu"]["usageCoreNanoSeconds"] > 0
    for path in ("metrics/resource", "metrics/cadvisor"):
        assert 'container_cpu_usage_seconds_total{container="main"' in raw(path)
    assert raw("healthz") == "ok"


def test_nobody_but_the_api_server_gets_in(installation: Installation) -> None:
    identities = installation.identities
    right = identities.to_kubelets
    assert installation.connect(str(right.cert), str(right.key)) == "HTTP/1.1 200 OK"
    assert installation.connect() == "closed"
    other = identities.cluster.issue("jane", groups=["system:masters"], file="jane-at-the-port")
    assert installation.connect(str(other.cert), str(other.key)) == "closed"
    foreign = identities.kubelets.issue("kube-apiserver-kubelet-client", groups=["system:masters"], file="foreign")
    assert installation.connect(str(foreign.cert), str(foreign.key)) == "closed"


def test_a_node_that_is_away_is_named(installation: Installation) -> None:
    installation.site.machine.stop(installation.site.agent)
    until(
        lambda: "200" not in installation.connect(str(installation.identities.to_kubelets.cert), str(installation.identities.to_kubelets.key)),
        what="the node is away",
    )  # fmt: skip
    done = installation.ask(str(build.program("kubectl")), "exec", "box", "-c", "main", "--", "true")
    assert done.returncode != 0 and b"edge1" in done.stderr, done.stderr
