"""Paths between an edge and its cloud: a bare veth, one of a given rate, a long and lossy one."""

from __future__ import annotations

import itertools
import json

from tests.kit.topology import Host, Topology, until
from tests.kit.wire import Conditions, LossyWire

_numbers = itertools.count(91)


def limit(edge: Host, nat: Host, rate: str) -> None:
    """Both directions of the wire between the two get that rate, as tc(8) writes it: "1gbit"."""
    for host, name in ((edge, _uplink(edge)), (nat, _towards(nat, "192.168."))):
        shape = ("rate", rate, "burst", "256kb", "latency", "10ms")
        host.run("tc", "qdisc", "replace", "dev", name, "root", "tbf", *shape)


def change(net: Topology, edge: Host, nat: Host, conditions: Conditions) -> None:
    """Another uplink instead of the one that it has. Returns when channel and links are there."""
    number = next(_numbers)
    near, network = _uplink(edge), f"192.168.{number}"
    LossyWire(net, edge, f"{network}.2/24", nat, f"{network}.1/24", conditions, fast=True)
    nat.masquerade(f"{network}.0/24")
    edge.ip("link", "set", near, "down")
    edge.ip("route", "add", "default", "via", f"{network}.1")

    def moved() -> bool:
        found = edge.run("ss", "-Htn", "state", "established", "src", f"{network}.2")
        return all(f":{port}" in found for port in (10000, 10010))

    until(moved, timeout=120, what="channel and links on the new path", interval=0.2)


def _uplink(edge: Host) -> str:
    """Its device of the default route."""
    (found,) = json.loads(edge.ip("-j", "route", "show", "default"))
    return str(found["dev"])


def _towards(nat: Host, prefix: str) -> str:
    """Its device with an address that begins so."""
    (found,) = {line.split()[1] for line in nat.ip("-o", "-4", "addr").splitlines() if f" {prefix}" in line}
    return found
