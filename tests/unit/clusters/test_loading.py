"""kubeconfigs, plugins, proxies: the real helper process, a real TLS server, a real proxy, all on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import stat
import time
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.resources import PODS
from kubeedge.api.status import ServerUnavailable
from kubeedge.kit.http1 import Request, Response, serve_connection
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.core import Access
from kubeedge_cloud.clusters.credentials import Credentials, load
from kubeedge_cloud.clusters.transport import ClusterTransport
from tests.kit.certs import Credentials as Certificate
from tests.kit.certs import TestAuthority


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def kubeconfig(path: Path, user: dict[str, Any], server: str = "https://10.0.0.1:6443/", **cluster: Any) -> str:
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(content))
    return str(path)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(whole())


def loaded(source: str) -> Access:
    return asyncio.run(load(source))


def fails(source: str) -> str:
    with pytest.raises(ServerUnavailable) as failure:
        loaded(source)
    return str(failure.value)


def plugin(path: Path, status: dict[str, Any]) -> dict[str, Any]:
    """An exec plugin: a program that prints an ExecCredential."""
    version = "client.authentication.k8s.io/v1"
    said = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    path.write_text(f"#!/bin/sh\ncat <<'E'\n{said}\nE\n")
    path.chmod(stat.S_IRWXU)
    return {"exec": {"apiVersion": version, "command": str(path), "interactiveMode": "Never"}}


def test_files_are_found_beside_the_kubeconfig_and_are_watched(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    me = authority.issue("me")
    user = {"client-certificate": me.cert.name, "client-key": me.key.name}
    found = loaded(kubeconfig(tmp_path / "config", user, **{"certificate-authority": authority.ca.name}))
    assert found.server == "https://10.0.0.1:6443"
    assert found.ca == authority.ca.read_text()
    assert (found.certificate, found.key) == (me.cert.read_text(), me.key.read_text())
    assert {Path(path).name for path in found.files} == {"config", authority.ca.name, me.cert.name, me.key.name}


def test_data_inside_the_kubeconfig(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    encoded = base64.b64encode(authority.ca.read_bytes()).decode()
    source = kubeconfig(
        tmp_path / "config",
        {"token": "abc"},
        **{"certificate-authority-data": encoded, "tls-server-name": "kubernetes", "proxy-url": "http://proxy:3128"},
    )
    found = loaded(source)
    assert found.ca == authority.ca.read_text() and found.authorization == "Bearer abc"
    assert (found.server_name, found.proxy) == ("kubernetes", "http://proxy:3128")


def test_a_token_file_with_its_line_feed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert loaded(kubeconfig(tmp_path / "config", {"tokenFile": "token"})).authorization == "Bearer abc"


def test_a_plugin_gives_a_token_with_its_end(tmp_path: Path) -> None:
    user = plugin(tmp_path / "plugin", {"token": "abc", "expirationTimestamp": "2030-01-01T00:00:00Z"})
    found = loaded(kubeconfig(tmp_path / "config", user))
    assert (found.authorization, found.expires) == ("Bearer abc", 1893456000.0)


def test_a_plugin_is_asked_again_before_its_token_ends_and_may_fail_meanwhile(tmp_path: Path) -> None:
    """The plugin and the process that runs it are real; the clock is ahead by `later` seconds."""
    program, later = tmp_path / "plugin", 0.0
    source = kubeconfig(tmp_path / "config", plugin(program, {}))

    def gives(token: str, seconds: int) -> None:
        stamp = datetime.fromtimestamp(time.time() + later + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        plugin(program, {"token": token, "expirationTimestamp": stamp})

    async def test() -> None:
        nonlocal later
        credentials = Credentials(source, wall=lambda: time.time() + later, clock=lambda: time.monotonic() + later)
        gives("first", 900)
        assert (await credentials.current()).authorization == "Bearer first"
        gives("second", 1800)
        later = 600.0
        assert (await credentials.current()).authorization == "Bearer first", "it is good for minutes"
        later = 860.0
        assert (await credentials.current()).authorization == "Bearer second"
        program.write_text("#!/bin/sh\nexit 1\n")
        later = 1770.0
        assert (await credentials.current()).authorization == "Bearer second", "it stays until the server refuses it"
        gives("third", 900)
        later = 1790.0
        assert (await credentials.current()).authorization == "Bearer third"

    run(test())


def test_a_plugin_gives_a_certificate(tmp_path: Path) -> None:
    me = TestAuthority(tmp_path).issue("me")
    status = {"clientCertificateData": me.cert.read_text(), "clientKeyData": me.key.read_text()}
    found = loaded(kubeconfig(tmp_path / "config", plugin(tmp_path / "plugin", status)))
    assert (found.certificate, found.key) == (me.cert.read_text(), me.key.read_text())


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "not a kubeconfig"),
        ("[]", "not a kubeconfig"),
        ("{", "expected"),
        ("a: b", "current-context"),
    ],
)
def test_what_is_no_kubeconfig_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config").write_text(text)
    assert said in fails(str(tmp_path / "config"))


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    config = tmp_path / "config"
    assert "No such file" in fails(str(tmp_path / "missing"))
    assert "insecure-skip-tls-verify" in fails(kubeconfig(config, {}, **{"insecure-skip-tls-verify": True}))
    assert "does not exist" in fails(kubeconfig(config, {"client-certificate": "gone", "client-key": "gone"}))
    assert "not https" in fails(kubeconfig(config, {"token": "t"}, "http://10.0.0.1"))
    assert "socks5" in fails(kubeconfig(config, {"token": "t"}, **{"proxy-url": "socks5://p:1"}))
    broken = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false"}}
    assert "returned 1" in fails(kubeconfig(config, broken))


def test_outside_of_a_pod_there_is_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert "host/port is not set" in fails("in-cluster")


def test_the_environment_names_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = kubeconfig(tmp_path / "config", {"token": "t"}, "https://api.example:6443")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert loaded(source).proxy == "http://proxy:3128"
    monkeypatch.setenv("NO_PROXY", "localhost,.example")
    assert loaded(source).proxy == ""


# On the wire


@contextlib.asynccontextmanager
async def api(certificate: Certificate) -> AsyncIterator[tuple[int, list[str]]]:
    """A TLS server that wants client certificates of its authority: (port, common names of its clients)."""
    clients: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    context.load_verify_locations(certificate.ca)
    context.verify_mode = ssl.CERT_OPTIONAL

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peercert")
        clients.append(peer["subject"][0][0][1] if peer else "")

        async def handle(request: Request) -> Response:
            return Response(200, [], json.dumps({"metadata": {"name": "a", "namespace": "n"}}).encode())

        await serve_connection(reader, writer, handle)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], clients
    finally:
        server.close()


async def get(source: str) -> None:
    transport = ClusterTransport(Credentials(source))
    try:
        await RemoteClient(transport).get(PODS, "n", "a")
    finally:
        await transport.close()
        await asyncio.sleep(0.01)  # the other end sees it


def test_a_client_certificate_is_shown_and_never_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = TestAuthority(tmp_path)
    me = authority.issue("me")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))  # of the process that reads it

    async def test() -> None:
        async with api(authority.issue("server", hosts=["127.0.0.1"])) as (port, clients):
            user = {"client-certificate": str(me.cert), "client-key": str(me.key)}
            cluster = {"certificate-authority": str(authority.ca)}
            await get(kubeconfig(tmp_path / "config", user, f"https://127.0.0.1:{port}", **cluster))
            assert clients == ["me"]

    run(test())
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("fault", ["authority", "name"])
def test_a_server_that_cannot_be_known_gets_nothing(tmp_path: Path, fault: str) -> None:
    authority, other = TestAuthority(tmp_path), TestAuthority(tmp_path, "other CA")

    async def test() -> None:
        hosts = ["127.0.0.1"] if fault == "authority" else ["10.9.8.7"]
        async with api(authority.issue("server", hosts=hosts)) as (port, clients):
            cluster = {"certificate-authority": str(other.ca if fault == "authority" else authority.ca)}
            source = kubeconfig(tmp_path / "config", {"token": "t"}, f"https://127.0.0.1:{port}", **cluster)
            with pytest.raises(ServerUnavailable, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
                await get(source)
            assert clients == []

    run(test())


@contextlib.asynccontextmanager
async def proxy(answer: bytes = b"") -> AsyncIterator[tuple[int, list[bytes]]]:
    """An HTTP proxy that opens tunnels, or gives that answer: (port, heads of requests)."""
    heads: list[bytes] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if answer:
            writer.write(answer)
            writer.close()
            return
        host, _, port = heads[-1].split()[1].decode().rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()


def test_through_a_proxy_the_server_is_known_as_without_it(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)

    async def test() -> None:
        async with api(authority.issue("server", hosts=["127.0.0.1"])) as (port, clients), proxy() as (via, heads):
            cluster = {
                "certificate-authority": str(authority.ca),
                "proxy-url": f"http://user:secret@127.0.0.1:{via}",
            }
            await get(kubeconfig(tmp_path / "config", {"token": "t"}, f"https://127.0.0.1:{port}", **cluster))
            assert clients == [""] and heads[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n".encode())
            assert base64.b64encode(b"user:secret") in heads[0] and b"Bearer" not in heads[0]

    run(test())


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"no"])
def test_a_proxy_that_refuses_is_named(tmp_path: Path, answer: bytes) -> None:
    async def test() -> None:
        async with proxy(answer) as (via, _):
            source = kubeconfig(tmp_path / "config", {"token": "t"}, **{"proxy-url": f"http://127.0.0.1:{via}"})
            with pytest.raises(ServerUnavailable, match="proxy"):
                await get(source)

    run(test())


def test_a_changed_kubeconfig_counts_without_a_restart(tmp_path: Path) -> None:
    async def test() -> None:
        config = tmp_path / "config"
        now = 0.0
        credentials = Credentials(kubeconfig(config, {"token": "one"}), clock=lambda: now)
        assert (await credentials.current()).authorization == "Bearer one"
        kubeconfig(tmp_path / "new", {"token": "two"})
        os.replace(tmp_path / "new", config)
        now = 5.0
        assert (await credentials.current()).authorization == "Bearer two"
        config.write_text("broken: [")
        now = 10.0
        assert (await credentials.current()).authorization == "Bearer two"  # until the server refuses it

    run(test())
