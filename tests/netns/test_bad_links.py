"""Who may have a link and what for: certificates that are not good enough, nodes that were removed, numbers that two nodes have."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.bus_site import BusProcess
from tests.kit.certs import Credentials, TestAuthority
from tests.kit.topology import Host, edges_behind_nat, until

pytestmark = pytest.mark.root
RELAY = "spiffe://kubeedge/cloud/cloud"


def node(name: str, tenant: str = "default") -> str:
    return f"spiffe://kubeedge/tenant/{tenant}/node/{name}"


class Site:
    """A relay, a good node edge1, and a place in the Internet for others."""

    def __init__(self, tmp_path: Path, stack: contextlib.ExitStack) -> None:
        _, self.cloud, self.edges, self.nats, self.internet = stack.enter_context(edges_behind_nat(2))
        self.tmp, self.stack = tmp_path, stack
        self.authority = TestAuthority(tmp_path)
        c = self.authority.issue("relay", uri=RELAY, hosts=["203.0.113.1"])
        self.relay = self.process(self.cloud, "relay", c, role="relay", allowed={"edge2": ["10.50.0.0/16"]})
        self.good = self.edge(self.edges[0], 1)
        until(lambda: up(self.good) == 2, what="the links of the good node")

    def process(self, host: Host, log: str, c: Credentials, **config: Any) -> BusProcess:
        process = BusProcess(host, self.tmp / f"{log}.log", ca=c.ca, cert=c.cert, key=c.key, **config)
        self.stack.callback(process.close)
        return process

    def edge(self, host: Host, number: int, c: Credentials | None = None, log: str = "", **more: Any) -> BusProcess:
        c = c or self.authority.issue(f"edge{number}", uri=node(f"edge{number}"))
        config = {"role": "edge", "number": number, "relays": ["203.0.113.1:7010"], **more}
        return self.process(host, log or f"edge{number}", c, **config)


def up(process: BusProcess) -> int:
    return sum(link["state"] == "up" for link in process.ask("links")["links"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


def last_error(process: BusProcess) -> str:
    error: str = process.ask("links")["lastError"]
    return error


def test_certificates_that_are_not_good_enough_get_no_link_and_hear_why(site: Site) -> None:
    other = TestAuthority(site.tmp, "other CA")
    cases: dict[str, tuple[Credentials, str]] = {
        "expired": (site.authority.issue("expired", uri=node("edge2"), days=(-3, -1)), "certificate expired"),
        "early": (site.authority.issue("early", uri=node("edge2"), days=(1, 30)), "certificate"),
        "user": (site.authority.issue("user", uri="spiffe://kubeedge/tenant/default/user/admin"), "is not a node"),
        "unknown": (site.authority.issue("unknown", uri=node("edge9")), "join it again"),
        "tenant": (site.authority.issue("tenant", uri=node("edge2", "other")), "join it again"),
        "relay": (site.authority.issue("relays", uri=RELAY), "is not a node"),
        "two": (site.authority.issue("two", uri=[node("edge2"), node("edge1")]), "closed by the peer"),
        "none": (site.authority.issue("none"), "closed by the peer"),
        "another": (site.authority.issue("another", uri=node("edge3")), "knows this node as number 3"),
    }
    foreign = other.issue("foreign", uri=node("edge2"))
    cases["foreign"] = (Credentials(site.authority.ca, foreign.cert, foreign.key), "unknown ca")
    for name, (credentials, words) in cases.items():
        bad = site.edge(site.internet, 2, credentials, log=name, connections=1)
        until(lambda b=bad, w=words: w in last_error(b), what=f"{name}: {words!r}")  # type: ignore[misc]
        assert up(bad) == 0, name
        bad.close()
    assert up(site.good) == 2
    text = site.relay.ask("metrics")["metrics"]
    refused = next(line for line in text.splitlines() if line.startswith("kubeedge_bushub_links_refused_total "))
    assert int(refused.split()[1]) >= len(cases) - 1


@pytest.mark.parametrize(
    ("uri", "hosts", "days", "words"),
    [
        (RELAY, ["203.0.113.1"], (-3, -1), "certificate has expired"),
        (RELAY, ["203.0.113.1"], (1, 30), "certificate is not yet valid"),
        (RELAY, ["203.0.113.9"], (-1, 30), "IP address mismatch"),
        (node("edge2"), ["203.0.113.1"], (-1, 30), "not a cloud process"),
    ],
)
def test_a_relay_that_is_not_one_is_left_with_a_log_line(
    site: Site, uri: str, hosts: list[str], days: tuple[float, float], words: str
) -> None:
    c = site.authority.issue("false", uri=uri, hosts=hosts, days=days)
    site.process(site.internet, "false", c, role="relay", tun=None)
    # who asks for 203.0.113.1 from edge 2 gets the false one: its own router says so
    rule = """table ip lie {
        chain pre { type nat hook prerouting priority -100; ip daddr 203.0.113.1 tcp dport 7010 dnat to 203.0.113.200; }
    }"""
    site.nats[1].run("nft", "-f", "-", input=rule)
    victim = site.edge(site.edges[1], 2)
    until(lambda: words in last_error(victim), what=words)
    assert up(victim) == 0


def test_a_node_that_was_removed_loses_its_links_and_does_not_get_in_again(site: Site) -> None:
    second = site.edge(site.edges[1], 2, router={"subnets": ["10.50.0.0/24"], "mtu": 1500})
    until(lambda: up(second) == 2, what="the links of edge2")
    until(lambda: "10.50.0.0/24" in str(site.good.ask("routes")), what="the network behind edge2")
    site.relay.ask("remove", node="edge2")
    until(lambda: up(second) == 0, what="the end of its links")
    until(lambda: "is not known; join it again" in last_error(second), what="the reason")
    until(lambda: "10.50.0.0/24" not in str(site.good.ask("routes")), what="its network is gone")
    assert up(site.good) == 2
    until(lambda: {link["node"] for link in site.relay.ask("links")["links"]} == {"edge1"}, what="edge1's links alone")


def test_the_networks_of_a_node_that_was_removed_while_it_was_away_are_gone(site: Site) -> None:
    """While it may come back its networks stay its own: a short outage changes nothing. After its removal nobody waits for it."""
    second = site.edge(site.edges[1], 2, router={"subnets": ["10.50.0.0/24"], "mtu": 1500})
    until(lambda: "10.50.0.0/24" in str(site.good.ask("routes")), what="the network behind edge2")
    second.close()
    until(lambda: len(site.relay.ask("links")["links"]) == 2, what="the end of its links")
    assert "10.50.0.0/24" in str(site.good.ask("routes"))
    site.relay.ask("remove", node="edge2")
    until(lambda: "10.50.0.0/24" not in str(site.good.ask("routes")), what="the end of its network")


def test_a_number_that_another_node_has_now_is_not_shared(site: Site) -> None:
    """The store gives a number to one node at a time. A relay that has not heard of a change yet must not make a bundle of two nodes."""
    second = site.edge(site.edges[1], 2)
    until(lambda: up(second) == 2, what="the links of edge2")
    site.relay.ask("number", node="edge3", number=2)  # before anybody says that edge2 is gone
    c = site.authority.issue("edge3", uri=node("edge3"))
    third = site.edge(site.internet, 2, c, node="edge3")
    until(lambda: up(third) == 2, what="the links of edge3")
    seen = {link["node"] for link in site.relay.ask("links")["links"] if link["state"] == "up"}
    assert not {"edge2", "edge3"} <= seen


def test_what_may_be_behind_a_node_holds_at_once(site: Site) -> None:
    second = site.edge(site.edges[1], 2, router={"subnets": ["10.50.0.0/24"], "mtu": 1500})
    until(lambda: "10.50.0.0/24" in str(site.good.ask("routes")), what="the network behind edge2")
    site.relay.ask("allow", node="edge2", subnets=[])
    changed = time.time()
    until(lambda: "10.50.0.0/24" not in str(site.good.ask("routes")), what="its end")
    print(f"withdrawn {time.time() - changed:.2f} s after the change")
    until(lambda: up(second) == 2, what="its links, without the network")
    until(lambda: "not allowed" in str(second.ask("routes")), what="that the network is not allowed")
    site.relay.ask("allow", node="edge2", subnets=["10.50.0.0/16"])
    until(lambda: "10.50.0.0/24" in str(site.good.ask("routes")), what="the network again")


CROWD = """
import socket, sys, time
crowd = []
for _ in range(int(sys.argv[1])):
    s = socket.socket()
    s.settimeout(1)
    try:
        s.connect(("203.0.113.1", 7010))
    except OSError:
        break
    crowd.append(s)
print(len(crowd), flush=True)
sys.stdin.read()
"""


def test_a_relay_without_descriptors_keeps_what_it_has_and_takes_others_when_it_can(site: Site) -> None:
    site.relay.close()
    c = site.authority.issue("small", uri=RELAY, hosts=["203.0.113.1"])
    small = site.process(site.cloud, "small", c, role="relay", files=60, allowed={"edge2": ["10.50.0.0/16"]})
    until(lambda: up(site.good) == 2, what="the links of the good node")
    with subprocess.Popen(
        site.internet.command(sys.executable, "-c", CROWD, "100"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as crowd:
        assert crowd.stdin and crowd.stdout and int(crowd.stdout.readline()) > 60
        log = site.tmp / "small.log"
        until(lambda: "Too many open files" in log.read_text(), what="no descriptors")
        for _ in range(3):
            assert "5 received" in site.edges[0].run("ping", "-c5", "-i0.2", "-W20", "100.64.255.254", check=False)
        assert up(site.good) == 2
        said = log.read_text().count("Too many open files")
        assert said < 40, f"{said} lines in some seconds"
        # a network that is offered now needs a helper process, for which there are no descriptors either
        crowd.stdin.close()
    second = site.edge(site.edges[1], 2, router={"subnets": ["10.50.0.0/24"], "mtu": 1500})
    until(lambda: up(second) == 2, what="a node that came later")
    until(lambda: "10.50.0.0/24" in site.cloud.ip("route"), what="the route to its network")
    assert small.process.poll() is None and up(site.good) == 2


def test_a_route_that_comes_while_there_are_no_descriptors_is_set_later(site: Site) -> None:
    """At the edge: the helper that tells the kernel cannot be started. The links and the module stay."""
    site.good.close()
    c = site.authority.issue("again", uri=node("edge1"))
    few = site.edge(site.edges[0], 1, c, log="few", files=40)
    until(lambda: up(few) == 2, what="the links")
    few.ask("hold", count=100)
    site.edge(site.edges[1], 2, router={"subnets": ["10.50.0.0/24"], "mtu": 1500})
    log = site.tmp / "few.log"
    until(lambda: "Too many open files" in log.read_text(), what="no descriptors")
    assert "10.50.0.0/24" not in site.edges[0].ip("route")
    few.ask("hold", count=0)
    until(lambda: "10.50.0.0/24" in site.edges[0].ip("route"), what="the route")
    assert up(few) == 2


def test_while_the_store_is_away_a_node_that_was_here_gets_in_and_a_new_one_hears_why_not(site: Site) -> None:
    site.relay.ask("store", answers=False)
    site.good.close()
    c = site.authority.issue("back", uri=node("edge1"))
    back = site.edge(site.edges[0], 1, c, log="back")
    until(lambda: up(back) == 2, what="the links of a node that is known")
    c = site.authority.issue("new", uri=node("edge9"))
    new = site.edge(site.internet, 9, c, log="new")
    until(lambda: "the store of the cloud does not answer" in last_error(new), what="the reason")
    site.relay.ask("store", answers=True)
    until(lambda: "is not known" in last_error(new), what="the answer of the store")
