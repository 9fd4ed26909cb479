"""The network at home uses addresses of the overlay: the overlay works, the uplink works, and the agent says what is not reached."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.bus_site import BusProcess
from tests.kit.certs import TestAuthority
from tests.kit.topology import Host, edges_behind_nat, until

pytestmark = pytest.mark.root
POD = "10.244.2.5"  # of edge2


class Site:
    """edge1 is a node; its uplink changes. edge2 has an address of its pod range itself."""

    def __init__(self, tmp_path: Path, stack: contextlib.ExitStack) -> None:
        _, cloud, (self.edge, other), (self.nat, _), _ = stack.enter_context(edges_behind_nat(2))
        self._stack, self._tmp_path = stack, tmp_path
        self.eth, self.lan = device_of(self.edge, "192.168.1.2"), device_of(self.nat, "192.168.1.1")
        self._authority = TestAuthority(tmp_path)
        c = self._authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["203.0.113.1"])
        relay = BusProcess(cloud, tmp_path / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key)
        stack.callback(relay.close)
        other.ip("addr", "add", f"{POD}/32", "dev", "lo")
        self.start(2, other)
        self.agent = self.start(1, self.edge)

    def start(self, number: int, host: Host) -> BusProcess:
        c = self._authority.issue(f"edge{number}", uri=f"spiffe://kubeedge/tenant/default/node/edge{number}")
        agent = BusProcess(
            host, self._tmp_path / f"edge{number}.log", role="edge", number=number, relays=["203.0.113.1:7010"],
            ca=c.ca, cert=c.cert, key=c.key,
        )  # fmt: skip
        self._stack.callback(agent.close)
        return agent

    def restart(self) -> None:
        self.agent.close()
        self.agent = self.start(1, self.edge)

    def move(self, address: str, router: str) -> None:
        """To another network at home, as DHCP does it."""
        bits = address.split("/")[1]
        self.nat.ip("addr", "replace", f"{router}/{bits}", "dev", self.lan)
        self.nat.run("nft", "add", "rule", "ip", "nat", "post", "ip", "saddr", address.split("/")[0], "masquerade")
        self.edge.ip("addr", "flush", "dev", self.eth)
        self.edge.ip("addr", "add", address, "dev", self.eth)
        self.edge.ip("route", "add", "default", "via", router, "dev", self.eth)  # as DHCP clients say it

    def conflicts(self) -> list[str]:
        found: list[str] = self.agent.ask("links")["conflicts"]
        return found

    def reaches(self) -> bool:
        return all(pings(self.edge, address) for address in ("100.64.0.2", POD))


def device_of(host: Host, address: str) -> str:
    return next(line.split()[1] for line in host.ip("-o", "addr").splitlines() if f" {address}/" in line)


def pings(host: Host, address: str) -> bool:
    return "1 received" in host.run("ping", "-c1", "-W1", address, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        site = Site(tmp_path, stack)
        until(site.reaches, what="edge1 reaches edge2")
        assert site.conflicts() == []
        yield site


HOMES: dict[str, tuple[str, str, str]] = {  # ours, the router's, the overlay's
    "CGNAT": ("100.64.3.7/16", "100.64.99.1", "100.64.0.0/16"),
    "the overlay as a part": ("100.64.3.7/10", "100.127.0.1", "100.64.0.0/16"),
    "the pods' network": ("10.244.77.7/16", "10.244.99.1", "10.244.0.0/16"),
    "a part of the pods' network": ("10.244.2.7/24", "10.244.2.1", "10.244.0.0/16"),
}


@pytest.mark.parametrize("home", HOMES)
def test_the_overlay_and_the_uplink_work_in_a_network_that_uses_its_addresses(site: Site, home: str) -> None:
    address, router, overlay = HOMES[home]
    own = address.split("/")[0]
    site.move(address, router)
    for begun_anew in (False, True):
        if begun_anew:
            site.restart()
        until(site.reaches, what="edge1 reaches edge2 from such a network")

        def says_so() -> bool:
            """Not before it has seen the route of the new network, which comes after the address."""
            (text,) = site.conflicts() or [""]
            return site.eth in text and f" {overlay}" in text and f"except {router}" in text

        until(says_so, what="the agent to say so")
        until(lambda: pings(site.edge, router), what="the router, where a name server often is")
        until(lambda: pings(site.nat, own), what="an answer to whoever comes from there")
    site.move("192.168.1.2/24", "192.168.1.1")
    until(lambda: site.conflicts() == [], what="the end of the conflict")
    until(site.reaches, what="edge1 reaches edge2 again")
    until(lambda: "5120:" not in site.edge.ip("rule"), what="the end of the rules")
    until(lambda: router not in site.edge.ip("route", "show", "table", "5130"), what="the end of the routes")


def test_the_machines_own_network_keeps_its_route(site: Site) -> None:
    """A route of the same network is no longer replaced by ours."""
    site.move("10.244.77.7/16", "10.244.99.1")
    site.restart()
    until(site.reaches, what="edge1 reaches edge2")
    assert f"10.244.0.0/16 dev {site.eth}" in site.edge.ip("route")
