"""NetworkPolicies on a node with real namespaces: the cloud's rows, the kernel's rules, and connections of every direction from outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kubeedge_cloud.edgecontroller.policies import PolicyCatalogue
from tests.kit.steps import at_once
from tests.kit.topology import Host, Topology, until
from tests.netns.test_mesh import Node, far, pod, service

pytestmark = pytest.mark.root
REFUSED = "TimeoutError"
CLIENT = """
import socket, sys
host, port, kind, source, wait = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], float(sys.argv[5])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
link = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
try:
    link.settimeout(wait)
    if source:
        link.bind((source, 0))
    link.connect(socket.getaddrinfo(host, port, family)[0][4])
    if kind == "udp":
        link.send(b"x")
    print(link.recv(100).decode().split()[0])
except OSError as exc:
    print(type(exc).__name__)
"""


@pytest.fixture
def node(topology: Topology, tmp_path: Path) -> Iterator[Node]:
    made = Node(topology, tmp_path)
    try:
        yield made
    finally:
        made.stop()


def ask(host: Host, address: str, port: int = 8080, kind: str = "tcp", source: str = "", *, wait: float = 1.0) -> str:
    return host.run(sys.executable, "-c", CLIENT, address, str(port), kind, source, str(wait), check=False).strip()


class Cloud:
    """What the cloud makes of policies: pods of two nodes, one namespace besides the default one."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.pods = [
            self.pod("pod1", "default", "10.244.1.2", "edge1", app="web"),
            self.pod("pod2", "default", "10.244.1.3", "edge1", app="client"),
            self.pod("far1", "default", "10.244.2.2", "edge2", app="client"),
            self.pod("far2", "shop", "10.244.2.3", "edge2", app="client"),
        ]
        self._catalogue = PolicyCatalogue(lambda: self.pods)
        for name, labels in (("default", {}), ("shop", {"team": "a"})):
            at_once(self._catalogue.namespace_changed(name, {"metadata": {"name": name, "labels": labels}}))

    @staticmethod
    def pod(name: str, namespace: str, address: str, node: str, **labels: str) -> dict[str, Any]:
        ports = [{"name": "http", "containerPort": 8080}]
        return {
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIP": address, "phase": "Running"},
        }

    def apply(self, **specs: dict[str, Any] | None) -> None:
        """Policies of the namespace default by name; None: it goes."""
        gone = []
        for name, spec in specs.items():
            after = None if spec is None else {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
            at_once(self._catalogue.policy_changed("default", name, after))
            gone += [f"/desired/networkpolicies/default/{name}"] if after is None else []
        rows = self._catalogue.of(["default"])
        self._node.say(put={f"/desired/{key}": json.loads(row) for key, row in rows.items()}, delete=gone)


def test_what_policies_allow_passes_and_nothing_else(node: Node) -> None:
    pod1, pod2 = node.pods
    bridge = json.loads(node.edge.run("ip", "-j", "addr", "show", "to", "10.244.1.1"))[0]["ifname"]
    node.start(pods="10.244.1.0/24", bridge=bridge)
    node.say(put={
        **pod(1, {"app": "web"}), **pod(2, {"app": "client"}), **service("far", "10.96.0.9"), **far("far", 1),
        **service("web", "10.96.0.1", "web"),
    })  # fmt: skip
    cloud = Cloud(node)
    shown = ("ip", "-6", "-o", "addr", "show", "scope", "link")
    until(lambda: "inet6 " in pod1.run(*shown), what="a link-local address")
    local = pod1.run(*shown).split("inet6 ")[1].split("/")[0]
    port = json.loads(pod2.run("ip", "-j", "addr", "show", "to", "10.244.1.3"))[0]["ifname"]

    ways: dict[str, tuple[Any, ...]] = {
        "pod2": (pod2, "10.244.1.2"),
        "pod2 udp": (pod2, "10.244.1.2", 8080, "udp"),
        "pod2 service": (pod2, "10.96.0.1", 80),
        "link-local": (pod2, f"{local}%{port}"),
        "far1": (node.lan, "10.244.1.2", 8080, "tcp", "10.244.2.2"),
        "far2": (node.lan, "10.244.1.2", 8080, "tcp", "10.244.2.3"),
        "lan": (node.lan, "10.244.1.2", 8080, "tcp", "192.168.9.2"),
        "node": (node.edge, "10.244.1.2"),
        "itself": (pod1, "10.96.0.1", 80),
        "pod1 out": (pod1, "10.244.2.2"),
        "pod2 to far1": (pod2, "10.244.2.2"),
        "pod2 to far2": (pod2, "10.244.2.3"),
        "pod2 to far service": (pod2, "10.96.0.9", 80),
        "pod2 to node": (pod2, "10.244.1.1", 22),
    }

    def is_refused(host: Host, *way: Any, **more: Any) -> bool:
        """Twice in a row: an answer may come late, but for the rules."""
        return all(ask(host, *way, **more) == REFUSED for _ in range(2))

    def open_to(expected: dict[str, str]) -> None:
        """What is allowed has as long as a slow machine needs; what is not is waited for in vain."""
        with ThreadPoolExecutor(len(expected)) as pool:
            found = pool.map(lambda name: ask(*ways[name], wait=1.0 if expected[name] == REFUSED else 30.0), expected)
            assert dict(zip(expected, found, strict=True)) == expected

    until(lambda: ask(pod2, "10.96.0.1", 80) == "pod1", what="the service")
    until(lambda: ask(pod2, f"{local}%{port}") == "pod1", what="a link-local address")
    open_to({"pod2": "pod1", "link-local": "pod1", "far2": "pod1", "pod2 udp": "pod1"})

    cloud.apply(deny={"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]})
    until(lambda: is_refused(pod2, "10.244.1.2"), what="isolation")
    until(lambda: is_refused(*ways["link-local"]), what="isolation of link-local addresses")
    until(lambda: node.say(ask="policy_problem") == "", what="no problem")
    open_to({
        "pod2 udp": REFUSED, "pod2 service": REFUSED, "link-local": REFUSED, "far1": REFUSED, "lan": REFUSED,
        "node": "pod1", "itself": "pod1", "pod1 out": "far1",
    })  # fmt: skip

    clients = {"podSelector": {"matchLabels": {"app": "client"}}}
    named = [{"protocol": "TCP", "port": "http"}]
    cloud.apply(allow={"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [clients], "ports": named}]})
    until(lambda: ask(pod2, "10.244.1.2") == "pod1", what="what is allowed")
    open_to({"pod2 udp": REFUSED, "pod2 service": "pod1", "far1": "pod1", "far2": REFUSED, "lan": REFUSED})

    shop = {"namespaceSelector": {"matchLabels": {"team": "a"}}, **clients}
    lan = {"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.8.0/24"]}}
    ranges = [{"port": 8000, "endPort": 8100}, {"port": 8050, "endPort": 8200}, {"port": 53, "protocol": "UDP"}]
    cloud.apply(allow={"podSelector": {}, "ingress": [{"from": [shop, lan], "ports": ranges}]})
    until(lambda: ask(node.lan, "10.244.1.2", source="10.244.2.3") == "pod1", what="another namespace")
    open_to({"pod2": REFUSED, "far1": REFUSED, "lan": "pod1"})

    # the sender's policies: a network without a part of it, after the translation of Services
    block = {"ipBlock": {"cidr": "10.244.2.0/24", "except": ["10.244.2.3/32"]}}
    out = {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"]}
    cloud.apply(deny=None, allow=None, out={**out, "egress": [{"to": [block], "ports": [{"port": 8080}]}]})
    until(lambda: is_refused(pod2, "10.244.2.3"), what="isolation of the sender")
    open_to({
        "pod2 to far1": "far1", "pod2 to far2": REFUSED, "pod2 to far service": "far1", "pod2 to node":
        "ConnectionRefusedError", "far1": "pod1", "pod1 out": "far1", "node": "pod1",
    })  # fmt: skip
    cloud.apply(out={**out, "egress": [{"to": [{"namespaceSelector": {}}], "ports": named}]})
    until(lambda: ask(pod2, "10.244.1.2") == "pod1", what="a named port of the receivers")
    open_to({"pod2 to far1": "far1", "pod2 to far2": "far2", "pod2 udp": REFUSED})

    # both sides must allow it; and without an agent, after a flush, and after a restart it is the same
    cloud.apply(deny={"podSelector": {}, "policyTypes": ["Ingress"]}, out=None)
    until(lambda: is_refused(pod2, "10.244.1.2"), what="isolation of all")
    node.edge.run("nft", "flush", "ruleset")
    until(lambda: node.say(ask="policy_counts")["restored"] >= 1, what="the rules are written again")
    until(lambda: is_refused(pod2, "10.244.1.2"), what="the rules are back")
    until(lambda: is_refused(*ways["link-local"]), what="those of IPv6, too")
    node.stop()  # SIGKILL
    open_to({"pod2": REFUSED, "link-local": REFUSED, "node": "pod1"})
    node.edge.run("nft", "flush", "ruleset")  # as a boot does
    node.start(pods="10.244.1.0/24", bridge=bridge)
    until(lambda: is_refused(pod2, "10.244.1.2"), what="the rules, from the store")
    until(lambda: is_refused(*ways["link-local"]), what="those of IPv6, from the store")
    until(lambda: node.say(ask="policy_problem") == "", what="all is written")
    counts = node.say(ask="policy_counts")
    assert (counts["policies"], counts["pods"]) == (1, 2)
    node.say(put={"/reported/pods/default/pod1": {"uid": "u1", "status": {"podIP": "10.244.1.9", "phase": "Running"}}})
    cloud.apply(deny={"podSelector": {"matchLabels": {"app": "none"}}, "policyTypes": ["Ingress"]})
    until(lambda: ask(pod2, "10.244.2.2") == "far1", what="a policy that selects nobody here")
    open_to({"pod2": REFUSED, "node": "pod1"})  # a pod whose address the node does not know yet sends and gets nothing
    node.say(put=pod(1, {"app": "web"}), delete=["/reported/pods/default/pod2"])
    until(lambda: is_refused(pod2, "10.244.2.2"), what="the same of what it sends")
    node.say(put=pod(2, {"app": "client"}))
    until(lambda: ask(pod2, "10.244.1.2") == "pod1", what="both are known")
    node.say(delete=["/desired/networkpolicies/default/deny"])
    until(lambda: "kubeedge-policy" not in node.edge.run("nft", "list", "tables"), what="the end of the tables")
    until(lambda: ask(*ways["link-local"]) == "pod1", what="link-local addresses again")
    open_to({"pod2": "pod1", "link-local": "pod1"})
