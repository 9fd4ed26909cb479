"""Tenants are clusters: one is added with equal names, led astray, changed and removed while the cloud runs, and the other never hears of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.certs import TestAuthority
from tests.kit.cluster import KubernetesCluster, rights
from tests.kit.cluster.site import Site
from tests.kubernetes.workloads import eventually, pod, runs, wait_ready

pytestmark = pytest.mark.root

CONTROL = "203.0.113.200"
EDGE = "edge3"  # the machine; its Node is called edge1, as one of the other cluster


class Acme:
    """The second tenant, with a cluster of its own, and a machine in it."""

    def __init__(self, site: Site, cluster: KubernetesCluster) -> None:
        self.site, self.cluster = site, cluster
        self.kubeconfig = site.directory / "acme.kubeconfig"

    def lead_to(self, kubeconfig: Path) -> None:
        """The file has other content from now on, as an editor replaces it."""
        new = self.kubeconfig.with_suffix(".new")
        new.write_bytes(kubeconfig.read_bytes())
        new.replace(self.kubeconfig)

    def log(self) -> str:
        return (self.site.directory / "cloud.log").read_text(errors="replace")

    def runs_a_pod(self, name: str) -> None:
        """There is a way to the cluster and back."""
        self.cluster.apply(pod(name))
        self.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s", timeout=150)
        self.cluster.kubectl("delete", "pod", name, timeout=150)


@pytest.fixture(scope="module")
def acme(site: Site) -> Iterator[Acme]:
    ports = (
        site.cluster.identities.kubelets.ca
    )  # vouches for the ports of the cloud's kubelet APIs, which all tenants share
    options = {"kube-apiserver": [f"--kubelet-certificate-authority={ports}"]}
    cluster = KubernetesCluster(site.internet, site.directory / "other", address=CONTROL, options=options)
    cluster.start()
    cluster.apply(*rights.objects())
    acme = Acme(site, cluster)
    acme.lead_to(cluster.kubeconfig(rights.ACCOUNT, ()))
    site.admin("tenant", "create", "acme", "--kubeconfig", str(acme.kubeconfig))
    site.join(EDGE, "acme", node="edge1")
    cluster.kubectl("wait", "--for=condition=Ready", "node/edge1", "--timeout=120s", timeout=150)
    yield acme


def test_a_second_cluster_with_the_same_names_needs_no_restart(site: Site, acme: Acme) -> None:
    process = site.process
    assert f"cluster  {acme.kubeconfig}" in site.admin("tenant", "show", "acme")
    for cluster, number in ((acme.cluster, "88123"), (site.cluster, "88124")):
        cluster.apply(pod("same", command=f"exec sleep {number}"))
    for cluster in (acme.cluster, site.cluster):
        cluster.kubectl("wait", "--for=condition=Ready", "pod/same", "--timeout=120s", timeout=150)
    assert runs(site, EDGE, b"88123") and not runs(site, EDGE, b"88124")
    assert runs(site, "edge1", b"88124") and not runs(site, "edge1", b"88123")
    assert {node["metadata"]["name"] for node in acme.cluster.json("get", "nodes")["items"]} == {"edge1"}
    assert site.process is process and process is not None and process.poll() is None


def test_a_kubeconfig_that_goes_wrong_stops_nothing_and_is_heard_when_it_is_right_again(site: Site, acme: Acme) -> None:
    right = acme.cluster.kubeconfig(rights.ACCOUNT, ())
    wrong = site.directory / "wrong-ca"
    wrong.mkdir()
    config = json.loads(right.read_text())
    config["clusters"][0]["cluster"]["certificate-authority"] = str(TestAuthority(wrong, "another CA").ca)
    (wrong / "kubeconfig").write_text(json.dumps(config))
    said = len(acme.log())
    acme.lead_to(wrong / "kubeconfig")
    eventually(lambda: "certificate verify failed" in acme.log()[said:], "it says why")
    assert runs(site, EDGE, b"88123")
    assert "edge1" in site.admin("node", "list", "--tenant", "acme")
    site.cluster.apply(pod("meanwhile"))  # the other tenant
    wait_ready(site, "meanwhile")
    site.cluster.kubectl("delete", "pod", "meanwhile", timeout=150)
    acme.lead_to(right)
    acme.runs_a_pod("afterwards")
    assert runs(site, EDGE, b"88123")


def test_a_kubeconfig_of_another_cluster_removes_no_machine(site: Site, acme: Acme) -> None:
    """Our Nodes are not there, and that of the same name is another tenant's."""
    acme.lead_to(site.kubeconfig())
    eventually(lambda: "the cluster has a Node edge1 that is not one of this cloud's" in acme.log(), "it is told")
    assert "edge1" in site.admin("node", "list", "--tenant", "acme") and runs(site, EDGE, b"88123")
    mine = site.cluster.json("get", "node", "edge1")["metadata"]["annotations"]["kubeedge.io/managed"]
    assert mine.endswith("/default")  # and nobody has taken the other tenant's Node
    acme.lead_to(acme.cluster.kubeconfig(rights.ACCOUNT, ()))
    acme.runs_a_pod("found-again")
    assert runs(site, EDGE, b"88123") and runs(site, "edge1", b"88124")


def test_another_file_with_another_user_goes_on_with_the_same_nodes(site: Site, acme: Acme) -> None:
    cluster = acme.cluster
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": rights.ACCOUNT}
    cluster.apply(
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "second"},
         "roleRef": role, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "second"}]}
    )  # fmt: skip
    uid = cluster.json("get", "node", "edge1")["metadata"]["uid"]
    site.admin("tenant", "create", "acme", "--kubeconfig", str(cluster.kubeconfig("second", ())))
    assert "kubeconfig-second" in site.admin("tenant", "show", "acme")
    cluster.kubectl("delete", "clusterrolebinding", rights.ACCOUNT)  # the first user may nothing any more
    acme.runs_a_pod("second")
    assert cluster.json("get", "node", "edge1")["metadata"]["uid"] == uid and runs(site, EDGE, b"88123")


def test_the_authority_of_a_cluster_is_replaced_under_a_running_cloud(site: Site, acme: Acme, tmp_path: Path) -> None:
    """Of its API server's certificates, at both ends; then in the file that its kubeconfigs name, beside the old one."""
    cluster, authority = acme.cluster, TestAuthority(tmp_path, "kubernetes CA of next year")
    uid = cluster.json("get", "pod", "same")["metadata"]["uid"]
    serving = authority.issue("kube-apiserver", hosts=[CONTROL, "127.0.0.1", "localhost", "kubernetes.default.svc"])
    client = authority.issue("kube-apiserver-kubelet-client", groups=["kubeadm:cluster-admins"], file="to-kubelets")
    cluster.change(
        "kube-apiserver", f"--tls-cert-file={serving.cert}", f"--tls-private-key-file={serving.key}",
        f"--kubelet-client-certificate={client.cert}", f"--kubelet-client-key={client.key}",
    )  # fmt: skip
    said, process = len(acme.log()), site.process
    cluster.kill("kube-apiserver")
    cluster.start_part("kube-apiserver")
    eventually(lambda: "certificate verify failed" in acme.log()[said:], "it says why")
    assert runs(site, EDGE, b"88123")
    known = cluster.identities.cluster.ca
    signer = known.with_suffix(".signer")  # who signs has one certificate, who is believed may have two
    signer.write_bytes(known.read_bytes())
    signs = [f"--cluster-signing-{of}-client-cert-file={signer}" for of in ("kube-apiserver", "kubelet")]
    cluster.change("kube-controller-manager", *signs)
    both = known.with_suffix(".new")
    both.write_bytes(known.read_bytes() + authority.ca.read_bytes())
    both.replace(known)
    for part in ("kube-controller-manager", "kube-scheduler"):  # these read it when they start
        cluster.kill(part)
    cluster.wait_for_api()  # they end when it does not know their roles yet
    for part in ("kube-controller-manager", "kube-scheduler"):
        cluster.start_part(part)
    cluster.wait()
    acme.runs_a_pod("rotated")
    refusals: list[str] = []

    def reached() -> bool:
        try:
            return cluster.kubectl("exec", "same", "--", "sh", "-c", "echo inside") == "inside\n"
        except RuntimeError as exc:
            refusals.append(str(exc))
            return False

    try:
        eventually(reached, "the API server shows its new certificate at the kubelet port")
    except AssertionError as exc:
        raise AssertionError(f"{exc}: {refusals[-1]}") from exc
    assert cluster.json("get", "pod", "same")["metadata"]["uid"] == uid and runs(site, EDGE, b"88123")
    assert site.process is process and process is not None and process.poll() is None


def test_a_tenant_that_is_removed_leaves_its_cluster_and_the_other_tenant_as_they_were(site: Site, acme: Acme) -> None:
    process = site.process
    with pytest.raises(RuntimeError, match="tenant acme has 1 nodes"):
        site.admin("tenant", "remove", "acme")
    assert "tenant acme is removed" in site.admin("tenant", "remove", "acme", "--force")
    assert acme.cluster.json("get", "nodes")["items"] == []
    assert site.admin("tenant", "list").split() == ["default"]
    log = site.directory / f"{EDGE}.log"
    eventually(lambda: "node edge1 is not known; join it again" in log.read_text(), "the agent says why")
    assert runs(site, "edge1", b"88124") and site.process is process and process is not None and process.poll() is None
    site.cluster.kubectl("delete", "pod", "same", timeout=150)
    site.reset(EDGE)
    del site.agents[EDGE]
