"""KubeBus end to end: a relay, two edge nodes behind NAT, packets and connections, cuts and restarts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.kubebus.l4.driver import PACE
from tests.kit import log_tails
from tests.kit.bus_host import SIZE, blob
from tests.kit.certs import TestAuthority
from tests.kit.topology import DEFAULT_TIMEOUT, Host, edges_behind_nat, until

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]


class Process:
    def __init__(self, host: Host, log: Path, **config: Any) -> None:
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                host.command(sys.executable, "-m", "tests.kit.bus_host", json.dumps(config, default=str)),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        log_tails.keep(log, self.process)
        self.host = host
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.answer()["ready"]

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._answers.put(json.loads(line))

    def answer(self, timeout: float = DEFAULT_TIMEOUT) -> dict[str, Any]:
        try:
            return self._answers.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no answer within {timeout:g} s") from None

    def get(self, node: str, port: int, **more: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"get": [node, port], **more}) + "\n")
        self.process.stdin.flush()

    def do(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.answer(120)

    def close(self) -> None:
        self.host.signal(self.process, 9)
        self.process.wait()
        self._thread.join(5)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


class Bus:
    def __init__(self, tmp_path: Path, stack: contextlib.ExitStack) -> None:
        _, self.cloud, self.edges, self.nats, _ = stack.enter_context(edges_behind_nat(2))
        self.stack, self.tmp = stack, tmp_path
        self.authority = TestAuthority(tmp_path)
        self.server = self.authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["203.0.113.1"])
        self.relay = self.start_relay()
        self.agents = [self._edge(n) for n in (1, 2)]
        until(lambda: self.pings(self.edges[0], "100.64.0.2"), what="both links")

    def start_relay(self) -> Process:
        c = self.server
        relay = Process(self.cloud, self.tmp / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key)
        self.stack.callback(relay.close)
        return relay

    def _edge(self, n: int) -> Process:
        c = self.authority.issue(f"edge{n}", uri=f"spiffe://kubeedge/tenant/default/node/edge{n}")
        edge = Process(
            self.edges[n - 1], self.tmp / f"edge{n}.log", role="edge", number=n, relays=["203.0.113.1:7010"],
            ca=c.ca, cert=c.cert, key=c.key,
        )  # fmt: skip
        self.stack.callback(edge.close)
        return edge

    def pings(self, host: Host, address: str) -> bool:
        return "1 received" in host.run("ping", "-c1", "-W1", address, check=False)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    with contextlib.ExitStack() as stack:
        yield Bus(tmp_path, stack)


EXPECTED = (SIZE, hashlib.sha256(blob()).hexdigest())


def test_packets_and_connections_go_every_way(bus: Bus) -> None:
    until(lambda: bus.pings(bus.cloud, "100.64.0.1"), what="the cloud reaches edge1")
    until(lambda: bus.pings(bus.edges[1], "100.64.255.254"), what="edge2 reaches the cloud")
    for caller, node in ((bus.relay, "edge1"), (bus.agents[0], "edge2")):
        caller.get(node, 7)
        answer = caller.answer()
        assert (answer.get("got"), answer.get("sha256")) == EXPECTED, answer
        print(f"50 MB over L4 from {node}: {SIZE / answer['seconds'] / 1e6:.0f} MB/s")
    bus.agents[0].get("edge2", 8, send="hello")
    assert bus.agents[0].answer()["got"] == 5
    # a node that opens connections without end is held to its pace, and the others do not notice
    flooded = bus.agents[0].do(do="flood", node="edge2", count=1500)
    print(f"{flooded['accepted']} of 1,500 connections were accepted within {flooded['seconds']:.1f} s")
    assert 2 * PACE[0] <= flooded["accepted"] <= (2 + flooded["seconds"]) * PACE[0] + 1
    bus.relay.get("edge2", 8, send="hello")
    assert bus.relay.answer()["got"] == 5


def test_what_is_not_there_is_refused_by_name(bus: Bus) -> None:
    bus.agents[0].get("edge9", 7)
    assert "there is no node edge9" in bus.agents[0].answer()["error"]
    bus.agents[0].get("edge2", 99)
    assert "refused" in bus.agents[0].answer()["error"]


def test_a_connection_survives_a_cut_link(bus: Bus) -> None:
    bus.relay.get("edge1", 7)
    time.sleep(0.05)
    bus.nats[0].cut()
    time.sleep(3)
    bus.nats[0].heal()
    answer = bus.relay.answer()
    assert (answer.get("got"), answer.get("sha256")) == EXPECTED, answer


def test_links_come_back_after_the_relay_was_killed(bus: Bus) -> None:
    bus.relay.close()
    bus.relay = bus.start_relay()
    took = until(lambda: bus.pings(bus.edges[0], "100.64.0.2"), what="the links again")
    print(f"links were back {took:.1f} s after the new relay was ready")
    bus.relay.get("edge2", 8, send="again")
    assert bus.relay.answer()["got"] == 5
