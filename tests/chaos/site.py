"""Real processes on a switch: members of etcd, cloud processes, agents, each in a host of its own; and the faults that are injected into them.

    user 203.0.113.1    cloudN 203.0.113.1N    etcdN 203.0.113.2N    edgeN 203.0.113.10N

With etcd: two cloud processes and three members over mutual TLS. Without: one cloud process on SQLite.
Lives elsewhere: who writes and reads (clients.py), in which order all of it happens (scenario.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from kubeedge.api import keys
from kubeedge.store.sqlite import open_sqlite
from kubeedge_cloud.authority.ca import Authority
from tests.chaos.clients import pod
from tests.chaos.faults import Fault
from tests.kit.certs import TestAuthority
from tests.kit.etcd import PROGRAM, _tls
from tests.kit.topology import DEFAULT_TIMEOUT, Host, Topology, descendants, inside, run, until

ROOT = Path(__file__).parents[2]
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
RULES = {  # what a host does not let through, but on its loopback
    "input": 'chain in { type filter hook input priority 0; iifname != "lo" drop\n }\n',
    "output": 'chain out { type filter hook output priority 0; oifname != "lo" drop\n }\n',
}
RELAY_PORT = 10010
UP = DEFAULT_TIMEOUT  # seconds in which a process comes up


class Process:
    """One program in a host; `wanted` says whether it should run now."""

    def __init__(self, name: str, host: Host, argv: Sequence[str], log: Path) -> None:
        self.name, self.host, self.log = name, host, log
        self._argv = argv
        self.wanted = False
        self.starts = 0
        self._outer: subprocess.Popen[bytes] | None = None  # nsenter, which waits outside
        self._pid = 0

    def start(self) -> None:
        env = {"PYTHONPATH": str(ROOT)}
        self._outer = outer = self.host.spawn(*self._argv, log=self.log, env=env)
        until(lambda: bool(descendants(outer.pid)) or outer.poll() is not None, what=self.name)
        self._pid = next(iter(descendants(outer.pid)), 0)
        self.wanted = True
        self.starts += 1

    def ended(self) -> int | None:
        """Its status, when it ended by itself."""
        return self._outer.poll() if self._outer and self.wanted else None

    def end(self, number: int = signal.SIGKILL) -> None:
        self.wanted = False
        outer, self._outer = self._outer, None
        if outer is None:
            return
        self._tell(number)
        if number == signal.SIGKILL:  # it may be stopped, and nsenter with it
            outer.kill()
        outer.wait(timeout=30)
        with contextlib.suppress(ValueError):
            self.host._processes.remove(outer)

    def pause(self) -> None:
        self._tell(signal.SIGSTOP)

    def resume(self) -> None:
        self._tell(signal.SIGCONT)
        if self._outer and self._outer.poll() is None:  # nsenter stops with its child, and does not go on with it
            self._outer.send_signal(signal.SIGCONT)

    def _tell(self, number: int) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


class Site:
    """`keep`: revisions of history that etcd keeps; `bus`: with KubeBus, each node at another relay at first."""

    def __init__(
        self,
        net: Topology,
        directory: Path,
        *,
        clouds: int,
        members: int,
        agents: int,
        keep: int = 20_000,
        bus: bool = False,
    ) -> None:
        self._net, self.directory, self._keep, self._bus = net, directory, keep, bus
        self.nodes = [f"edge{n}" for n in range(agents)]
        self.processes: dict[str, Process] = {}
        self._ports: dict[str, str] = {}
        self._switch = net.host("switch")
        self._switch.ip("link", "add", "br0", "type", "bridge")
        self._switch.ip("link", "set", "br0", "up")
        self.user = self._attach("user", "203.0.113.1")
        self.servers = [f"203.0.113.{11 + n}" for n in range(clouds)]
        self.members = [f"203.0.113.{21 + n}" for n in range(members)]
        self._hosts = {f"cloud{n}": self._attach(f"cloud{n}", address) for n, address in enumerate(self.servers)}
        self._hosts |= {f"etcd{n}": self._attach(f"etcd{n}", address) for n, address in enumerate(self.members)}
        self._hosts |= {f"agent{n}": self._attach(f"edge{n}", f"203.0.113.{101 + n}") for n in range(agents)}

    def edge(self, node: str) -> Host:
        return self._hosts[f"agent{self.nodes.index(node)}"]

    def root(self, node: str) -> Path:
        return self.directory / node

    def store(self, node: str) -> Path:
        return self.root(node) / "var/lib/kubeedge/edge/edge.db"

    @property
    def cloud_store(self) -> Path:
        return self.directory / "cloud0/state/cloud.db"

    def _attach(self, name: str, address: str) -> Host:
        host = self._net.host(name)
        port = self._ports[name] = f"p-{name}"
        run("ip", "link", "add", "eth0", "netns", str(host.pid), "type", "veth",
            "peer", "name", port, "netns", str(self._switch.pid))  # fmt: skip
        host.ip("addr", "add", f"{address}/24", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
        self._switch.ip("link", "set", port, "master", "br0", "up")
        return host

    # -- beginning -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        (self.directory / "pki").mkdir()
        authority = Authority(self.directory / "pki")
        self.ca = self.directory / "ca.crt"
        self.ca.write_bytes(authority.pem)
        if self.members:
            self._begin_etcd()
        for n in range(len(self.servers)):
            self._begin_cloud(n)
        for n in range(len(self.servers)):
            socket_path = self.directory / f"cloud{n}/run/cloud.sock"
            until(socket_path.exists, timeout=UP, what=f"cloud process {n}")
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._join, self.nodes))
        for n, node in enumerate(self.nodes):
            argv = [*KUBEEDGE, "edge", "--root-dir", str(self.root(node))]
            self._add(f"agent{n}", argv)
        for node in self.nodes:
            until((self.root(node) / "etc/kubeedge/kubeconfig").exists, timeout=UP, what=f"the API of {node}")

    def _add(self, name: str, argv: Sequence[str]) -> None:
        self.processes[name] = Process(name, self._hosts[name], argv, self.directory / f"{name}.log")
        self.processes[name].start()

    def _begin_etcd(self) -> None:
        authority = TestAuthority(self.directory, "etcd CA")
        server = authority.issue("etcd-server", hosts=self.members)
        self.etcd_client = authority.issue("etcd-client")
        peers = ",".join(f"m{n}=https://{address}:2380" for n, address in enumerate(self.members))
        for n, address in enumerate(self.members):
            self._add(f"etcd{n}", [
                str(PROGRAM), "--name", f"m{n}", "--data-dir", str(self.directory / f"m{n}"),
                "--listen-client-urls", f"https://{address}:2379", "--advertise-client-urls", f"https://{address}:2379",
                "--listen-peer-urls", f"https://{address}:2380", "--initial-advertise-peer-urls", f"https://{address}:2380",
                "--initial-cluster", peers, *_tls("", server), *_tls("peer-", server),
                "--max-txn-ops=4096", "--max-request-bytes=8388608", "--log-level=error", "--logger=zap",
            ])  # fmt: skip
        context = ssl.create_default_context(cafile=str(self.etcd_client.ca))
        context.load_cert_chain(self.etcd_client.cert, self.etcd_client.key)

        def healthy(address: str) -> bool:
            with contextlib.suppress(OSError), socket.create_connection((address, 2379), 1) as tcp:
                with context.wrap_socket(tcp, server_hostname=address) as tls:
                    tls.sendall(b"GET /health HTTP/1.0\r\nHost: etcd\r\n\r\n")
                    return b'"health":"true"' in b"".join(iter(lambda: tls.recv(4096), b""))
            return False

        def all_healthy() -> None:
            for address in self.members:
                until(lambda address=address: healthy(address), timeout=UP, what=f"etcd member {address}")  # type: ignore[misc]

        inside(self.user, all_healthy)

    def _begin_cloud(self, n: int) -> None:
        directory = self.directory / f"cloud{n}"
        (directory / "state/pki").mkdir(parents=True)
        for name in ("ca.crt", "ca.key"):  # as an administrator shares them between the machines
            (directory / "state/pki" / name).write_bytes((self.directory / "pki" / name).read_bytes())
            (directory / "state/pki" / name).chmod(0o600)
        config: dict[str, Any] = {
            "kind": "CloudCore",
            "advertise": [self.servers[n]],
            "peers": [server for server in self.servers if server != self.servers[n]],
            "paths": {"state": f"{directory}/state", "run": f"{directory}/run"},
            "listeners": {
                "relay": {"enable": self._bus, "port": RELAY_PORT},
                "web": {"enable": False, "port": 8080},
            },
            "tun": {"enable": self._bus, "address": f"{self.overlay(n)}/16"},
        }
        if self.members:
            config["store"] = {"etcd": {**self.etcd_settings(), "keepRevisions": self._keep}}
        (directory / "cloud.yaml").write_text(json.dumps(config))
        self._add(f"cloud{n}", [*KUBEEDGE, "cloud", "--config", str(directory / "cloud.yaml")])

    def overlay(self, n: int) -> str:
        """Own address of cloud process n, where there is KubeBus."""
        return f"100.64.255.{254 - n}"

    def etcd_settings(self) -> dict[str, Any]:
        c = self.etcd_client
        return {
            "endpoints": [f"{address}:2379" for address in self.members],
            "ca": str(c.ca), "cert": str(c.cert), "key": str(c.key),
        }  # fmt: skip

    def _join(self, node: str) -> None:
        admin = ["--socket", str(self.directory / "cloud0/run/cloud.sock")]
        token = self._hosts["cloud0"].run(*KUBEEDGE, "token", "create", "--node", node, *admin)
        self.edge(node).run(
            *KUBEEDGE, "join", "--token-file", "-", "--name", node, "--root-dir", str(self.root(node)),
            "--no-start", self.servers[0], input=token,
        )  # fmt: skip
        path = self.root(node) / "etc/kubeedge/kubeedge.yaml"
        config = yaml.safe_load(path.read_text())
        for module in ("kubebus", "appengine", "publishing"):
            config["modules"][module]["enable"] = False
        if self._bus:
            first = self.nodes.index(node) % len(self.servers)
            relays = [f"{server}:{RELAY_PORT}" for server in (*self.servers[first:], *self.servers[:first])]
            config["modules"]["kubebus"] |= {"enable": True, "relays": relays}
        config["modules"]["metaserver"]["enable"] = True
        path.write_text(yaml.safe_dump(config))
        asyncio.run(self._report(node))

    async def _report(self, node: str) -> None:
        """Its status, which the AppEngine would report; without it the node would not be Ready."""
        store = await open_sqlite(self.store(node))
        try:
            status = {"nodeInfo": {"operatingSystem": "linux", "kubeletVersion": "v1.32.0"}}
            await store.put(keys.reported("nodes", "", node), json.dumps({"status": status}).encode())
        finally:
            await store.close()

    def objects(self) -> list[tuple[str, dict[str, Any]]]:
        """(path, object) of what the writers count in."""
        found: list[tuple[str, dict[str, Any]]] = []
        base = "/api/v1/namespaces/default"
        for name in ("tally", *(f"c-{node}" for node in self.nodes)):
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {"text": "".join(f"line {n}: {n * n}\n" for n in range(200))},
            }
            if name == "tally":
                body["data"] = {}
            found.append((f"{base}/configmaps", body))
        return found + [(f"{base}/pods", pod(f"anchor-{node}", node, ["tally", f"c-{node}"])) for node in self.nodes]

    def user_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        pki = self.directory / "cloud0/state/pki"
        context.load_cert_chain(pki / "admin-default.crt", pki / "admin-default.key")
        return context

    # -- faults --------------------------------------------------------------------------------------------------------

    def inject(self, fault: Fault) -> None:
        match fault.kind:
            case "kill":
                self.processes[fault.target].end()
            case "pause":
                self.processes[fault.target].pause()
            case "unplug":
                self._switch.ip("link", "set", self._port(fault.target), "down")
            case "blackhole" | "one-way":
                rules = RULES["input"] + (RULES["output"] if fault.kind == "blackhole" else "")
                self._hosts[fault.target].run("nft", "-f", "-", input=f"table ip chaos {{\n{rules}}}\n")

    def lift(self, fault: Fault) -> None:
        match fault.kind:
            case "kill":
                self.processes[fault.target].start()
            case "pause":
                self.processes[fault.target].resume()
            case "unplug":
                self._switch.ip("link", "set", self._port(fault.target), "up")
            case "blackhole" | "one-way":
                self._hosts[fault.target].run("nft", "delete", "table", "ip", "chaos")

    def _port(self, target: str) -> str:
        return self._ports[self._hosts[target].name]
