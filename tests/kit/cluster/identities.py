"""Certificates of a control plane, and kubeconfigs for it. One authority for API server and clients, others for etcd, kubelets, front proxy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kit.certs import TestAuthority

MASTERS = ("system:masters",)


class Identities:
    """`names`: addresses and names of the API server, the first of them is where clients are sent."""

    def __init__(self, directory: Path, names: Sequence[str], port: int) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.server = f"https://{names[0]}:{port}"
        self.cluster = TestAuthority(directory, "kubernetes CA")
        self.cluster_key = self.cluster.key()
        self.etcd = TestAuthority(directory, "etcd CA")
        self.kubelets = TestAuthority(directory, "kubelet CA")
        self.kubelets_key = self.kubelets.key()
        self.front_proxy = TestAuthority(directory, "front-proxy CA")
        self.etcd_server = self.etcd.issue("etcd-server", hosts=["127.0.0.1"])
        self.etcd_client = self.etcd.issue("etcd-client")
        local = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        self.api = self.cluster.issue("kube-apiserver", hosts=[*names, *local])
        self.to_kubelets = self.cluster.issue(
            "kube-apiserver-kubelet-client", groups=["kubeadm:cluster-admins"], file="to-kubelets"
        )
        self.to_extensions = self.front_proxy.issue("front-proxy-client")
        self.service_accounts = self.cluster.issue("service-accounts")  # its public key counts

    def kubeconfig(
        self,
        user: str = "admin",
        groups: Sequence[str] = MASTERS,
        *,
        server: str = "",
        days: tuple[float, float] = (-1, 30),
        **cluster: Any,
    ) -> Path:
        """With a client certificate inside the file; `cluster`: more fields of its cluster, {"proxy-url": ...} say."""
        name = user.replace(":", "-").replace("/", "-")
        issued = self.cluster.issue(user, groups=groups, days=days, file=f"client-{name}")
        return self.write_kubeconfig(
            f"kubeconfig-{name}",
            {"client-certificate": str(issued.cert), "client-key": str(issued.key)},
            server=server,
            **cluster,
        )

    def write_kubeconfig(self, file: str, user: dict[str, Any], *, server: str = "", **cluster: Any) -> Path:
        """With those credentials."""
        path = self.directory / file
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {
                                "server": server or self.server,
                                "certificate-authority": str(self.cluster.ca),
                                **cluster,
                            },
                        }
                    ],
                    "users": [{"name": "test", "user": user}],
                }
            )
        )
        return path
