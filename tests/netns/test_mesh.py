"""Services on a node with real namespaces: pods on a bridge, a neighbour, the LAN; the kernel's rules and the DNS server from outside.

pod1, pod2 ── cni0 edge 192.168.9.1 ── 192.168.9.2 lan (a client, and another node's pods 10.244.2.2 and 10.244.2.3)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.topology import Host, Topology, until

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
SERVER = """
import ipaddress, socket, sys, threading
name, address = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
plain = lambda peer: str(getattr(ipaddress.ip_address(peer[0]), "ipv4_mapped", None) or peer[0])
udp = socket.socket(family, socket.SOCK_DGRAM); udp.bind((address, 8080))
def answer():
    while True:
        _, peer = udp.recvfrom(100); udp.sendto(f"{name} {plain(peer)}".encode(), peer)
threading.Thread(target=answer, daemon=True).start()
tcp = socket.create_server((address, 8080), family=family, dualstack_ipv6=family == socket.AF_INET6)
while True:
    link, peer = tcp.accept(); link.sendall(f"{name} {plain(peer)}".encode()); link.close()
"""
CLIENT = """
import socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
try:
    if kind == "udp":
        link = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM); link.settimeout(3)
        link.bind(("", int(sys.argv[4]))); link.connect((host, port)); link.send(b"x"); print(link.recv(100).decode())
    else:
        link = socket.create_connection((host, port), 3); print(link.recv(100).decode())
except OSError as exc:
    print(type(exc).__name__)
"""


#: what SCTP is tried with where the kernel has no sockets of it: an INIT chunk (RFC 9260), with its CRC32c, from a raw socket to another one
SCTP = """
import socket, struct, sys
def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)
role, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
link = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132); link.settimeout(60)
if role == "listen":
    link.bind((address, 0)); print("ready", flush=True)
    while True:
        data, peer = link.recvfrom(2048); data = data[(data[0] & 15) * 4:]
        whole = data[8:12] == crc32c(data[:8] + bytes(4) + data[12:])
        print(peer[0], struct.unpack("!H", data[2:4])[0], "whole" if whole else "damaged", flush=True)
        if struct.unpack("!H", data[2:4])[0] == port: break
else:
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65536, 4, 4, 9)
    head = struct.pack("!HHI", 5000, port, 0)
    link.sendto(head + crc32c(head + bytes(4) + chunk) + chunk, (address, 0))
"""


class Node:
    """The edge, its pods, and the machine beside it."""

    def __init__(self, topology: Topology, directory: Path) -> None:
        self.directory = directory
        self.edge, self.lan = topology.host("edge"), topology.host("lan")
        topology.wire(self.edge, "192.168.9.1/24", self.lan, "192.168.9.2/24")
        self.edge.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.pods = [topology.host(f"pod{n}") for n in (1, 2)]
        topology.bridge(self.edge, "10.244.1.1/24", [(pod, f"10.244.1.{n}/24") for n, pod in enumerate(self.pods, 2)])
        bridge = json.loads(self.edge.run("ip", "-j", "addr", "show", "to", "10.244.1.1"))[0]["ifname"]
        self.edge.ip("addr", "add", "fd01::1/64", "dev", bridge, "nodad")
        for port in json.loads(self.edge.run("ip", "-j", "link", "show", "master", bridge)):
            self.edge.ip(
                "link", "set", port["ifname"], "type", "bridge_slave", "hairpin", "on"
            )  # as AppEngine's has it
        for n, pod in enumerate(self.pods, 2):
            port = json.loads(pod.run("ip", "-j", "addr", "show", "to", f"10.244.1.{n}"))[0]["ifname"]
            pod.ip("addr", "add", f"fd01::{n}/64", "dev", port, "nodad")
            pod.ip("route", "add", "default", "via", "10.244.1.1")
            pod.ip("-6", "route", "add", "default", "via", "fd01::1")
            pod.spawn(sys.executable, "-c", SERVER, f"pod{n - 1}", "::")
        for n, address in enumerate(("10.244.2.2", "10.244.2.3"), start=1):
            self.lan.ip("addr", "add", f"{address}/32", "dev", "lo")
            self.lan.spawn(sys.executable, "-c", SERVER, f"far{n}", address)
        self.edge.ip("route", "add", "10.244.2.0/24", "via", "192.168.9.2")
        self.edge.ip("route", "add", "default", "via", "192.168.9.2")
        self.lan.ip("route", "add", "10.244.1.0/24", "via", "192.168.9.1")
        for host, address in (
            (self.pods[0], "127.0.0.1"),
            (self.pods[1], "127.0.0.1"),
            (self.lan, "10.244.2.2"),
            (self.lan, "10.244.2.3"),
        ):
            until(lambda host=host, address=address: "." in ask(host, address, 8080), what="a server")  # type: ignore[misc]
        self.process: subprocess.Popen[str] | None = None

    def start(self, **config: Any) -> None:
        config = {
            "node": "edge1", "pods": "10.244.1.0/24,fd01::/64", "store": str(self.directory / "edge.db"), **config,
        }  # fmt: skip
        self.process = subprocess.Popen(
            self.edge.command(sys.executable, "-m", "tests.kit.mesh_host", json.dumps(config)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"

    def say(self, **order: Any) -> Any:
        assert self.process and self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(OSError):
                self.edge.signal(self.process, 9)  # type: ignore[arg-type]
            self.process.wait(90)
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            self.process = None


def ask(host: Host, address: str, port: int, kind: str = "tcp", own: int = 0) -> str:
    """`own`: the port of UDP that the client sends from."""
    return host.run(sys.executable, "-c", CLIENT, address, str(port), kind, str(own), check=False).strip()


def pod(number: int, labels: dict[str, str], *, ready: bool = True) -> dict[str, Any]:
    """A pod of this node, as the store has it."""
    name = f"default/pod{number}"
    ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 8080, "protocol": "UDP"}]
    inner = {"name": f"pod{number}", "namespace": "default", "uid": f"u{number}", "labels": labels}
    status = {
        "podIP": f"10.244.1.{number + 1}",
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }
    return {
        f"/desired/pods/{name}": {"metadata": inner, "spec": {"containers": [{"name": "c", "ports": ports}]}},
        f"/reported/pods/{name}": {"uid": f"u{number}", "status": status},
    }


def service(name: str, address: str, selector: str = "", **spec: Any) -> dict[str, Any]:
    ports = spec.pop("ports", None) or [
        {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
        {"name": "dns", "port": 80, "targetPort": 8080, "protocol": "UDP"},
    ]
    chosen = {"selector": {"app": selector}} if selector else {}
    listed = address.split(",")
    value = {
        "spec": {"clusterIP": listed[0], "clusterIPs": listed, "ports": ports, "type": "ClusterIP", **chosen, **spec}
    }
    return {f"/desired/services/default/{name}": value}


def far(name: str, *numbers: int, addresses: tuple[str, ...] = (), **endpoint: Any) -> dict[str, Any]:
    """A slice with pods of the other node."""
    listed = [f"10.244.2.{n + 1}" for n in numbers] or list(addresses)
    kind = "IPv6" if any(":" in a for a in listed) else "IPv4"
    ports = endpoint.pop("ports", None) or [
        {"name": "http", "port": 8080, "protocol": "TCP"},
        {"name": "dns", "port": 8080, "protocol": "UDP"},
    ]
    endpoints = [{"addresses": [a], "conditions": {"ready": True}, "nodeName": "edge2", **endpoint} for a in listed]
    inner = {"name": f"{name}-x", "namespace": "default", "labels": {"kubernetes.io/service-name": name}}
    value = {"metadata": inner, "addressType": kind, "endpoints": endpoints, "ports": ports}
    return {f"/desired/endpointslices/default/{name}-{kind.lower()}": value}


@pytest.fixture
def node(topology: Topology, tmp_path: Path) -> Iterator[Node]:
    made = Node(topology, tmp_path)
    try:
        yield made
    finally:
        made.stop()


def answers(host: Host, address: str, port: int = 80, kind: str = "tcp", times: int = 12) -> set[str]:
    return {ask(host, address, port, kind) for _ in range(times)}


def _sctp(node: Node, address: str, port: int) -> str:
    """What a pod elsewhere hears of a chunk that a pod of this node sends to a Service."""
    command = node.lan.command(sys.executable, "-c", SCTP, "listen", "10.244.2.2", "9999")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout and listener.stdout.readline() == "ready\n"
        node.pods[1].run(sys.executable, "-c", SCTP, "send", address, str(port))
        return listener.stdout.readline().strip()


def test_every_kind_of_service_leads_to_its_endpoints(node: Node) -> None:
    node.start()
    pod1, pod2 = node.pods
    both = {"type": "NodePort", "ports": [
        {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080},
        {"name": "dns", "port": 80, "targetPort": "dns", "protocol": "UDP", "nodePort": 30080}]}  # fmt: skip
    local = {"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [
        {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30081}]}  # fmt: skip
    none = {"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30082}]}
    node.say(put={
        **pod(1, {"app": "web", "one": "yes"}),
        **service("web", "10.96.0.1,fd96::1", "web", **both), **far("web", 1), **far("web", addresses=("fd01::2",)),
        **service("self", "10.96.0.2", "web"),
        **service("sticky", "10.96.0.3", sessionAffinity="ClientIP"), **far("sticky", 1, 2),
        **service("local", "10.96.0.4", "web", **local), **far("local", 1),
        **service("none", "10.96.0.5", **none),
        **service("apart", "10.96.0.6", internalTrafficPolicy="Local"), **far("apart", 1),
        **service("signal", "10.96.0.8", ports=[{"name": "m3ua", "port": 2905, "targetPort": 9999, "protocol": "SCTP"}]),
        **far("signal", 1, ports=[{"name": "m3ua", "port": 9999, "protocol": "SCTP"}]),
        **service("outside", "10.96.0.7", externalIPs=["192.0.2.7"]), **far("outside", 2),
    })  # fmt: skip
    node.lan.ip("route", "add", "192.0.2.7", "via", "192.168.9.1")
    until(lambda: node.say(ask="counts")["services"] >= 9, what="the rules")
    until(lambda: node.say(ask="problem") == "", what="no problem")

    for kind in ("tcp", "udp"):
        seen = answers(pod2, "10.96.0.1", kind=kind, times=24)
        assert seen == {"pod1 10.244.1.3", "far1 10.244.1.3"}, "pods are seen with their own addresses"
    assert ask(pod2, "fd96::1", 80) == "pod1 fd01::3"
    assert answers(node.edge, "10.96.0.1", times=24) == {"pod1 10.244.1.1", "far1 192.168.9.1"}
    assert ask(pod1, "10.96.0.2", 80) == "pod1 10.244.1.1", "a pod reaches itself"
    assert {len(answers(host, "10.96.0.3")) for host in (pod1, pod2)} == {1}
    for kind in ("tcp", "udp"):
        assert answers(node.lan, "192.168.9.1", 30080, kind, 24) == {"pod1 10.244.1.1", "far1 192.168.9.1"}
    assert answers(node.lan, "192.168.9.1", 30081) == {"pod1 192.168.9.2"}, "Local keeps the client's address"
    assert ask(node.lan, "192.0.2.7", 80) == "far2 192.168.9.1"
    for host, address, port in (
        (pod1, "10.96.0.5", 80), (node.edge, "10.96.0.5", 80), (pod1, "10.96.0.1", 81), (node.lan, "192.168.9.1", 30082)
    ):  # fmt: skip
        assert ask(host, address, port) == "ConnectionRefusedError", f"{host.name} to {address}:{port}"
    assert _sctp(node, "10.96.0.8", 2905) == "10.244.1.3 9999 whole"
    assert ask(pod1, "10.96.0.6", 80) == "TimeoutError", "Local, and nothing here: dropped, as Kubernetes does"


def test_endpoints_come_and_go_and_the_last_one_ends_gracefully(node: Node) -> None:
    node.start()
    node.say(put={**pod(1, {"app": "web"}), **service("web", "10.96.0.1", "web"), **far("web", 1)})
    until(lambda: node.say(ask="counts")["chains"] == 2, what="the rules")
    client = node.pods[1]
    # a port of UDP that leads to the pod which goes, and stays in use: conntrack would lead it there as long as it is
    own = next(n for n in range(4000, 4100) if ask(client, "10.96.0.1", 80, "udp", n) == "pod1 10.244.1.3")
    node.say(put={"/reported/pods/default/pod1": pod(1, {}, ready=False)["/reported/pods/default/pod1"]})
    until(lambda: ask(client, "10.96.0.1", 80, "udp", own) == "far1 10.244.1.3", what="the same flow, elsewhere")
    until(lambda: node.say(ask="counts")["forgotten"] >= 1, what="the count of it")
    until(lambda: answers(client, "10.96.0.1") == {"far1 10.244.1.3"}, what="only the other node")
    ending = {"ready": False, "serving": True, "terminating": True}
    node.say(put=far("web", 2, conditions=ending))
    until(
        lambda: answers(client, "10.96.0.1") == {"far2 10.244.1.3"},
        what="one that ends, as there is no other",
    )
    node.say(put=far("web", 2, conditions={**ending, "serving": False}))
    until(lambda: ask(client, "10.96.0.1", 80) == "ConnectionRefusedError", what="nothing")
    node.say(delete=["/desired/services/default/web"])
    until(lambda: node.say(ask="counts")["services"] == 0, what="the end of the service")
    rules = json.loads(node.edge.run("nft", "-j", "list", "table", "ip", "kubeedge-mesh"))["nftables"]
    assert not any("elem" in item.get(kind, {}) for item in rules for kind in ("map", "set")), "nothing stays of it"
    assert not [c for item in rules if (c := item.get("chain")) and c["name"].startswith(("in-", "out-", "to-"))]


def test_rules_survive_the_agent_and_those_who_flush_them(node: Node) -> None:
    node.start()
    node.say(put={**pod(1, {"app": "web"}), **service("web", "10.96.0.1", "web")})
    client = node.pods[1]
    until(lambda: ask(client, "10.96.0.1", 80) == "pod1 10.244.1.3", what="the service")
    node.edge.run("nft", "-f", "-", input="table ip other {\n chain c {\n }\n}\n")
    node.edge.run("nft", "flush", "ruleset")
    until(lambda: ask(client, "10.96.0.1", 80) == "pod1 10.244.1.3", what="the rules are back")
    until(lambda: node.say(ask="counts")["restored"] == 1, what="once")
    node.stop()  # SIGKILL
    assert ask(client, "10.96.0.1", 80) == "pod1 10.244.1.3", "no agent is needed"
    node.edge.run("nft", "-f", "-", input="add chain ip kubeedge-mesh in-left\n")  # of an agent that knew more
    node.start()
    until(lambda: "in-left" not in node.edge.run("nft", "list", "table", "ip", "kubeedge-mesh"), what="the rules anew")
    until(lambda: node.say(ask="problem") == "", what="nft has ended, too")
    assert ask(client, "10.96.0.1", 80) == "pod1 10.244.1.3"


def test_rules_that_are_flushed_before_they_are_looked_at_come_back(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's nft is followed by another program's, at once and once."""
    flag, program = tmp_path / "flush", tmp_path / "nft"
    real = shutil.which("nft")
    program.write_text(f'#!/bin/sh\n{real} "$@" || exit 1\nrm {flag} 2>/dev/null && {real} flush ruleset\nexit 0\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    node.start()
    node.say(put={**pod(1, {"app": "web"}), **service("web", "10.96.0.1", "web")})
    until(lambda: ask(node.pods[1], "10.96.0.1", 80) == "pod1 10.244.1.3", what="the service")
    flag.touch()
    node.say(put=service("other", "10.96.0.2", "web"))
    for address in ("10.96.0.1", "10.96.0.2"):
        until(lambda a=address: ask(node.pods[1], a, 80) == "pod1 10.244.1.3", what=f"{address} again")  # type: ignore[misc]
    assert not flag.exists() and node.say(ask="counts")["restored"] >= 1


RESOLVE = """
import json, socket, sys
try:
    found = socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET, socket.SOCK_STREAM)
    print(json.dumps(sorted({entry[4][0] for entry in found})))
except OSError as exc:
    print(json.dumps(type(exc).__name__))
"""


def resolve(host: Host, name: str) -> Any:
    """As a program in a pod does it, with the C library's resolver."""
    return json.loads(host.run(sys.executable, "-c", RESOLVE, name))


RAW = """
import socket, struct, sys
from kubeedge.mesh.dns.message import encode_name, name_of
kind, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
question = encode_name(name_of(name)) + struct.pack("!HH", 1, 1)
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
link.settimeout(3); link.connect(((sys.argv[4:] or ["169.254.20.10"])[0], 53))
try:
    for n in range(count):
        data = struct.pack("!HHHHHH", n, 0x100, 1, 0, 0, 0) + question
        link.sendall(data if kind == "udp" else struct.pack("!H", len(data)) + data)
    answer = link.recv(65535)
    print(struct.unpack_from("!HHHH", answer, 0 if kind == "udp" else 2)[1] & 15)
except OSError as exc:
    print(type(exc).__name__)
"""


def test_pods_find_names_of_the_cluster_and_of_the_world(node: Node, tmp_path: Path) -> None:
    log = tmp_path / "asked"
    path = {"PYTHONPATH": str(ROOT)}
    upstream = node.lan.spawn(sys.executable, "-m", "tests.kit.dns_upstream", "192.168.9.2", str(log), env=path)
    until(log.exists, what="a resolver")
    node.start(resolvers=["192.168.9.2"], lan=["192.168.9.1/24"])
    node.say(put={
        **pod(1, {"app": "web"}), **service("web", "10.96.0.1", "web"), **service("db", "None"), **far("db", 1, 2),
        "/desired/services/default/out": {"spec": {"type": "ExternalName", "externalName": "www.example.com"}},
    })  # fmt: skip
    client = node.pods[1]
    etc = tmp_path / "resolv.conf"
    searches = "default.svc.cluster.local svc.cluster.local cluster.local"
    etc.write_text(f"nameserver 169.254.20.10\nsearch {searches}\noptions ndots:5\n")
    client.run("mount", "--bind", str(etc), "/etc/resolv.conf")
    until(lambda: resolve(client, "web") == ["10.96.0.1"], what="the DNS server")
    until(lambda: resolve(client, "db.default") == ["10.244.2.2", "10.244.2.3"], what="the addresses of the other node")
    until(lambda: node.say(ask="problem") == "", what="no problem")
    assert resolve(client, "web.default.svc.cluster.local") == ["10.96.0.1"]
    assert not log.read_text(), "no question about the cluster leaves the node"
    assert resolve(client, "www.example.com") == ["198.51.100.7"] and resolve(client, "out") == ["198.51.100.7"]
    assert resolve(client, "false.example.com") == ["198.51.100.7"], "an answer with another ID does not count"
    assert len(resolve(client, "large.example.com")) == 100, "what is too large comes over TCP"
    assert resolve(client, "nothing.example.com") == resolve(client, "nothing") == "gaierror"

    def asked() -> int:
        """Not of other names: a question without an answer may be asked again at any time."""
        return log.read_text().count(" www.example.com. ")

    # a machine of the LAN: names of Services without a search list, and nothing else
    raw = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-c", RAW)
    for name, code in (("web.default.svc", "0"), ("web.default.svc.cluster.local", "0"), ("nothing.default.svc", "3"),
                       ("www.example.com", "5"), ("localhost", "5")):  # fmt: skip
        for kind in ("udp", "tcp"):
            assert node.lan.run(*raw, kind, name, "1", "192.168.9.1").strip() == code, (name, kind)

    before = asked()
    assert before and resolve(client, "www.example.com") == ["198.51.100.7"] and asked() == before, "kept"

    # the cloud is away and so is the upstream: the cluster's names go on
    node.lan.stop(upstream)
    node.say(put={"/desired/services/default/late": service("late", "10.96.0.9")["/desired/services/default/late"]})
    until(lambda: resolve(client, "late") == ["10.96.0.9"], what="a new Service")
    python = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-c", RAW)
    assert client.run(*python, "udp", "gone.example.org", "1", check=False).strip() in ("2", "TimeoutError")
    assert client.run(*python, "tcp", "web.default.svc.cluster.local", "1").strip() == "0"
    # a flood of questions for the world is refused beyond its bound, and the cluster's names go on meanwhile
    assert client.run(*python, "udp", "flood.example.org", "2000").strip() == "2"
    assert resolve(client, "web") == ["10.96.0.1"]
    assert node.say(ask="dns")["answers"]["refused"] > 0
    assert resolve(node.edge, "localhost"), "the node's own resolver is not touched"
    node.edge.ip("route", "replace", "10.244.9.0/24", "via", "192.168.9.2")
    node.lan.ip("addr", "add", "10.244.9.9/32", "dev", "lo")
    node.lan.ip("route", "add", "169.254.20.10", "via", "192.168.9.1", "src", "10.244.9.9")
    assert node.lan.run(*python, "udp", "web.default.svc.cluster.local", "1").strip() == "TimeoutError", (
        "not for others"
    )
