"""Module "bootstrap": the one port that talks to strangers.

In the clear, by the first byte of the connection: `GET /ca.crt`, whose hash the token holds. Over TLS (the server shows its certificate, the
client none):

    POST /v1/join     Authorization: Bearer TOKEN   {"node", "csr"}                -> certificate, number, addresses, endpoints
    GET  /v1/nonce                                                                 -> {"nonce"}
    POST /v1/renew    {"certificate", "csr", "nonce", "signature"}                 -> {"certificate"}

A renewal proves the old key with a signature over the nonce and the request, so it works for a node that was offline beyond the expiry
of its certificate, which TLS itself would refuse.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import email.utils
import json
import logging
import secrets
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kubeedge.api.names import NodeName, TenantId, node_name
from kubeedge.errors import Conflict, Invalid, KubeEdgeError, NotFound, Refused, Unavailable
from kubeedge.kit.http1 import Limits, Request, Response, json_response, serve_connection
from kubeedge.pki import identity, tokens
from kubeedge.pki.ca import MAX_REQUEST, Authority
from kubeedge_cloud.bootstrap.tokens import TokenStore

log = logging.getLogger("kubeedge.bootstrap")

RENEW_GRACE = datetime.timedelta(days=90)  # after expiry; a node may lie in a drawer for a season
_MAX_BODY = 3 * MAX_REQUEST
_FAILURES = 10  # wrong tokens from one address within a minute; then 429
_NONCE_LIFE = 120.0  # seconds
_MAX_NONCES = 1000
_MAX_STRANGERS = 200  # connections at once
_FIRST_BYTE = 10.0  # seconds


class NodeRegistry(Protocol):
    """kubeedge_cloud.tenants."""

    async def exists(self, tenant: TenantId, node: NodeName) -> bool: ...

    async def register(self, tenant: TenantId, node: NodeName) -> Mapping[str, Any]:
        """Allocate (or find) the node's record: {"number", "address", "podCIDR"}."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSettings:
    address: str = "0.0.0.0"
    port: int = 10002
    endpoints: Mapping[str, tuple[str, ...]]  # "hub", "relays", "bootstrap" -> host:port, as nodes reach them


class Bootstrap:
    name = "bootstrap"

    def __init__(
        self,
        settings: BootstrapSettings,
        authority: Authority,
        token_store: TokenStore,
        registry: NodeRegistry,
        tls: Callable[[], ssl.SSLContext],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._authority = authority
        self._tokens = token_store
        self._registry = registry
        self._tls = tls
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}
        self._nonces: dict[str, float] = {}
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self, ready: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        context = self._tls()
        with socket.create_server((self._settings.address, self._settings.port), backlog=128) as listener:
            listener.setblocking(False)
            ready.set()
            try:
                while True:
                    connection, _ = await loop.sock_accept(listener)
                    if len(self._connections) >= _MAX_STRANGERS:
                        connection.close()
                        continue
                    task = asyncio.create_task(self._serve(connection, context), name="bootstrap connection")
                    self._connections.add(task)
                    task.add_done_callback(self._connections.discard)
            finally:
                for task in self._connections:
                    task.cancel()
                await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        """TLS starts with 0x16; everything else is taken for plain HTTP."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_FIRST_BYTE):
                await _readable(connection)
            first = connection.recv(1, socket.MSG_PEEK)
        except (OSError, TimeoutError):
            connection.close()
            return
        except BaseException:
            connection.close()
            raise
        secure = first == b"\x16"
        reader = asyncio.StreamReader(64 * 1024)
        protocol = asyncio.StreamReaderProtocol(reader)
        extra: dict[str, Any] = {"ssl": context, "ssl_handshake_timeout": 10.0, "ssl_shutdown_timeout": 1.0}
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, **(extra if secure else {}))
        except (OSError, TimeoutError) as exc:
            log.debug("handshake failed: %s", exc)
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        handler = self.handle if secure else self.handle_plain
        await serve_connection(reader, writer, handler, limits=Limits(header_bytes=8 * 1024, idle=10.0, head=10.0))

    async def handle_plain(self, request: Request) -> Response:
        if request.method == "GET" and request.path == "/ca.crt":
            return Response(200, [("content-type", "application/x-pem-file"), self._date()], self._authority.pem)
        return _error(404, "only /ca.crt is served without TLS")

    async def handle(self, request: Request) -> Response:
        try:
            match request.method, request.path:
                case "POST", "/v1/join":
                    return await self._join(request)
                case "GET", "/v1/nonce":
                    return json_response(200, {"nonce": self._new_nonce()})
                case "POST", "/v1/renew":
                    return await self._renew(request)
                case "GET", "/ca.crt":
                    return await self.handle_plain(request)
            return _error(404, f"no {request.method} {request.path} here")
        except Refused as exc:
            return _error(403, str(exc))
        except Conflict as exc:
            return _error(409, str(exc))
        except Invalid as exc:
            return _error(400, str(exc))
        except (NotFound, Unavailable) as exc:
            return _error(503, str(exc))
        except KubeEdgeError as exc:
            return _error(500, str(exc))

    async def _join(self, request: Request) -> Response:
        address = str((request.extra("peername") or ("?",))[0])
        if self._too_many_failures(address):
            return _error(429, "too many wrong tokens from this address; wait a minute")
        body = await _json_object(request)
        node = node_name(_text(body, "node"))
        scheme, _, text = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Refused("no token; send it as `Authorization: Bearer TOKEN`")
        try:
            record = await self._tokens.find(tokens.parse(text))
            self._tokens.check(record, node)
        except (Refused, Invalid) as exc:
            self._failures.setdefault(address, deque(maxlen=_FAILURES)).append(self._clock())
            log.warning("join refused node=%s address=%s: %s", node, address, exc)
            raise Refused(str(exc)) from exc
        if not record.replace and await self._registry.exists(record.tenant, node):
            raise Conflict(
                f"node {node} exists in tenant {record.tenant}; choose another name, or make a token with --replace "
                "to put this machine in its place"
            )
        who = identity.NodeIdentity(record.tenant, node)
        certificate = self._authority.issue_for_request(_text(body, "csr").encode(), who)
        await self._tokens.use(record, node)
        placed = await self._registry.register(record.tenant, node)
        log.info("joined tenant=%s node=%s address=%s", record.tenant, node, address)
        answer = {
            "certificate": certificate.decode(),
            "tenant": record.tenant,
            "node": node,
            **{name: placed[name] for name in ("number", "address", "podCIDR")},
            **{name: list(endpoints) for name, endpoints in self._settings.endpoints.items()},
        }
        return json_response(200, answer, [self._date()])

    async def _renew(self, request: Request) -> Response:
        body = await _json_object(request)
        nonce, csr = _text(body, "nonce"), _text(body, "csr").encode()
        if self._nonces.pop(nonce, 0.0) < self._clock() - _NONCE_LIFE:
            raise Refused("the nonce is not known or too old; get a new one")
        old = self._authority.verify(_text(body, "certificate").encode(), grace=RENEW_GRACE)
        who = identity.of_peer({"subjectAltName": [("URI", n) for n in _uris(old)]})
        if not isinstance(who, identity.NodeIdentity) or not await self._registry.exists(who.tenant, who.node):
            raise Refused("only the certificates of nodes that exist are renewed")
        key = old.public_key()
        try:
            signature = base64.b64decode(_text(body, "signature"), validate=True)
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError("not an elliptic-curve key")
            key.verify(signature, nonce.encode() + csr, ec.ECDSA(hashes.SHA256()))
        except (ValueError, InvalidSignature) as exc:
            raise Refused("the signature does not prove the old key") from exc
        log.info("renewed tenant=%s node=%s", who.tenant, who.node)
        certificate = self._authority.issue_for_request(csr, who)
        return json_response(200, {"certificate": certificate.decode()}, [self._date()])

    def _new_nonce(self) -> str:
        now = self._clock()
        for nonce in [n for n, at in self._nonces.items() if at < now - _NONCE_LIFE]:
            del self._nonces[nonce]
        if len(self._nonces) >= _MAX_NONCES:
            raise Unavailable("too many renewals at once; try again", retry_after=10.0)
        nonce = secrets.token_hex(16)
        self._nonces[nonce] = now
        return nonce

    def _too_many_failures(self, address: str) -> bool:
        now = self._clock()
        if len(self._failures) > 10_000:
            self._failures = {a: f for a, f in self._failures.items() if f[-1] > now - 60}
        failures = self._failures.get(address)
        return failures is not None and len(failures) == _FAILURES and failures[0] > now - 60

    def _date(self) -> tuple[str, str]:
        """A node compares it with its own clock."""
        return ("date", email.utils.formatdate(self._clock(), usegmt=True))


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(connection)


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read(_MAX_BODY))
    except (ValueError, RecursionError) as exc:
        raise Invalid("the body is not JSON") from exc
    if not isinstance(body, dict):
        raise Invalid("the body is not a JSON object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid("text is required", path=name)
    return value


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _error(status: int, text: str) -> Response:
    return json_response(status, {"error": text})
