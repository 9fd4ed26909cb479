"""The same steps on a real Kubernetes control plane, beside the cloud process: `make demo KUBERNETES=1`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from bench.demo import manifests
from bench.demo.kubectl import Kubectl
from bench.demo.scenario import BUILD, CLOUD_ADDRESS, TENANT, Scenario
from bench.report import ROOT
from tests.kit.cluster import KubernetesCluster, rights
from tests.kit.topology import until
from tests.kit.upstream import build
from tests.kubernetes.vm import vm_node

#: its usual 50 s and 5 s are long for who watches
OPTIONS = {"kube-controller-manager": ["--node-monitor-grace-period=24s", "--node-monitor-period=1s"]}
PODS, SERVICES = "10.244.0.0/16", "10.96.0.0/16"  # of the cluster
MACHINE, MACHINE_PODS = "vm1", "10.244.100.0/24"  # the cloud's own machine is one of the cluster


class KubernetesScenario(Scenario):
    """Scheduler, controllers and authorizers are Kubernetes' own; the cloud has the least rights there."""

    name = "demo-kubernetes"

    def more_config(self) -> dict[str, Any]:
        """Starts the control plane: its kubeconfig is the tenant's."""
        self.cluster = KubernetesCluster(self.cloud, BUILD / "kubernetes", address=CLOUD_ADDRESS, options=OPTIONS)
        self.cluster.start()
        self.cluster.apply(*rights.objects())
        self.say("etcd, kube-apiserver, kube-controller-manager and kube-scheduler are up")
        serving = self.cluster.identities.kubelets.issue("cloud", hosts=[CLOUD_ADDRESS], file="serving")
        return {
            "tenants": [f"{TENANT}={self.cluster.kubeconfig(rights.ACCOUNT, ())}"],
            "listeners": {"web": {"port": 80}, "api": {"port": 7443}},
            "kubelets": {"enable": True, "certFile": str(serving.cert), "keyFile": str(serving.key)},
            "tun": {"networks": [PODS, SERVICES]},
        }

    def make_kubectl(self, root: Path) -> Kubectl:
        """As an administrator of the cluster."""
        return Kubectl(self.cloud, self.cluster.kubeconfig(), BUILD / "home", build.program("kubectl"))

    def read_logs(self, pod: str, *options: str) -> str:
        """Empty while the node's link is not there again."""
        return self.kubectl("logs", pod, *options, check=False)

    def before_devices(self) -> None:
        """Their resources are defined by the project's manifest."""
        self.kubectl("apply", "-f", str(ROOT / "cloud/crds/devices.yaml"))
        until(lambda: self.kubectl("get", "devices,devicemodels") == "", what="the API of devices")

    def more_steps(self, stack: contextlib.ExitStack) -> None:
        """The paper's Figure 3: one network of the cluster's pods and Services and of the edge nodes' pods."""
        with self.step("   the virtual router: pods and ClusterIPs of the cluster from the edge, and the reverse"):
            archive = BUILD / "demo-image.tar"
            directory = BUILD / MACHINE
            self.cloud.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
            stack.enter_context(
                vm_node(self.cluster, self.cloud, CLOUD_ADDRESS, directory, archive, name=MACHINE, pods=MACHINE_PODS)
            )
            self.cloud.spawn(
                str(build.program("kube-proxy")), f"--kubeconfig={self.cluster.kubeconfig('system:kube-proxy', ())}",
                "--proxy-mode=nftables", f"--hostname-override={MACHINE}", f"--cluster-cidr={PODS}",
                "--conntrack-max-per-core=0", "--healthz-bind-address=127.0.0.1:10256", log=BUILD / "kube-proxy.log",
            )  # fmt: skip
            self.say(f"a machine of the cluster, {MACHINE}, with kube-proxy: the cloud process there is its router")
            self.apply(manifests.cluster_web(MACHINE))
            self.kubectl("wait", "--for=condition=Ready", "pod/cluster-web", "--timeout=60s", timeout=90)
            here, edge = self.pod_of("cluster-web"), self.pod_of("web")
            names = here["metadata"]["name"], edge["metadata"]["name"]
            for pod, text, other, service in (
                (names[1], "hello from the cluster\n", here, "cluster-web"),
                (names[0], "hello from the edge\n", edge, "web"),
            ):
                cluster_ip = self.kubectl.json("get", "service", service)["spec"]["clusterIP"]
                for url in (f"http://{other['status']['podIP']}:8080/index.html", f"http://{cluster_ip}/index.html"):
                    self._fetch_in(pod, url, text)

    def _fetch_in(self, pod: str, url: str, text: str) -> None:
        """What a pod gets there has to be that text, once the routes have come."""
        said = ""

        def fetched() -> bool:
            nonlocal said
            try:
                said = self.kubectl("exec", pod, "--", "timeout", "10", "wget", "-qO-", url)
            except RuntimeError as exc:
                said = str(exc)
            return said == text

        try:
            until(fetched, timeout=60, what=url)
        except AssertionError as exc:
            raise AssertionError(f"{pod}: {exc}: {said}") from exc
        self.check(True, f"{pod} fetches {url}: {text.strip()!r}")
