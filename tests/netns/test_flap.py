"""Links of an edge node when its network changes: cut, moved, killed at the other end, and twice the same identity."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.bus_host import SIZE, blob
from tests.kit.bus_site import BusProcess, Outage, TcpPair
from tests.kit.certs import TestAuthority
from tests.kit.topology import edges_behind_nat, until

pytestmark = pytest.mark.root
WHOLE = (SIZE, hashlib.sha256(blob()).hexdigest())


class Site:
    def __init__(self, tmp_path: Path, stack: contextlib.ExitStack) -> None:
        self.net, self.cloud, self.edges, self.nats, _ = stack.enter_context(edges_behind_nat(2))
        self.stack, self.tmp = stack, tmp_path
        self.authority = TestAuthority(tmp_path)
        self.server = self.authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["203.0.113.1"])
        self.certs = [
            self.authority.issue(f"edge{n}", uri=f"spiffe://kubeedge/tenant/default/node/edge{n}") for n in (1, 2)
        ]
        self.relay = self.start_relay()
        self.agents = [self.start_edge(n) for n in (1, 2)]
        self.until_reached()

    def start_relay(self) -> BusProcess:
        c = self.server
        relay = BusProcess(self.cloud, self.tmp / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key)
        self.stack.callback(relay.close)
        return relay

    def start_edge(self, n: int, host: Any = None, **more: Any) -> BusProcess:
        c = self.certs[n - 1]
        edge = BusProcess(
            host or self.edges[n - 1], self.tmp / f"edge{n}.log", role="edge", number=n, relays=["203.0.113.1:7010"],
            ca=c.ca, cert=c.cert, key=c.key, **more,
        )  # fmt: skip
        self.stack.callback(edge.close)
        return edge

    def until_reached(self) -> float:
        ping = lambda: "1 received" in self.edges[0].run("ping", "-c1", "-W1", "100.64.0.2", check=False)  # noqa: E731
        return until(ping, what="edge1 reaches edge2")

    def log(self, name: str) -> str:
        return (self.tmp / f"{name}.log").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


def up(process: BusProcess) -> int:
    return sum(link["state"] == "up" for link in process.ask("links")["links"])


def test_a_node_has_several_links_and_loses_no_byte_when_one_of_them_is_cut(site: Site) -> None:
    until(lambda: up(site.agents[0]) == 2, what="both links of edge1")
    site.relay.get("edge1", 7)
    site.edges[0].run(
        "ss", "-K", "dst", "203.0.113.1", check=False
    )  # needs CONFIG_INET_DIAG_DESTROY; without it nothing happens
    answer = site.relay.answer()
    assert (answer.get("got"), answer.get("sha256")) == WHOLE, answer
    until(lambda: up(site.agents[0]) == 2, what="both links again")


def test_connections_survive_a_new_address_of_the_node(site: Site) -> None:
    """The wire is pulled and put into another network: what DHCP does to a machine that was carried elsewhere."""
    with contextlib.closing(TcpPair(site.edges[0], site.edges[1], "100.64.0.2", seconds=6)) as pair:
        site.relay.get("edge1", 7)
        edge, nat = site.edges[0], site.nats[0]
        device = next(
            line.split()[1].split("@")[0].rstrip(":")
            for line in edge.ip("-o", "addr").splitlines()
            if "192.168.1.2" in line
        )
        nat_device = next(line.split()[1] for line in nat.ip("-o", "addr").splitlines() if "192.168.1.1" in line)
        nat.ip("addr", "add", "192.168.77.1/24", "dev", nat_device)
        nat.run("nft", "add", "rule", "ip", "nat", "post", "ip", "saddr", "192.168.77.0/24", "masquerade")
        edge.ip("addr", "flush", "dev", device)
        edge.ip("addr", "add", "192.168.77.2/24", "dev", device)
        edge.ip("route", "add", "default", "via", "192.168.77.1")
        changed = time.time()
        with contextlib.closing(Outage(edge, "100.64.0.2")) as pings:
            until(lambda: pings.answered_after(changed), what="an answer")
        print(f"reached again {time.time() - changed:.2f} s after the change")
        until(lambda: up(site.agents[0]) == 2, what="both links from the new address")
        answer = site.relay.answer()
        assert (answer.get("got"), answer.get("sha256")) == WHOLE, answer
        pair.result()
    until(
        lambda: all(link["local"] == "192.168.77.2" for link in site.agents[0].ask("links")["links"]),
        what="links from the new address alone",
    )


def test_connections_survive_a_link_that_goes_down_and_up(site: Site) -> None:
    edge = site.edges[0]
    device = next(line.split()[1] for line in edge.ip("-o", "addr").splitlines() if "192.168.1.2" in line)
    with contextlib.closing(TcpPair(edge, site.edges[1], "100.64.0.2", seconds=5)) as pair:
        edge.ip("link", "set", device, "down")
        time.sleep(3)  # the outage itself
        edge.ip("link", "set", device, "up")
        edge.ip("route", "add", "default", "via", "192.168.1.1")
        healed = time.time()
        with contextlib.closing(Outage(edge, "100.64.0.2")) as pings:
            until(lambda: pings.answered_after(healed), what="an answer")
        print(f"reached {time.time() - healed:.2f} s after the link was up")
        pair.result()


def test_a_silent_relay_is_noticed_while_data_waits_and_everything_goes_on_after_its_return(site: Site) -> None:
    with contextlib.closing(TcpPair(site.edges[0], site.edges[1], "100.64.0.2", seconds=5)) as pair:
        site.nats[0].cut()
        until(lambda: up(site.agents[0]) == 0, what="links that are doubtful or down")
        site.nats[0].heal()
        healed = time.time()
        site.until_reached()
        print(f"reached {time.time() - healed:.2f} s after the network was back")
        pair.result()


def test_tcp_between_nodes_survives_the_death_of_the_relay(site: Site) -> None:
    with contextlib.closing(TcpPair(site.edges[0], site.edges[1], "100.64.0.2", seconds=5)) as pair:
        site.agents[0].get("edge2", 7)  # and a connection of L4
        time.sleep(0.1)  # of whose 50 MB some are on their way
        site.relay.close()
        site.relay = site.start_relay()
        started = time.time()
        site.until_reached()
        print(f"reached {time.time() - started:.2f} s after the new relay was ready")
        answer = site.agents[0].answer()
        assert (answer.get("got"), answer.get("sha256")) == WHOLE, answer
        pair.result()


def test_an_agent_that_is_restarted_replaces_its_old_self_at_once(site: Site) -> None:
    site.agents[0].host.signal(site.agents[0].process, 19)  # stopped, not ended: its connections stay half open
    stopped = site.agents[0]
    site.net.wire(site.edges[1], "10.99.0.1/24", site.nats[1], "10.99.0.2/24")  # news that change nothing
    spare = site.net.host("spare")
    site.net.wire(spare, "192.168.88.2/24", site.nats[0], "192.168.88.1/24")
    spare.ip("route", "add", "default", "via", "192.168.88.1")
    site.nats[0].run("nft", "add", "rule", "ip", "nat", "post", "ip", "saddr", "192.168.88.0/24", "masquerade")
    newer = site.start_edge(1, spare)
    until(lambda: up(newer) == 2, what="the links of the new agent")
    stopped.host.signal(stopped.process, 18)  # now there are two machines with one identity
    until(
        lambda: "another machine uses the identity" in site.log("edge1"),
        what="the refusal of the older one",
    )
    assert up(newer) == 2

    def problems() -> set[str]:
        return {link["problem"] for link in site.relay.ask("links")["links"] if link["node"] == "edge1"}

    until(
        lambda: any("another machine uses this node's identity" in text for text in problems()),
        what="the relay says so, too",
    )

    def is_refused() -> bool:
        refused = stopped.ask("links")
        return not refused["links"] and "reset one of the two" in refused["lastError"]

    until(is_refused, what="the older one has no links, and says why")


def test_ping_and_metrics_of_an_edge(site: Site) -> None:
    answer = site.agents[0].ask("ping", node="edge2", count=3)
    assert len(answer["times"]) == 3 and all(0 < t < 5 for t in answer["times"]), answer
    assert answer["relay"]["address"] == "203.0.113.1:7010"
    assert len(site.agents[0].ask("ping", node="cloud", count=1)["times"]) == 1
    assert len(site.relay.ask("ping", node="edge2", count=2)["times"]) == 2
    itself = site.agents[0].ask("ping", node="edge1", count=2)
    assert itself["node"] == "edge1" and len(itself["times"]) == 2 and all(0 < t < 5 for t in itself["times"]), itself
    assert "there is no node nowhere" in site.agents[0].ask("ping", node="nowhere", count=1)["error"]
    text = site.agents[0].ask("metrics")["metrics"]
    assert "kubeedge_kubebus_up 1\n" in text and 'kubeedge_kubebus_link_rx_bytes_total{slot="0"}' in text


def traffic_of(relay: BusProcess) -> dict[str, int]:
    lines = (line for line in relay.ask("metrics")["metrics"].splitlines() if not line.startswith("#"))
    pairs = (line.rpartition(" ") for line in lines)
    return {name: int(value) for name, _, value in pairs if name.endswith(("_bytes_total", "_packets_total"))}


def test_counters_of_the_relay_never_go_back(site: Site) -> None:
    """Prometheus takes a counter that went back for one that began anew: an ended link would look like a burst."""
    assert "2 received" in site.edges[0].run("ping", "-c2", "-i0.1", "-s", "8000", "-W20", "100.64.0.2")
    assert "2 received" in site.edges[0].run("ping", "-c2", "-i0.1", "-W20", "100.64.255.254")
    before = traffic_of(site.relay)
    assert (
        before["kubeedge_bushub_link_rx_bytes_total"] > 16_000 and before["kubeedge_bushub_tun_tx_packets_total"] >= 2
    )
    site.agents[0].close()
    until(lambda: len(site.relay.ask("links")["links"]) == 2, what="the end of the links of edge1")
    after = traffic_of(site.relay)
    assert before.keys() == after.keys() and all(after[name] >= before[name] for name in before)
    site.agents[1].close()
    until(lambda: not site.relay.ask("links")["links"], what="the end of all links")
    assert (
        traffic_of(site.relay)["kubeedge_bushub_link_rx_bytes_total"] >= before["kubeedge_bushub_link_rx_bytes_total"]
    )
