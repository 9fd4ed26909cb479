"""KubeBus between two nodes whose relays are cloud processes over a real etcd: one of them dies, and a member of etcd with it."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.site import KUBEEDGE, RELAY_PORT, Site
from tests.kit.bus_site import Outage, TcpPair
from tests.kit.topology import Topology, until

pytestmark = pytest.mark.root


@pytest.fixture
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="kbchaos"))
    try:
        with Topology() as net:
            site = Site(net, directory, clouds=2, members=3, agents=2, bus=True)
            site.begin()
            yield site
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def relays_of(site: Site, node: str) -> set[str]:
    socket = str(site.root(node) / "run/kubeedge/edge.sock")
    answer = site.edge(node).run(*KUBEEDGE, "links", "-o", "json", "--socket", socket, check=False)
    links = json.loads(answer)["links"] if answer else []
    return {link["relay"] for link in links if link["state"] == "up"}


def test_a_connection_between_nodes_survives_the_death_of_a_relay_and_of_an_etcd_member(site: Site) -> None:
    here, there = (site.edge(node) for node in site.nodes)
    address = json.loads((site.root("edge1") / "etc/kubeedge/node.json").read_text())["address"].split("/")[0]
    first, second = (f"{server}:{RELAY_PORT}" for server in site.servers)
    until(lambda: "1 received" in here.run("ping", "-c1", "-W1", address, check=False), what="a ping")
    until(lambda: relays_of(site, "edge0") == {first} and relays_of(site, "edge1") == {second}, what="each node at its relay")  # fmt: skip
    for host in (here, there):  # the processes of the cloud, too, each at its own address
        for n in (0, 1):
            until(
                lambda host=host, n=n: "1 received" in host.run("ping", "-c1", "-W1", site.overlay(n), check=False),  # type: ignore[misc]
                what=f"{host.name} reaches cloud process {n}",
            )
    path = here.run("traceroute", "-n", "-q1", "-w20", "-m6", address).splitlines()[1:]
    assert path[-1].split()[1] == address and len(path) <= 3, path
    with (
        contextlib.closing(TcpPair(here, there, address, seconds=5)) as pair,
        contextlib.closing(Outage(here, address)) as pings,
    ):
        until(lambda: pings.answered_after(0), what="a ping")
        site.processes["etcd0"].end()
        killed = time.time()
        site.processes["cloud0"].end()
        until(lambda: relays_of(site, "edge0") == {second}, what="the move of edge0")
        until(lambda: pings.answered_after(time.time() - 0.3), what="an answer through the other relay")
        print(f"away for {pings.longest(killed - 0.2):.2f} s")
        pair.result()
    # a new process in its place: the relays find each other again, and the next death is survived the other way round
    site.processes["etcd0"].start()
    site.processes["cloud0"].start()
    socket = str(site.directory / "cloud0/run/cloud.sock")

    def peers() -> list[str]:
        command = [*KUBEEDGE, "links", "-o", "json", "--socket", socket]
        answer = site._hosts["cloud0"].run(*command, check=False)
        return [relay["state"] for relay in json.loads(answer).get("relays", ())] if answer else []

    until(lambda: peers() == ["up"], what="the relays' link")
    answer = site._hosts["cloud0"].run(*KUBEEDGE, "links", "-o", "json", "--socket", socket)
    assert (
        json.loads(answer)["problems"] == []
    )  # the lease of the killed one lives a while, and its address is ours again
    until(lambda: "1 received" in here.run("ping", "-c1", "-W1", site.overlay(0), check=False), what="the own address of the process that was restarted")  # fmt: skip
    with contextlib.closing(TcpPair(here, there, address, seconds=4)) as pair:
        site.processes["cloud1"].end()
        until(lambda: relays_of(site, "edge0") == relays_of(site, "edge1") == {first}, what="both moved")
        pair.result()
