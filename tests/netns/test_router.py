"""The virtual router (Figure 3 of the paper): VMs and containers behind a node, their smaller MTU, what the tenant allows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.bus_site import BusProcess, TcpPair
from tests.kit.certs import TestAuthority
from tests.kit.topology import Host, edges_behind_nat, until

pytestmark = pytest.mark.root
VM, CONTAINERS, FOREIGN = "10.50.0.0/24", "10.32.0.0/24", "10.60.0.0/24"


class Site:
    """edge1 ══ relay ══ vm1 (router) ── vm2, and a container behind a bridge of vm1 whose MTU is 1400."""

    def __init__(self, tmp_path: Path, stack: contextlib.ExitStack, **router: Any) -> None:
        net, self.cloud, (self.edge, self.vm1), _, _ = stack.enter_context(edges_behind_nat(2))
        self.vm2, self.container = net.host("vm2"), net.host("container")
        net.wire(self.vm1, "10.50.0.1/24", self.vm2, "10.50.0.2/24")
        net.bridge(self.vm1, "10.32.0.1/24", [(self.container, "10.32.0.2/24")])
        for host, prefix in ((self.vm1, "10.32.0.1/24"), (self.container, "10.32.0.2/24")):
            device = next(line.split()[1] for line in host.ip("-o", "addr").splitlines() if prefix in line)
            host.ip("link", "set", device, "mtu", "1400")
        self.container.ip("route", "add", "default", "via", "10.32.0.1")
        authority = TestAuthority(tmp_path)
        c = authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["203.0.113.1"])
        self.relay = BusProcess(
            self.cloud, tmp_path / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key,
            allowed={"vm1": [VM, "10.32.0.0/16"]},
        )  # fmt: skip
        stack.callback(self.relay.close)
        self.agents = {}
        for n, name, host, more in ((1, "edge1", self.edge, {}), (4, "vm1", self.vm1, {"router": router})):
            c = authority.issue(name, uri=f"spiffe://kubeedge/tenant/default/node/{name}")
            self.agents[name] = BusProcess(
                host, tmp_path / f"{name}.log", role="edge", number=n, node=name, relays=["203.0.113.1:7010"],
                ca=c.ca, cert=c.cert, key=c.key, **more,
            )  # fmt: skip
            stack.callback(self.agents[name].close)
        until(lambda: reaches(self.edge, "100.64.0.4"), what="edge1 reaches vm1")
        self.log = tmp_path / "vm1.log"


def reaches(host: Host, address: str) -> bool:
    return "1 received" in host.run("ping", "-c1", "-W1", address, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        site = Site(tmp_path, stack, subnets=[VM, CONTAINERS, FOREIGN])
        site.vm2.ip("route", "add", "100.64.0.0/16", "via", "10.50.0.1")  # what `kubeedge routes` tells
        yield site


def test_edges_vms_and_containers_are_one_network(site: Site) -> None:
    for address in ("10.50.0.1", "10.50.0.2", "10.32.0.2"):
        until(lambda a=address: reaches(site.edge, a), what=f"edge1 reaches {address}")
        until(lambda a=address: reaches(site.cloud, a), what=f"the cloud reaches {address}")
    for host in (site.vm2, site.container):
        until(lambda h=host: reaches(h, "100.64.0.1"), what=f"{host.name} reaches edge1")
    # the route that was not allowed is neither taken nor told, and the router says what to do
    until(lambda: "kubeedge router allow vm1 10.60.0.0/24" in site.log.read_text(), what="what to do")
    assert FOREIGN not in str(site.agents["edge1"].ask("routes"))
    routes = {r["prefix"]: r for r in site.agents["edge1"].ask("routes")["routes"]}
    assert (routes[CONTAINERS]["mtu"], routes[VM]["mtu"]) == (1400, 1500)
    assert {r["prefix"]: r["to"] for r in site.relay.ask("routes")["routes"]} == {VM: "vm1", CONTAINERS: "vm1"}


def test_tcp_crosses_the_smaller_mtu_without_tuning(site: Site) -> None:
    until(lambda: reaches(site.edge, "10.32.0.2"), what="edge1 reaches the container")
    for client, server, address in (
        (site.edge, site.container, "10.32.0.2"),
        (site.container, site.edge, "100.64.0.1"),
    ):
        with contextlib.closing(TcpPair(client, server, address, seconds=1, rate=4_000_000)) as pair:
            pair.result()
    tracepath = site.edge.run("ping", "-M", "do", "-s", "1450", "-c1", "-W1", "10.32.0.2", check=False)
    assert "1 received" not in tracepath, "a packet larger than the network behind the router passed"


def test_routes_go_with_their_router_and_come_back_with_it(site: Site) -> None:
    until(lambda: reaches(site.edge, "10.50.0.2"), what="edge1 reaches vm2")
    site.agents["vm1"].close()
    until(lambda: not reaches(site.edge, "10.50.0.2"), what="vm2 is away")
    config = site.agents["vm1"].config
    again = BusProcess(site.vm1, site.log, **{**config, "router": {"subnets": [VM]}})
    try:
        until(lambda: reaches(site.edge, "10.50.0.2"), what="edge1 reaches vm2 again")
        until(lambda: CONTAINERS not in site.edge.ip("route"), what="the withdrawn route")
        assert VM in site.edge.ip("route")
    finally:
        again.close()


def test_with_masquerade_the_vms_need_no_route(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        site = Site(tmp_path, stack, subnets=[VM], masquerade=True)
        until(lambda: reaches(site.edge, "10.50.0.2"), what="edge1 reaches vm2")
        assert "100.64" not in site.vm2.ip("route")


def test_networks_of_ipv6_behind_two_routers_reach_each_other(tmp_path: Path) -> None:
    """A router forwards IPv6, and still hears the router advertisements that its own uplink may live by."""
    with contextlib.ExitStack() as stack:
        net, cloud, routers, _, _ = stack.enter_context(edges_behind_nat(2))
        authority = TestAuthority(tmp_path)
        c = authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["203.0.113.1"])
        networks = {f"edge{n}": [f"fd5{n}::/64"] for n in (1, 2)}
        relay = BusProcess(
            cloud, tmp_path / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key, allowed=networks
        )
        stack.callback(relay.close)
        vms, agents = [], []
        for n, router in enumerate(routers, 1):
            vm = net.host(f"vm{n}")
            net.wire(router, f"fd5{n}::1/64", vm, f"fd5{n}::2/64")
            vm.ip("route", "add", "default", "via", f"fd5{n}::1")
            assert router.run("cat", "/proc/sys/net/ipv6/conf/all/forwarding") == "0\n"
            c = authority.issue(f"edge{n}", uri=f"spiffe://kubeedge/tenant/default/node/edge{n}")
            agent = BusProcess(
                router, tmp_path / f"edge{n}.log", role="edge", number=n, relays=["203.0.113.1:7010"],
                ca=c.ca, cert=c.cert, key=c.key, router={"subnets": networks[f"edge{n}"]},
            )  # fmt: skip
            stack.callback(agent.close)
            vms.append(vm)
            agents.append(agent)
        until(lambda: reaches(vms[0], "fd52::2"), what="vm1 reaches vm2")
        with contextlib.closing(TcpPair(vms[0], vms[1], "fd52::2", seconds=1, rate=4_000_000)) as pair:
            pair.result()
        path = vms[0].run("traceroute", "-6", "-n", "-q1", "-w20", "-m8", "fd52::2").splitlines()[1:]
        assert path[-1].split()[1] == "fd52::2" and len(path) <= 4, path
        device = next(
            line.split()[1] for line in routers[0].ip("-o", "-4", "addr").splitlines() if "192.168.1.2" in line
        )
        assert routers[0].run("cat", f"/proc/sys/net/ipv6/conf/{device}/accept_ra") == "2\n"
        relay.ask("allow", node="edge2", subnets=[])
        until(lambda: "fd52::/64" not in routers[0].ip("-6", "route"), what="the withdrawn route")


def test_the_cloud_s_own_machine_is_a_router_too(tmp_path: Path) -> None:
    """A machine of a cluster: what is behind it are machines, Services and those pods that no node has. Its own routes to them come first."""
    with contextlib.ExitStack() as stack:
        net, cloud, (edge, _), _, _ = stack.enter_context(edges_behind_nat(2))
        vm2, near, far = net.host("vm2"), net.host("near"), net.host("far")
        net.wire(cloud, "10.50.0.1/24", vm2, "10.50.0.2/24")
        net.bridge(cloud, "10.244.100.1/24", [(near, "10.244.100.2/24")])
        net.bridge(vm2, "10.244.101.1/24", [(far, "10.244.101.2/24")])
        for host, *route in (
            (cloud, "10.244.101.0/24", "via", "10.50.0.2"), (near, "default", "via", "10.244.100.1"),
            (far, "default", "via", "10.244.101.1"), (vm2, "10.244.0.0/16", "via", "10.50.0.1"),
            (vm2, "100.64.0.0/16", "via", "10.50.0.1"),
        ):  # fmt: skip
            host.ip("route", "add", *route)
            host.run("tee", "/proc/sys/net/ipv4/ip_forward", input="1")
        authority = TestAuthority(tmp_path)
        c = authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["203.0.113.1"])
        # the last one is a mistake: the links would lead into themselves
        tun = {"networks": ["10.244.0.0/16", "10.50.0.0/24", "10.96.0.0/16", "203.0.113.0/24"]}
        relay = BusProcess(cloud, tmp_path / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key, tun=tun)
        stack.callback(relay.close)
        c = authority.issue("edge1", uri="spiffe://kubeedge/tenant/default/node/edge1")
        agent = BusProcess(
            edge, tmp_path / "edge1.log", role="edge", number=1, node="edge1", relays=["203.0.113.1:7010"],
            ca=c.ca, cert=c.cert, key=c.key,
        )  # fmt: skip
        stack.callback(agent.close)
        edge.ip("addr", "add", "10.244.1.1/24", "dev", "lo")  # a pod of it
        for address in ("10.50.0.2", "10.244.100.2", "10.244.101.2"):
            until(lambda a=address: reaches(edge, a), what=f"edge1 reaches {address}")
        for host in (near, far, vm2):
            for address in ("100.64.0.1", "10.244.1.1"):
                until(lambda h=host, a=address: reaches(h, a), what=f"{host.name} reaches edge1 by {address}")
        until(
            lambda: "203.0.113.1 is itself in 203.0.113.0/24" in (tmp_path / "edge1.log").read_text(),
            what="the mistake",
        )
        assert "10.96.0.0/16" in edge.ip("route") and "203.0.113.0/24" not in edge.ip("route")
        # a pod that nobody has: the answer comes from the router, and nothing circles
        assert "Unreachable" in edge.run("ping", "-c1", "-W20", "10.244.77.7", check=False)
        to = {route["prefix"]: route["to"] for route in relay.ask("routes")["routes"]}
        assert to["10.50.0.0/24"] == "this machine" and "10.244.0.0/16" not in to
