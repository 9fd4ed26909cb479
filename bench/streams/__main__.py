"""`make bench NAME=streams`: exec and cp through the API server, KubeBus and a node: one key, one command, 100 MB.

    python -m bench.streams [--rounds 3] [--megabytes 100]

One cloud and one node, on a good wire and on one of 200 Mbit/s with 10 ms one way; both share the machine. Beside each figure stands what the
path or the runtime takes itself: a bare TCP connection between the two hosts, `crun exec` on the node.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.typing import Subprotocol

from bench.report import ROOT, Report
from kubeedge.appengine.runtime import cgroups
from tests.kit.topology import Host, Topology
from tests.kit.upstream import build
from tests.kit.wire import Conditions, LossyWire
from tests.netns.test_join import PREFIX
from tests.netns.test_streams import StreamSite

WAN = Conditions(rate=200e6, delay=0.010, queue=2_000_000)
KEYS, COMMANDS = 200, 40
BARE = 7001  # TCP on the node
CLOUD, NODE = "203.0.113.1", "203.0.113.7"


class Wired(Topology):
    """A topology whose wires are like that."""

    def __init__(self, conditions: Conditions | None) -> None:
        super().__init__()
        self._conditions = conditions

    def wire(self, a: Host, a_address: str, b: Host, b_address: str) -> tuple[str, str]:
        if self._conditions is None:
            return super().wire(a, a_address, b, b_address)
        return LossyWire(self, a, a_address, b, b_address, self._conditions, fast=True).names


# -- a client, in the host of the cloud --------------------------------------------------------------------------------


def client(config: dict[str, Any]) -> None:
    """stdout: {"key": seconds, "bare": seconds, "command": seconds}, each a median."""
    context = ssl.create_default_context(cafile=config["ca"])
    context.load_cert_chain(config["cert"], config["key"])
    url = f"wss://{CLOUD}:6443/api/v1/namespaces/default/pods/box/exec?container=main&stdin={{}}&stdout=1&command={{}}"

    def session(stdin: int, command: str) -> Any:
        protocol = Subprotocol("v5.channel.k8s.io")
        return connect(url.format(stdin, command), ssl=context, subprotocols=[protocol], compression=None)

    keys, commands, bare = [], [], []
    with session(1, "cat") as shell:
        assert shell.recv() == b"\x01"
        for _ in range(KEYS):
            begun = time.perf_counter()
            shell.send(b"\x00k")
            assert shell.recv() == b"\x01k"
            keys.append(time.perf_counter() - begun)
    for _ in range(COMMANDS):
        begun = time.perf_counter()
        with session(0, "true") as running:
            said = [message for message in running]
        commands.append(time.perf_counter() - begun)
        assert b"Success" in said[-1]
    with socket.create_connection((NODE, BARE)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(KEYS):
            begun = time.perf_counter()
            line.sendall(b"k")
            line.recv(1)
            bare.append(time.perf_counter() - begun)
    print(
        json.dumps({name: statistics.median(v) for name, v in (("key", keys), ("command", commands), ("bare", bare))})
    )


def bare_server(address: str) -> str:
    """A program: counts what it gets, and echoes single bytes."""
    return f"""
import socket, threading
def serve(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    n = 0
    while data := c.recv(1 << 18):
        n += len(data)
        if len(data) == 1: c.sendall(data)
    c.sendall(b"%d" % n)
    c.close()
with socket.create_server(("{address}", {BARE})) as s:
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


def bare_client(address: str) -> str:
    """A program: sends a file, prints the seconds until all of it was there."""
    return f"""
import socket, sys, time
data = open(sys.argv[1], "rb").read()
c = socket.create_connection(("{address}", {BARE}))
begun = time.perf_counter()
c.sendall(data); c.shutdown(socket.SHUT_WR)
assert c.recv(100) == b"%d" % len(data)
print(time.perf_counter() - begun)
"""


# -- the measurements --------------------------------------------------------------------------------------------------


def crun(site: StreamSite) -> float:
    """Seconds of `crun exec true` in the same container, a median."""
    root = site.root / "run/kubeedge/oci"
    found = site.machine.run("crun", f"--root={root}", "list", "-q").split()
    script = (
        "import subprocess,sys,time,statistics\nt=[]\n"
        f"for _ in range({COMMANDS}):\n b=time.perf_counter(); subprocess.run(sys.argv[1:],check=True); t.append(time.perf_counter()-b)\n"
        "print(statistics.median(t))\n"
    )
    return float(site.machine.run(sys.executable, "-c", script, "crun", f"--root={root}", "exec", found[0], "true"))


def measure(report: Report, conditions: Conditions | None, megabytes: int, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix=PREFIX) as made, Wired(conditions) as net:
        directory = Path(made)
        try:
            site = StreamSite(net, directory)
            site.begin()
            site.machine.spawn(sys.executable, "-c", bare_server(NODE))
            pki = directory / "state/pki"
            config = {
                "ca": str(pki / "ca.crt"),
                "cert": str(pki / "admin-default.crt"),
                "key": str(pki / "admin-default.key"),
            }
            command = site.cloud.command(
                "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "bench.streams", "--client", json.dumps(config)
            )
            seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
            report.add(
                f"{name}: one key, above the path", (seen["key"] - seen["bare"]) * 1e3, unit="ms", must=10, aim=4
            )
            if conditions is None:
                own = crun(site)
                report.add("crun exec true", own * 1e3, unit="ms")
                report.add("exec of true, above crun exec", (seen["command"] - own) * 1e3, unit="ms", must=15, aim=5)
            file = directory / "large"
            file.write_bytes(b"0123456789abcdef" * (megabytes * 62500))
            bare = float(site.cloud.run(sys.executable, "-c", bare_client(NODE), str(file), timeout=300))
            for program in ("newest", "debian"):
                kubectl = (
                    str(build.program("kubectl")) if program == "newest" else str(ROOT / "build/debian/usr/bin/kubectl")
                )
                begun = time.perf_counter()
                done = subprocess.run(
                    site.command(kubectl, "cp", str(file), "box:/tmp/large", "-c", "main"),
                    capture_output=True,
                    timeout=600,
                )
                taken = time.perf_counter() - begun
                assert done.returncode == 0, done.stderr
                report.add(f"{name}: bare TCP", megabytes / bare, unit="MB/s", higher=True)
                bound = {"must": 0.3, "aim": 0.6} if conditions is not None else {}
                report.add(f"{name}: kubectl cp ({program}), of bare TCP", bare / taken, unit="x", higher=True, **bound)
        finally:
            net.__exit__()
            cgroups.kill_and_remove(PREFIX)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--client")
    arguments = parser.parse_args()
    if arguments.client:
        client(json.loads(arguments.client))
        return 0
    report = Report("streams")
    for _ in range(arguments.rounds):
        measure(report, None, arguments.megabytes, "good wire")
        measure(report, WAN, arguments.megabytes, "200 Mbit/s, 20 ms")
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
