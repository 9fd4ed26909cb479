"""The test hosts themselves: what they promise, and that they leave nothing behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.kit.topology import Topology, edges_behind_nat, until

pytestmark = pytest.mark.root


def test_an_edge_behind_nat_reaches_the_cloud_and_not_the_reverse() -> None:
    with edges_behind_nat(2) as (_, cloud, edges, nats, internet):
        assert "1 received" in edges[0].run("ping", "-c1", "-W20", "203.0.113.1")
        assert "1 received" in internet.run("ping", "-c1", "-W20", "203.0.113.1")
        with pytest.raises(RuntimeError, match="unreachable"):
            cloud.run("ping", "-c1", "-W1", "192.168.1.2")
        nats[0].cut()
        assert "100% packet loss" in edges[0].run("ping", "-c1", "-W1", "203.0.113.1", check=False)
        nats[0].heal()
        assert "1 received" in edges[0].run("ping", "-c1", "-W20", "203.0.113.1")


def test_a_power_cut_kills_everything_in_the_host_and_nothing_else(topology: Topology) -> None:
    a, b = topology.host("a"), topology.host("b")
    daemon = a.spawn("sh", "-c", "sleep 1000 & exec sleep 1001")
    other = b.spawn("sleep", "1002")
    until(lambda: len(a.processes()) >= 2, what="both processes of host a")
    assert a.power_cut() >= 2
    assert daemon.poll() is not None
    until(lambda: a.processes() == [], what="the host's PID 1 to reap what became its children")
    assert other.poll() is None
    assert a.run("hostname").strip() == "a"


def test_a_process_that_was_stopped_and_goes_on_can_be_waited_for(topology: Topology) -> None:
    host = topology.host("a")
    process = host.spawn("sleep", "1004")
    until(lambda: host.running(b"sleep\x001004"), what="the process")
    host.signal(process, signal.SIGSTOP)
    until(lambda: " T " in Path(f"/proc/{process.pid}/stat").read_text(), what="nsenter to stop with it")
    host.signal(process, signal.SIGCONT)
    assert host.stop(process) != 0


def test_a_closed_topology_leaves_no_process() -> None:
    with Topology() as net:
        host = net.host("gone")
        host.spawn("sleep", "1003")
        pids = [host.pid, *host.processes()]
    until(lambda: not any(Path(f"/proc/{p}").exists() for p in pids), what="all processes of the host to end")
