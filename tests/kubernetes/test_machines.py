"""A cluster of three machines that run the cloud side, by the chart: the paper's Figure 3, then behind Services, then three replicas that fail.

    edges     192.168.N.2 behind NAT ── 203.0.113.1 vm1 ┐
    vm1       pods 10.244.100.0/24, kube-proxy,    10.50.0.1 ┐
    vm2       pods 10.244.101.0/24,                10.50.0.2 ┤ one subnet
    vm3       pods 10.244.102.0/24,                10.50.0.3 ┤
    control   the control plane,                  10.50.0.10 ┘

As a router the cloud side is on vm1; of the edges the first is a node of the cluster then, the second one of another tenant, with the same
addresses. Between the machines there are the routes that a CNI plugin of the kind "host-gw" makes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit import cloud_image, images
from tests.kit.cluster import KubernetesCluster
from tests.kit.cluster.site import IMAGE
from tests.kit.topology import Host, edges_behind_nat, until
from tests.kit.upstream import build
from tests.kubernetes.vm import edge_node, kubeedge, vm_node

pytestmark = pytest.mark.root

CLOUD, CONTROL, BALANCER = "203.0.113.1", "10.50.0.10", "10.50.0.100"
MACHINES, SERVICES, OVERLAY, PODS = "10.50.0.0/24", "10.96.0.0/16", "100.64.0.0/16", "10.244.0.0/16"
VMS = {
    "vm1": ("10.50.0.1", "10.244.100.0/24"),
    "vm2": ("10.50.0.2", "10.244.101.0/24"),
    "vm3": ("10.50.0.3", "10.244.102.0/24"),
}
VALUES = (
    "expose.type=HostNetwork,store.persistence.enabled=false,nodeSelector.role=router,tenants.more={other},"
    f"router.enabled=true,router.networks={{{SERVICES},{MACHINES}}}"
)
#: it says who asks, and has a large file
SERVER = (
    "mkdir -p /www/cgi-bin && truncate -s 5000000 /www/large && "
    "printf '#!/bin/sh\\necho; echo $REMOTE_ADDR\\n' > /www/cgi-bin/who && chmod +x /www/cgi-bin/who && exec httpd -f -p 8080 -h /www"
)
TIMEOUT = 180.0


@dataclass
class Installation:
    cluster: KubernetesCluster
    vms: dict[str, Host]
    edge: Host
    other: Host
    third: Host

    def addresses(self) -> dict[str, str]:
        """Of the pods, by name."""
        found = self.cluster.json("get", "pods")["items"]
        return {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in found}

    def ask(self, pod: str, url: str) -> str:
        """What a pod gets, "" without an answer."""
        words = ("exec", pod, "--", "timeout", "10", "wget", "-qO-", url)
        return self.cluster.kubectl(*words, check=False, timeout=150).strip().removeprefix("[::ffff:").removesuffix("]")

    def who(self, pod: str, address: str) -> str:
        """As whom a pod is seen at that address, which may need a moment."""
        seen: list[str] = []

        def answered() -> bool:
            seen.append(self.ask(pod, f"http://{address}/cgi-bin/who"))
            return bool(seen[-1])

        until(answered, timeout=TIMEOUT, what=f"{pod} -> {address}", interval=0.2)
        return seen[-1]


def pod(name: str, node: str) -> dict[str, Any]:
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", SERVER], "ports": [{"containerPort": 8080}]}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container],
            "tolerations": [{"operator": "Exists"}],
        },
    }  # fmt: skip


def service(name: str) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports},
    }  # fmt: skip


def reaches(host: Host, address: str) -> bool:
    return "1 received" in host.run("ping", "-c1", "-W1", address, check=False)


@contextlib.contextmanager
def machines(directory: Path) -> Iterator[Installation]:
    """Control plane and its machines, with an image of the cloud side on each, and three machines far away, of which the third reaches them
    all."""
    with edges_behind_nat(3) as (net, vm1, edges, nats, _), contextlib.ExitStack() as stack:
        control = net.host("control")
        vms = {"vm1": vm1, **{name: net.host(name) for name in VMS if name != "vm1"}}
        others = [(host, f"{VMS[name][0]}/24") for name, host in vms.items() if host is not vm1]
        net.bridge(vm1, "10.50.0.1/24", [(control, f"{CONTROL}/24"), *others])
        for host in (control, *vms.values()):
            host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
            for name, (address, pods) in VMS.items():
                if host is not vms[name]:
                    host.ip("route", "add", pods, "via", address)
        nats[2].ip("route", "add", MACHINES, "via", CLOUD)
        for host, _ in others:
            host.ip("route", "add", "203.0.113.0/24", "via", "10.50.0.1")
        # kubelets' certificates are of any authority, as kubeadm has it
        options = {"kube-apiserver": ["--kubelet-certificate-authority="]}
        cluster = KubernetesCluster(control, directory / "kubernetes", address=CONTROL, options=options)
        cluster.start()
        archives = cloud_image.build(directory / "image"), images.build(directory / "demo.tar", IMAGE)
        for name, (address, pods) in VMS.items():
            stack.enter_context(vm_node(cluster, vms[name], address, directory / name, *archives, name=name, pods=pods))
        kubeconfig = cluster.kubeconfig("system:kube-proxy", ())
        vm1.spawn(
            str(build.program("kube-proxy")), f"--kubeconfig={kubeconfig}", "--proxy-mode=nftables", "--hostname-override=vm1",
            f"--cluster-cidr={PODS}", "--conntrack-max-per-core=0", "--healthz-bind-address=127.0.0.1:10256",
            log=directory / "kube-proxy.log",
        )  # fmt: skip
        yield Installation(cluster, vms, *edges)


@pytest.fixture(scope="module")
def many_machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with machines(tmp_path_factory.mktemp("machines")) as found:
        yield found


@pytest.fixture(scope="module")
def installation(many_machines: Installation) -> Iterator[Installation]:
    """As a router, with nodes and pods."""
    found = many_machines
    found.cluster.kubectl("label", "node", "vm1", "role=router")
    kubeedge(found.cluster, "init", "--advertise", CLOUD, "--set", VALUES, "--timeout", "120")
    tokens = [token(found, "cam7"), token(found, "cam8", "other")]
    with (
        edge_node(found.edge, "cam7", f"{CLOUD}:10002", tokens[0]),
        edge_node(found.other, "cam8", f"{CLOUD}:10002", tokens[1]),
    ):
        ready(found, "node/cam7")
        names = {"far": "cam7", "near": "vm1", "next": "vm2"}
        found.cluster.apply(*(pod(name, node) for name, node in names.items()), *map(service, names))
        for name in names:
            ready(found, f"pod/{name}")
        yield found


def ready(installation: Installation, what: str) -> None:
    installation.cluster.kubectl("wait", "--for=condition=Ready", what, "--timeout=120s", timeout=150)


def token(installation: Installation, node: str, tenant: str = "default") -> str:
    said = in_the_cloud(installation, "token", "create", "--tenant", tenant, "--node", node, "-o", "json")
    return str(json.loads(said)["token"])


def in_the_cloud(installation: Installation, *words: str) -> str:
    return installation.cluster.kubectl(
        "-n", "kubeedge", "exec", "deploy/kubeedge-cloud", "-c", "cloud", "--", "/usr/bin/kubeedge", *words, timeout=120
    )


def test_pods_here_and_there_reach_each_other_by_their_own_addresses(installation: Installation) -> None:
    addresses = installation.addresses()
    for one, two in (("far", "near"), ("far", "next"), ("near", "far"), ("next", "far")):
        assert installation.who(one, f"{addresses[two]}:8080") == addresses[one], f"{one} -> {two}"
    for one, two in (("far", "next"), ("next", "far")):
        url = f"http://{addresses[two]}:8080/large"
        words = ("exec", one, "--", "sh", "-c", f"timeout 60 wget -qO- {url} | wc -c")
        assert installation.cluster.kubectl(*words, timeout=150).strip() == "5000000", f"{one} <- {two}"


def test_edge_pods_reach_clusterips_and_these_reach_edge_pods(installation: Installation) -> None:
    services = {
        s["metadata"]["name"]: s["spec"]["clusterIP"] for s in installation.cluster.json("get", "services")["items"]
    }
    for name in ("near", "next"):
        installation.who("far", services[name])
    installation.who("near", services["far"])
    # the API server of the cluster is a Service, too: its endpoint is a machine that is no node
    tls = f"nc -w 5 {services['kubernetes']} 443 < /dev/null && echo open"
    until(
        lambda: "open" in installation.cluster.kubectl("exec", "far", "--", "sh", "-c", tls, check=False, timeout=150),
        timeout=TIMEOUT, what="the API server, by its ClusterIP", interval=0.2,
    )  # fmt: skip


def test_machines_reach_edge_machines_and_the_reverse(installation: Installation) -> None:
    for address, _ in VMS.values():
        until(lambda a=address: reaches(installation.edge, a), timeout=TIMEOUT, what=f"edge -> {address}")
    for name, vm in installation.vms.items():
        until(lambda vm=vm: reaches(vm, "100.64.0.1"), timeout=TIMEOUT, what=f"{name} -> edge")


def test_another_tenant_is_not_on_that_network(installation: Installation) -> None:
    """Its node has the number, the addresses and the pods' network that the node of the cluster has."""
    addresses = installation.addresses()
    until(
        lambda: "cam8" in in_the_cloud(installation, "links", "--tenant", "other"),
        timeout=TIMEOUT, what="the link of the other tenant", interval=0.5,
    )  # fmt: skip
    assert "100.64.0.1/" in installation.other.ip("-o", "addr")
    assert SERVICES not in installation.other.ip("route") and MACHINES not in installation.other.ip("route")
    for address in (addresses["near"], addresses["next"], addresses["far"], "10.50.0.2", "100.64.255.254"):
        assert not reaches(installation.other, address), address


def test_a_machine_s_routes_are_kept_and_go_with_the_cloud_side(installation: Installation) -> None:
    vm1, vm2 = installation.vms["vm1"], installation.vms["vm2"]

    def routed() -> bool:
        found = vm2.ip("route")
        return all(f"{network} via 10.50.0.1" in found for network in (OVERLAY, PODS))

    until(routed, timeout=TIMEOUT, what="the routes of vm2")
    assert "via 10.50.0.1" not in vm1.ip("route")
    vm2.ip("route", "del", PODS, "via", "10.50.0.1")
    until(routed, timeout=TIMEOUT, what="a route that somebody took away")
    kubeedge(installation.cluster, "reset", "cloud", "--force", "--delete-data")
    until(
        lambda: "via 10.50.0.1 " not in vm2.ip("route", "show", OVERLAY), timeout=TIMEOUT, what="the end of the routes"
    )
    until(lambda: "kb0" not in vm1.ip("link"), timeout=TIMEOUT, what="the end of the TUN")


def test_behind_a_node_port_and_a_load_balancer_and_on_a_volume(many_machines: Installation, tmp_path: Path) -> None:
    """kube-proxy brings connections to the pod, the volume is bound by the cluster's controller; what is on it outlives the pod."""
    cluster = many_machines.cluster
    cluster.kubectl("label", "node", "vm1", "role=router", "--overwrite")
    kubeedge(cluster, "reset", "cloud", "--force", "--delete-data")
    os.chown(tmp_path, 65532, 65532)  # who provides volumes of this kind does that
    cluster.apply(volume(tmp_path))
    advertised = ("--advertise", VMS["vm1"][0], "--advertise", BALANCER)
    kubeedge(cluster, "init", *advertised, "--set", "expose.type=NodePort,nodeSelector.role=router", "--timeout", "120")
    claim = cluster.json("get", "pvc", "kubeedge-cloud", "-n", "kubeedge")
    assert claim["status"]["phase"] == "Bound" and claim["spec"]["volumeName"] == "kubeedge"

    with edge_node(many_machines.third, "cam5", f"{VMS['vm1'][0]}:30002", token(many_machines, "cam5")):
        works(many_machines, "by-port", "cam5")
        cluster.kubectl("delete", "pods", "-n", "kubeedge", "--all", timeout=120)
        cluster.kubectl("rollout", "status", "-n", "kubeedge", "deploy/kubeedge-cloud", "--timeout=120s", timeout=150)
        works(many_machines, "on-volume", "cam5")

    kubeedge(cluster, "upgrade", "--set", "expose.type=LoadBalancer", "--timeout", "120")
    given = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}})  # by the cloud provider
    what = ("service", "kubeedge-cloud", "-n", "kubeedge")
    cluster.kubectl("patch", *what, "--subresource=status", "--type=merge", "-p", given)
    with edge_node(many_machines.third, "cam6", f"{BALANCER}:10002", token(many_machines, "cam6")):
        works(many_machines, "by-balancer", "cam6")


def volume(path: Path) -> dict[str, Any]:
    """A PersistentVolume in that directory, for a claim without a class."""
    spec = {
        "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(path)},
        "persistentVolumeReclaimPolicy": "Retain",
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "kubeedge"}, "spec": spec}


def works(installation: Installation, name: str, node: str) -> None:
    """A new pod comes to that node, and the API server reaches into it."""
    installation.cluster.apply(pod(name, node))
    ready(installation, f"pod/{name}")
    words = ("exec", name, "--", "echo", "inside")
    until(
        lambda: "inside" in installation.cluster.kubectl(*words, check=False, timeout=150),
        timeout=TIMEOUT, what=f"exec in {name}", interval=0.5,
    )  # fmt: skip


def test_replicas_take_over_when_the_leader_stops_and_when_machines_fail(many_machines: Installation) -> None:
    """Three pods over etcd, of which two machines fail; the Node of an edge has the address of the one that leads."""
    cluster, vms = many_machines.cluster, many_machines.vms
    kubeedge(cluster, "reset", "cloud", "--force", "--delete-data")
    store = [f"http://{CONTROL}:2479", f"http://{CONTROL}:2480"]
    cluster.host.spawn(
        str(build.program("etcd")), f"--data-dir={cluster.directory}/store", "--unsafe-no-fsync", "--log-level=error",
        f"--listen-client-urls={store[0]}", f"--advertise-client-urls={store[0]}", f"--listen-peer-urls={store[1]}",
        log=cluster.directory / "store.log",
    )  # fmt: skip
    values = f"expose.type=HostNetwork,replicas=3,store.etcd.endpoints={{{CONTROL}:2479}}"
    others = [word for address, _ in list(VMS.values())[1:] for word in ("--advertise", address)]
    kubeedge(cluster, "init", "--advertise", CLOUD, *others, "--set", values, "--timeout", "120")

    def leader(among: set[str]) -> str:
        """The one of those that leads; it may take a lease's time."""
        seen: list[str] = []

        def leads() -> bool:
            addresses = cluster.json("get", "node", "cam9")["status"].get("addresses") or [{}]
            first = addresses[0].get("address")
            seen.append(next((name for name, (address, _) in VMS.items() if address == first), ""))
            return seen[-1] in among

        until(leads, timeout=TIMEOUT, what=f"a leader among {sorted(among)}", interval=0.2)
        return seen[-1]

    with edge_node(many_machines.third, "cam9", f"{CLOUD}:10002", token(many_machines, "cam9")):
        ready(many_machines, "node/cam9")
        left = set(VMS)
        first = leader(left)
        works(many_machines, "before", "cam9")
        pid = vms[first].process(b"kubeedge\0cloud\0--config")
        os.kill(pid, signal.SIGSTOP)
        try:
            leader(left - {first})
            works(many_machines, "meanwhile", "cam9")
        finally:
            os.kill(pid, signal.SIGCONT)
        works(many_machines, "after", "cam9")
        while len(left) > 1:
            failed = leader(left)  # a process that had no time for its lease may have lost it, so it is not said which
            vms[failed].power_cut()
            left.discard(failed)
            leader(left)
            works(many_machines, f"with-{len(left)}", "cam9")
        ready(many_machines, "node/cam9")
