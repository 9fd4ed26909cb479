"""`make bench NAME=links`: what an idle link costs the relay: thousands of them in one process, over TLS and TCP on loopback.

    python -m bench.links [--links 10000] [--rounds 1]

The relay is a process of its own with a data plane, which admits each link for a node of its own, with a route, and keeps the state
of the L2 conversation for it. Measured is what its PSS has grown by when all links have been quiet for some seconds. What the kernel
keeps for a TCP connection is not in it.
"""

from __future__ import annotations

import argparse
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.demo.memory import pss
from bench.report import ROOT, Report
from kubeedge.api.names import NodeNumber, PortId, TenantNumber
from kubeedge.kubebus.l2.core import LinkCore, LinkSettings, Role
from kubeedge.kubebus.l3.plane import Plane, PortClosed, PortConnected, TlsContext
from tests.kit.certs import TestAuthority

AT_ONCE = 100  # handshakes
QUIET = 6.0  # seconds


def files_allowed(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))


def ready(plane: Plane, listener: socket.socket | None, timeout: float) -> set[int]:
    with selectors.DefaultSelector() as selector:
        selector.register(plane.fileno(), selectors.EVENT_READ)
        if listener:
            selector.register(listener, selectors.EVENT_READ)
        return {key.fd for key, _ in selector.select(timeout)}


def relay(ca: str, cert: str, key: str, count: int) -> None:
    files_allowed(count)
    plane, tls = Plane(NodeNumber(0)), TlsContext(ca, cert, key, server=True)
    conversations: dict[PortId, LinkCore] = {}
    with socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE * 2) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        sys.stdin.readline()  # the other side has measured us
        while len(conversations) < count:
            got = ready(plane, listener, 30)
            if not got:
                raise SystemExit(f"only {len(conversations)} links came up")
            if listener.fileno() in got:
                plane.add_link(listener.accept()[0].detach(), tls)
            for event in plane.events():
                match event:
                    case PortConnected(port, _):
                        n = len(conversations)
                        tenant, number = TenantNumber(1), NodeNumber(n + 1)
                        address = f"100.{64 + n // 65_536}.{n // 256 % 256}.{n % 256}/32"
                        plane.admit(port, tenant=tenant, number=number, prefixes=[address])
                        plane.add_route(tenant, address, number)
                        conversations[port] = LinkCore(Role.RELAY, LinkSettings())
                    case PortClosed(_, reason):
                        raise SystemExit(f"a link went down: {reason}")
        print("up", flush=True)
        sys.stdin.readline()
    plane.close()


def measure(count: int, directory: Path) -> tuple[float, float]:
    """(bytes of the relay for a link, links a second)"""
    authority = TestAuthority(directory)
    server = authority.issue("relay", uri="spiffe://kubeedge/cloud/relay", hosts=["127.0.0.1"])
    node = authority.issue("node", uri="spiffe://kubeedge/tenant/t/node/n")
    files_allowed(count)
    argv = [sys.executable, "-m", "bench.links", "--relay", str(server.ca), str(server.cert), str(server.key)]
    with subprocess.Popen(
        [*argv, "--links", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin and process.stdout
        try:
            port = int(process.stdout.readline())
            before = pss(process.pid)
            process.stdin.write("go\n")
            process.stdin.flush()
            begun = time.monotonic()
            plane, tls = Plane(NodeNumber(1)), TlsContext(node.ca, node.cert, node.key, server=False)
            begun_links = up = 0
            while up < count:
                while begun_links < count and begun_links - up < AT_ONCE:
                    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
                    plane.add_link(connection.detach(), tls, server_name="127.0.0.1")
                    begun_links += 1
                if not ready(plane, None, 30):
                    raise RuntimeError(f"only {up} links came up")
                for event in plane.events():
                    if isinstance(event, PortClosed):
                        raise RuntimeError(f"a link went down: {event.reason}")
                    up += isinstance(event, PortConnected)
            took = time.monotonic() - begun
            if process.stdout.readline() != "up\n":
                raise RuntimeError("the relay did not see all links")
            time.sleep(QUIET)
            each = (pss(process.pid) - before) / count
            process.stdin.write("end\n")
            process.stdin.flush()
            process.wait(timeout=60)
            plane.close()
            return each, count / took
        finally:
            process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=links", description=__doc__)
    parser.add_argument("--links", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--relay", nargs=3, metavar=("CA", "CERT", "KEY"))
    options = parser.parse_args()
    if options.relay:
        ca, cert, key = options.relay
        relay(ca, cert, key, options.links)
        return 0
    report = Report("links")
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="kblinks") as directory:
            each, rate = measure(options.links, Path(directory))
        report.add(f"relay: memory of one of {options.links} idle links", each / 1024, unit="KiB", must=64, aim=24)
        report.add("relay and client: new links, TLS with both certificates", rate, unit="1/s", higher=True)
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
