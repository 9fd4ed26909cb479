"""Real etcd from Debian on loopback: one member or a cluster, over mutual TLS, with certificates of a test authority.

    with EtcdCluster(tmp_path, members=3) as cluster:
        settings = cluster.settings()          # EtcdSettings for open_etcd
        cluster.kill(0); cluster.start(0)      # SIGKILL and back; pause()/resume() are SIGSTOP and SIGCONT

It needs no root. Every member ends with the thread that started it: start() belongs to the main thread.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kit import log_tails
from tests.kit.certs import Credentials, TestAuthority
from tests.kit.ports import ADDRESS, ports
from tests.kit.topology import DEFAULT_TIMEOUT, _die_with_parent

PROGRAM = Path(__file__).parents[2] / "build/debian/usr/bin/etcd"


class EtcdCluster:
    def __init__(self, directory: Path, *, members: int = 1, options: Sequence[str] = ()) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        authority = TestAuthority(directory, "etcd CA")
        self.server = authority.issue("etcd-server", hosts=[ADDRESS, "localhost"])
        self.client = authority.issue("etcd-client")
        self._options = options
        self.client_ports, self._peer_ports = ports(members), ports(members)
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * members
        self._started: set[int] = set()

    def __enter__(self) -> EtcdCluster:
        try:
            for member in range(len(self._processes)):
                self.start(member, wait=False)
            for member in range(len(self._processes)):
                self.wait(member)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def endpoints(self) -> list[str]:
        return [f"{ADDRESS}:{port}" for port in self.client_ports]

    def settings(self, **more: Any) -> Any:
        from kubeedge_cloud.etcd.members import EtcdSettings

        c = self.client
        return EtcdSettings(
            **{"endpoints": self.endpoints, "ca": c.ca, "cert": c.cert, "key": c.key, "keep_revisions": 0} | more
        )

    def start(self, member: int, *, wait: bool = True) -> None:
        names = [f"m{n}={self._peer(n)}" for n in range(len(self._processes))]
        path = self._directory / f"m{member}.log"
        with open(path, "ab") as log:
            self._processes[member] = process = subprocess.Popen(
                [
                    str(PROGRAM), "--name", f"m{member}", "--data-dir", str(self._directory / f"m{member}"),
                    "--listen-client-urls", f"https://{self.endpoints[member]}",
                    "--advertise-client-urls", f"https://{self.endpoints[member]}",
                    "--listen-peer-urls", self._peer(member), "--initial-advertise-peer-urls", self._peer(member),
                    "--initial-cluster", ",".join(names),
                    "--initial-cluster-state", "existing" if member in self._started else "new",
                    *_tls("", self.server), *_tls("peer-", self.server),
                    "--max-txn-ops=4096", "--max-request-bytes=8388608", "--log-level=error", "--logger=zap",
                    *self._options,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent,
            )  # fmt: skip
        log_tails.keep(path, process)
        self._started.add(member)
        if wait:
            self.wait(member)

    def kill(self, member: int) -> None:
        process = self._processes[member]
        assert process
        process.kill()
        process.wait()
        self._processes[member] = None

    def pause(self, member: int) -> None:
        self._signal(member, signal.SIGSTOP)

    def resume(self, member: int) -> None:
        self._signal(member, signal.SIGCONT)

    def close(self) -> None:
        for member, process in enumerate(self._processes):
            if process:
                self.kill(member)

    def _signal(self, member: int, number: int) -> None:
        process = self._processes[member]
        assert process
        process.send_signal(number)

    def _peer(self, member: int) -> str:
        return f"https://{ADDRESS}:{self._peer_ports[member]}"

    def wait(self, member: int) -> None:
        """Until it says that it is healthy, over TLS."""
        context = ssl.create_default_context(cafile=str(self.client.ca))
        context.load_cert_chain(self.client.cert, self.client.key)
        deadline = time.monotonic() + DEFAULT_TIMEOUT
        while True:
            process = self._processes[member]
            assert process
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self._directory / f"m{member}.log").read_text()[-2000:]
                raise RuntimeError(f"etcd member {member} did not come up: {log}")
            with contextlib.suppress(OSError), socket.create_connection((ADDRESS, self.client_ports[member]), 1) as tcp:
                with context.wrap_socket(tcp, server_hostname=ADDRESS) as tls:
                    tls.sendall(b"GET /health HTTP/1.0\r\nHost: etcd\r\n\r\n")
                    answer = b""
                    while part := tls.recv(4096):
                        answer += part
                    if b'"health":"true"' in answer:
                        return
            time.sleep(0.05)


def _tls(kind: str, c: Credentials) -> list[str]:
    return [
        f"--{kind}cert-file={c.cert}", f"--{kind}key-file={c.key}", f"--{kind}trusted-ca-file={c.ca}",
        f"--{kind}client-cert-auth=true",
    ]  # fmt: skip
