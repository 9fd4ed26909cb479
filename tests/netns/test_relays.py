"""Two relays that share a store: nodes on different ones reach each other, and a node moves when its relay dies."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.bus_host import SIZE, blob
from tests.kit.bus_site import ROOT, BusProcess, Outage, TcpPair
from tests.kit.certs import TestAuthority
from tests.kit.topology import edges_behind_nat, until

pytestmark = pytest.mark.root
ADDRESSES = ("203.0.113.1:7010", "203.0.113.200:7010")
WHOLE = (SIZE, hashlib.sha256(blob()).hexdigest())


class Site:
    def __init__(self, tmp_path: Path, stack: contextlib.ExitStack, **edge2: Any) -> None:
        net, cloud, self.edges, self.nats, internet = stack.enter_context(edges_behind_nat(2))
        self.vm = net.host("vm")  # behind edge2, in a network with a smaller MTU
        for host, device in zip(
            (self.edges[1], self.vm), net.wire(self.edges[1], "10.50.0.1/24", self.vm, "10.50.0.2/24"), strict=True
        ):
            host.ip("link", "set", device, "mtu", "1400")
        self.vm.ip("route", "add", "default", "via", "10.50.0.1")
        self.hosts, self.stack, self.tmp = (cloud, internet), stack, tmp_path
        authority = TestAuthority(tmp_path)
        hosts = [address.split(":")[0] for address in ADDRESSES]
        self.server = authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=hosts)
        self.store = tmp_path / "store"
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.store_server", str(self.store)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert server.stdout is not None
        stack.callback(server.stdout.close)
        stack.callback(server.wait)
        stack.callback(server.kill)
        self.server_process = server
        assert server.stdout.readline() == "ready\n"
        self.relays = [self.start_relay(n) for n in (0, 1)]
        self.agents = []
        for n in (1, 2):
            c = authority.issue(f"edge{n}", uri=f"spiffe://kubeedge/tenant/default/node/edge{n}")
            relays = ADDRESSES if n == 1 else ADDRESSES[::-1]
            agent = BusProcess(
                self.edges[n - 1], tmp_path / f"edge{n}.log", role="edge", number=n, relays=relays,
                ca=c.ca, cert=c.cert, key=c.key, **(edge2 if n == 2 else {}),
            )  # fmt: skip
            stack.callback(agent.close)
            self.agents.append(agent)

    def start_relay(self, n: int, *, tun: dict[str, str] | None = None) -> BusProcess:
        c = self.server
        tun = tun or {"address": f"100.64.255.{254 - n}/16"}
        relay = BusProcess(
            self.hosts[n], self.tmp / f"relay{n}.log", role="relay", ca=c.ca, cert=c.cert, key=c.key,
            store=str(self.store), addresses=[ADDRESSES[n]], tun=tun, allowed={"edge2": ["10.50.0.0/16"]},
        )  # fmt: skip
        self.stack.callback(relay.close)
        return relay

    def reaches(self, address: str, *more: str, timeout: int = 1) -> bool:
        return "1 received" in self.edges[0].run("ping", "-c1", f"-W{timeout}", *more, address, check=False)

    def greets(self, relay: int, node: str) -> bool:
        """A relay connects to the node, by way of the other one if that has said that it holds it."""
        self.relays[relay].get(node, 8, send="hello")
        return bool(self.relays[relay].answer().get("got") == 5)

    def states(self, relay: int) -> list[str]:
        """Of the links to other relays."""
        return [each["state"] for each in self.relays[relay].ask("links")["relays"]]

    def holds(self, relay: int, node: str) -> bool:
        return node in {link["node"] for link in self.relays[relay].ask("links")["links"]}

    def relay_of(self, n: int) -> set[str]:
        return {link["relay"] for link in self.agents[n - 1].ask("links")["links"] if link["state"] == "up"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_nodes_on_different_relays_reach_each_other_and_every_cloud_process(site: Site) -> None:
    until(lambda: site.reaches("100.64.0.2"), what="edge1 reaches edge2")
    assert site.relay_of(1) == {ADDRESSES[0]} and site.relay_of(2) == {ADDRESSES[1]}
    for n in (254, 253):  # both processes of the cloud
        until(lambda n=n: site.reaches(f"100.64.255.{n}"), what=f"edge1 reaches process {n}")  # type: ignore[misc]
    with contextlib.closing(TcpPair(site.edges[0], site.edges[1], "100.64.0.2", seconds=1)) as pair:
        pair.result()
    # L4: between the nodes, and from the process that does not hold the node
    for caller, node in ((site.agents[0], "edge2"), (site.relays[0], "edge2"), (site.relays[1], "edge1")):
        caller.get(node, 7)
        answer = caller.answer()
        assert (answer.get("got"), answer.get("sha256")) == WHOLE, answer
    assert all(site.agents[0].ask("ping", node="cloud", count=2)["times"])
    (other,) = site.relays[0].ask("links")["relays"]
    assert (other["state"], other["nodes"], other["addresses"]) == ("up", 1, [ADDRESSES[1]])


def test_connections_survive_the_death_of_a_relay_by_moving_to_another(site: Site) -> None:
    until(lambda: site.reaches("100.64.0.2"), what="edge1 reaches edge2")
    with contextlib.closing(TcpPair(site.edges[0], site.edges[1], "100.64.0.2", seconds=4)) as pair:
        site.agents[0].get("edge2", 7)
        time.sleep(0.1)  # of whose 50 MB some are on their way
        with contextlib.closing(Outage(site.edges[0], "100.64.0.2")) as pings:
            until(lambda: pings.answered_after(0), what="a ping")
            killed = time.time()
            site.relays[0].close()
            until(lambda: site.holds(1, "edge1"), what="the move of edge1")
            until(lambda: pings.answered_after(time.time() - 0.3), what="an answer through the other relay")
            print(f"away for {pings.longest(killed - 0.2):.2f} s")
        answer = site.agents[0].answer()
        assert (answer.get("got"), answer.get("sha256")) == WHOLE, answer
        pair.result()
    # a new process in its place: the node stays where it is, and both relays know it
    site.relays[0] = site.start_relay(0)
    until(lambda: "up" in site.states(0), what="the new relay's peer")
    until(lambda: site.greets(0, "edge1"), what="the new relay reaches edge1")
    assert site.relay_of(1) == {ADDRESSES[1]}


def test_a_relay_that_cannot_be_reached_any_more_is_left_without_losing_a_byte(site: Site) -> None:
    until(lambda: site.reaches("100.64.0.2"), what="edge1 reaches edge2")
    with contextlib.closing(TcpPair(site.edges[0], site.edges[1], "100.64.0.2", seconds=6)) as pair:
        drop = "table inet cutoff { chain in { type filter hook input priority 0; ip saddr 203.0.113.101 drop\n}\n}"
        site.hosts[0].run("nft", "-f", "-", input=drop)  # silence, no reset
        until(lambda: site.relay_of(1) == {ADDRESSES[1]}, what="the move of edge1")
        pair.result()
    until(lambda: site.reaches("100.64.0.2"), what="edge1 reaches edge2")
    until(lambda: not site.holds(0, "edge1"), timeout=10, what="the old relay lets go of a node that has moved")


def test_a_second_process_with_the_same_address_goes_without_a_tun_and_says_so_until_it_is_free(site: Site) -> None:
    until(lambda: site.reaches("100.64.255.254"), what="edge1 reaches the first process")
    site.relays[1].close()
    taken = {"address": "100.64.255.254/16"}  # as in the first one's configuration, which somebody copied
    site.relays[1] = site.start_relay(1, tun=taken)
    (problem,) = site.relays[1].ask("links")["problems"]
    assert ADDRESSES[0] in problem and "100.64.255.254" in problem and "`tun.address` of its own" in problem
    metrics = site.relays[1].ask("metrics")["metrics"]
    assert "kubeedge_bushub_problems 1" in metrics and "kubeedge_bushub_troubles 1" in metrics
    assert "kb0" not in site.hosts[1].ip("link")
    until(lambda: site.states(1) == ["up"], what="the relays' link")
    until(lambda: site.greets(1, "edge1"), what="a relay it is all the same")
    assert site.reaches("100.64.255.254", timeout=20)
    # the first one ends: after its lease the address is free, and the other takes it
    site.relays[0].close()
    until(lambda: not site.relays[1].ask("links")["problems"], what="the TUN of the second process")
    until(lambda: site.reaches("100.64.255.254"), what="edge1 reaches the second process")


def test_a_process_that_was_killed_has_its_address_again_at_once(site: Site) -> None:
    until(lambda: site.reaches("100.64.255.254"), what="edge1 reaches the first process")
    site.relays[0].close()  # its lease lives for some seconds, and its keys with it
    site.relays[0] = site.start_relay(0)
    assert site.relays[0].ask("links")["problems"] == []
    until(lambda: site.reaches("100.64.255.254"), what="edge1 reaches it again")


def test_a_tun_of_the_cloud_that_is_deleted_is_made_again_with_its_routes(site: Site) -> None:
    until(lambda: site.reaches("100.64.255.254"), what="edge1 reaches the cloud")
    site.hosts[0].ip("link", "delete", "kb0")
    until(lambda: site.reaches("100.64.255.254"), what="edge1 reaches the cloud again")
    until(lambda: "10.244.0.0/16 dev kb0" in site.hosts[0].ip("route"), what="its routes")
    until(lambda: site.relays[0].ask("links")["problems"] == [], what="no problem any more")


def test_a_network_behind_a_node_of_another_relay_with_its_path_and_its_mtu(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        site = Site(tmp_path, stack, router={"subnets": ["10.50.0.0/24"]})
        until(lambda: site.reaches("10.50.0.2"), what="edge1 reaches the VM")
        assert site.relay_of(1) == {ADDRESSES[0]} and site.relay_of(2) == {ADDRESSES[1]}
        hops = site.edges[0].run("traceroute", "-n", "-q1", "-w20", "-m8", "10.50.0.2").splitlines()[1:]
        # both relays by their own addresses, the router, the VM
        assert [hop.split()[1] for hop in hops] == ["100.64.255.254", "100.64.255.253", "100.64.0.2", "10.50.0.2"]
        # 28 bytes of headers: the first relay knows what the network behind the other one takes
        assert site.reaches("10.50.0.2", "-M", "do", "-s", "1372", timeout=20)
        assert not site.reaches("10.50.0.2", "-M", "do", "-s", "1373")
        assert "mtu 1400" in site.edges[0].ip("route", "get", "10.50.0.2")
        # and who has not got the route's MTU is told on the way
        route = site.edges[0].ip("route", "show", "10.50.0.0/24").split()
        site.edges[0].ip("route", "replace", "10.50.0.0/24", "dev", "kb0", "metric", route[route.index("metric") + 1])
        assert "mtu" not in site.edges[0].ip("route", "get", "10.50.0.2")
        assert "pmtu 1400" in site.edges[0].run("tracepath", "-n", "10.50.0.2")
        for client, server, address in ((site.edges[0], site.vm, "10.50.0.2"), (site.vm, site.edges[0], "100.64.0.1")):
            with contextlib.closing(TcpPair(client, server, address, seconds=1, rate=4_000_000)) as pair:
                pair.result()
        assert {r["prefix"]: r["to"] for r in site.relays[0].ask("routes")["routes"]} == {"10.50.0.0/24": "edge2"}
        # its router moves to the other relay: so does the way, and no connection is lost
        with contextlib.closing(TcpPair(site.edges[0], site.vm, "10.50.0.2", seconds=4)) as pair:
            site.relays[1].close()
            until(lambda: site.holds(0, "edge2"), what="the move of edge2")
            pair.result()


def test_a_store_that_is_silent_ends_no_link_and_a_node_whose_link_breaks_comes_back(site: Site) -> None:
    """Longer than the lease of the relays (10 s): their keys are gone then, and said again when the store answers."""
    until(lambda: site.reaches("100.64.0.2"), what="edge1 reaches edge2")
    with (
        contextlib.closing(TcpPair(site.edges[0], site.edges[1], "100.64.0.2", seconds=14)) as pair,
        contextlib.closing(Outage(site.edges[0], "100.64.0.2")) as pings,
    ):
        until(lambda: pings.answered_after(0), what="a ping")
        begun = time.time()
        site.server_process.send_signal(signal.SIGSTOP)
        for relay in site.relays:
            relay.ask("store", answers=False)
        time.sleep(13)  # the outage itself
        assert pings.longest(begun) < 1.0, "an outage of the store was one of the network"
        site.edges[0].run(
            "ss", "-K", "dst", "203.0.113.1", check=False
        )  # links break; it needs CONFIG_INET_DIAG_DESTROY
        until(lambda: len(site.relay_of(1)) == 1, what="a link again, without the store")
        site.server_process.send_signal(signal.SIGCONT)
        for relay in site.relays:
            relay.ask("store", answers=True)
        until(lambda: pings.answered_after(time.time() - 0.3), what="an answer")
        pair.result()
    until(lambda: site.states(0) == ["up"], what="the other relay")
    until(lambda: site.greets(0, "edge2"), what="a way by the other relay, which has said anew whom it has")


def test_relays_that_lose_sight_of_each_other_find_each_other_again(site: Site) -> None:
    """Both live and have the store; only the path between them is gone. Nodes at one relay do not notice."""
    until(lambda: site.reaches("100.64.0.2"), what="edge1 reaches edge2")
    with contextlib.closing(TcpPair(site.edges[0], site.edges[1], "100.64.0.2", seconds=4)) as pair:
        drop = "table inet cutoff { chain in { type filter hook input priority 0; ip saddr 203.0.113.200 drop\n}\n}"
        site.hosts[0].run("nft", "-f", "-", input=drop)
        until(lambda: site.states(0) == ["down"], what="the end of their link")
        assert site.reaches("100.64.255.254", timeout=20)
        until(
            lambda: "Host Unreachable" in site.edges[0].run("ping", "-c2", "-W1", "100.64.0.2", check=False),
            what="what edge1 hears of edge2",
        )
        site.hosts[0].run("nft", "delete", "table", "inet", "cutoff")
        healed = time.time()
        until(lambda: site.reaches("100.64.0.2"), what="edge1 reaches edge2 again")
        print(f"reached {time.time() - healed:.2f} s after the path was back")
        pair.result()
