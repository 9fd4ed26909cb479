"""Edge nodes of a cluster that has both versions of IP: its allocator gives their pods addresses of both, its controllers make slices of both."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Iterator

import pytest

from tests.kit.cluster.site import Site, kubernetes_site
from tests.kubernetes.workloads import eventually, pod, wait_ready

pytestmark = pytest.mark.root

PODS, SERVICES = "fd00:10:244::/48", "fd00:10:96::/112"
SERVER = "hostname >/tmp/hi; exec httpd -f -p '[::]:8080' -h /tmp"
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dual"},
    "spec": {"selector": {"app": "server"}, "ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80, "targetPort": 8080}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with kubernetes_site(f"kbd{os.getpid()}", 2) as site:
        site.start_cluster(pods=f"10.244.0.0/16,{PODS}", services=f"10.96.0.0/16,{SERVICES}")
        site.start_cloud([f"default={site.kubeconfig()}"], more={"addresses": {"podsIpv6": PODS}})
        for name in ("edge1", "edge2"):
            site.join(name, modules={"mesh": {"enable": True}})
        for name in ("edge1", "edge2"):
            site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=120s", timeout=150)
        yield site


def fetch(site: Site, name: str, address: str, port: int) -> str:
    """From the network of a pod; "" when nothing answers."""
    found = site.cluster.json("get", "pod", name)
    node, uid = found["spec"]["nodeName"], found["metadata"]["uid"]
    network = f"--net={site.directory}/{node}/run/kubeedge/ns/{uid}/net"
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{port}/hi"
    return site.edges[node].run("nsenter", network, sys.executable, "-c", FETCH, url, check=False).strip()


def test_the_cluster_allocates_addresses_of_both(site: Site) -> None:
    seen = set()
    for name in ("edge1", "edge2"):
        node = site.cluster.json("get", "node", name)
        four, six = node["spec"]["podCIDRs"]
        assert ipaddress.IPv6Network(six).subnet_of(ipaddress.IPv6Network(PODS)) and node["spec"]["podCIDR"] == four
        own = json.loads((site.directory / name / "etc/kubeedge/node-ipv6.json").read_text())
        assert own["podCIDR"] == six
        addresses = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
        assert addresses[-1] == own["address"].split("/")[0]
        seen.add(six)
    assert len(seen) == 2


def test_pods_and_services_have_both(site: Site) -> None:
    site.cluster.apply(pod("server", "edge1", SERVER), pod("client", "edge2"), SERVICE)
    status = wait_ready(site, "server")["status"]
    wait_ready(site, "client")
    ips = [entry["ip"] for entry in status["podIPs"]]
    node = site.cluster.json("get", "node", "edge1")
    for address, cidr in zip(ips, node["spec"]["podCIDRs"], strict=True):
        assert ipaddress.ip_address(address) in ipaddress.ip_network(cidr)
    assert [":" in entry["ip"] for entry in status["hostIPs"]] == [False, True]
    for address in ips:
        eventually(lambda a=address: fetch(site, "client", a, 8080) == "server", f"the pod at {address}")
    cluster_ips = site.cluster.json("get", "service", "dual")["spec"]["clusterIPs"]
    assert len(cluster_ips) == 2
    for address in cluster_ips:
        eventually(lambda a=address: fetch(site, "client", a, 80) == "server", f"the Service at {address}")
        eventually(lambda a=address: fetch(site, "server", a, 80) == "server", f"itself at {address}")
