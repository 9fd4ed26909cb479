"""The messages to the kernel, compared with what pyroute2 makes of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit.topology import Topology

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]

SCRIPT = """
import ipaddress, json, socket, sys
from pyroute2 import IPRoute
from kubeedge.kubebus.l3.netlink import MAIN, THROW, Netlink, Route, Rule

index, net = socket.if_nametoindex("d0"), ipaddress.ip_network
source = ipaddress.ip_address("100.64.0.1")
wanted = [
    Route(net("10.244.0.0/16"), index, 5130, 7, source=source), Route(net("10.244.1.0/24"), 0, 5130, 7, kind=THROW),
    Route(net("192.168.50.0/24"), index, MAIN, 5000, mtu=1400), Route(net("fd77::/64"), index, MAIN, 5000, mtu=1300),
]
with Netlink() as kernel, IPRoute() as oracle:
    kernel.bring_up(index, 1300)
    kernel.replace_address(index, ipaddress.ip_interface("100.64.0.1/16"))
    kernel.add_rule(Rule(5130, 5130)); kernel.add_rule(Rule(5130, 5130))
    kernel.add_rule(Rule(5120, MAIN, net("192.168.1.2/32")))
    for route in wanted + wanted:
        kernel.replace_route(route)
    assert set(wanted[:3]) <= set(kernel.routes()), kernel.routes()
    assert {Rule(5130, 5130), Rule(5120, MAIN, net("192.168.1.2/32"))} <= set(kernel.rules()), kernel.rules()
    (address,) = [a for a in kernel.addresses() if a.index == index]
    assert str(address.interface) == "100.64.0.1/16"
    (link,) = oracle.get_links(index)
    said = {"mtu": link.get_attr("IFLA_MTU"), "up": bool(link["flags"] & 1), "routes": [], "rules": []}
    for r in [*oracle.get_routes(family=socket.AF_INET), *oracle.get_routes(family=socket.AF_INET6)]:
        metrics = r.get_attr("RTA_METRICS")
        found = [r.get_attr("RTA_DST"), r["dst_len"], r.get_attr("RTA_TABLE"), r.get_attr("RTA_PRIORITY"), r["type"],
                 r.get_attr("RTA_OIF") == index, r.get_attr("RTA_PREFSRC"), metrics.get_attr("RTAX_MTU") if metrics else None]
        if str(found[0]) in [str(w.network.network_address) for w in wanted]:
            said["routes"].append(found)
    for r in oracle.get_rules(family=socket.AF_INET):
        said["rules"].append([r.get_attr("FRA_PRIORITY"), r.get_attr("FRA_TABLE"), r.get_attr("FRA_SRC"), r["src_len"]])
    for route in wanted + wanted:
        kernel.remove_route(route)
    kernel.remove_rule(Rule(5130, 5130)); kernel.remove_rule(Rule(5130, 5130))
    said["left"] = len([r for r in kernel.routes() if r in wanted]) + len([r for r in kernel.rules() if r.priority == 5130])
print(json.dumps(said))
"""


def test_pyroute2_sees_what_was_said(topology: Topology) -> None:
    host = topology.host("machine")
    host.ip("tuntap", "add", "dev", "d0", "mode", "tun")
    path = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    said: dict[str, Any] = json.loads(host.run("env", f"PYTHONPATH={path}", sys.executable, "-c", SCRIPT))
    assert said["mtu"] == 1300 and said["up"] and said["left"] == 0
    assert sorted(said["routes"]) == sorted(
        [
            ["10.244.0.0", 16, 5130, 7, 1, True, "100.64.0.1", None],
            ["10.244.1.0", 24, 5130, 7, 9, False, None, None],
            ["192.168.50.0", 24, 254, 5000, 1, True, None, 1400],
            ["fd77::", 64, 254, 5000, 1, True, None, 1300],
        ]
    )
    assert [5130, 5130, None, 0] in said["rules"] and [5120, 254, "192.168.1.2", 32] in said["rules"]
    assert said["rules"].count([5130, 5130, None, 0]) == 1
