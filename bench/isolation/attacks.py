"""What the attacker does, each as processes of its own that begin, go on while the victim is measured, and end.

Each function starts an attack and gives its programs; an attack is bounded in what it sends by the program itself (a count), and in time by the
bench, which ends it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.isolation.site import ATTACKER, CLOUD, ENDLESS, Program, Site
from kubeedge.apiserver import unread
from kubeedge.config.cloud import QuotaConfig
from kubeedge.kubebus.http.limits import ProxyLimits
from tests.reference.l4 import budget

PORTS = (6443, 10000, 10002, 10010)  # API, channel, bootstrap, links
CONNECTIONS = 1200  # for each port
WATCHES, CLIENTS = 150, 16
_PACKETS = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, 1400)  # SOL_UDP, UDP_SEGMENT: the kernel makes 40 packets of one call
for n in range(1_000_000):
    try:
        s.sendto(bytes(1400 * 40), (sys.argv[1], 9))
    except OSError:
        pass
    if n == 1000:
        print("begun", flush=True)
"""

Start = Callable[[Site], list[Program]]


def nothing(site: Site) -> list[Program]:
    return []


def bodies(site: Site) -> list[Program]:
    """YAML, JSON and patches that cost much to read, on six connections."""
    tenant = site.new_tenant(_fresh("bodies"))
    return [site.program(site.internet, "begun", "-m", "tests.kit.bodies", "attack", tenant, CLOUD)]


def node_status(site: Site) -> list[Program]:
    """A node whose status has 500,000 addresses, rewritten as fast as the cloud takes it."""
    return [_rewriter(site, status="bad", size=500_000)]


def reports(site: Site) -> list[Program]:
    """A node that rewrites 2 MB of keys without end."""
    return [_rewriter(site, keys=100, size=20_000)]


def _rewriter(site: Site, **what: object) -> Program:
    pki = site.bad / "etc/kubeedge/pki"
    tls = {"ca": str(pki / "ca.crt"), "cert": str(pki / "node.crt"), "key": str(pki / "node.key")}
    config = {"endpoint": f"{CLOUD}:10000", **tls, "seconds": 60, **what}
    return site.program(site.edges[2], "attached", "-m", "tests.kit.rewriter", json.dumps(config))


def api_connections(site: Site) -> list[Program]:
    """1,100 connections to the API with the certificate of a node."""
    pki = site.bad / "etc/kubeedge/pki"
    tls = {"ca": str(pki / "ca.crt"), "cert": str(pki / "node.crt"), "key": str(pki / "node.key")}
    return [_flood(site, site.edges[2], targets=[[CLOUD, 6443]], sources=[""], count=1100, tls=tls)]


def silent(site: Site) -> list[Program]:
    """1,200 connections to each port that say nothing, from one address."""
    return [_silent(site, ["203.0.113.200"])]


def silent_networks(site: Site) -> list[Program]:
    """The same from a thousand addresses."""
    return [_silent(site, [f"198.51.{100 + n // 250}.{n % 250 + 1}" for n in range(1000)])]


def _silent(site: Site, sources: list[str]) -> Program:
    targets = [[CLOUD, port] for port in PORTS]
    return _flood(site, site.internet, targets=targets, sources=sources, count=CONNECTIONS * len(PORTS))


def _flood(site: Site, host: object, **config: object) -> Program:
    return site.program(host, "held", "-m", "tests.kit.flood", json.dumps(config))  # type: ignore[arg-type]


def unread_watches(site: Site) -> list[Program]:
    """150 watches that nobody reads, and an object of 1 MB that changes."""
    tenant = site.new_tenant(_fresh("watches"))
    target = "/api/v1/configmaps?watch=1&resourceVersion=0"
    config = {"host": CLOUD, "port": 6443, "kubeconfig": tenant, "target": target, "count": WATCHES}
    return [
        site.program(site.internet, "held", "-m", "tests.kit.unread", json.dumps(config)),
        site.program(site.internet, "begun", "-m", "bench.isolation.hostile", "rewrite", tenant, CLOUD),
    ]


def quota(site: Site) -> list[Program]:
    """Objects of 1 MB beyond what a tenant may store."""
    tenant = site.new_tenant(_fresh("quota"))
    return [site.program(site.internet, "begun", "-m", "bench.isolation.hostile", "fill", tenant, CLOUD)]


def l4(site: Site) -> list[Program]:
    """Overlapping pieces beyond holes in the windows of six connections, and 2,000 half-open ones, again and again."""
    return [site.program(site.edges[2], "round 0", "-m", "tests.kit.l4_attacker", str(site.bad), "1000")]


def packets(site: Site) -> list[Program]:
    """Super-packets from one node of the attacker to the other, through the relay."""
    address = json.loads((site.directory / "edge3/etc/kubeedge/node.json").read_text())["address"]
    return [site.program(site.edges[1], "begun", "-c", _PACKETS, address)]


def endless(kind: str) -> Start:
    def start(site: Site) -> list[Program]:
        argv = ("-m", "tests.kit.endless", "ask", CLOUD, ENDLESS, kind, str(CLIENTS))
        return [site.program(site.internet, "ready", *argv)]

    return start


@dataclass(frozen=True, slots=True)
class Attack:
    start: Start
    budget: float  # MB that the attacker's tenant may have in the cloud of what this one aims at


_MIB = 1 << 20
# half of L4's memory: what one tenant alone can get (_fastpath/l4/budget.c)
_L4 = budget.BYTES / 2 / 1e6
# objects, of which the cloud keeps a copy in memory, and answers that wait for their readers
_API = (QuotaConfig().mib * _MIB + unread.LIMIT) / 1e6
# what a node may report at once, its copy while it is taken apart, and the messages that carry it
_REPORTS = 4 * 16 * _MIB / 1e6
_PAGES = ProxyLimits().memory / 1e6 + _L4

ATTACKS: dict[str, Attack] = {
    "nothing": Attack(nothing, _L4),  # what the machine's own noise makes of two idle rounds
    "costly bodies": Attack(bodies, _API),
    "node status": Attack(node_status, _REPORTS),
    "reports": Attack(reports, _REPORTS),
    "API connections": Attack(api_connections, _L4),
    "silent TCP": Attack(silent, _L4),
    "silent TCP, 1,000 addresses": Attack(silent_networks, _L4),
    "unread watches": Attack(unread_watches, _API),
    "storage quota": Attack(quota, _API),
    "L4 segments": Attack(l4, _L4),
    "packets": Attack(packets, _L4),
    "endless 103": Attack(endless("interim"), _PAGES),
    "slow readers": Attack(endless("body"), _PAGES),
}

_used: dict[str, int] = {}


def _fresh(name: str) -> str:
    """What a tenant writes in ten minutes is bounded: each round has one of its own."""
    _used[name] = _used.get(name, 0) + 1
    return f"{ATTACKER}-{name}-{_used[name]}"


@contextmanager
def running(start: Start, site: Site) -> Iterator[list[str]]:
    """The list has, at the end, what the programs said last."""
    programs, told = start(site), list[str]()
    try:
        yield told
    finally:
        told += [program.stop() for program in programs]
