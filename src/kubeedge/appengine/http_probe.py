"""The HTTP request of a probe or a lifecycle hook: where it goes, what is sent, and what the answer means."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import urllib.parse
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from kubeedge.kit.http1 import ClientResponse, Connection

if TYPE_CHECKING:
    import ssl

_REDIRECTS = 10
_FRAMING = ("content-length", "transfer-encoding", "trailer")
_BODY = 10 * 1024  # bytes of an answer that are read
_DEFAULT_PORTS = {"http": 80, "https": 443}


@contextlib.asynccontextmanager
async def connected(
    host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is aborted at the end, whatever is still under way. Raises OSError."""
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(
    host: str,
    port: int,
    target: str,
    headers: Sequence[tuple[str, str]],
    warn: Callable[[str], None],
    *,
    tls: bool = False,
) -> str:
    """What is wrong; "" for a status from 200 to 399. A redirect to the same host is followed, as the kubelet does; one to another host, or to
    nowhere, is a success that `warn` hears of. Raises OSError, PeerError."""
    path = _escaped(target if target.startswith("/") else "/" + target)
    url = f"{'https' if tls else 'http'}://{_in_url(host)}:{port}{path}"
    for _ in range(_REDIRECTS + 1):
        parts = urllib.parse.urlsplit(url)
        at = parts.port or _DEFAULT_PORTS[parts.scheme]
        context = _unverified() if parts.scheme == "https" else None
        async with connected(host, at, context) as (reader, writer):
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            answer = await Connection(reader, writer).request("GET", path, _request_headers(host, at, headers))
            if not 200 <= answer.status < 400:
                return f"HTTP probe failed with statuscode: {answer.status}"
            if answer.status < 300:
                return ""
            following = _redirected(url, answer)
            if not following:
                warn(f"Probe terminated redirects, Response body: {await _beginning(answer)}")
                return ""
        url = following
    return f"HTTP probe failed: stopped after {_REDIRECTS} redirects"


@functools.cache
def _unverified() -> ssl.SSLContext:
    """Certificates of probed containers are not verified, by the documentation of Kubernetes (HTTP probes: "the kubelet sends an HTTPS request
    skipping the certificate verification"): nobody says which authority a workload's own certificate is of, and what is asked is whether it
    answers. No secret is sent. The modules for TLS are read by the first node that has such a probe."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _redirected(url: str, answer: ClientResponse) -> str:
    """Where to ask next; "": there is no such place on the same host."""
    location = next((value for name, value in answer.headers if name.lower() == "location"), "")
    if answer.status not in (301, 302, 303, 307, 308) or not location:
        return ""
    following = urllib.parse.urljoin(url, location)
    parts = urllib.parse.urlsplit(following)
    return following if parts.hostname == urllib.parse.urlsplit(url).hostname and parts.scheme in _DEFAULT_PORTS else ""


async def _beginning(answer: ClientResponse) -> str:
    """The body's first 10 KiB, as text."""
    body = bytearray()
    async with contextlib.aclosing(answer.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) >= _BODY:
                break
    return bytes(body[:_BODY]).decode(errors="replace").strip()


def _escaped(target: str) -> str:
    """What may not stand in a URL is escaped, as the kubelet does it: urlsplit() would take line breaks out, and a request line ends at one."""
    return urllib.parse.quote(target, safe="%/:?#[]@!$&'()*+,;=-._~")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _request_headers(host: str, port: int, own: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The user's go before ours; an empty User-Agent or Accept says that there shall be none. Those of the message's framing are HTTP's own."""
    own = [(name, value.encode().decode("latin-1")) for name, value in own if name.lower() not in _FRAMING]
    own = [
        (n, v) for i, (n, v) in enumerate(own) if n.lower() != "host" or all(k.lower() != n.lower() for k, _ in own[:i])
    ]
    ours = (("host", f"{_in_url(host)}:{port}"), ("user-agent", "kube-probe"), ("accept", "*/*"))
    named = {name.lower() for name, _ in own}
    kept = [(n, v) for n, v in own if v or n.lower() not in ("host", "user-agent", "accept")]
    return [
        *((n, v) for n, v in ours if n not in named or (n == "host" and not any(k.lower() == n for k, _ in kept))),
        *kept,
    ]
