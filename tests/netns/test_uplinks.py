"""What lies below the links changes: routes, addresses, the whole uplink, the version of IP. Links are there again within 2 s of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.bus_site import BusProcess, Outage, TcpPair
from tests.kit.certs import TestAuthority
from tests.kit.topology import Host, Topology, edges_behind_nat, until

pytestmark = pytest.mark.root
SOON = 2.0  # seconds: what is promised for a change that this machine can see


class Site:
    """edge1 has two uplinks, 192.168.1.2 by nat1 (in use) and 192.168.9.2 by nat2; edge2 sits in the Internet."""

    def __init__(self, tmp_path: Path, stack: contextlib.ExitStack) -> None:
        net, cloud, (self.edge, _), self.nats, other = stack.enter_context(edges_behind_nat(2))
        net.wire(self.edge, "192.168.9.2/24", self.nats[1], "192.168.9.1/24")
        self.nats[1].run("nft", "add", "rule", "ip", "nat", "post", "ip", "saddr", "192.168.9.0/24", "masquerade")
        self.eth = device_of(self.edge, "192.168.1.2")
        authority = TestAuthority(tmp_path)
        c = authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["203.0.113.1"])
        self.relay = BusProcess(cloud, tmp_path / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key)
        stack.callback(self.relay.close)
        self.agents = []
        for n, host in ((1, self.edge), (2, other)):
            c = authority.issue(f"edge{n}", uri=f"spiffe://kubeedge/tenant/default/node/edge{n}")
            agent = BusProcess(
                host, tmp_path / f"edge{n}.log", role="edge", number=n, relays=["203.0.113.1:7010"],
                ca=c.ca, cert=c.cert, key=c.key,
            )  # fmt: skip
            stack.callback(agent.close)
            self.agents.append(agent)
        self.peer = other
        until(lambda: reaches(self.edge, "100.64.0.2"), what="edge1 reaches edge2")

    def ups(self, n: int = 1) -> list[str]:
        """Where the links that are up come from."""
        return [link["local"] for link in self.agents[n - 1].ask("links")["links"] if link["state"] == "up"]

    def change(self, *, away: Callable[[], object], seconds: float, back: Callable[[], object]) -> None:
        """A TCP connection lives through it, and 2 s after the network is usable again two links and pings are there."""
        with (
            contextlib.closing(TcpPair(self.edge, self.peer, "100.64.0.2", seconds=3)) as pair,
            contextlib.closing(Outage(self.edge, "100.64.0.2")) as pings,
        ):
            until(lambda: pings.answered_after(0), what="a ping")
            away()
            time.sleep(seconds)  # the outage itself
            back()
            changed = time.time()
            until(lambda: pings.answered_after(changed), what="an answer")
            until(lambda: len(self.ups()) == 2, what="both links")
            took = time.time() - changed
            print(f"both links up and pinged {took:.2f} s after the change")
            assert took < SOON
            pair.result()


def device_of(host: Host, address: str) -> str:
    return next(line.split()[1] for line in host.ip("-o", "addr").splitlines() if f" {address}/" in line)


def reaches(host: Host, address: str) -> bool:
    return "1 received" in host.run("ping", "-c1", "-W1", address, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


@pytest.mark.parametrize("seconds", [0.0, 6.0])
def test_the_default_route_is_lost_and_comes_back(site: Site, seconds: float) -> None:
    site.change(
        away=lambda: site.edge.ip("route", "del", "default"),
        seconds=seconds,
        back=lambda: site.edge.ip("route", "add", "default", "via", "192.168.1.1"),
    )
    assert site.ups() == ["192.168.1.2"] * 2


def test_another_uplink_takes_over_though_the_old_address_is_still_there(site: Site) -> None:
    """Ethernet without its route, then LTE: what still came from the old address would go out with a source that nobody routes back."""
    site.change(
        away=lambda: site.edge.ip("route", "del", "default"),
        seconds=0.5,
        back=lambda: site.edge.ip("route", "add", "default", "via", "192.168.9.1"),
    )
    assert site.ups() == ["192.168.9.2"] * 2


def test_the_uplink_goes_down_and_another_one_has_a_route_already(site: Site) -> None:
    site.edge.ip("route", "add", "default", "via", "192.168.9.1", "metric", "600")
    site.change(away=lambda: None, seconds=0.0, back=lambda: site.edge.ip("link", "set", site.eth, "down"))
    assert site.ups() == ["192.168.9.2"] * 2


def test_the_address_of_the_uplink_changes(site: Site) -> None:
    """As DHCP does it in another network: the old address goes, the new one comes, then the route."""

    def carried() -> None:
        nat = site.nats[0]
        nat.ip("addr", "add", "192.168.77.1/24", "dev", device_of(nat, "192.168.1.1"))
        nat.run("nft", "add", "rule", "ip", "nat", "post", "ip", "saddr", "192.168.77.0/24", "masquerade")
        site.edge.ip("addr", "flush", "dev", site.eth)

    def arrived() -> None:
        site.edge.ip("addr", "add", "192.168.77.2/24", "dev", site.eth)
        site.edge.ip("route", "add", "default", "via", "192.168.77.1")

    site.change(away=carried, seconds=1.0, back=arrived)
    assert site.ups() == ["192.168.77.2"] * 2


def test_an_underlay_of_ipv6_alone_carries_everything(topology: Topology, tmp_path: Path) -> None:
    cloud, edges = topology.host("cloud"), [topology.host("edge1"), topology.host("edge2")]
    authority = TestAuthority(tmp_path)
    c = authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["2001:db8:1::1", "2001:db8:2::1"])
    for n, edge in enumerate(edges, 1):
        ours, theirs = topology.wire(edge, f"2001:db8:{n}::2/64", cloud, f"2001:db8:{n}::1/64")
        for host, device in ((edge, ours), (cloud, theirs)):
            until(lambda h=host, d=device: "tentative" not in h.ip("addr", "show", "dev", d), what="addresses")
        assert edge.ip("-4", "route") == ""
    with contextlib.ExitStack() as stack:
        relay = BusProcess(cloud, tmp_path / "relay.log", role="relay", listen="::", ca=c.ca, cert=c.cert, key=c.key)
        stack.callback(relay.close)
        for n, edge in enumerate(edges, 1):
            c = authority.issue(f"edge{n}", uri=f"spiffe://kubeedge/tenant/default/node/edge{n}")
            agent = BusProcess(
                edge, tmp_path / f"edge{n}.log", role="edge", number=n, relays=[f"[2001:db8:{n}::1]:7010"],
                ca=c.ca, cert=c.cert, key=c.key,
            )  # fmt: skip
            stack.callback(agent.close)
        until(lambda: reaches(edges[0], "100.64.0.2"), what="edge1 reaches edge2")
        with contextlib.closing(TcpPair(edges[0], edges[1], "100.64.0.2", seconds=1, rate=4_000_000)) as pair:
            pair.result()
        assert {link["local"] for link in agent.ask("links")["links"]} == {"2001:db8:2::2"}
