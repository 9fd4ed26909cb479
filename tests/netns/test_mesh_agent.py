"""Services with the whole product: a real cloud, a real agent, real containers; a pod that finds another one by name."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit import images
from tests.kit.topology import Topology, until
from tests.netns.test_join import KUBEEDGE, PREFIX, Site

pytestmark = pytest.mark.root

SERVER = "echo hello >/tmp/hi; exec httpd -f -p 8080 -h /tmp"
# the C library in a static busybox cannot resolve names: its nslookup asks by itself
CLIENT = "cat /etc/resolv.conf; until nslookup web.default.svc.cluster.local; do sleep 0.2; done; exec sleep 1000"
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: web}}
spec:
  nodeName: edge1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: demo:1, command: [sh, -c, SERVER], ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: edge1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: demo:1, command: [sh, -c, CLIENT]}]
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: none}}}]}]}
"""
MANIFEST = MANIFEST.replace("SERVER", json.dumps(SERVER)).replace("CLIENT", json.dumps(CLIENT))


@pytest.fixture
def site(topology: Topology) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    try:
        yield Site(topology, directory)
    finally:
        topology.__exit__()
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


def test_a_pod_finds_another_one_by_name_and_reset_leaves_nothing(site: Site) -> None:
    site.join()
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    head, name, tail = config.read_text().partition("  mesh:")
    config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
    bridged = "0"
    site.machine.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-ip6tables={bridged}")
    site.start_agent()
    socket = str(site.root / "run/kubeedge/edge.sock")
    site.machine.run(
        *KUBEEDGE,
        "image",
        "import",
        str(images.build(site.directory / "demo.tar", "demo:1")),
        "demo:1",
        "--socket",
        socket,
    )
    site.kubectl("apply", "-f", "-", input=MANIFEST)

    def log() -> str:
        return "".join(path.read_text() for path in site.root.glob("var/log/pods/default_client_*/c/*.log"))

    address = site.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    until(lambda: f"Address: {address}" in log(), what="what the client found by name")
    uid = site.kubectl("get", "pod", "client", "-o", "jsonpath={.metadata.uid}")
    inside = ("nsenter", f"--net={site.root}/run/kubeedge/ns/{uid}/net", sys.executable, "-c", FETCH)
    until(lambda: "hello" in site.machine.run(*inside, f"http://{address}/hi", check=False), what="the page")
    assert "nameserver 169.254.20.10" in log() and "search default.svc.cluster.local" in log()

    def condition(kind: str) -> str:
        node = json.loads(site.kubectl("get", "node", "edge1", "-o", "json"))
        return "".join(c["status"] for c in node["status"]["conditions"] if c["type"] == kind)

    until(lambda: condition("ServiceProxyReady") == "True", what="the condition")
    until(lambda: condition("NetworkPolicyReady") == "True", what="the condition of policies")
    site.kubectl("apply", "-f", "-", input=POLICY)
    assert "app=web" in site.kubectl("get", "netpol", "nobody")
    until(lambda: "hello" not in site.machine.run(*inside, f"http://{address}/hi", check=False), what="isolation")
    policies = (*KUBEEDGE, "mesh", "policies", "--socket", socket)
    until(
        lambda: "default/nobody" in site.machine.run(*policies), what="the policy"
    )  # an answer may have been slow before
    site.kubectl("delete", "netpol", "nobody")
    until(lambda: "hello" in site.machine.run(*inside, f"http://{address}/hi", check=False), what="the page again")
    site.kubectl("apply", "-f", "-", input=POLICY)
    until(lambda: "kubeedge-policy" in site.machine.run("nft", "list", "tables"), what="the policy again")
    trace = site.machine.run(*KUBEEDGE, "mesh", "trace", "web", "--socket", socket)
    assert ":8080" in trace and "web.default.svc.cluster.local" in trace
    assert "default/web" in site.machine.run(*KUBEEDGE, "mesh", "services", "--socket", socket)
    assert "default/kubernetes" in site.machine.run(*KUBEEDGE, "mesh", "endpoints", "--socket", socket)
    assert '"udp"' in site.machine.run(*KUBEEDGE, "mesh", "dns", "-o", "json", "--socket", socket)
    assert "endpointslice" in site.kubectl("get", "endpointslices", "-o", "name")
    site.machine.run(*KUBEEDGE, "reset", "--force", "--root-dir", str(site.root), timeout=120)
    assert "kubeedge-" not in site.machine.run("nft", "list", "tables")
    assert site.machine.run("sysctl", "-n", "net.bridge.bridge-nf-call-ip6tables").strip() == bridged
    assert "169.254.20.10" not in site.machine.run("ip", "addr", "show", "dev", "lo")
