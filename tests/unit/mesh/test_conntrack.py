"""Flows of UDP as the kernel writes them, and which of them lead to what is gone."""

from __future__ import annotations

import ipaddress
import random
import socket
from pathlib import Path

import pytest

from kubeedge.kubebus.l3.netlink import pack_attribute
from kubeedge.mesh import conntrack
from kubeedge.mesh.bridge_filter import BridgeFilter
from kubeedge.mesh.conntrack import flow_of, lacks_sctp
from kubeedge.mesh.model import Endpoint, Service, ServicePort
from kubeedge.mesh.proxy import ServiceProxy
from kubeedge.mesh.ruleset import LocalNode, Rules, rules_of, stale_datagrams
from kubeedge.mesh.table import MeshTable

ADDRESS = ipaddress.ip_address("10.96.0.1")


def entry(*tuples: tuple[str, int, str, int], protocol: int = 17) -> bytes:
    data = b""
    for kind, (source, from_port, destination, port) in enumerate(tuples, start=1):
        addresses = [ipaddress.ip_address(text) for text in (source, destination)]
        first = 1 if addresses[0].version == 4 else 3
        ip = b"".join(pack_attribute(first + n, address.packed) for n, address in enumerate(addresses))
        ports = b"".join(pack_attribute(2 + n, number.to_bytes(2, "big")) for n, number in enumerate((from_port, port)))
        inner = pack_attribute(0x8001, ip) + pack_attribute(0x8002, pack_attribute(1, bytes((protocol,))) + ports)
        data += pack_attribute(0x8000 | kind, inner)
    return data + pack_attribute(12, b"abcd")


def test_a_translated_flow_says_where_it_leads() -> None:
    ways = ("10.244.1.3", 4000, "10.96.0.1", 80), ("10.244.2.2", 8080, "10.244.1.3", 4000)
    flow = flow_of(socket.AF_INET, entry(*ways))
    assert flow is not None
    assert (str(flow.destination), flow.port, str(flow.answers_from), flow.answers_port) == (
        "10.96.0.1",
        80,
        "10.244.2.2",
        8080,
    )
    assert flow.key == entry(*ways[:1]), "what names it to the kernel: the way there, and its ID"
    six = flow_of(socket.AF_INET6, entry(("fd01::3", 1, "fd96::1", 80), ("fd01::2", 8080, "fd01::3", 1)))
    assert six is not None and str(six.answers_from) == "fd01::2"
    assert flow_of(socket.AF_INET, entry(*ways, protocol=6)) is None, "TCP ends by itself"


def test_anything_else_is_no_flow() -> None:
    whole = entry(("10.244.1.3", 4000, "10.96.0.1", 80), ("10.244.2.2", 8080, "10.244.1.3", 4000))
    chance = random.Random(15)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        flow_of(chance.choice([socket.AF_INET, socket.AF_INET6]), bytes(data[: chance.randrange(len(data) + 1)]))


def udp(*addresses: str, node_port: int = 0) -> dict[str, Rules]:
    ports = (ServicePort("dns", "UDP", 53, 53, node_port), ServicePort("web", "TCP", 80, 80))
    service = Service(namespace="d", name="s", addresses=(ADDRESS,), ports=ports)
    found = [
        Endpoint(address=ipaddress.ip_address(a), ports={"dns": ("UDP", 53), "web": ("TCP", 80)}) for a in addresses
    ]
    return {"d/s": rules_of(service, found, LocalNode(node="edge1"), 4)}


def test_what_leads_to_less_than_before_is_stale() -> None:
    one, two = ((ipaddress.ip_address(f"10.244.2.{n}"), 53) for n in (1, 2))
    both = udp("10.244.2.1", "10.244.2.2", node_port=30053)
    assert stale_datagrams(both, both) == {} == stale_datagrams(udp("10.244.2.1"), both)
    assert stale_datagrams(both, udp("10.244.2.2", node_port=30053)) == {(ADDRESS, 53): {two}, (None, 30053): {two}}
    assert stale_datagrams(both, {}) == {(ADDRESS, 53): frozenset(), (None, 30053): frozenset()}
    assert stale_datagrams(None, udp("10.244.2.1")) == {(ADDRESS, 53): {one}}, "after a start everything is looked at"


def test_a_kernel_without_sctp_is_said_when_a_service_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lacks_sctp(tmp_path), "nothing is tracked yet, so nobody knows"
    (tmp_path / "nf_conntrack_tcp_timeout_established").touch()
    assert lacks_sctp(tmp_path)
    table = MeshTable("edge1")
    proxy = ServiceProxy(table, (), lambda: False, BridgeFilter())
    monkeypatch.setattr(conntrack, "lacks_sctp", lambda: lacks_sctp(tmp_path))
    table.services["default/web"] = Service(namespace="default", name="web", ports=(ServicePort("", "TCP", 80, 80),))
    assert proxy._shortcoming() == ""
    table.services["default/sig"] = Service(namespace="default", name="sig", ports=(ServicePort("", "SCTP", 80, 80),))
    assert proxy._shortcoming() == "SCTP ports are not reachable (default/sig): the kernel has no conntrack of SCTP"
    (tmp_path / "nf_conntrack_sctp_timeout_established").touch()
    assert proxy._shortcoming() == ""
