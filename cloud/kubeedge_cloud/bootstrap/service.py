"""The answers of the bootstrap port.

    GET  /ca.crt      also without TLS                                             -> PEM
    POST /v1/join     Authorization: Bearer TOKEN   {"node", "csr", "labels",
                                                     "taints"}                     -> certificate, number, addresses, endpoints
    POST /v1/board    Authorization: Bearer JOIN-KEY   {"serial", "csr"}           -> {"state"}, and {"node", "token"} once it is approved
    GET  /v1/nonce                                                                 -> {"nonce"}
    POST /v1/renew    {"certificate", "csr", "nonce", "signature"}                 -> {"certificate"}

A renewal proves the old key with a signature over the nonce and the request, so it works for a node that was offline beyond the expiry
of its certificate, which TLS itself would refuse. A nonce is a time stamp that only we could have made: nothing is remembered about it.

Errors are {"error", "next"}: 400 bad input, 403 refused, 409 the name is taken, 429 too many wrong tokens, 503 try again.

Lives elsewhere: sockets (module.py), what is allowed (core.py), records (tokens.py).
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import hashlib
import hmac
import json
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kubeedge.api.names import NodeName, TenantId, node_name
from kubeedge.api.node_registration import NOTHING, NodeRegistration, decode
from kubeedge.errors import Conflict, Invalid, KubeEdgeError, Refused, Unavailable, outward
from kubeedge.kit.http1 import BodyTooLarge, Request, Response, json_response
from kubeedge.pki import identity, tokens
from kubeedge.store.model import Compare, Op
from kubeedge_cloud.authority.ca import MAX_REQUEST, Authority, read_request
from kubeedge_cloud.bootstrap import board_record, core
from kubeedge_cloud.bootstrap.board_record import BoardRecord
from kubeedge_cloud.bootstrap.boards import TOKEN_TTL
from kubeedge_cloud.bootstrap.tokens import HeldClaim, TokenStore
from kubeedge_cloud.tenants.model import check_join

log = logging.getLogger("kubeedge.bootstrap")

RENEW_GRACE = datetime.timedelta(days=90)  # after expiry; a node may lie in a drawer for a season
_MAX_BODY = 3 * MAX_REQUEST
_NONCE_LIFE = 120.0  # seconds
_PLACED = ("number", "address", "podCIDR", "podNetwork", "ipv6")  # of an answer: where the node is
_JOIN_BYTES = 8  # of the id of a join: it need not be secret, only unique


class NodeRegistry(Protocol):
    """Where joins are recorded (kubeedge_cloud.edgecontroller.node_registration implements it)."""

    async def join_of(self, tenant: TenantId, node: NodeName) -> str | None:
        """The join whose certificates stand for the node; None: there is no such node."""
        ...

    async def register(
        self, tenant: TenantId, node: NodeName, join: str, registration: NodeRegistration = NOTHING
    ) -> Mapping[str, Any]:
        """Allocate for that join, or find, the node's record: {"number", "address", "podCIDR", "podNetwork", "ipv6"}. `registration` is for the Node
        that is made then."""
        ...

    async def entitle(self, tenant: TenantId, node: NodeName, join: str) -> tuple[Sequence[Compare], Sequence[Op]]:
        """What makes the certificates of that join, and no others, stand for the node."""
        ...


#: of a tenant that two machines ask with the serial number of one board. Never raises
TellContested = Callable[[TenantId, BoardRecord], Awaitable[None]]


async def nobody_told(tenant: TenantId, board: BoardRecord) -> None:
    """For a cloud without an API."""


class TooManyFailures(Unavailable):
    """A client whose tokens were wrong too often."""


class BootstrapService:
    """Answers requests that came over TLS (handle) or plain HTTP (handle_plain); failed attempts are limited by source.

    `clock` gives seconds since 1970, by which tokens end; `monotonic` those by which a source waits: a clock that is set back by a day must
    not silence it for a day."""

    def __init__(
        self,
        authority: Authority,
        token_store: TokenStore,
        registry: NodeRegistry,
        clock: Callable[[], float],
        endpoints: Mapping[str, tuple[str, ...]],
        monotonic: Callable[[], float],
        tell: TellContested = nobody_told,
    ) -> None:
        self._authority = authority
        self._tokens = token_store
        self._registry = registry
        self._clock = clock
        self._endpoints = endpoints
        self._monotonic = monotonic
        self._tell = tell
        self._failures = core.FailureLimit()
        self._given = core.FailureLimit(
            30
        )  # tokens that a board has got, by its key; each is three writes to the store
        self._nonce_key = secrets.token_bytes(32)

    async def handle_plain(self, request: Request) -> Response:
        """Without TLS there is one public file, whose hash the token holds."""
        if request.method in ("GET", "HEAD") and request.path == "/ca.crt":
            return Response(200, [("content-type", "application/x-pem-file"), self._date()], self._authority.pem)
        return self._error(404, "only /ca.crt is served without TLS")

    async def handle(self, request: Request) -> Response:
        """A request that came over TLS; unknown paths get a 404."""
        try:
            match request.method, request.path:
                case "POST", "/v1/join":
                    return await self._join(request)
                case "POST", "/v1/board":
                    return await self._board(request)
                case "GET", "/v1/nonce":
                    return self._answer({"nonce": self._new_nonce()})
                case "POST", "/v1/renew":
                    return await self._renew(request)
                case (("GET" | "HEAD"), "/ca.crt"):
                    return await self.handle_plain(request)
            return self._error(404, f"no {request.method} {request.path:.100} here")
        except KubeEdgeError as exc:
            return self._error(_status(exc), outward(exc), exc)

    async def _join(self, request: Request) -> Response:
        address = self._address(request)
        body = await _json_object(request)
        node, csr_pem = node_name(_text(body, "node")), _text(body, "csr").encode()
        key, registration = read_request(csr_pem).fingerprint, decode(body)
        with self._counted(address, "join"):
            record = await self._tokens.find(_bearer(request))
            core.check(record, node, key, self._clock())
        held, earlier = await self._held(record.tenant, node)
        core.check_repetition(record, held.claim)
        core.check_name(record, node, held.claim)
        join = earlier if record.used and earlier is not None else secrets.token_hex(_JOIN_BYTES)
        # may fail; the token is not used up then
        placed = await self._registry.register(record.tenant, node, join, registration)
        who = identity.NodeIdentity(record.tenant, node, join)
        certificate = self._authority.issue_for_request(csr_pem, who)
        entitled = await self._registry.entitle(record.tenant, node, join)
        await self._tokens.use(record, node, key, held, _serial(certificate), entitled)
        log.info("joined tenant=%s node=%s address=%s token=%s", record.tenant, node, address, record.id)
        return self._answer(
            {
                "certificate": certificate.decode(),
                "tenant": record.tenant,
                "node": node,
                **{name: placed[name] for name in _PLACED if name in placed},
                **{name: list(endpoints) for name, endpoints in self._endpoints.items()},
            }
        )

    async def _board(self, request: Request) -> Response:
        """A token for the board with that serial number, once it is approved; the key of its signing request is what it is known by until then."""
        address = self._address(request)
        body = await _json_object(request)
        serial, key = _text(body, "serial"), read_request(_text(body, "csr").encode()).fingerprint
        with self._counted(address, "board"):
            record = await self._tokens.find(_bearer(request))
            core.check_join_key(record, self._clock())
        board, is_new = await self._tokens.boards.ask(record.tenant, serial, key, address)
        if board.rival:
            if is_new:
                await self._tokens.discard(record.tenant, board.token)  # whoever of the two has it
                log.warning("board serial=%s is asked for by two machines, the later one at %s", serial, address)
                await self._tell(record.tenant, board)
            board_record.check_uncontested(board, key)
        if not board.node:
            return self._answer({"state": board.state, "key": key})
        node = node_name(board.node)
        if wait := self._given.wait(key, self._monotonic()):
            raise Unavailable(
                f"board {serial} has got too many tokens; wait {math.ceil(wait)} s", retry_after=math.ceil(wait)
            )
        self._given.failed(key, self._monotonic())
        held, _ = await self._held(record.tenant, node)
        # it is that node, and did not get the answer, however often
        joined = held.claim.token if held.claim is not None and held.claim.token in (board.token, board.joined) else ""
        if board.token and board.token != joined:
            await self._tokens.discard(record.tenant, board.token)  # one that was given before, and not used
        token = await self._tokens.create(record.tenant, node, TOKEN_TTL, replace=bool(joined))
        await self._tokens.boards.gave(record.tenant, board, token.id, joined)
        log.info("board serial=%s node=%s address=%s gets token=%s", serial, node, address, token.id)
        return self._answer({"state": board.state, "node": node, "token": str(token)})

    def _address(self, request: Request) -> str:
        """Of the client. Raises Unavailable for one that has failed too often."""
        address = str((request.extra("peername") or ("?",))[0])
        if wait := self._failures.wait(address, self._monotonic()):
            raise TooManyFailures(
                f"too many wrong tokens from {address}; wait {math.ceil(wait)} s", retry_after=math.ceil(wait)
            )
        return address

    @contextlib.contextmanager
    def _counted(self, address: str, what: str) -> Iterator[None]:
        try:
            yield
        except Refused as exc:
            self._failures.failed(address, self._monotonic())
            log.warning("%s refused address=%s: %s", what, address, exc)
            raise

    async def _renew(self, request: Request) -> Response:
        body = await _json_object(request)
        nonce, csr_pem = _text(body, "nonce"), _text(body, "csr").encode()
        if not self._nonce_is_fresh(nonce):
            raise Unavailable("the nonce is not ours or too old; get a new one", retry_after=1.0)
        old = self._authority.verify(_text(body, "certificate").encode(), grace=RENEW_GRACE)
        who = identity.of_peer({"subjectAltName": [("URI", n) for n in _uris(old)]})
        if not isinstance(who, identity.NodeIdentity):
            raise Refused("only certificates of nodes are renewed here")
        key = old.public_key()
        try:
            signature = base64.b64decode(_text(body, "signature"), validate=True)
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError("not an elliptic-curve key")
            key.verify(signature, nonce.encode() + csr_pem, ec.ECDSA(hashes.SHA256()))
        except (ValueError, InvalidSignature) as exc:
            raise Refused("the signature does not prove the old key") from exc
        held, join = await self._held(who.tenant, who.node)
        core.check_renewal(who.node, f"{old.serial_number:x}", held.claim)
        check_join(who.node, who.join, join)
        certificate = self._authority.issue_for_request(csr_pem, who)
        await self._tokens.renewed(who.tenant, who.node, held, f"{old.serial_number:x}", _serial(certificate))
        log.info("renewed tenant=%s node=%s", who.tenant, who.node)
        return self._answer({"certificate": certificate.decode()})

    async def _held(self, tenant: TenantId, node: NodeName) -> tuple[HeldClaim, str | None]:
        """The claim, and the join that the node has; the name of a node that was removed is free, whatever claim there was."""
        held, join = await self._tokens.claim(tenant, node), await self._registry.join_of(tenant, node)
        return (held if join is not None else HeldClaim(None, held.revision)), join

    def _new_nonce(self) -> str:
        stamp = f"{int(self._clock())}.{secrets.token_hex(8)}"
        return f"{stamp}.{self._stamp_mac(stamp)}"

    def _nonce_is_fresh(self, nonce: str) -> bool:
        stamp, _, mac = nonce.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._stamp_mac(stamp).encode()):
            return False
        return abs(self._clock() - int(stamp.partition(".")[0])) <= _NONCE_LIFE

    def _stamp_mac(self, stamp: str) -> str:
        return hmac.new(self._nonce_key, stamp.encode(), hashlib.sha256).hexdigest()

    def _answer(self, body: Mapping[str, Any]) -> Response:
        return json_response(200, body, [self._date()])

    def _error(self, status: int, text: str, exc: KubeEdgeError | None = None) -> Response:
        headers = [self._date()]
        if isinstance(exc, Unavailable) and exc.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(exc.retry_after))))
        return json_response(status, {"error": text, "next": "; ".join(getattr(exc, "__notes__", ()))}, headers)

    def _date(self) -> tuple[str, str]:
        """A node compares it with its own clock."""
        return ("date", email.utils.formatdate(self._clock(), usegmt=True))


def _status(exc: KubeEdgeError) -> int:
    match exc:
        case Refused():
            return 403
        case Conflict():
            return 409
        case Invalid():
            return 400
        case TooManyFailures():
            return 429
        case Unavailable():
            return 503
        case BodyTooLarge():
            return 413
    return 500


def _bearer(request: Request) -> tokens.Token:
    """Raises Refused: a token that cannot be one counts as a wrong one."""
    scheme, _, text = (request.header("authorization") or "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("no token; send it as `Authorization: Bearer TOKEN`")
    try:
        return tokens.parse(text)
    except Invalid as exc:
        raise Refused(str(exc)) from exc


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
    if not isinstance(value, str) or not value or not value.isascii():
        raise Invalid("text is required", path=name)
    return value


def _serial(pem: bytes) -> str:
    return f"{x509.load_pem_x509_certificate(pem).serial_number:x}"


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
