"""A cloud process beside a real control plane, and edge nodes behind NAT: the demo's picture with an unmodified cluster.

cloud  203.0.113.1    the cloud process and the control plane
edge N 192.168.N.2    behind NAT, an agent with the image demo:1
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.kit import control_groups, images
from tests.kit.cluster import rights
from tests.kit.cluster.cluster import KubernetesCluster
from tests.kit.topology import DEFAULT_TIMEOUT, Host, Topology, edges_behind_nat, until

KUBEEDGE = [sys.executable, "-m", "kubeedge"]
ADDRESS = "203.0.113.1"
IMAGE = "docker.io/library/demo:1"


class Site:
    """One cloud, one control plane, some edges."""

    def __init__(
        self,
        directory: Path,
        cloud: Host,
        edges: list[Host],
        nats: list[Host],
        internet: Host,
        prefix: str,
        net: Topology,
        address: str = ADDRESS,
    ) -> None:
        self.directory, self.cloud, self.internet, self.prefix = directory, cloud, internet, prefix
        self.net = net
        self.address = address  # of the cloud
        self.edges = {edge.name: edge for edge in edges}
        self.nats = dict(zip(self.edges, nats, strict=True))
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self.socket = directory / "run/cloud.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start_cluster(
        self, options: Mapping[str, Sequence[str]] | None = None, release: str | None = None, **networks: str
    ) -> KubernetesCluster:
        """With the least rights for the cloud's account. `networks`: pods, services."""
        self.cluster = KubernetesCluster(
            self.cloud, self.directory / "kubernetes", address=ADDRESS, options=options, release=release, **networks
        )
        self.cluster.start()
        self.cluster.apply(*rights.objects())
        return self.cluster

    def start_cloud(
        self,
        tenants: Sequence[str],
        kubelets: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Returns when it can be administrated. `kubelets`: instead of a certificate that the API server believes; `env`: more variables; `more`:
        other sections of the configuration."""
        config = self.directory / "cloud.yaml"
        if kubelets is None:
            file = f"serving-{self.address}"
            serving = self.cluster.identities.kubelets.issue("cloud", hosts=[self.address], file=file)
            kubelets = {"certFile": str(serving.cert), "keyFile": str(serving.key)}
        config.write_text(
            json.dumps(
                {
                    "kind": "CloudCore",
                    "advertise": [self.address],
                    "tenants": list(tenants),
                    "listeners": {"api": {"port": 7443}, "web": {"port": 80}},
                    "kubelets": {"enable": True, **kubelets},
                    "paths": {"state": str(self.directory / "state"), "run": str(self.directory / "run")},
                    **(more or {}),
                }
            )
        )
        log = self.directory / "cloud.log"
        self.process = self.cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=log, env=dict(env or {}))
        process = self.process

        def up() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the cloud ended: {log.read_text()[-2000:]}")
            return self.socket.exists()

        until(up, what="the cloud's socket")

    def stop_cloud(self) -> None:
        assert self.process is not None
        self.cloud.stop(self.process)

    def kubeconfig(self) -> Path:
        """Of the cloud's account."""
        return self.cluster.kubeconfig(rights.ACCOUNT, ())

    def admin(self, *argv: str, check: bool = True) -> str:
        return self.cloud.run(*KUBEEDGE, *argv, "--socket", str(self.socket), check=check)

    def join(
        self,
        name: str,
        tenant: str = "default",
        *options: str,
        node: str = "",
        replace: bool = False,
        modules: Mapping[str, Mapping[str, Any]] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        """An edge joins, as `node` or by its own name, and its agent runs. `options` are those of `kubeedge join`, `modules` more of its
        configuration; `env`: what is different in its environment."""
        edge, root = self.edges[name], self.directory / name
        images.build(_made(root / "var/lib/kubeedge/edge/images/preload") / "demo.tar", IMAGE)
        names = {
            "state": "var/lib/kubeedge/edge",
            "run": "run/kubeedge",
            "pki": "etc/kubeedge/pki",
            "logs": "var/log/pods",
            "kubelet": "var/lib/kubelet",
        }
        configured: dict[str, dict[str, Any]] = {
            "appengine": {
                "cgroupPrefix": f"{self.prefix}-{name}",
                "evictionHard": ["none"],
                "staticPodPath": str(root / "etc/kubernetes/manifests"),
            },
            "metaserver": {"enable": True},
        }
        for module, settings in (modules or {}).items():
            configured.setdefault(module, {}).update(settings)
        paths = {what: str(root / path) for what, path in names.items()}
        config = {"kind": "EdgeCore", "paths": paths, "modules": configured}
        (_made(root / "etc/kubeedge") / "kubeedge.yaml").write_text(json.dumps(config))
        again = ["--replace"] if replace else []
        token = self.admin("token", "create", "--tenant", tenant, "--node", node or name, *again)
        edge.run(
            *KUBEEDGE, "join", "--token-file", "-", "--name", node or name, "--root-dir", str(root), "--no-start",
            *options, self.address, input=token,
        )  # fmt: skip
        self.start_agent(name, env)

    def stop_agent(self, name: str) -> None:
        """SIGTERM; its pods go on."""
        self.edges[name].stop(self.agents[name])

    def reset(self, name: str) -> None:
        """`kubeedge reset`: its pods and its agent end, its state is gone."""
        root = self.directory / name
        self.edges[name].run(*KUBEEDGE, "reset", "--force", "--root-dir", str(root), timeout=120)
        self.agents[name].wait(DEFAULT_TIMEOUT)

    def start_agent(self, name: str, env: dict[str, str] | None = None) -> None:
        """`env`: what is different in its environment."""
        root = self.directory / name
        self.agents[name] = self.edges[name].spawn(
            *KUBEEDGE, "edge", "--root-dir", str(root), log=self.directory / f"{name}.log", env=env
        )


@contextlib.contextmanager
def kubernetes_site(prefix: str, count: int = 2) -> Iterator[Site]:
    """Everything ends with it, cgroups included, which are not namespaced."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))  # the path of a socket must be short
    try:
        with edges_behind_nat(count) as (net, cloud, edges, nats, internet):
            yield Site(directory, cloud, edges, nats, internet, prefix, net)
            for edge in edges:
                edge.power_cut()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        control_groups.remove(f"{prefix}-*")


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
