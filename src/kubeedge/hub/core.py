"""The hub session: hello, streams, and whether the other end is still there.

The channel below delivers whole messages in order or breaks. A message is one byte of kind and a payload:

    kind  name    payload
    1     HELLO   JSON object: {"version": 1, "features": [names], ...}; the first message of both ends. A feature is used when
                  both have named it, so that an end of yesterday and one of today understand each other
    2     PING    up to 64 bytes, answered with PONG and the same bytes
    3     PONG
    4     BYE     UTF-8 reason; the sender closes after it
    16    SYNC    cloud -> edge, and its acknowledgements
    17    SYNC    edge -> cloud, and its acknowledgements

    OPENING ──HELLO from both──> ATTACHED ──BYE, silence, a broken rule──> DETACHED

Nothing is sent while messages flow. After `keepalive` seconds without hearing anything we ping; when `timeout` seconds after that
nothing was heard the session ends. The edge says its keepalive in HELLO, and the cloud asks only when the edge is late (FOLLOW_AFTER):
an idle node costs one question and one answer a keepalive, and a machine that vanished is missed 27 s later at most, before Kubernetes
would miss its kubelet (40 s). probe() asks at once with a short deadline, for when the network is known to have changed.

Half of a message is a sign of life, too: a value of the largest size takes a minute on a slow line. The driver says so with heard().
A process that was asleep (a suspended machine) hears its own timers late: the rule then ends the session, which is right.

Lives elsewhere: sockets and TLS (driver.py), who the peer is (its certificate, kubeedge.pki.identity).
"""

from __future__ import annotations

import enum
import json
from typing import Any, TypeAlias

from kubeedge.errors import ChannelDetached, Misuse, PeerError
from kubeedge.kit.dataclasses import dataclass, field

VERSION = 1
MAX_MESSAGE = 2 * 1024 * 1024  # one value of the largest size (1.5 MiB) and its envelope
MAX_HELLO = 4096
SYNC_DOWN = 16  # the cloud's desired state, to the edge
SYNC_UP = 17  # the edge's reported state, to the cloud
STREAMS = frozenset({SYNC_DOWN, SYNC_UP})  # a peer that speaks of others violates the protocol: nothing would read them
SYNC2 = "sync2"  # patches, ranges, digests: kubeedge.sync.codec
BOUNDS = "bounds"  # a sink says what it does not take: kubeedge.sync.bounds
FEATURES: tuple[str, ...] = (SYNC2, BOUNDS)
MAX_WAITING = 64  # messages that wait to be sent; our own users wait after each, so only a flood of pings gets here
FOLLOW_AFTER = 2.0  # seconds that a peer's question may be late before we ask
#: seconds that the cloud waits for an answer: three retransmissions of TCP (RFC 6298). An edge waits longer: its cloud may have thousands of
#: nodes that connect at once, and an edge that gave up early would only add another attempt
CLOUD_TIMEOUT = 5.0
MAX_KEEPALIVE = 3600.0  # seconds that a peer may name
CLOSE_REPLACED = 4000  # WebSocket close code (private range, RFC 6455 section 7.4.2)
REPLACED = "replaced by a newer channel of the same node"


class MessageKind(enum.IntEnum):
    """The first byte of a message that is about the session itself; 16 and above are streams."""

    HELLO = 1
    PING = 2
    PONG = 3
    BYE = 4


class ChannelState(enum.Enum):
    """The life of a session, in order."""

    OPENING = "opening"  # our HELLO is sent, theirs is awaited
    ATTACHED = "attached"
    DETACHED = "detached"  # final


@dataclass(frozen=True, slots=True)
class Attached:
    """The peer has sent hello."""

    hello: dict[str, Any]  # what the peer claims of itself; not to be trusted for identity


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the stream `kind`, for its user."""

    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Detached:
    """The session is over, and why."""

    reason: str


ChannelEvent: TypeAlias = Attached | Received | Detached


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """Times of one end, in seconds."""

    keepalive: float = 20.0  # seconds of silence before we ask; a home router forgets a TCP flow after minutes
    #: ask only when the peer is late with its own question. Two ends that ask at the same moment would do so for ever, and double what an
    #: idle node costs. A peer that does not say its keepalive is believed to have ours
    follows: bool = False
    timeout: float = 25.0  # seconds for an answer
    probe_deadline: float = 2.0  # seconds a probe may take: the network changed, so waiting is likely useless
    hello_deadline: float = 10.0  # seconds for the peer's HELLO


@dataclass(slots=True)
class ChannelSession:
    """Both ends are the same. Driver: after each call send messages_to_send(); call handle_timer at next_timer()."""

    hello: dict[str, Any]
    settings: ChannelSettings = field(default_factory=ChannelSettings)
    state: ChannelState = ChannelState.OPENING
    rtt: float | None = None  # seconds; of the last ping
    _outbound: list[bytes] = field(default_factory=list)
    _heard_at: float = 0.0
    _asked_at: float | None = None  # an unanswered ping
    _probe_until: float | None = None
    _hello_until: float = 0.0
    _keepalive: float = 0.0

    def open(self, now: float) -> None:
        """The WebSocket is open: send hello."""
        self._heard_at = now
        self._keepalive = self.settings.keepalive + (FOLLOW_AFTER if self.settings.follows else 0.0)
        self._hello_until = now + self.settings.hello_deadline
        self._emit(
            MessageKind.HELLO,
            json.dumps({"version": VERSION, "features": FEATURES, **self.hello}, separators=(",", ":")).encode(),
        )

    def send(self, kind: int, payload: bytes) -> None:
        """Raises ChannelDetached unless attached, Misuse for a kind or size that no peer would accept."""
        if kind not in STREAMS or len(payload) >= MAX_MESSAGE:
            raise Misuse(f"message of kind {kind} with {len(payload)} bytes")
        if self.state is not ChannelState.ATTACHED:
            raise ChannelDetached(f"the channel is {self.state.value}")
        self._emit(kind, payload)

    def close(self, reason: str) -> None:
        """Say goodbye; nothing is received after it."""
        if self.state is not ChannelState.DETACHED:
            self._emit(MessageKind.BYE, reason.encode()[:200])
            self.state = ChannelState.DETACHED

    def probe(self, now: float) -> None:
        """The network may have changed: is the peer still there?"""
        if self.state is ChannelState.ATTACHED and self._probe_until is None:
            self._probe_until = now + self.settings.probe_deadline
            self._ask(now)

    def heard(self, at: float) -> None:
        """Bytes arrived, or many of ours were acknowledged, at that time: the peer is alive, although a ping is unanswered."""
        self._heard_at = max(self._heard_at, at)

    def receive(self, message: bytes, now: float) -> list[ChannelEvent]:
        """Raises PeerError when the peer breaks a rule; the session is then detached."""
        if self.state is ChannelState.DETACHED:
            return []
        self._heard_at = now
        self._probe_until = None
        if len(self._outbound) > MAX_WAITING:
            self.state = ChannelState.DETACHED
            raise PeerError("pings come faster than their answers are taken", close_code=1008)
        try:
            return self._on_message(message, now)
        except PeerError:
            self.state = ChannelState.DETACHED
            raise

    @property
    def has_messages(self) -> bool:
        """Is there something to send?"""
        return bool(self._outbound)

    def messages_to_send(self) -> list[bytes]:
        """What is to be sent now, in order; the caller sends all of it."""
        messages, self._outbound = self._outbound, []
        return messages

    def next_timer(self) -> float | None:
        """When handle_timer() is due, on the clock of `now`; None when no timer is set."""
        match self.state:
            case ChannelState.DETACHED:
                return None
            case ChannelState.OPENING:
                return self._hello_until
        times = [self._asks_at() if self._asked_at is None else self._gives_up_at()]
        if self._probe_until is not None:
            times.append(self._probe_until)
        return min(times)

    def handle_timer(self, now: float) -> list[ChannelEvent]:
        """Time has passed: keepalive, timeouts. Events as receive()."""
        match self.state:
            case ChannelState.DETACHED:
                return []
            case ChannelState.OPENING:
                if now >= self._hello_until:
                    return [self._detach(f"no hello within {self.settings.hello_deadline:g} s")]
                return []
        if self._probe_until is not None and now >= self._probe_until:
            return [self._detach(f"no answer within {self.settings.probe_deadline:g} s after the network changed")]
        if now >= self._gives_up_at():
            return [self._detach(f"silent for {self._keepalive + self.settings.timeout:g} s")]
        if self._asked_at is None and now >= self._asks_at():
            self._ask(now)
        return []

    def _asks_at(self) -> float:
        return self._heard_at + self._keepalive

    def _gives_up_at(self) -> float:
        """A question that was late has its time, too."""
        return max(self._asks_at(), self._asked_at or 0.0) + self.settings.timeout

    def _on_message(self, message: bytes, now: float) -> list[ChannelEvent]:
        if not message or len(message) > MAX_MESSAGE:
            raise PeerError(f"message of {len(message)} bytes", close_code=1009)
        kind, payload = message[0], message[1:]
        match kind:
            case MessageKind.HELLO if self.state is ChannelState.OPENING:
                hello = _parse_hello(payload)
                if self.settings.follows:
                    self._keepalive = _keepalive(hello, self.settings.keepalive) + FOLLOW_AFTER
                self.state = ChannelState.ATTACHED
                return [Attached(hello)]
            case MessageKind.BYE:
                return [self._detach(f"peer says: {payload[:200].decode(errors='replace')}")]
            case MessageKind.PING if self.state is ChannelState.ATTACHED and len(payload) <= 64:
                self._emit(MessageKind.PONG, payload)
                return []
            case MessageKind.PONG if self.state is ChannelState.ATTACHED and len(payload) <= 64:
                if self._asked_at is not None:
                    self.rtt, self._asked_at = now - self._asked_at, None
                return []
        if kind in STREAMS and self.state is ChannelState.ATTACHED:
            self._asked_at = None  # anything heard answers the question
            return [Received(kind, payload)]
        raise PeerError(f"message kind {kind} with {len(payload)} bytes while {self.state.value}")

    def _ask(self, now: float) -> None:
        self._asked_at = now
        self._emit(MessageKind.PING, b"")

    def _emit(self, kind: int, payload: bytes) -> None:
        self._outbound.append(bytes((kind,)) + payload)

    def _detach(self, reason: str) -> Detached:
        self.state = ChannelState.DETACHED
        return Detached(reason)


def shared_features(hello: dict[str, Any]) -> frozenset[str]:
    """The features that both this end and the peer with that hello have."""
    named = hello.get("features")
    return (
        frozenset(FEATURES) & {name for name in named if isinstance(name, str)}
        if isinstance(named, list)
        else frozenset()
    )


def _keepalive(hello: dict[str, Any], default: float) -> float:
    """Seconds, as the peer gives them; what is not such a number counts as absent."""
    seconds = hello.get("keepalive")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_KEEPALIVE:
        return default
    return float(seconds)


def _parse_hello(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_HELLO:
        raise PeerError(f"hello of {len(payload)} bytes exceeds {MAX_HELLO}", close_code=1009)
    try:
        hello = json.loads(payload)
    except (ValueError, RecursionError) as exc:
        raise PeerError("hello is not JSON") from exc
    if not isinstance(hello, dict) or type(hello.get("version")) is not int:
        raise PeerError("hello is not an object with a version")
    if hello["version"] != VERSION:
        raise PeerError(f"version {hello['version']} of the hub session; this side speaks {VERSION}", close_code=1003)
    return hello
