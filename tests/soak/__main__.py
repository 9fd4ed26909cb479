"""KubeBus for an hour: python -m tests.soak [--seconds 3600] [--seed 1]

A relay and two nodes behind NAT, real processes. From a seed, one after the other and at once: TCP connections between the nodes, whose every
byte goes there and back; 50 MB over L4; a cable that is out for a few seconds; a relay that is killed and comes back. What was sent
must arrive, whole and in order, across all of it; nothing may be in a log that looks like a bug; and no process may grow for ever:
after a first tenth of the time, at most by GROWTH.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from bench.demo.memory import rss
from tests.kit.bus_host import SIZE, blob
from tests.kit.bus_site import BusProcess, TcpPair
from tests.kit.certs import TestAuthority
from tests.kit.topology import Host, edges_behind_nat, until

GROWTH = 16 << 20  # bytes of resident set
WHOLE = (SIZE, hashlib.sha256(blob()).hexdigest())


class Soak:
    def __init__(self, directory: Path, stack: contextlib.ExitStack, rng: random.Random) -> None:
        self._directory, self._stack, self._rng = directory, stack, rng
        _, self._cloud, self._edges, _, _ = stack.enter_context(edges_behind_nat(2))
        self._authority = TestAuthority(directory)
        self._server = self._authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["203.0.113.1"])
        self._relay = self._start_relay()
        self._agents = []
        for n, host in enumerate(self._edges, 1):
            c = self._authority.issue(f"edge{n}", uri=f"spiffe://kubeedge/tenant/default/node/edge{n}")
            agent = BusProcess(
                host, directory / f"edge{n}.log", role="edge", number=n, relays=["203.0.113.1:7010"], ca=c.ca, cert=c.cert,
                key=c.key,
            )  # fmt: skip
            stack.callback(agent.close)
            self._agents.append(agent)
        self.reached()
        self.done = {"tcp": 0, "l4": 0, "cut": 0, "relay": 0}

    def _start_relay(self) -> BusProcess:
        c = self._server
        relay = BusProcess(self._cloud, self._directory / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key)
        self._stack.callback(relay.close)
        return relay

    def reached(self) -> None:
        until(
            lambda: "1 received" in self._edges[0].run("ping", "-c1", "-W1", "100.64.0.2", check=False),
            timeout=30,
            what="edge1 reaches edge2",
        )

    def step(self) -> None:
        """A transfer of each kind, and in most steps something that goes wrong meanwhile."""
        pair = TcpPair(self._edges[0], self._edges[1], "100.64.0.2", seconds=self._rng.uniform(4, 12))
        try:
            asker = self._rng.randrange(2)
            self._agents[asker].get(f"edge{2 - asker}", 7)
            trouble = self._rng.choice(("cut", "relay", "none", "none"))
            time.sleep(self._rng.uniform(0.2, 2.0))
            if trouble == "cut":
                _cut(self._edges[self._rng.randrange(2)], self._rng.uniform(0.5, 4.0))
            elif trouble == "relay":
                self._relay.close()
                time.sleep(self._rng.uniform(0.1, 2.0))
                self._relay = self._start_relay()
            if trouble != "none":
                self.done[trouble] += 1
            answer = self._agents[asker].answer(timeout=150)
            assert (answer.get("got"), answer.get("sha256")) == WHOLE, f"L4, {trouble}: {answer}"
            self.done["l4"] += 1
            pair.result(timeout=120)
            self.done["tcp"] += 1
        finally:
            pair.close()
        self.reached()

    def sizes(self) -> dict[str, int]:
        """Bytes of the agents: relays come and go."""
        found = {}
        for n, host in enumerate(self._edges, 1):
            found[f"edge{n}"] = max((rss(pid) for pid in host.processes()), default=0)
        return found

    def bugs(self) -> list[str]:
        return [
            f"{path.name}: {line}"
            for path in sorted(self._directory.glob("*.log"))
            for line in path.read_text().splitlines()
            if "Traceback" in line or "Error:" in line or "error kubeedge" in line
        ]


def _cut(host: Host, seconds: float) -> None:
    words = host.run("ip", "-o", "route", "show", "default").split()
    device, router = words[words.index("dev") + 1], words[words.index("via") + 1]
    host.ip("link", "set", device, "down")
    time.sleep(seconds)
    host.ip("link", "set", device, "up")
    host.ip("route", "replace", "default", "via", router)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0, help="0: by chance")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make soak needs root: namespaces of its own", file=sys.stderr)
        return 2
    seed = options.seed or int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}, {options.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="kb-soak-") as name, contextlib.ExitStack() as stack:
        soak = Soak(Path(name), stack, random.Random(seed))
        begun = told = time.monotonic()
        before: dict[str, int] = {}
        while (now := time.monotonic()) - begun < options.seconds:
            soak.step()
            if not before and now - begun >= options.seconds / 10:
                before = soak.sizes()
            if now - told >= 60:
                told = now
                sizes = ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in soak.sizes().items())
                print(f"{now - begun:.0f} s: {soak.done}; {sizes}", flush=True)
        after, bugs = soak.sizes(), soak.bugs()
    grown = {k: after[k] - v for k, v in before.items()}
    print(f"seed {seed}: {soak.done}; growth " + ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in grown.items()))
    for line in bugs[:20]:
        print(f"WRONG {line}")
    too_much = [k for k, v in grown.items() if v > GROWTH]
    if too_much:
        print(f"WRONG {', '.join(too_much)} grew by more than {GROWTH / 1e6:.0f} MB")
    return 1 if bugs or too_much else 0


if __name__ == "__main__":
    sys.exit(main())
