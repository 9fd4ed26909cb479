"""The conversation of a link: hello and welcome, keepalive, names, routes. CONTROL frames, one JSON object each.

    edge                                              relay
     │── hello {version, features} ─────────────────────>│   who the edge is, its certificate has said
     │<─ welcome {number, address, podCIDR, routes, mtu} │   or bye {reason}
     │── resolve {id, node} ────────────────────────────>│
     │<─ resolved {id, number} ──────────────────────────│   number null: there is no such node
     │<─ routes {add: [...], withdraw: [...]} ───────────│
     │<─ ping {} / pong {} ─────────────────────────────>│   either side, after silence

    OPENING ──welcome said or heard──> UP ──bye, silence, a broken rule──> DOWN

Data packets do not pass here, so silence means silence of CONTROL frames: the driver calls heard() when the link's counters moved.

Lives elsewhere: frames, TLS, data (the plane); what a welcome says (kubeedge_cloud.bushub).
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kubeedge.errors import LinkNotUp, PeerError

VERSION = 1
MAX_NAMES_WAITING = 256  # resolve requests without an answer
MAX_ROUTES = 1024  # in one message


class LinkState(enum.Enum):
    OPENING = "opening"
    UP = "up"
    DOWN = "down"  # final


class Role(enum.Enum):
    EDGE = "edge"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Welcome:
    number: int
    address: str
    pod_cidr: str
    routes: Sequence[str]
    mtu: int


@dataclass(frozen=True, slots=True)
class HelloHeard:
    """Relay: answer with welcome() or refuse()."""

    features: Sequence[str]


@dataclass(frozen=True, slots=True)
class LinkIsUp:
    """Edge: the relay's welcome."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class NameAsked:
    """Relay: answer with resolved()."""

    id: int
    node: str


@dataclass(frozen=True, slots=True)
class NameResolved:
    id: int
    number: int | None


@dataclass(frozen=True, slots=True)
class RoutesChanged:
    add: Sequence[str]
    withdraw: Sequence[str]


@dataclass(frozen=True, slots=True)
class LinkIsDown:
    reason: str


LinkEvent: TypeAlias = HelloHeard | LinkIsUp | NameAsked | NameResolved | RoutesChanged | LinkIsDown


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    keepalive: float = 20.0  # seconds of silence before we ask
    dead_after: float = 45.0  # seconds of silence before we give up
    probe_deadline: float = 2.0  # seconds a probe may take after the network changed
    opening: float = 10.0  # seconds for hello and welcome


@dataclass(slots=True)
class Link:
    """Driver: send payloads_to_send() after each call; call handle_timer at next_timer()."""

    role: Role
    settings: LinkSettings = field(default_factory=LinkSettings)
    state: LinkState = LinkState.OPENING
    rtt: float | None = None  # seconds
    _outbound: list[bytes] = field(default_factory=list)
    _heard_at: float = 0.0
    _asked_at: float | None = None
    _probe_until: float | None = None
    _open_until: float = 0.0
    _next_id: int = 1
    _waiting: set[int] = field(default_factory=set)

    def open(self, now: float) -> None:
        self._heard_at = now
        self._open_until = now + self.settings.opening
        if self.role is Role.EDGE:
            self._emit({"type": "hello", "version": VERSION, "features": ["gso"]})

    def heard(self, now: float) -> None:
        """Something came from the peer, data perhaps: it is there."""
        self._heard_at = now
        self._probe_until = None

    def probe(self, now: float) -> None:
        """The network may have changed: is the peer still there?"""
        if self.state is LinkState.UP and self._probe_until is None:
            self._probe_until = now + self.settings.probe_deadline
            self._ask(now)

    def welcome(self, welcome: Welcome) -> None:
        self._emit(
            {
                "type": "welcome",
                "number": welcome.number,
                "address": welcome.address,
                "podCIDR": welcome.pod_cidr,
                "routes": list(welcome.routes),
                "mtu": welcome.mtu,
            }
        )
        self.state = LinkState.UP

    def refuse(self, reason: str) -> None:
        if self.state is not LinkState.DOWN:
            self._emit({"type": "bye", "reason": reason[:200]})
            self.state = LinkState.DOWN

    def resolve(self, node: str) -> int:
        """Edge: NameResolved will carry the returned id. Raises LinkNotUp."""
        if self.state is not LinkState.UP:
            raise LinkNotUp(f"the link to the relay is {self.state.value}")
        if len(self._waiting) >= MAX_NAMES_WAITING:
            raise LinkNotUp("too many names wait for the relay", retry_after=1.0)
        id, self._next_id = self._next_id, self._next_id + 1
        self._waiting.add(id)
        self._emit({"type": "resolve", "id": id, "node": node})
        return id

    def resolved(self, id: int, number: int | None) -> None:
        self._emit({"type": "resolved", "id": id, "number": number})

    def change_routes(self, add: Sequence[str], withdraw: Sequence[str]) -> None:
        if self.state is LinkState.UP:
            self._emit({"type": "routes", "add": list(add), "withdraw": list(withdraw)})

    def receive(self, payload: bytes, now: float) -> list[LinkEvent]:
        """Raises PeerError for what a peer may not say; the link is then down."""
        if self.state is LinkState.DOWN:
            return []
        self.heard(now)
        try:
            return self._on_message(_parse(payload), now)
        except PeerError:
            self.state = LinkState.DOWN
            raise

    def payloads_to_send(self) -> list[bytes]:
        payloads, self._outbound = self._outbound, []
        return payloads

    def next_timer(self) -> float | None:
        match self.state:
            case LinkState.DOWN:
                return None
            case LinkState.OPENING:
                return self._open_until
        times = [self._heard_at + self.settings.dead_after]
        if self._asked_at is None or self._asked_at < self._heard_at:
            times.append(self._heard_at + self.settings.keepalive)
        if self._probe_until is not None:
            times.append(self._probe_until)
        return min(times)

    def handle_timer(self, now: float) -> list[LinkEvent]:
        match self.state:
            case LinkState.DOWN:
                return []
            case LinkState.OPENING:
                return [self._down("no welcome in time")] if now >= self._open_until else []
        if self._probe_until is not None and now >= self._probe_until:
            return [self._down(f"no answer within {self.settings.probe_deadline:g} s after the network changed")]
        if now >= self._heard_at + self.settings.dead_after:
            return [self._down(f"silent for {self.settings.dead_after:g} s")]
        asked = self._asked_at is not None and self._asked_at >= self._heard_at
        if not asked and now >= self._heard_at + self.settings.keepalive:
            self._ask(now)
        return []

    def _on_message(self, message: dict[str, Any], now: float) -> list[LinkEvent]:
        match message.get("type"), self.role, self.state:
            case "hello", Role.RELAY, LinkState.OPENING:
                if message.get("version") != VERSION:
                    raise PeerError(f"version {message.get('version')!r} of the link; this side speaks {VERSION}")
                return [HelloHeard(_texts(message, "features"))]
            case "welcome", Role.EDGE, LinkState.OPENING:
                self.state = LinkState.UP
                return [
                    LinkIsUp(
                        Welcome(
                            _integer(message, "number"),
                            _text(message, "address"),
                            _text(message, "podCIDR"),
                            _texts(message, "routes"),
                            _integer(message, "mtu"),
                        )
                    )
                ]
            case "resolve", Role.RELAY, LinkState.UP:
                return [NameAsked(_integer(message, "id"), _text(message, "node"))]
            case "resolved", Role.EDGE, LinkState.UP:
                id = _integer(message, "id")
                if id not in self._waiting:
                    raise PeerError(f"an answer to the question {id}, which was not asked")
                self._waiting.discard(id)
                number = None if message.get("number") is None else _integer(message, "number")
                return [NameResolved(id, number)]
            case "routes", Role.EDGE, LinkState.UP:
                return [RoutesChanged(_texts(message, "add"), _texts(message, "withdraw"))]
            case "ping", _, LinkState.UP:
                self._emit({"type": "pong"})
                return []
            case "pong", _, LinkState.UP:
                if self._asked_at is not None:
                    self.rtt, self._asked_at = now - self._asked_at, None
                return []
            case "bye", _, _:
                return [self._down(f"the peer says: {_text(message, 'reason')[:200]}")]
        raise PeerError(f"{str(message.get('type'))[:40]!r} from the other side while {self.state.value}")

    def _ask(self, now: float) -> None:
        self._asked_at = now
        self._emit({"type": "ping"})

    def _emit(self, message: dict[str, Any]) -> None:
        self._outbound.append(json.dumps(message, separators=(",", ":")).encode())

    def _down(self, reason: str) -> LinkIsDown:
        self.state = LinkState.DOWN
        return LinkIsDown(reason)


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as exc:
        raise PeerError("a control frame is not JSON") from exc
    if not isinstance(message, dict):
        raise PeerError("a control frame is not a JSON object")
    return message


def _text(message: dict[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise PeerError(f"{key} is not text")
    return value


def _integer(message: dict[str, Any], key: str) -> int:
    value = message.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
        raise PeerError(f"{key} is not a number of 32 bits")
    return value


def _texts(message: dict[str, Any], key: str) -> tuple[str, ...]:
    value = message.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_ROUTES or not all(isinstance(v, str) for v in value):
        raise PeerError(f"{key} is not a list of text")
    return tuple(value)
