"""The same steps on a real Kubernetes control plane, beside the cloud process: `make demo KUBERNETES=1`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.demo.kubectl import Kubectl
from bench.demo.scenario import BUILD, CLOUD_ADDRESS, TENANT, Scenario
from tests.kit.cluster import KubernetesCluster, rights
from tests.kit.upstream import build

#: its usual 50 s and 5 s are long for who watches
OPTIONS = {"kube-controller-manager": ["--node-monitor-grace-period=24s", "--node-monitor-period=1s"]}


class KubernetesScenario(Scenario):
    """Scheduler, controllers and authorizers are Kubernetes' own; the cloud has the least rights there."""

    name = "demo-kubernetes"

    def more_config(self) -> dict[str, Any]:
        """Starts the control plane: its kubeconfig is the tenant's."""
        self.cluster = KubernetesCluster(self.cloud, BUILD / "kubernetes", address=CLOUD_ADDRESS, options=OPTIONS)
        self.cluster.start()
        self.cluster.apply(*rights.objects())
        self.say("etcd, kube-apiserver, kube-controller-manager and kube-scheduler are up")
        kubeconfig = self.cluster.kubeconfig(rights.ACCOUNT, ())
        return {"tenants": [f"{TENANT}={kubeconfig}"], "listeners": {"web": {"port": 80}, "api": {"port": 7443}}}

    def make_kubectl(self, root: Path) -> Kubectl:
        """As an administrator of the cluster."""
        return Kubectl(self.cloud, self.cluster.kubeconfig(), BUILD / "home", build.program("kubectl"))

    def read_logs(self, pod: str, *options: str) -> str:
        """From the node: the API server does not reach the nodes' kubelet ports yet. The form is that of kubectl logs --timestamps."""
        files = sorted(BUILD.glob(f"edge*/var/log/pods/default_{pod}_*/*/*.log"))
        lines = (line.split(" ", 3) for path in files for line in path.read_text().splitlines())
        return "".join(f"{line[0]} {line[3]}\n" for line in lines if len(line) == 4)
