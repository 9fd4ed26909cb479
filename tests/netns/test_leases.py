"""Addresses of a card's machine. Of DHCP by the very script that udhcpc calls there: what stays the same is not taken away for a moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cardimage.root import FILES
from kubeedge_card import machine as machines
from kubeedge_card.config import Network
from tests.kit.topology import Host, Topology, inside, until

pytestmark = pytest.mark.root

LEASE = {"ip": "192.0.2.7", "mask": "24", "router": "192.0.2.1", "dns": "192.0.2.1 192.0.2.2"}


class Machine:
    """One with eth0, whose programs are busybox's, as a card's are."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host, self.directory = host, directory
        (directory / "bin").mkdir()
        for name in ("ip", "mv"):
            (directory / "bin" / name).symlink_to("/bin/busybox")
        script = (FILES / "udhcpc").read_text().replace("/run/", f"{directory}/")
        (directory / "script").write_text(script)
        host.ip("link", "add", "eth0", "type", "veth", "peer", "name", "far")
        for name in ("far", "eth0"):
            host.ip("link", "set", name, "up")
        until(lambda: "tentative" not in self.shown("addr") and "fe80" in self.shown("addr"), what="IPv6 on eth0")

    def shown(self, what: str) -> str:
        words = ("route", "show", "table", "all") if what == "route" else ("-o", "addr", "show", "dev", "eth0")
        return self.host.ip(*words)

    def happens(self, event: str, **lease: str) -> None:
        values = [f"{name}={value}" for name, value in (LEASE | lease).items()]
        self.host.run("env", "interface=eth0", f"PATH={self.directory}/bin", *values, "/bin/busybox", "sh",
                      f"{self.directory}/script", event)  # fmt: skip

    @property
    def addresses(self) -> list[str]:
        return [line.split()[3] for line in self.shown("addr").splitlines() if "fe80" not in line]


@pytest.fixture
def machine(topology: Topology, tmp_path: Path) -> Machine:
    return Machine(topology.host("machine"), tmp_path)


def test_a_lease_that_is_renewed_changes_nothing(machine: Machine) -> None:
    own = next(line for line in machine.shown("addr").splitlines() if "fe80" in line)
    machine.happens("deconfig")
    machine.happens("bound")
    machine.host.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.9")  # somebody else's: it goes with the address
    routes = machine.shown("route")
    assert "default via 192.0.2.1 dev eth0" in routes
    for _ in range(2):
        machine.happens("renew")
        assert machine.addresses == ["192.0.2.7/24"] and machine.shown("route") == routes
    assert own in machine.shown("addr"), "IPv6 is not DHCP's"
    assert (machine.directory / "resolv.conf").read_text() == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"address": "192.0.2.7/24", "gateway": "192.0.2.1"}, ""),
        ({"address": "2001:db8::7/64", "gateway": "2001:db8::1"}, ""),
        ({"address": "192.0.2.7/24", "gateway": "198.51.100.1"}, "network.gateway: "),
        ({"address": "192.0.2.7/24", "gateway": "2001:db8::1"}, "network.gateway: "),
    ],
)
def test_a_static_address_that_the_kernel_does_not_take_is_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, network: dict[str, str], said: str
) -> None:
    monkeypatch.setattr(machines, "Path", lambda name: machine.directory / Path(name).name)
    monkeypatch.setenv("PATH", f"{machine.directory}/bin:{os.environ['PATH']}")
    wanted = Network(nameservers=("192.0.2.1",), **network)
    found = inside(machine.host, lambda: machines._static(wanted))
    assert found.startswith(said) and (found == "") == (said == "")
    assert (machine.directory / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert found or f"default via {network['gateway']} " in machine.shown("route")


def test_a_lease_that_changes_leaves_nothing_of_the_one_before(machine: Machine) -> None:
    machine.happens("bound")
    for lease in ({"ip": "192.0.2.8"}, {"ip": "192.0.2.8", "mask": "25"}, {"ip": "10.1.2.3", "router": "10.1.2.1"}):
        machine.happens("renew", **lease)
        assert machine.addresses == [f"{lease['ip']}/{lease.get('mask', '24')}"]
        assert f"default via {lease.get('router', '192.0.2.1')} " in machine.shown("route")
    machine.happens("deconfig")
    assert machine.addresses == [] and "fe80" in machine.shown("addr")
