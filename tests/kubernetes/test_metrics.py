"""What reads kubelets, at edge nodes of a real cluster, unmodified: certificates by the cluster's CSR API, metrics-server with `kubectl top` and
the HorizontalPodAutoscaler, Debian's Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.cluster import rights
from tests.kit.cluster.scrapers import MetricsServer, Prometheus
from tests.kit.cluster.site import ADDRESS, IMAGE, Site, kubernetes_site
from tests.kit.topology import until

pytestmark = pytest.mark.root

TIMEOUT = 240.0  # seconds: some of its windows, on a loaded machine
#: what takes minutes by default
OPTIONS = {
    "kube-controller-manager": [
        "--horizontal-pod-autoscaler-sync-period=1s", "--horizontal-pod-autoscaler-downscale-stabilization=1s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
    ]
}  # fmt: skip
BUSY = "while ! [ -e /tmp/idle ]; do :; done; exec sleep 100000"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """edge1 is a node; its kubelet port shows no certificate of the cluster yet."""
    with kubernetes_site(f"kbm{os.getpid()}", 2) as site:
        site.start_cluster(OPTIONS)
        site.start_cloud([f"default={site.kubeconfig()}"], {"serverTlsBootstrap": True})
        join(site, "edge1")
        yield site
        site.stop_cloud()


@pytest.fixture(scope="module")
def server(site: Site) -> MetricsServer:
    """From the beginning: it takes some of its windows of 10 s to know anything."""
    return MetricsServer(site.cluster)


def join(site: Site, name: str) -> None:
    site.join(name)
    site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=120s", timeout=150)


def requests(site: Site) -> dict[str, Any]:
    return {each["spec"]["username"]: each for each in site.cluster.json("get", "csr")["items"]}


_SHOWN = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
try:
    with socket.create_connection((sys.argv[2], int(sys.argv[3])), 20) as raw, context.wrap_socket(raw, server_hostname=sys.argv[2]) as tls:
        print(dict(pair[0] for pair in tls.getpeercert()["subject"])["commonName"])
except ssl.SSLCertVerificationError:
    print("not of that authority")
"""


def shown(site: Site, name: str) -> str:
    """Whose certificate the kubelet port of the node shows to somebody who believes the cluster's authority."""
    port = site.cluster.json("get", "node", name)["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    ca = str(site.cluster.identities.kubelets.ca)
    return site.cloud.run("/usr/bin/python3", "-c", _SHOWN, ca, ADDRESS, str(port)).strip()


def until_shown(site: Site, name: str) -> None:
    until(
        lambda: shown(site, name) == f"system:node:{name}", timeout=TIMEOUT, what=f"certificate of {name}", interval=0.5
    )


def test_a_kubelet_port_shows_the_certificate_that_an_administrator_has_approved(
    site: Site, server: MetricsServer
) -> None:
    until(lambda: "system:node:edge1" in requests(site), timeout=TIMEOUT, what="a request", interval=0.2)
    request = requests(site)["system:node:edge1"]
    assert request["spec"]["signerName"] == "kubernetes.io/kubelet-serving" and not request["status"]
    assert "system:nodes" in request["spec"]["groups"]
    assert shown(site, "edge1") == "not of that authority"
    until(lambda: "x509: certificate signed by unknown authority" in server.log, timeout=TIMEOUT, what="it verifies")
    site.cluster.kubectl("certificate", "approve", request["metadata"]["name"])
    until_shown(site, "edge1")


def test_a_cloud_that_may_approves_itself_and_asks_for_nothing_that_it_has(site: Site) -> None:
    site.cluster.apply(*rights.objects(rights.APPROVAL))
    site.stop_cloud()
    settings = {"serverTlsBootstrap": True, "approveCertificates": True}
    site.start_cloud([f"default={site.kubeconfig()}"], settings)
    join(site, "edge2")
    until_shown(site, "edge2")
    until_shown(site, "edge1")
    assert sorted(requests(site)) == ["system:node:edge1", "system:node:edge2"]


def deployment() -> dict[str, Any]:
    container = {
        "name": "busy", "image": IMAGE, "command": ["sh", "-c", BUSY],
        "resources": {"requests": {"cpu": "100m", "memory": "8Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
        "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 2, "timeoutSeconds": 20},
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "busy"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "busy"}},
            "template": {
                "metadata": {"labels": {"app": "busy"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }  # fmt: skip


AUTOSCALER = {
    "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "busy"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"}, "minReplicas": 1,
        "maxReplicas": 2,
        "metrics": [
            {"type": "Resource",
             "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 10}}},
        ],
    },
}  # fmt: skip


def test_metrics_server_prometheus_and_the_autoscaler(site: Site, server: MetricsServer) -> None:
    """One test: each waits for windows of time, and they can be the same ones."""
    site.cluster.apply(deployment(), AUTOSCALER)
    site.cluster.kubectl("rollout", "status", "deployment/busy", "--timeout=120s", timeout=150)
    prometheus_reads_the_nodes(site, Prometheus(site.cluster))

    def replicas() -> int:
        return int(site.cluster.json("get", "deployment", "busy")["status"].get("readyReplicas") or 0)

    until(lambda: replicas() == 2, timeout=TIMEOUT, what=f"scaled up: {server.log[-2000:]}", interval=0.5)
    top_shows_nodes_and_pods(site)
    for pod in site.cluster.json("get", "pods", "-l", "app=busy")["items"]:
        site.cluster.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", "touch /tmp/idle")
    until(lambda: replicas() == 1, timeout=TIMEOUT, what="scaled down", interval=0.5)


def prometheus_reads_the_nodes(site: Site, prometheus: Prometheus) -> None:
    jobs = ("kubelet", "cadvisor", "probes", "resource", "proxy")

    def all_up() -> bool:
        """Two nodes by each job; one that was not scraped yet is neither up nor down."""
        return prometheus.query("sum by (job) (up)") == dict.fromkeys(jobs, 2.0)

    until(all_up, timeout=TIMEOUT, what="all targets are up", interval=0.5)

    def comes(expression: str, *wanted: str) -> dict[str, float]:
        found: dict[str, float] = {}

        def there() -> bool:
            found.clear()
            found.update(prometheus.query(expression))
            return set(found) >= set(wanted)

        until(there, timeout=TIMEOUT, what=f"{expression}: {wanted}, not {found}", interval=0.5)
        return found

    busy = "container!='',image!=''"  # as the rules of kube-prometheus select containers
    for metric in ("container_memory_working_set_bytes", "container_memory_rss", "container_memory_cache"):
        comes(f"sum by (job, container) ({metric}{{{busy}}})", "cadvisor/busy", "proxy/busy")
    rate = comes(
        f"sum by (job, container) (rate(container_cpu_usage_seconds_total{{{busy}}}[20s])) > 0", "cadvisor/busy"
    )
    assert 0 < rate["cadvisor/busy"] < 1
    comes("sum by (job) (container_cpu_cfs_throttled_periods_total{container='busy'}) > 0", "cadvisor")
    for metric in ("container_network_receive_bytes_total", "container_network_transmit_packets_total"):
        comes(f"sum by (job) ({metric}{{pod=~'busy.*',interface='eth0'}})", "cadvisor", "proxy")
    for metric in (
        "container_fs_usage_bytes{container='busy'}",
        "container_fs_usage_bytes{id='/'}",
        "machine_memory_bytes",
    ):
        comes(f"sum by (job) ({metric}) > 0", "cadvisor", "proxy")
    comes("sum by (job) (prober_probe_total{probe_type='Liveness',result='successful',pod=~'busy.*'}) > 0", "probes")
    assert comes("count by (job) (kubelet_node_name{node=~'edge[12]'})", "kubelet") == {"kubelet": 2}
    comes("sum by (job) (kubelet_running_pods) > 0", "kubelet")
    comes("max by (job) (process_resident_memory_bytes) > 0", "kubelet")
    comes("count by (job) (kubeedge_module_up)", "kubelet")  # the agent's own are there, too
    comes("sum by (job, container) (container_cpu_usage_seconds_total{container='busy'}) > 0", "resource/busy")


def top(site: Site, *what: str) -> dict[str, list[str]]:
    try:
        lines = site.cluster.kubectl("top", *what, "--no-headers").splitlines()
    except RuntimeError:  # not measured twice yet
        return {}
    return {line.split()[0]: line.split()[1:] for line in lines}


def top_shows_nodes_and_pods(site: Site) -> None:
    until(lambda: set(top(site, "node")) == {"edge1", "edge2"}, timeout=TIMEOUT, what="kubectl top node", interval=1.0)
    pods: dict[str, list[str]] = {}

    def some() -> bool:
        """The one that was there first; the other takes two more looks."""
        pods.update(top(site, "pod", "-l", "app=busy"))
        return bool(pods)

    until(some, timeout=TIMEOUT, what="kubectl top pod", interval=1.0)
    for cpu, memory in pods.values():
        assert cpu.endswith("m") and 0 < int(cpu[:-1]) <= 150 and memory.endswith("Mi"), pods
