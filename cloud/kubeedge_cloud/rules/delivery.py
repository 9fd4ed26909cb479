"""One request to a REST endpoint for each message, over a connection that is kept.

The name of the endpoint is looked up for each connection, and the address that was found right is the one that is connected to. Nothing is followed that an
answer points to. Certificates are verified, by the authority in the rule's Secret or the system's.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from kubeedge.api import rules
from kubeedge.api.names import Object
from kubeedge.apiserver.message_log import LoggedMessage
from kubeedge.errors import Invalid, KubeEdgeError, Unavailable
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.http1 import BodyTooLarge, Connection
from kubeedge.kit.streams import StreamPair, abort_writer
from kubeedge_cloud.rules import addresses
from kubeedge_cloud.rules.addresses import TargetNetwork
from kubeedge_cloud.rules.core import MessageRoute
from kubeedge_cloud.rules.lookups import RuleLookups

_TIMEOUT = 30.0  # seconds for one message
_CONNECT = 10.0
_LATER = (408, 425, 429)  # of 4xx: the same request may be taken another time
_MOST_ADDRESSES = 4  # of one name that are tried


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """What a REST endpoint has answered. `body`: without what is more than rules.MAX_ANSWER, of which nothing is kept."""

    status: int
    body: bytes = b""


class MessageRefused(KubeEdgeError):
    """The endpoint will never take this message. `answer`: what it has said to it, if it was asked."""

    def __init__(self, why: str, answer: EndpointAnswer | None = None) -> None:
        super().__init__(why)
        self.answer = answer


class RuleDelivery:
    """`secret_of` gives the data of the route's Secret, decoded. `allowed`: networks beyond the Internet."""

    def __init__(
        self,
        route: MessageRoute,
        allowed: Sequence[TargetNetwork],
        secret_of: Callable[[], Awaitable[dict[str, bytes]]],
        lookups: RuleLookups | None = None,
    ) -> None:
        self._route = route
        self._lookups = lookups or RuleLookups()
        self._context: tuple[object, ssl.SSLContext] | None = (
            None  # and the authority and certificate that it is made of
        )
        self._allowed = allowed
        self._secret_of = secret_of
        self._connection: Connection | None = None
        self._authorization: list[tuple[str, str]] = []

    async def deliver(self, one: LoggedMessage) -> EndpointAnswer:
        """Returns when the endpoint has taken it. Raises MessageRefused, and Unavailable for what may work later."""
        method, body = request_of(self._route, one)
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._send(method, body, one)
        except BaseException as exc:
            self.close()
            if isinstance(exc, Unavailable | MessageRefused) or not isinstance(exc, OSError | EOFError | KubeEdgeError):
                raise
            raise Unavailable(f"{self._route.target.authority}: {str(exc) or 'no answer in time'}"[:500]) from exc
        status = answer.status
        if 200 <= status < 300:
            return answer
        why = f"{self._route.target.authority} answers {status}"
        if 400 <= status < 500 and status not in _LATER:
            raise MessageRefused(why, answer)
        raise Unavailable(why)

    async def _send(self, method: str, body: bytes, one: LoggedMessage) -> EndpointAnswer:
        target = self._route.target
        if self._connection is None or not self._connection.reusable:
            self.close()
            self._connection = Connection(*await self._connected())
        message = one.message
        headers = [
            ("host", target.authority),
            ("user-agent", "kubeedge"),
            ("content-type", "application/json" if body[:1] in (b"{", b"[") else "application/octet-stream"),
            ("idempotency-key", f"{self._route.uid}-{self._route.node}-{one.position}"),
            ("x-kubeedge-node", self._route.node),
            ("x-kubeedge-topic", quote(message.topic, safe="/$:?&=.,+-_~")),
            ("x-kubeedge-time", str(message.time)),
            *self._authorization,
        ]
        answer = await self._connection.request(method, target.path, headers, body)
        try:
            return EndpointAnswer(answer.status, await answer.read(rules.MAX_ANSWER))
        except BodyTooLarge:
            self.close()
        return EndpointAnswer(answer.status)

    async def _connected(self) -> StreamPair:
        target, secret = self._route.target, await self._secret_of()
        self._authorization = _authorization(secret, is_tls=target.is_tls)
        if not target.is_tls and _certificate(secret):
            raise Invalid("a client certificate is for https alone")
        context = await self._verifying(secret) if target.is_tls else None
        failure: Exception | None = None
        for address in await self._addresses():
            try:
                async with asyncio.timeout(_CONNECT):
                    return await asyncio.open_connection(
                        address, target.port, ssl=context, server_hostname=target.host if context else None
                    )
            except OSError as exc:
                failure = exc
        raise Unavailable(f"{target.authority}: {failure}"[:500])

    async def _verifying(self, secret: dict[str, bytes]) -> ssl.SSLContext:
        """Made anew when the Secret has another authority, or another certificate of ours."""
        ca, own = secret.get("ca.crt") or None, _certificate(secret)
        if ca is None and own is None:
            return await self._lookups.context(None)
        if self._context is None or self._context[0] != (ca, own):
            self._context = (ca, own), await self._lookups.context(ca, own)
        return self._context[1]

    async def _addresses(self) -> list[str]:
        """Those that may be connected to. Raises Unavailable: what a name means, and what the operator allows, may change."""
        target = self._route.target
        found = (await self._lookups.addresses(target.host, target.port))[:_MOST_ADDRESSES]
        why = {address: addresses.refusal(address, self._allowed, is_own) for address in found}
        right = [address for address in found if not why[address]]
        if not right:
            raise Unavailable(f"{target.host} may not be asked: {'; '.join(why.values()) or 'it has no address'}")
        return right

    def close(self) -> None:
        """Cuts the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            abort_writer(connection.writer)


def is_own(address: str) -> bool:
    """This machine has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def request_of(route: MessageRoute, one: LoggedMessage) -> tuple[str, bytes]:
    """Method and body. Raises MessageRefused for what no ServiceBus of ours writes."""
    if not route.wanted.startswith(rules.SERVICES):
        return "POST", one.message.payload
    try:
        method, _, body = rules.decode_request(one.message.payload)
    except Invalid as exc:
        raise MessageRefused(str(exc)) from exc
    return method, body


def ask_of(route: MessageRoute, one: LoggedMessage) -> str:
    """By what an answer to a program's request goes back to it; "": by nothing."""
    if not route.wanted.startswith(rules.SERVICES):
        return ""
    try:
        return rules.decode_request(one.message.payload)[1]
    except Invalid:
        return ""


def secret_data(secret: Object) -> dict[str, bytes]:
    """The data of a Secret, decoded; what is no base64 is left out."""
    found = {}
    for name, text in (secret.get("data") or {}).items():
        try:
            found[str(name)] = base64.b64decode(str(text), validate=True)
        except ValueError:
            continue
    return found


def _certificate(secret: dict[str, bytes]) -> tuple[bytes, bytes] | None:
    """Ours, and its key. Raises Invalid for one without the other."""
    certificate, key = (secret.get(name) or None for name in ("tls.crt", "tls.key"))
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise Invalid("the Secret has one of tls.crt and tls.key, and both are needed")
    return certificate, key


def _authorization(secret: dict[str, bytes], *, is_tls: bool) -> list[tuple[str, str]]:
    """Raises Invalid for credentials that would go in the clear, or are none."""
    if "token" in secret:
        value = f"Bearer {_line(secret['token'])}"
    elif "username" in secret:
        both = f"{_line(secret['username'])}:{_line(secret.get('password', b''))}"
        value = f"Basic {base64.b64encode(both.encode()).decode()}"
    else:
        return []
    if not is_tls:
        raise Invalid("credentials are for https alone")
    return [("authorization", value)]


def _line(value: bytes) -> str:
    text = value.decode("utf-8", "replace").strip()
    if not text.isascii() or not text.isprintable():
        raise Invalid("a token, user or password in the Secret is no printable ASCII")
    return text
