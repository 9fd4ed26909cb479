"""HTTP probes and hooks against real servers with TLS, and what a redirect elsewhere becomes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.pod import Container
from kubeedge.appengine import probes
from kubeedge.appengine.runtime.base import ExecResult
from kubeedge.metaserver.credentials import self_signed
from kubeedge.pki import csr
from tests.unit.appengine.world import container, pod, running

OK = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
Answers = Callable[[str], str]


async def no_exec(command: list[str], timeout: float) -> ExecResult:
    raise AssertionError("not an exec probe")


@pytest.fixture(name="tls", scope="module")
def _tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Of a server whose certificate nobody has signed, for another name."""
    directory: Path = tmp_path_factory.mktemp("tls")
    key = csr.new_key()
    (directory / "key.pem").write_bytes(csr.key_pem(key))
    (directory / "cert.pem").write_bytes(self_signed(key, "elsewhere", ["elsewhere.invalid"]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


@contextlib.asynccontextmanager
async def serving(answers: Answers, tls: ssl.SSLContext | None, heads: list[str]) -> AsyncIterator[int]:
    """The port of a server; `answers` of the path."""

    handling = set[asyncio.Task[Any]]()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            heads.append(head)
            writer.write(answers(head.split()[1]).encode())
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*handling, return_exceptions=True)


def with_probe(port: int, timeout: int = 60, **action: Any) -> Container:
    probe = {"httpGet": {"port": port, **action}, "timeoutSeconds": timeout}
    return pod(containers=[container(livenessProbe=probe)]).containers[0]


async def asked(answers: Answers, tls: ssl.SSLContext | None, **action: Any) -> tuple[str, list[str], list[str]]:
    """(problem, warnings, heads of the requests)."""
    heads, warnings = list[str](), list[str]()
    async with serving(answers, tls, heads) as port:
        c = with_probe(port, **action)
        assert c.liveness
        problem = await probes.ask(c, c.liveness, "127.0.0.1", no_exec, warnings.append)
    return problem, warnings, heads


def test_a_probe_over_tls_asks_and_goes_by_the_status(tls: ssl.SSLContext) -> None:
    """Not only that it listens; the certificate is not verified, as Kubernetes documents it."""
    said = asyncio.run(asked(lambda _: OK, tls, scheme="HTTPS", path="/h", httpHeaders=[{"name": "X", "value": "1"}]))
    assert said[:2] == ("", [])
    assert said[2][0].startswith("GET /h HTTP/1.1") and "\r\nx: 1" in said[2][0].lower()
    bad = asyncio.run(asked(lambda _: OK.replace("200 OK", "503 No"), tls, scheme="HTTPS"))
    assert bad[0] == "HTTP probe failed with statuscode: 503"


def test_a_probe_of_one_scheme_fails_where_the_other_is_spoken(tls: ssl.SSLContext) -> None:
    assert asyncio.run(asked(lambda _: OK, None, scheme="HTTPS", timeout=1))[0]
    assert asyncio.run(asked(lambda _: OK, tls, scheme="HTTP"))[0]


def test_a_redirect_leads_from_plain_http_to_tls_on_the_same_host(tls: ssl.SSLContext) -> None:
    async def ask() -> str:
        heads: list[str] = []
        async with serving(lambda path: OK.replace("200 OK", f"500 {path}"), tls, heads) as secure:
            moved = f"HTTP/1.1 301 Moved\r\nlocation: https://127.0.0.1:{secure}/x\r\ncontent-length: 0\r\n\r\n"
            async with serving(lambda _: moved, None, heads) as port:
                c = with_probe(port)
                assert c.liveness
                problem = await probes.ask(c, c.liveness, "127.0.0.1", no_exec)
        assert [head.split()[1] for head in heads] == ["/", "/x"]
        return problem

    assert asyncio.run(ask()) == "HTTP probe failed with statuscode: 500"


def elsewhere(body: str) -> Answers:
    return lambda _: f"HTTP/1.1 302 Found\r\nlocation: http://0.0.0.0/\r\ncontent-length: {len(body)}\r\n\r\n{body}"


def test_a_redirect_to_another_host_is_a_success_with_a_warning_that_has_its_body() -> None:
    problem, warnings, _ = asyncio.run(asked(elsewhere('<a href="http://0.0.0.0/">Found</a>.\n\n'), None))
    assert problem == ""
    assert warnings == ['Probe terminated redirects, Response body: <a href="http://0.0.0.0/">Found</a>.']
    _, (long,), _ = asyncio.run(asked(elsewhere("x" * 100_000), None))
    assert len(long) < 11_000, "no more of it is kept"


def test_an_answer_without_a_redirect_warns_of_nothing() -> None:
    assert asyncio.run(asked(lambda _: OK, None))[:2] == ("", [])
    assert asyncio.run(asked(lambda _: OK.replace("200", "404"), None))[1] == []


def test_the_same_warning_is_not_told_with_each_answer() -> None:
    async def follow() -> list[str]:
        told, heads = list[str](), list[str]()
        third = asyncio.Event()

        def count(kind: str, success: bool) -> None:
            assert (kind, success) == ("Liveness", True)
            if len(heads) >= 3:
                third.set()

        async with serving(elsewhere("x"), None, heads) as port:
            probe = {"httpGet": {"port": port}, "periodSeconds": 1, "timeoutSeconds": 60}
            c = pod(containers=[container(livenessProbe=probe)]).containers[0]
            watching = asyncio.create_task(
                probes.watch(c, running(), "127.0.0.1", no_exec, lambda _: None, count, told.append)
            )
            await third.wait()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return told

    assert asyncio.run(follow()) == ["Liveness probe warning: Probe terminated redirects, Response body: x"]
