"""Upstream's own readers of a kubelet beside a control plane: metrics-server as an aggregated API, Debian's Prometheus. Neither knows of us."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.kit.cluster.cluster import KubernetesCluster
from tests.kit.topology import until
from tests.kit.upstream import build

_PORT = 4443
_PROMETHEUS = 9090
_DEBIAN = Path(__file__).parents[3] / "build/debian/usr/bin/prometheus"
_RBAC = "rbac.authorization.k8s.io"


class MetricsServer:
    """With the rights that upstream's manifest gives it. It verifies the certificates of kubelet ports."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self.cluster = cluster
        serving = cluster.identities.cluster.issue(
            "metrics-server", hosts=["metrics-server.kube-system.svc"], file="metrics-server-serving"
        )
        user = str(cluster.kubeconfig("metrics-server", ()))
        cluster.apply(*self._rights(), *self._service())
        self.process: subprocess.Popen[bytes] = cluster.host.spawn(
            str(build.program("metrics-server")), f"--kubeconfig={user}", f"--authentication-kubeconfig={user}",
            f"--authorization-kubeconfig={user}", f"--secure-port={_PORT}", f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}", "--kubelet-use-node-status-port",
            f"--kubelet-certificate-authority={cluster.identities.kubelets.ca}",
            "--kubelet-preferred-address-types=InternalIP", "--metric-resolution=10s", "--kubelet-request-timeout=5s",
            log=cluster.directory / "metrics-server.log",
        )  # fmt: skip

    def _rights(self) -> list[dict[str, Any]]:
        name, subjects = {"name": "metrics-server"}, [{"apiGroup": _RBAC, "kind": "User", "name": "metrics-server"}]
        rules = [
            {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
        ]

        def binding(kind: str, of: str, role: str, suffix: str, **namespace: str) -> dict[str, Any]:
            return {
                "apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": {"name": f"metrics-server-{suffix}", **namespace},
                "roleRef": {"apiGroup": _RBAC, "kind": of, "name": role}, "subjects": subjects,
            }  # fmt: skip

        reader = "extension-apiserver-authentication-reader"
        return [
            {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": name, "rules": rules},
            binding("ClusterRoleBinding", "ClusterRole", "metrics-server", "own"),
            binding("ClusterRoleBinding", "ClusterRole", "system:auth-delegator", "delegator"),
            binding("RoleBinding", "Role", reader, "reader", namespace="kube-system"),
        ]

    def _service(self) -> list[dict[str, Any]]:
        name = {"name": "metrics-server", "namespace": "kube-system"}
        ca = base64.b64encode(self.cluster.identities.cluster.ca.read_bytes()).decode()
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": name,
             "spec": {"ports": [{"name": "https", "port": 443, "targetPort": _PORT}]}},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
             "metadata": {**name, "labels": {"kubernetes.io/service-name": "metrics-server"}},
             "ports": [{"name": "https", "port": _PORT, "protocol": "TCP"}],
             "endpoints": [{"addresses": [self.cluster.address], "conditions": {"ready": True}}]},
            {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
             "metadata": {"name": "v1beta1.metrics.k8s.io"},
             "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
                      "versionPriority": 100, "caBundle": ca, "service": {**name, "port": 443}}},
        ]  # fmt: skip

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.cluster.directory / "metrics-server.log").read_text(errors="replace")


class Prometheus:
    """Scrapes the kubelet ports by their addresses in the Nodes, with the token of a service account, and the same paths through the API
    server's proxy, with a client certificate."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        assert _DEBIAN.exists(), "make setup unpacks it"
        self.cluster = cluster
        self.directory = cluster.directory / "prometheus"
        self.directory.mkdir()
        self._give_rights()
        config = self.directory / "prometheus.yml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        self.process: subprocess.Popen[bytes] = cluster.host.spawn(
            str(_DEBIAN), f"--config.file={config}", f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{_PROMETHEUS}", log=self.directory / "log",
        )  # fmt: skip
        until(lambda: self._asked("/-/ready") is not None, what="Prometheus", interval=0.2)

    def _give_rights(self) -> None:
        name = {"name": "prometheus"}
        rules = [
            {"apiGroups": [""], "resources": ["nodes/metrics", "nodes/proxy"], "verbs": ["get"]},
        ]
        subjects = [
            {"kind": "ServiceAccount", "name": "prometheus", "namespace": "default"},
            {"apiGroup": _RBAC, "kind": "User", "name": "prometheus"},
        ]
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
            {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": name, "rules": rules},
            {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": name, "subjects": subjects,
             "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "prometheus"}},
        )  # fmt: skip
        token = self.cluster.kubectl("create", "token", "prometheus")
        (self.directory / "token").write_text(token.strip())

    def _config(self) -> dict[str, Any]:
        identities = self.cluster.identities
        own = identities.cluster.issue("prometheus", file="prometheus")
        nodes = [self._target(node) for node in self.cluster.json("get", "nodes")["items"]]

        def direct(job: str, path: str) -> dict[str, Any]:
            return {
                "job_name": job, "metrics_path": path, "scheme": "https", "static_configs": nodes,
                "tls_config": {"ca_file": str(identities.kubelets.ca)},
                "authorization": {"credentials_file": str(self.directory / "token")},
            }  # fmt: skip

        server = self.cluster.server.removeprefix("https://")
        proxied = {
            "job_name": "proxy", "scheme": "https", "static_configs": nodes,
            "tls_config": {
                "ca_file": str(identities.cluster.ca), "cert_file": str(own.cert), "key_file": str(own.key),
            },
            "relabel_configs": [
                {"target_label": "__address__", "replacement": server},
                {"source_labels": ["node"], "target_label": "__metrics_path__",
                 "replacement": "/api/v1/nodes/$1/proxy/metrics/cadvisor"},
            ],
        }  # fmt: skip
        jobs = {
            "kubelet": "/metrics",
            "cadvisor": "/metrics/cadvisor",
            "probes": "/metrics/probes",
            "resource": "/metrics/resource",
        }
        return {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
            "scrape_configs": [*(direct(job, path) for job, path in jobs.items()), proxied],
        }

    @staticmethod
    def _target(node: dict[str, Any]) -> dict[str, Any]:
        """As kubernetes_sd_configs, which Debian's has not, finds it."""
        status = node["status"]
        address = next(each["address"] for each in status["addresses"] if each["type"] == "InternalIP")
        port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        return {"targets": [f"{address}:{port}"], "labels": {"node": node["metadata"]["name"]}}

    def query(self, expression: str) -> dict[str, float]:
        """Values by job and, if they have one, container; of an instant query."""
        found = json.loads(self._asked("/api/v1/query", expression) or "{}").get("data", {}).get("result", [])
        return {
            "/".join(filter(None, (each["metric"].get("job", ""), each["metric"].get("container", "")))): float(
                each["value"][1]
            )
            for each in found
        }

    def _asked(self, path: str, expression: str = "") -> str | None:
        """None: it does not answer."""
        script = (
            "import sys,urllib.parse,urllib.request as r\n"
            "q='?'+urllib.parse.urlencode({'query':sys.argv[2]}) if sys.argv[2] else ''\n"
            "print(r.urlopen(sys.argv[1]+q,timeout=20).read().decode())"
        )
        try:
            return self.cluster.host.run(
                "/usr/bin/python3", "-c", script, f"http://127.0.0.1:{_PROMETHEUS}{path}", expression
            )
        except RuntimeError:
            return None
