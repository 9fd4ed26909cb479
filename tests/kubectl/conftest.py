"""A real API server on loopback with TLS, two tenants, Debian's kubectl and the newest one.

The server runs in a thread with its own event loop, because kubectl is a process that the test waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509

from kubeedge.api.names import NodeName, TenantId
from kubeedge.apiserver.module import ApiServerModule
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request, Response, serve_connection
from kubeedge.pki.identity import NodeIdentity, UserIdentity
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.authority.csr import new_key
from kubeedge_cloud.authority.token_keys import TokenKey
from tests.kit.upstream import build
from tests.kubectl.authority import Authority

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "build/debian/usr/bin/kubectl"


class FakeNode:
    """Stands where a node's kubelet API is: answers log requests over a real byte stream."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def stream(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if node != "edge1":
            raise Unavailable(f"no KubeBus link to {node}")
        ours, theirs = socket.socketpair()
        task = asyncio.create_task(self._serve(theirs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.open_connection(sock=ours)

    async def _serve(self, sock: Any) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)

        async def handle(request: Request) -> Response:
            self.targets.append(request.target)
            if request.path.endswith("/broken"):
                return Response(404, [], b"container broken has no log yet")

            async def lines() -> Any:
                for number in range(3):
                    yield f"line {number}\n".encode()
                    await asyncio.sleep(0.05)

            return Response(200, [("content-type", "text/plain")], lines())

        await serve_connection(reader, writer, handle)


@dataclass
class Cluster:
    folder: Path
    loop: asyncio.AbstractEventLoop
    registries: dict[TenantId, Registry]
    port: int
    authority: Authority
    node: FakeNode
    server: ApiServer
    store: MemoryStore

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    @property
    def registry(self) -> Registry:
        return self.registries[TenantId("a")]

    def kubeconfig(self, who: str, uri: str) -> Path:
        path = self.folder / f"kubeconfig-{who}"
        if not path.exists():
            certificate, key = self.authority.issue(who, x509.UniformResourceIdentifier(uri))
            path.write_text(f"""
apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{self.port}", certificate-authority: {self.authority.certificate}}}}}]
users: [{{name: u, user: {{client-certificate: {certificate}, client-key: {key}}}}}]
""")
        return path

    def kubectl(self, binary: Path, tenant: str = "a", *, uri: str = "") -> Kubectl:
        uri = uri or UserIdentity(TenantId(tenant), "admin").uri
        who = uri.replace("/", "_").replace(":", "")
        home = self.folder / f"home-{who}-{binary.parent.name}-{len(str(binary))}"
        home.mkdir(exist_ok=True)
        return Kubectl(binary, self.kubeconfig(who, uri), home)


@dataclass
class Kubectl:
    binary: Path
    config: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "KUBECONFIG": str(self.config), "PATH": os.environ["PATH"]}

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.binary), *arguments],
            input=stdin,
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Standard output; a failure or a warning nobody asked for fails the test."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        assert "warning" not in done.stderr.lower(), done.stderr
        return done.stdout

    def fails(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [str(self.binary), *arguments],
            env=self.environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    authority = Authority(folder)
    server_certificate, server_key = authority.issue(
        "server", x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server_certificate, server_key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_OPTIONAL  # as the cloud has it: accounts come with a token
    made: list[Cluster] = []
    up = threading.Event()

    async def serve() -> None:
        store = MemoryStore()
        registries = {
            TenantId(t): Registry(store, TenantId(t), account_key=TokenKey(new_key(), TenantId(t))) for t in ("a", "b")
        }
        node = FakeNode()
        server = ApiServer(registries.get, node.stream)
        module = ApiServerModule(server, context, address="127.0.0.1", port=0)
        ready = asyncio.Event()
        task = asyncio.create_task(module.run(ready))
        try:
            await asyncio.wait_for(ready.wait(), 60)
            made.append(
                Cluster(
                    folder, asyncio.get_running_loop(), registries, module.bound_port, authority, node, server, store
                )
            )
            stop = asyncio.Event()
            stops.append((asyncio.get_running_loop(), stop))
            up.set()
            await stop.wait()
        finally:
            up.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.close()

    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="api server")
    thread.start()
    up.wait(60)
    assert made, "the API server did not start"
    try:
        yield made[0]
    finally:
        for loop, stop in stops:
            loop.call_soon_threadsafe(stop.set)
        thread.join(60)


@pytest.fixture(params=["debian", "newest"])
def kubectl(request: pytest.FixtureRequest, cluster: Cluster) -> Kubectl:
    """Debian's, which people have, and the newest, which they will have (built once: tests/kit/upstream)."""
    binary = DEBIAN if request.param == "debian" else build.program("kubectl")
    assert binary.exists(), f"{binary} is missing: run tests/kit/setup.sh"
    return cluster.kubectl(binary)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of this test's own."""
    name = f"t{os.urandom(4).hex()}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def node_identity() -> str:
    return NodeIdentity(TenantId("a"), NodeName("edge1")).uri
