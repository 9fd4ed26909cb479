"""Pods with addresses of both versions of IP: a real cloud, two real agents behind NAT, real containers. Everything of this file happens at one site, in
order of the file."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit import images
from tests.kit.topology import Host, edges_behind_nat, until
from tests.netns.test_join import KUBECTL, KUBEEDGE

pytestmark = pytest.mark.root

PREFIX = f"kbsix{os.getpid()}"
PODS, NODES, SERVICES = (
    ipaddress.IPv6Network(text) for text in ("fd00:10:244::/48", "fd00:100:64::/64", "fd00:10:96::/112")
)
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
SERVER = "echo $HOSTNAME $IPS $HOSTS >/tmp/hi; exec httpd -f -p '[::]:8080' -h /tmp"


class Edge:
    """One machine behind NAT. `node`: its name, if that is not the host's."""

    def __init__(self, site: DualSite, host: Host, node: str = "", tenant: str = "default") -> None:
        self.site, self.host, self.name, self.tenant = site, host, node or host.name.rpartition("-")[2], tenant
        self.root = site.directory / f"{tenant}-{self.name}"
        self.socket = str(self.root / "run/kubeedge/edge.sock")

    def join(self) -> None:
        token = self.site.admin("token", "create", "--tenant", self.tenant, "--node", self.name)
        arguments = [
            "--token-file",
            "-",
            "--name",
            self.name,
            "--root-dir",
            str(self.root),
            "--no-start",
            "203.0.113.1",
        ]
        self.host.run(*KUBEEDGE, "join", *arguments, input=token)
        config = self.root / "etc/kubeedge/kubeedge.yaml"
        text = config.read_text().replace("cgroupPrefix: kubeedge", f"cgroupPrefix: {PREFIX}{self.tenant}{self.name}")
        text = text.replace("evictionHard: []", "evictionHard: [none]")
        head, name, tail = text.partition("  mesh:")
        config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))

    def start(self) -> None:
        self.agent = self.host.spawn(
            *KUBEEDGE, "edge", "--root-dir", str(self.root), log=self.site.directory / f"{self.tenant}-{self.name}.log"
        )
        until(lambda: self.status().get("link", {}).get("up"), what=f"the link of {self.name}")

    def stop(self) -> None:
        self.host.signal(self.agent, signal.SIGTERM)
        self.agent.wait(90)

    def status(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.host.run(*KUBEEDGE, "status", "-o", "json", "--socket", self.socket)))
        except RuntimeError:
            return {}

    def fetch(self, address: str, port: int) -> str:
        """From the machine itself."""
        host = f"[{address}]" if ":" in address else address
        return self.host.run(sys.executable, "-c", FETCH, f"http://{host}:{port}/hi", check=False)

    def load(self, archive: Path) -> None:
        self.host.run(*KUBEEDGE, "image", "import", str(archive), "demo:1", "--socket", self.socket)


class DualSite:
    """A cloud with a TUN, which first has no IPv6 for pods, and two machines behind NAT."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        _, self.cloud, (*hosts, self.third), self.nats, self.internet = stack.enter_context(edges_behind_nat(3))
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
        stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.socket = str(self.directory / "run/cloud.sock")
        self.edges = [Edge(self, host) for host in hosts]
        for edge in self.edges:
            stack.callback(cgroups.kill_and_remove, f"{PREFIX}{edge.tenant}{edge.name}")

    def start_cloud(self, addresses: str) -> None:
        config = self.directory / "cloud.yaml"
        config.write_text(
            f"kind: CloudCore\nadvertise: [203.0.113.1]\naddresses: {addresses}\n"
            f"paths: {{state: {self.directory}/state, run: {self.directory}/run}}\n"
        )
        self.process = self.cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=self.directory / "cloud.log")
        until(lambda: Path(self.socket).exists(), what="the cloud's socket")

    def stop_cloud(self) -> None:
        self.cloud.signal(self.process, signal.SIGTERM)
        self.process.wait(90)

    def admin(self, *arguments: str) -> str:
        return self.cloud.run(*KUBEEDGE, *arguments, "--socket", self.socket)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        config = str(self.directory / "state/kubeconfig-default")
        return self.cloud.run("env", f"HOME={self.directory}", KUBECTL, "--kubeconfig", config, *arguments, input=input)

    def json(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", input="\n".join(map(json.dumps, objects)))

    def ips(self, pod: str) -> list[str]:
        return [entry["ip"] for entry in self.json("pod", pod)["status"].get("podIPs", ())]

    def inside(self, pod: str, *argv: str, check: bool = True) -> str:
        """Run it in the network of a pod."""
        found = self.json("pod", pod)
        edge = next(edge for edge in self.edges if edge.name == found["spec"]["nodeName"])
        network = f"--net={edge.root}/run/kubeedge/ns/{found['metadata']['uid']}/net"
        return edge.host.run("nsenter", network, *argv, check=check)

    def fetch(self, pod: str, address: str, port: int = 8080) -> str:
        host = f"[{address}]" if ":" in address else address
        return self.inside(pod, sys.executable, "-c", FETCH, f"http://{host}:{port}/hi", check=False)


def pod(name: str, node: str, app: str = "web", host_port: int = 0) -> dict[str, Any]:
    fields = {"IPS": "status.podIPs", "HOSTS": "status.hostIPs"}
    container = {
        "name": "c", "image": "demo:1", "command": ["sh", "-c", SERVER],
        "env": [{"name": n, "valueFrom": {"fieldRef": {"fieldPath": path}}} for n, path in fields.items()],
        "ports": [{"name": "http", "containerPort": 8080, **({"hostPort": host_port} if host_port else {})}],
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/hi"}, "periodSeconds": 1},
    }  # fmt: skip
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "spec": spec}


@pytest.fixture(scope="module")
def site() -> Iterator[DualSite]:
    with contextlib.ExitStack() as stack:
        site = DualSite(stack)
        site.start_cloud("{}")
        for edge in site.edges:
            edge.join()
            edge.start()
            edge.load(images.build(site.directory / "demo.tar", "demo:1"))
        yield site


def until_ready(site: DualSite, *pods: str) -> None:
    for name in pods:
        until(lambda name=name: "1/1" in site.kubectl("get", "pod", name), what=f"{name} is ready")


def test_nodes_that_joined_before_get_addresses_when_the_cloud_has_some(site: DualSite) -> None:
    site.apply(pod("old", "edge1"))
    until_ready(site, "old")
    assert len(site.ips("old")) == 1
    site.stop_cloud()
    site.start_cloud(f"{{podsIpv6: '{PODS}', servicesIpv6: '{SERVICES}'}}")

    def cidrs(node: str) -> list[str]:
        return list(site.json("node", node)["spec"].get("podCIDRs", ()))

    def addresses(node: str) -> list[str]:
        found = site.json("node", node)["status"]["addresses"]
        return [entry["address"] for entry in found if entry["type"] == "InternalIP"]

    for number in (1, 2):
        until(lambda n=number: len(cidrs(f"edge{n}")) == 2, what="two pod CIDRs")
        assert cidrs(f"edge{number}") == [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]
        until(lambda n=number: len(addresses(f"edge{n}")) == 2, what="two addresses of the node")
        assert addresses(f"edge{number}") == [f"100.64.0.{number}", f"fd00:100:64::{number}"]
    # the pod of before goes on, with the address that it has
    assert (
        "1/1" in site.kubectl("get", "pod", "old")
        and site.json("pod", "old")["status"]["containerStatuses"][0]["restartCount"] == 0
    )

    def condition() -> dict[str, str]:
        found = site.json("node", "edge1")["status"]["conditions"]
        return next((c for c in found if c["type"] == "PodIPv6Ready"), {})

    until(lambda: condition().get("status") == "True", what="the condition")
    site.kubectl("delete", "pod", "old")


def test_pods_have_both_addresses_and_reach_each_other_across_the_relay(site: DualSite) -> None:
    site.apply(pod("a", "edge1", host_port=18080), pod("b", "edge2"), pod("c", "edge1"))
    until_ready(site, "a", "b", "c")
    for name, number in (("a", 1), ("b", 2), ("c", 1)):
        four, six = site.ips(name)
        assert ipaddress.ip_address(four) in ipaddress.ip_network(f"10.244.{number}.0/24")
        assert ipaddress.ip_address(six) in ipaddress.ip_network(f"fd00:10:244:{number}::/64")
        status = site.json("pod", name)["status"]
        assert [entry["ip"] for entry in status["hostIPs"]] == [f"100.64.0.{number}", f"fd00:100:64::{number}"]
    for source, target in (("a", "b"), ("b", "a"), ("a", "c")):
        for address in site.ips(target):
            assert site.fetch(source, address).split() == [
                target, ",".join(site.ips(target)), ",".join(e["ip"] for e in site.json("pod", target)["status"]["hostIPs"])
            ]  # fmt: skip
    # the client's own address arrives; nodes and the cloud reach pods, and pods reach nodes
    for host in (site.cloud, site.edges[0].host):
        assert "1 received" in host.run("ping", "-6", "-c", "1", "-W", "10", site.ips("b")[1])
    assert "1 received" in site.inside("b", "ping", "-6", "-c", "1", "-W", "10", "fd00:100:64::1")
    cloud = str(NODES[65_534])
    assert "1 received" in site.inside("b", "ping", "-6", "-c", "1", "-W", "10", cloud)
    for address in ("100.64.0.1", "fd00:100:64::1"):
        assert site.fetch("b", address, 18080).split()[:1] == ["a"]
    # no pod is another one's router, nor its node's
    assert site.edges[0].host.run("cat", "/proc/sys/net/ipv6/conf/cni0/accept_ra") == "0\n"
    # hosts files name both
    assert site.kubectl("exec", "a", "--", "cat", "/etc/hosts").count("\ta\n") == 2


def test_icmpv6_errors_say_why_there_is_no_way_and_what_is_too_long(site: DualSite) -> None:
    nowhere = site.inside("a", "ping", "-6", "-c", "1", "-W", "10", "fd00:10:244:77::1", check=False)
    assert "No route" in nowhere or "unreachable" in nowhere, nowhere
    # larger than the MTU of the way: in fragments of the sender, or an error names the MTU
    target, host = site.ips("b")[1], site.edges[0].host
    assert "1 received" in site.inside("a", "ping", "-6", "-c", "1", "-W", "10", "-s", "4000", target)
    host.ip("link", "set", "kb0", "mtu", "1400")
    ping = f"ping -6 -M do -c 3 -W 5 -s 1420 {target} 2>&1"
    assert "mtu=1400" in site.inside("a", "sh", "-c", ping, check=False).replace(": ", "=")
    site.inside("a", "ip", "-6", "route", "flush", "cache")
    host.ip("link", "set", "kb0", "mtu", "1500")


def test_services_of_both_families_lead_to_pods(site: DualSite) -> None:
    def service(name: str, **spec: Any) -> dict[str, Any]:
        port = {"port": 80, "targetPort": "http"}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": "web"}, "ports": [port], **spec}}  # fmt: skip

    site.apply(
        service("dual", ipFamilyPolicy="RequireDualStack"),
        service("six", ipFamilies=["IPv6"]),
        service("four", ipFamilies=["IPv4"]),
        service("headless", clusterIP="None", ipFamilyPolicy="RequireDualStack"),
        service("headless-four", clusterIP="None"),
    )

    def families(name: str) -> list[str]:
        found = site.json("endpointslices", "-l", f"kubernetes.io/service-name={name}")["items"]
        return sorted(s["addressType"] for s in found for e in s["endpoints"])

    until(lambda: families("dual") == ["IPv4"] * 3 + ["IPv6"] * 3, what="slices of both families")
    until(lambda: families("six") == ["IPv6"] * 3 and families("four") == ["IPv4"] * 3, what="slices of one")
    until(lambda: families("headless-four") == ["IPv4"] * 3, what="slices of a headless one")
    for name, count in (("dual", 2), ("six", 1)):
        cluster_ips = site.json("service", name)["spec"]["clusterIPs"]
        assert len(cluster_ips) == count
        for address in cluster_ips:
            seen: set[str] = set()
            until(  # the pods of the other node, the other one here, and itself (hairpin)
                lambda a=address, s=seen: s.update(site.fetch("a", a, 80).split()[:1]) or s >= {"a", "b", "c"},  # type: ignore[func-returns-value]
                what=f"all pods behind {address}",
            )
            until(lambda a=address: site.fetch("b", a, 80) != "", what="from the other node")
            until(lambda a=address: site.edges[0].fetch(a, 80) != "", what="from the node itself")

    def names(kind: str, name: str) -> set[str]:
        said = site.inside("a", sys.executable, "-c", QUERY, "169.254.20.10", f"{name}.default.svc.cluster.local", kind)
        return set(said.split())

    dual = site.json("service", "dual")["spec"]["clusterIPs"]
    assert names("28", "dual") == {a for a in dual if ":" in a} and names("1", "dual") == {
        a for a in dual if ":" not in a
    }
    pods = {address for name in "abc" for address in site.ips(name)}
    until(lambda: names("28", "headless") == {a for a in pods if ":" in a}, what="AAAA of a headless Service")
    assert names("28", "headless-four") == set() and names("1", "headless-four") == {a for a in pods if ":" not in a}


QUERY = """
import ipaddress, socket, struct, sys
server, name, kind = sys.argv[1], sys.argv[2], int(sys.argv[3])
asked = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
s.sendto(struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + asked + struct.pack("!HH", kind, 1), (server, 53))
answer = s.recv(4096); count, = struct.unpack_from("!H", answer, 6)
at = 12 + len(asked) + 4
for _ in range(count):
    while answer[at] and answer[at] < 192: at += answer[at] + 1
    at += 2 if answer[at] >= 192 else 1
    type, _, _, size = struct.unpack_from("!HHIH", answer, at); at += 10
    if type == kind: print(ipaddress.ip_address(answer[at:at + size]))
    at += size
"""


def _link_local(site: DualSite, name: str) -> str:
    """The address of a pod that no other network knows."""
    found = site.inside(name, "ip", "-o", "-6", "addr", "show", "dev", "eth0", "scope", "link")
    return found.split("inet6 ")[1].split("/")[0]


def test_policies_hold_for_both_families(site: DualSite) -> None:
    def policy(*rules: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"},
                "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
                         "ingress": [{"from": list(rules)}]}}  # fmt: skip

    site.apply(pod("friend", "edge2", "friend"), pod("near", "edge1", "near"))
    until_ready(site, "friend", "near")
    target = site.ips("a")
    for address in target:
        assert site.fetch("friend", address) and site.fetch("near", address)
    link_local = f"{_link_local(site, 'a')}%eth0"
    assert "1 received" in site.inside("near", "ping", "-6", "-c", "1", "-W", "10", link_local)
    site.apply(policy({"podSelector": {"matchLabels": {"app": "friend"}}}))
    for address in target:
        until(lambda a=address: site.fetch("near", a) == "", what=f"isolation of {address}")
        until(lambda a=address: site.fetch("friend", a) != "", what=f"the friend at {address}")
    assert "0 received" in site.inside("near", "ping", "-6", "-c", "2", "-W", "2", link_local, check=False)
    site.apply(policy({"ipBlock": {"cidr": f"{site.ips('near')[1]}/128"}}))
    until(lambda: site.fetch("near", target[1]) != "", what="the block of IPv6")
    until(lambda: site.fetch("near", target[0]) == "", what="no block of IPv4")
    until(lambda: site.fetch("friend", target[1]) == "", what="the friend is none any more")
    site.kubectl("delete", "networkpolicy", "p")
    until(lambda: site.fetch("friend", target[1]) != "", what="no policy")


def test_tenants_with_the_same_addresses_do_not_meet(site: DualSite) -> None:
    site.admin("tenant", "create", "acme")
    other = Edge(site, site.third, "edge1", "acme")
    other.join()
    other.start()
    assert "fd00:100:64::1/64" in other.host.ip("-6", "addr", "show", "dev", "kb0")
    for theirs in ("fd00:100:64::2", site.ips("b")[1], str(NODES[65_534])):
        assert "0 received" in other.host.run("ping", "-6", "-c", "1", "-W", "2", theirs, check=False)
    assert site.fetch("b", site.ips("a")[1]).split()[:1] == ["a"]  # and is not asked of the other one
    other.stop()


def test_pods_start_with_both_addresses_while_the_cloud_is_away(site: DualSite) -> None:
    edge = site.edges[0]
    uids = [site.json("pod", name)["metadata"]["uid"] for name in ("a", "c", "near")]
    edge.stop()
    site.stop_cloud()
    edge.host.power_cut()
    edge.host.run("nft", "flush", "ruleset")
    for link in ("cni0", "kb0"):
        edge.host.run("ip", "link", "delete", link, check=False)
    edge.agent = edge.host.spawn(*KUBEEDGE, "edge", "--root-dir", str(edge.root), log=site.directory / "offline.log")

    def of_bridge() -> str:
        return edge.host.run("ip", "-o", "addr", "show", "dev", "cni0", check=False)

    def answers(uid: str) -> bool:
        """The pod, at both of its addresses."""
        network = f"--net={edge.root}/run/kubeedge/ns/{uid}/net"
        said = edge.host.run(
            "nsenter", network, "ip", "-o", "addr", "show", "dev", "eth0", "scope", "global", check=False
        )
        found = [line.split()[3].split("/")[0] for line in said.splitlines()]
        return sorted(":" in a for a in found) == [False, True] and all(edge.fetch(a, 8080) for a in found)

    until(lambda: "fd00:10:244:1::1/64" in of_bridge() and "10.244.1.1/24" in of_bridge(), what="the pods' bridge")
    for uid in uids:
        until(lambda u=uid: answers(u), what="a pod at both of its addresses")
    site.start_cloud(f"{{podsIpv6: '{PODS}', servicesIpv6: '{SERVICES}'}}")
    until(lambda: edge.status().get("link", {}).get("up"), what="the link")
    until_ready(site, "a", "b")
    until(lambda: site.fetch("b", site.ips("a")[1]) != "", what="the pod at its address of IPv6")


def test_a_node_whose_ipv6_is_switched_off_has_pods_of_ipv4(site: DualSite) -> None:
    edge = site.edges[1]
    edge.stop()
    edge.host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    edge.start()

    def condition() -> dict[str, str]:
        found = site.json("node", "edge2")["status"]["conditions"]
        return next((c for c in found if c["type"] == "PodIPv6Ready"), {})

    until(lambda: condition().get("status") == "False", what="the condition")
    assert "disable_ipv6" in condition()["message"]
    site.apply(pod("late", "edge2", "late"))
    until_ready(site, "late")
    assert len(site.ips("late")) == 1
    assert "IPv6" in (site.directory / "default-edge2.log").read_text()


def test_reset_leaves_nothing(site: DualSite) -> None:
    edge = site.edges[0]
    edge.host.run(*KUBEEDGE, "reset", "--force", "--root-dir", str(edge.root), timeout=120)
    assert edge.agent.wait(90) == 0
    assert not list((edge.root / "etc/kubeedge").glob("node*.json"))
    assert "kubeedge" not in edge.host.run("nft", "list", "tables")
    assert "fd00:10:244" not in edge.host.run("ip", "-6", "route", "show", "table", "all")
