"""Requests and answers of the services that a mapper calls (OPC 10000-4), in the binary encoding. Pure.

A request is what follows its header; an answer comes without its own, which `answer` reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.opcua import binary
from kubeedge.mapper.opcua.binary import DataValue, NodeId, OpcuaDecoder, OpcuaEncoder, TypedVariant

# type ids of messages, request and answer, in namespace 0 (NodeIds.csv)
OPEN_CHANNEL, CLOSE_CHANNEL, GET_ENDPOINTS = (446, 449), (452, 455), (428, 431)
CREATE_SESSION, ACTIVATE_SESSION, CLOSE_SESSION = (461, 464), (467, 470), (473, 476)
READ, WRITE = (631, 634), (673, 676)
CREATE_SUBSCRIPTION, CREATE_ITEMS, PUBLISH = (787, 790), (751, 754), (826, 829)
_FAULT = 397
_DATA_CHANGE, _STATUS_CHANGE = 811, 820
_ANONYMOUS_TOKEN, _USER_TOKEN, _CERTIFICATE_TOKEN = 321, 324, 327

VALUE, DATA_TYPE = 13, 14  # attributes of a node
ANONYMOUS, USER_NAME, CERTIFICATE = 0, 1, 2  # kinds of user token
NULL = NodeId(0, 0)
_NO_EXTENSION = b"\0\0\0"

_STATUSES = {
    0x80010000: "BadUnexpectedError", 0x80020000: "BadInternalError", 0x80030000: "BadOutOfMemory", 0x80050000: "BadCommunicationError",
    0x80060000: "BadEncodingError", 0x80070000: "BadDecodingError", 0x800A0000: "BadTimeout", 0x800B0000: "BadServiceUnsupported",
    0x80100000: "BadTooManyOperations", 0x80120000: "BadCertificateInvalid", 0x80130000: "BadSecurityChecksFailed",
    0x80140000: "BadCertificateTimeInvalid", 0x80170000: "BadCertificateUriInvalid", 0x801A0000: "BadCertificateUntrusted",
    0x801F0000: "BadUserAccessDenied", 0x80200000: "BadIdentityTokenInvalid", 0x80210000: "BadIdentityTokenRejected",
    0x80220000: "BadSecureChannelIdInvalid", 0x80250000: "BadSessionIdInvalid", 0x80260000: "BadSessionClosed",
    0x80270000: "BadSessionNotActivated", 0x80310000: "BadNoCommunication", 0x80320000: "BadWaitingForInitialData",
    0x80330000: "BadNodeIdInvalid", 0x80340000: "BadNodeIdUnknown", 0x80350000: "BadAttributeIdInvalid", 0x80360000: "BadIndexRangeInvalid",
    0x80370000: "BadIndexRangeNoData", 0x803A0000: "BadNotReadable", 0x803B0000: "BadNotWritable", 0x803C0000: "BadOutOfRange",
    0x80540000: "BadSecurityModeRejected", 0x80550000: "BadSecurityPolicyRejected", 0x80560000: "BadTooManySessions",
    0x80730000: "BadWriteNotSupported", 0x80740000: "BadTypeMismatch", 0x80830000: "BadTcpEndpointUrlInvalid",
    0x808B0000: "BadDeviceFailure", 0x808C0000: "BadSensorFailure",
}  # fmt: skip
_OF_THE_SESSION = (0x80220000, 0x80250000, 0x80260000, 0x80270000)


class OpcuaRefusal(Invalid):
    """The server has answered that it does not do this."""


def status_name(status: int) -> str:
    """As OPC-UA names it, as far as it is a common one."""
    return _STATUSES.get(status & 0xFFFF0000, f"status 0x{status:08X}")


def is_bad(status: int) -> bool:
    """An error; uncertain values are values."""
    return bool(status & 0x80000000)


@dataclass(frozen=True, slots=True)
class UserTokenPolicy:
    """How users may prove who they are."""

    id: str
    kind: int
    policy_uri: str


@dataclass(frozen=True, slots=True)
class OpcuaEndpoint:
    """One way to a server. `mode`: 1 None, 2 Sign, 3 SignAndEncrypt."""

    url: str
    certificate: bytes
    mode: int
    policy_uri: str
    tokens: Sequence[UserTokenPolicy]


@dataclass(frozen=True, slots=True)
class CreatedSession:
    """A session that is not active yet. `timeout` in seconds."""

    token: NodeId
    timeout: float
    nonce: bytes
    certificate: bytes
    endpoints: Sequence[OpcuaEndpoint]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """An answer to a publish request. `values`: handle of an item -> its value, in order; `ended`: why the subscription is no more."""

    subscription: int
    sequence: int  # 0: nothing is to be acknowledged
    values: Sequence[tuple[int, DataValue]]
    ended: int = 0


def request(kind: int, token: NodeId, handle: int, timeout: float, body: bytes) -> bytes:
    """A whole request. `timeout` in seconds."""
    head = OpcuaEncoder().node(NodeId(0, kind)).node(token).pack("qII", 0, handle, 0).text(None)
    return bytes(head.pack("I", int(timeout * 1000)).data) + _NO_EXTENSION + body


def answer(message: bytes, kind: int) -> OpcuaDecoder:
    """What follows the header of an answer. Raises OpcuaRefusal for a fault, ConnectionResetError for one of the session, PeerError."""
    decoder = OpcuaDecoder(message)
    found = decoder.node()
    decoder.unpack("qI")
    result = decoder.number()
    decoder.diagnostic()
    decoder.items(decoder.blob)
    decoder.extension()
    if result & 0xFFFF0000 in _OF_THE_SESSION:
        raise ConnectionResetError(f"the server answers {status_name(result)}")
    if is_bad(result) or found == NodeId(0, _FAULT):
        raise OpcuaRefusal(f"the server answers {status_name(result)}")
    if found != NodeId(0, kind):
        raise PeerError("the server answers something else than what was asked")
    return decoder


def open_channel(renew: bool, mode: int, nonce: bytes, lifetime: float) -> bytes:
    """OpenSecureChannel. `lifetime` in seconds."""
    return bytes(OpcuaEncoder().pack("III", 0, int(renew), mode).blob(nonce).pack("I", int(lifetime * 1000)).data)


def opened_channel(decoder: OpcuaDecoder) -> tuple[int, int, float, bytes]:
    """(channel, token, lifetime in seconds, nonce)."""
    decoder.number()
    channel, token, _, lifetime = decoder.unpack("IIqI")
    return channel, token, lifetime / 1000, decoder.blob() or b""


def get_endpoints(url: str) -> bytes:
    """GetEndpoints of the server with that URL."""
    return bytes(OpcuaEncoder().text(url).pack("ii", -1, -1).data)


def endpoints(decoder: OpcuaDecoder) -> list[OpcuaEndpoint]:
    """Of GetEndpoints, and of a session that was created."""
    return decoder.items(lambda: _endpoint(decoder))


def _endpoint(decoder: OpcuaDecoder) -> OpcuaEndpoint:
    url = decoder.text()
    decoder.text(), decoder.text(), decoder.localized(), decoder.number()
    decoder.text(), decoder.text(), decoder.items(decoder.text)
    certificate, mode, policy = decoder.blob() or b"", decoder.number(), decoder.text()
    tokens = []
    for _ in range(decoder.count()):
        token, kind = decoder.text(), decoder.number()
        decoder.text(), decoder.text()
        tokens.append(UserTokenPolicy(token, kind, decoder.text()))
    decoder.text(), decoder.number("B")
    return OpcuaEndpoint(url, certificate, mode, policy, tokens)


def create_session(application: str, url: str, nonce: bytes, certificate: bytes | None, timeout: float) -> bytes:
    """CreateSession. `timeout` in seconds."""
    encoder = (
        OpcuaEncoder().text(application).text("urn:kubeedge:mapper").pack("B", 2).text("KubeEdge mapper").pack("I", 1)
    )
    encoder.text(None).text(None).pack("i", -1)
    encoder.text(None).text(url).text("kubeedge").blob(nonce).blob(certificate)
    return bytes(encoder.pack("dI", timeout * 1000, 0).data)


def created_session(decoder: OpcuaDecoder) -> CreatedSession:
    """The answer to it."""
    decoder.node()
    token, timeout = decoder.node(), decoder.unpack("d")[0]
    nonce, certificate, found = decoder.blob() or b"", decoder.blob() or b"", endpoints(decoder)
    decoder.items(lambda: (decoder.blob(), decoder.blob()))
    decoder.text()
    seconds = timeout / 1000 if 1000 <= timeout <= 86_400_000 else 60.0
    return CreatedSession(token, seconds, nonce, certificate, found, decoder.blob() or b"")


def signature(algorithm: str | None, value: bytes | None) -> bytes:
    """A SignatureData; None twice: nothing is signed."""
    return bytes(OpcuaEncoder().text(algorithm).blob(value).data)


def activate_session(client_signature: bytes, identity: bytes, user_signature: bytes) -> bytes:
    """ActivateSession, with what proves who the client and its user are."""
    return client_signature + bytes(OpcuaEncoder().pack("ii", -1, -1).data) + identity + user_signature


def anonymous(policy: str) -> bytes:
    """A user that is nobody."""
    return _extension(_ANONYMOUS_TOKEN, OpcuaEncoder().text(policy))


def user_name(policy: str, user: str, password: bytes, algorithm: str | None) -> bytes:
    """A user with a password, which was encrypted by that algorithm; None: it was not."""
    return _extension(_USER_TOKEN, OpcuaEncoder().text(policy).text(user).blob(password).text(algorithm))


def user_certificate(policy: str, certificate: bytes) -> bytes:
    """A user with a certificate."""
    return _extension(_CERTIFICATE_TOKEN, OpcuaEncoder().text(policy).blob(certificate))


def _extension(kind: int, body: OpcuaEncoder) -> bytes:
    return bytes(OpcuaEncoder().node(NodeId(0, kind)).pack("B", 1).blob(bytes(body.data)).data)


def _to_read(encoder: OpcuaEncoder, node: NodeId, attribute: int, index: str) -> None:
    encoder.node(node).pack("I", attribute).text(index or None).pack("H", 0).text(None)


def read(nodes: Sequence[tuple[NodeId, int, str]]) -> bytes:
    """Read of (node, attribute, index range) each; "": all of it."""
    encoder = OpcuaEncoder().pack("dIi", 0.0, 3, len(nodes))
    for one in nodes:
        _to_read(encoder, *one)
    return bytes(encoder.data)


def values(decoder: OpcuaDecoder, count: int) -> list[DataValue]:
    """What was read. Raises PeerError for another number of values."""
    found = decoder.items(decoder.data_value)
    if len(found) != count:
        raise PeerError(f"{count} nodes were to be read, and {len(found)} values come")
    return found


def write(node: NodeId, index: str, variant: TypedVariant) -> bytes:
    """Write of one value. Raises Invalid for one that does not fit into its type."""
    encoder = OpcuaEncoder().pack("i", 1).node(node).pack("I", VALUE).text(index or None).pack("B", 1)
    return bytes(encoder.variant(variant).data)


def statuses(decoder: OpcuaDecoder, count: int) -> list[int]:
    """What became of what was written."""
    found = decoder.items(decoder.number)
    if len(found) != count:
        raise PeerError(f"{count} values were written, and {len(found)} answers come")
    return found


def create_subscription(interval: float, keep_alive: int) -> bytes:
    """CreateSubscription. `interval` in seconds; after `keep_alive` of them the server says that it lives."""
    return bytes(OpcuaEncoder().pack("dIIIBB", interval * 1000, keep_alive * 10, keep_alive, 1000, 1, 0).data)


def created_subscription(decoder: OpcuaDecoder) -> tuple[int, float]:
    """(subscription, seconds after which the server says that it lives)."""
    subscription, interval, _, keep_alive = decoder.unpack("IdII")
    seconds = interval / 1000 * keep_alive
    return subscription, seconds if 0 < seconds <= 3600 else 3600.0


def create_items(subscription: int, nodes: Sequence[tuple[NodeId, str, float]], first: int) -> bytes:
    """CreateMonitoredItems of (node, index range, seconds between two samples); their handles count from `first` on."""
    encoder = OpcuaEncoder().pack("IIi", subscription, 3, len(nodes))
    for handle, (node, index, interval) in enumerate(nodes, first):
        _to_read(encoder, node, VALUE, index)
        encoder.pack("IId", 2, handle, interval * 1000)
        encoder.data += _NO_EXTENSION
        encoder.pack("IB", 1, 1)
    return bytes(encoder.data)


def created_items(decoder: OpcuaDecoder, count: int) -> list[int]:
    """The status of each."""

    def one() -> int:
        status = decoder.number()
        decoder.unpack("IdI")
        decoder.extension()
        return status

    found = decoder.items(one)
    if len(found) != count:
        raise PeerError(f"{count} nodes were to be watched, and {len(found)} answers come")
    return found


def publish(acknowledged: Sequence[tuple[int, int]]) -> bytes:
    """Publish, which acknowledges (subscription, sequence) each."""
    encoder = OpcuaEncoder().pack("i", len(acknowledged))
    for one in acknowledged:
        encoder.pack("II", *one)
    return bytes(encoder.data)


def notification(decoder: OpcuaDecoder) -> Notification:
    """The answer to it."""
    subscription = decoder.number()
    decoder.items(decoder.number)
    decoder.number("B")
    sequence, _ = decoder.unpack("Iq")
    found: list[tuple[int, DataValue]] = []
    ended, data = 0, decoder.items(decoder.extension)
    for kind, body in data:
        inner = decoder.within(body)
        if kind == NodeId(0, _DATA_CHANGE):
            found += [(inner.number(), inner.data_value()) for _ in range(inner.count())]
        elif kind == NodeId(0, _STATUS_CHANGE):
            ended = inner.number() or 0x80000000
        if len(found) > binary.MAX_ITEMS:
            raise PeerError("a notification of too many values")
    return Notification(subscription, sequence if data else 0, found, ended)
