"""Module "metaserver": the edge's API on 127.0.0.1:10550, over TLS, for those who hold the node's token or a certificate of its tenant.

Lives here:      listening, who may ask, the credentials of the node's administrator and the kubeconfig that carries them.
Lives elsewhere: making key and certificate (credentials.py), what is served (view.py).

STATE/metaserver/{server.crt,server.key,token}, mode 0600; the kubeconfig beside kubeedge.yaml likewise. A user who can read one of these
administers this node's API; all others get 401, other users of the machine and its pods included.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
import secrets
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge.api.names import TenantId
from kubeedge.api.status import Forbidden, Unauthorized
from kubeedge.apiserver.module import ApiServerModule
from kubeedge.errors import Invalid, Refused
from kubeedge.kit import private
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.http1 import Limits, Request
from kubeedge.metaserver import credentials
from kubeedge.metaserver.answering import Answering, AnsweringSettings, Late
from kubeedge.metaserver.gateway import Gateway
from kubeedge.metaserver.kubeconfigs import AllowedKubeconfigs
from kubeedge.pki import trust
from kubeedge.pki.files import write_secret
from kubeedge.pki.identity import UserIdentity, of_peer
from kubeedge.store.model import Store

if TYPE_CHECKING:
    from kubeedge.apiserver.logs import NodeStream

log = logging.getLogger("kubeedge.metaserver")

#: the pods and other users of the machine come from the same address as its administrator, who is known by his token
_CONNECTIONS = ConnectionLimits(silent=64, queued=32, unauthenticated=16, authenticated=48)
#: each pod has an address of its own, and one that has many connections gives way first
_PODS = ConnectionLimits(silent=64, queued=32, unauthenticated=96, authenticated=96)
PODS = "-pods"  # behind the name of the directory: that of the key pair for pods
_TOKEN = "token"  # in place of a kubeconfig's id, for who has the node's token
_MAX_TOKEN = 4096  # bytes of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaServerSettings:
    """`directory` holds the token and the key pair; `kubeconfig` is written for the node's administrator."""

    tenant: str
    node: str
    directory: Path  # credentials
    kubeconfig: Path
    ca: Path  # of the cluster: its users may come with their certificates
    address: str = "127.0.0.1"
    port: int = 10550
    pods_address: str = ""  # where pods of this node find it, with their tokens; "": nowhere
    pods_port: int = 10551
    tls: bool = True  # False: plain HTTP, with the token all the same; loopback only


class MetaServer:
    """Serves the objects of the node, online or offline. The constructor raises Invalid for plain HTTP on an address that is not loopback."""

    name = "metaserver"

    def __init__(
        self,
        store: Store,
        settings: MetaServerSettings,
        node_stream: NodeStream,
        *,
        wall: Callable[[], float],
        gateway: Gateway | None = None,
    ) -> None:
        if not settings.tls and not ip_address(settings.address).is_loopback:
            raise Invalid("plain HTTP would show the token to the network: use tls, or a loopback address", path="tls")
        self._settings = settings
        tenant = TenantId(settings.tenant)
        self._kubeconfigs = AllowedKubeconfigs(store)
        self._kubeconfigs.on_ended(self._end)
        self._answering = Answering(
            AnsweringSettings(
                store=store, tenant=tenant, node_stream=node_stream, wall=wall, gateway=gateway, authenticator=self
            )
        )
        self.tenant = settings.tenant
        self._token = b""
        self.bound_port = 0
        self.pods_port = 0

    def who(self, request: Request) -> UserIdentity:
        """Raises Unauthorized or Forbidden. The token first: kubectl sends it with every request."""
        tenant = TenantId(self._settings.tenant)
        kind, _, token = (request.header("authorization") or "").partition(" ")
        if kind.lower() == "bearer":
            if self._token and hmac.compare_digest(token.strip().encode(), self._token):
                return UserIdentity(tenant, "node-admin", _TOKEN)
            raise Unauthorized("Unauthorized: not the token of this node")
        tls = request.extra("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        if not certificate:
            raise Unauthorized(f"Unauthorized: use the kubeconfig of this node, {self._settings.kubeconfig}")
        try:
            identity = of_peer(certificate)
        except Refused as exc:
            raise Unauthorized("Unauthorized: the certificate names no user") from exc
        if not isinstance(identity, UserIdentity) or identity.tenant != tenant:
            raise Forbidden(f"{identity.uri} is not a user of this node's tenant")
        return identity

    async def check(self, who: UserIdentity) -> None:
        """Raises Unauthorized when the kubeconfig of a user is unknown or revoked."""
        if who.kubeconfig != _TOKEN:
            await self._kubeconfigs.check(who.kubeconfig)

    def open_watches(self) -> int:
        """Of this node's administrator and users."""
        server = self._answering.server
        return server.open_watches(TenantId(self.tenant)) if server is not None else 0

    def _end(self, kubeconfig: str) -> None:
        if self._answering.server is not None:
            self._answering.server.end(TenantId(self.tenant), kubeconfig)

    async def run(self, ready: asyncio.Event) -> None:
        """Makes missing credentials first; `bound_port` is the real port once it is ready."""
        s = self._settings
        private.directory(s.directory)
        private.files((s.directory / "token", s.directory / "server.key", s.kubeconfig))
        self._token = self._load_token()
        context: ssl.SSLContext | None = None
        if s.tls:
            cert, key = s.directory / "server.crt", s.directory / "server.key"
            if not (cert.exists() and key.exists() and trust.fits(cert, key)):
                await self._make_pair(s.directory, [] if ip_address(s.address).is_unspecified else [s.address])
            context = trust.server_context(cert, key, client_ca=s.ca, minimum=ssl.TLSVersion.TLSv1_2)
            context.verify_mode = ssl.CERT_OPTIONAL  # a token does as well; a certificate that is shown is verified
        module = ApiServerModule(
            Late(self.who, self._answering.for_node),
            context,
            address=s.address,
            port=s.port,
            limits=Limits(),
            connections=_CONNECTIONS,
            opened=self._opened,
        )
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._kubeconfigs.follow(), name="kubeconfigs of the tenant")
            try:
                await self._serve(module, ready)
            finally:
                following.cancel()

    async def _serve(self, module: ApiServerModule, ready: asyncio.Event) -> None:
        if not self._settings.pods_address:
            await module.run(ready)
            return
        pods, opened = await self._for_pods(), [asyncio.Event(), asyncio.Event()]
        async with asyncio.TaskGroup() as group:
            group.create_task(module.run(opened[0]), name="API for the administrator")
            group.create_task(pods.run(opened[1]), name="API for pods")
            for one in opened:
                await one.wait()
            ready.set()

    async def _for_pods(self) -> ApiServerModule:
        """Its certificate names the node's address; pods get it with what they trust (kubeedge.appengine.node_api)."""
        s = self._settings
        directory = s.directory.with_name(s.directory.name + PODS)
        private.directory(directory)
        cert, key = directory / "server.crt", directory / "server.key"
        if not (cert.exists() and key.exists() and trust.fits(cert, key)):
            await self._make_pair(directory, [s.pods_address])
        context = trust.server_context(cert, key, client_ca=None, minimum=ssl.TLSVersion.TLSv1_2)
        return ApiServerModule(
            Late(self._who_of_pods, self._answering.for_pods),
            context,
            address=s.pods_address,
            port=s.pods_port,
            limits=Limits(),
            connections=_PODS,
            opened=self._opened_for_pods,
            freebind=True,
        )

    def _who_of_pods(self, request: Request) -> UserIdentity:
        """Raises Unauthorized, always before the first request."""
        if self._answering.pods is None:
            raise Unauthorized("Unauthorized: not a token of a pod of this node")
        return self._answering.pods.who(request)

    def _opened_for_pods(self, port: int) -> None:
        self.pods_port = port

    def _opened(self, port: int) -> None:
        self.bound_port = port
        self._write_kubeconfig(port)

    def _load_token(self) -> bytes:
        path = self._settings.directory / "token"
        with contextlib.suppress(FileNotFoundError):
            with path.open("rb") as file:
                token = file.read(_MAX_TOKEN).strip()
            if len(token) >= 32:
                return token
            log.warning("%s is damaged: there is a new token", path)
        token = secrets.token_urlsafe(32).encode()
        write_secret(path, token)
        return token

    def _write_kubeconfig(self, port: int) -> None:
        s = self._settings
        host = f"[{s.address}]" if ":" in s.address else s.address
        if ip_address(s.address).is_unspecified:
            host = "127.0.0.1"
        cluster = {"server": f"{'https' if s.tls else 'http'}://{host}:{port}"}
        if s.tls:
            cluster["certificate-authority-data"] = base64.b64encode((s.directory / "server.crt").read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": s.node, "cluster": cluster}],
            "users": [{"name": "node-admin", "user": {"token": self._token.decode()}}],
            "contexts": [{"name": s.node, "context": {"cluster": s.node, "user": "node-admin"}}],
            "current-context": s.node,
        }
        data = json.dumps(config, indent=2).encode()
        with contextlib.suppress(OSError):
            if s.kubeconfig.read_bytes() == data and s.kubeconfig.stat().st_mode & 0o777 == 0o600:
                return  # no write to flash without a change
        write_secret(s.kubeconfig, data)

    async def _make_pair(self, directory: Path, hosts: list[str]) -> None:
        """Raises OSError."""
        await asyncio.to_thread(credentials.write_pair, directory, self._settings.node, hosts)
