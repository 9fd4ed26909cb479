"""Command lines of a control plane's parts. Everything but the API server's port listens on loopback of the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.kit.certs import Credentials
from tests.kit.cluster.identities import Identities

API_PORT = 6443
_ETCD = "https://127.0.0.1:2379"
_ETCD_PEER = "https://127.0.0.1:2380"


def etcd(identities: Identities, data: Path) -> list[str]:
    """It does not wait for the disk: what a test's machine loses, nobody misses."""
    return [
        "--name=one", f"--data-dir={data}", "--unsafe-no-fsync", "--log-level=error", "--logger=zap",
        f"--listen-client-urls={_ETCD}", f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_ETCD_PEER}", f"--initial-advertise-peer-urls={_ETCD_PEER}",
        f"--initial-cluster=one={_ETCD_PEER}",
        *_etcd_tls("", identities.etcd_server), *_etcd_tls("peer-", identities.etcd_server),
    ]  # fmt: skip


def _etcd_tls(kind: str, c: Credentials) -> list[str]:
    return [
        f"--{kind}cert-file={c.cert}", f"--{kind}key-file={c.key}", f"--{kind}trusted-ca-file={c.ca}",
        f"--{kind}client-cert-auth=true",
    ]  # fmt: skip


def api_server(identities: Identities, address: str, services: str) -> list[str]:
    """As kubeadm configures it."""
    i = identities
    return [
        f"--advertise-address={address}", f"--secure-port={API_PORT}", f"--service-cluster-ip-range={services}",
        f"--etcd-servers={_ETCD}", f"--etcd-cafile={i.etcd_client.ca}",
        f"--etcd-certfile={i.etcd_client.cert}", f"--etcd-keyfile={i.etcd_client.key}",
        f"--tls-cert-file={i.api.cert}", f"--tls-private-key-file={i.api.key}", f"--client-ca-file={i.cluster.ca}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=true", "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={i.service_accounts.cert}",
        f"--service-account-signing-key-file={i.service_accounts.key}",
        f"--kubelet-certificate-authority={i.kubelets.ca}",
        f"--kubelet-client-certificate={i.to_kubelets.cert}", f"--kubelet-client-key={i.to_kubelets.key}",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        f"--requestheader-client-ca-file={i.front_proxy.ca}", "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={i.to_extensions.cert}", f"--proxy-client-key-file={i.to_extensions.key}",
        "--enable-aggregator-routing=true", "--profiling=false",
    ]  # fmt: skip


def controller_manager(identities: Identities, pods: str, services: str) -> list[str]:
    """All controllers; the pods' network is allocated to nodes in pieces of 24 bits, a second one of IPv6 in those of 64."""
    i = identities
    of_pieces = "--node-cidr-mask-size-ipv4" if "," in pods else "--node-cidr-mask-size"
    kubeconfig = i.kubeconfig("system:kube-controller-manager", (), server=_LOCAL_API)
    return [
        f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}", "--bind-address=127.0.0.1", "--leader-elect=false",
        "--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
        "--use-service-account-credentials=true", f"--service-account-private-key-file={i.service_accounts.key}",
        f"--root-ca-file={i.cluster.ca}",
        f"--cluster-signing-kube-apiserver-client-cert-file={i.cluster.ca}",
        f"--cluster-signing-kube-apiserver-client-key-file={i.cluster_key}",
        f"--cluster-signing-kubelet-client-cert-file={i.cluster.ca}",
        f"--cluster-signing-kubelet-client-key-file={i.cluster_key}",
        f"--cluster-signing-kubelet-serving-cert-file={i.kubelets.ca}",
        f"--cluster-signing-kubelet-serving-key-file={i.kubelets_key}",
        "--allocate-node-cidrs=true", f"--cluster-cidr={pods}", f"--service-cluster-ip-range={services}",
        f"{of_pieces}=24", "--profiling=false",
    ]  # fmt: skip


def scheduler(identities: Identities) -> list[str]:
    kubeconfig = identities.kubeconfig("system:kube-scheduler", (), server=_LOCAL_API)
    return [
        f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}", "--bind-address=127.0.0.1", "--leader-elect=false",
        "--profiling=false",
    ]  # fmt: skip


_LOCAL_API = f"https://127.0.0.1:{API_PORT}"

#: name of the program -> its port for health, where it listens on loopback
PARTS: dict[str, int] = {
    "etcd": 2379,
    "kube-apiserver": API_PORT,
    "kube-controller-manager": 10257,
    "kube-scheduler": 10259,
}

Command = Callable[[], Sequence[str]]
