"""The conversation of a link: hello and welcome, keepalive, names, routes. CONTROL frames, one JSON object each.

    edge                                                      relay
     │── hello {version, features, instance, slot, ...} ────────>│   who the edge is, its certificate has said
     │<─ welcome {number, address, podCIDR, routes, mtu, ...} ───│   or bye {reason, retryAfter}
     │── resolve {id, node} ────────────────────────────────────>│
     │<─ resolved {id, number} ──────────────────────────────────│   number null: there is no such node
     │<─ routes {add: [...], withdraw: [...]} ───────────────────│
     │<─ ping {} / pong {} ─────────────────────────────────────>│   either side, after silence

    OPENING ──welcome said or heard──> UP ──bye, silence, a broken rule──> DOWN

A relay that dials another says hello with its own `relay` name; then the same welcome and keepalive, and nothing else.

Silence is asked about: first after `keepalive`, then again and again at short intervals. After two questions without an answer the link is
suspect, which is when a driver begins to look for another; after `dead_after` it is down. Data packets do not pass here, so silence
means silence of CONTROL frames: the driver calls heard() when the link's counters moved.

Lives elsewhere: what hello and welcome carry (messages.py), frames, TLS, data (the plane); what a welcome says (kubeedge_cloud.bushub); several links (kubeedge.kubebus.links).
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from kubeedge.api.names import NodeNumber
from kubeedge.errors import LinkNotUp, PeerError
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kubebus.l2 import fields, messages
from kubeedge.kubebus.l2.messages import VERSION, Hello, Subnet, Welcome

MAX_NAMES_WAITING = 256  # resolve requests without an answer
SUSPECT_AFTER = 2  # questions without an answer


class LinkState(enum.Enum):
    """The states of the diagram above."""

    OPENING = "opening"
    UP = "up"
    DOWN = "down"  # final


class Role(enum.Enum):
    """Which end of a link; a relay that dials another one is EDGE."""

    EDGE = "edge"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class HelloHeard:
    """Relay: a node has said hello; answer with welcome() or refuse()."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Edge: the relay has welcomed this node."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class NameAsked:
    """Relay: a node asks for the number of another; answer with resolved()."""

    id: int
    node: str


@dataclass(frozen=True, slots=True)
class NameResolved:
    """Edge: the answer to resolve(); None: there is no such node."""

    id: int
    number: NodeNumber | None


@dataclass(frozen=True, slots=True)
class RoutesChanged:
    """Edge: networks behind other nodes came and went."""

    add: Sequence[Subnet]
    withdraw: Sequence[str]


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link is over. Final."""

    reason: str
    retry_after: float = 0.0  # seconds that the peer asks us to stay away


LinkEvent: TypeAlias = HelloHeard | LinkUp | NameAsked | NameResolved | RoutesChanged | LinkDown


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Times of one end, in seconds."""

    keepalive: float = 20.0  # seconds of silence before we ask
    ask_again: float = 1.0  # seconds from a question without an answer to the next one, or three round trips
    dead_after: float = 12.0  # seconds from the first question without an answer until we give up
    probe_timeout: float = 0.4  # seconds a probe may take after the network changed, or three round trips
    opening: float = 5.0  # seconds for hello and welcome


@dataclass(slots=True)
class LinkCore:
    """Driver: send payloads_to_send() after each call; call handle_timer at next_timer()."""

    role: Role
    settings: LinkSettings = field(default_factory=LinkSettings)
    state: LinkState = LinkState.OPENING
    rtt: float | None = None  # seconds
    _outbound: list[bytes] = field(default_factory=list)
    _heard_at: float = 0.0
    _first_ask: float = 0.0
    _last_ask: float = 0.0
    _pong_due: bool = False
    _asked: int = 0  # questions since we heard something
    _probe_until: float | None = None
    _suspect: bool = False
    _keepalive: float = 0.0
    _open_until: float = 0.0
    _next_id: int = 1
    _waiting: set[int] = field(default_factory=set)

    def open(self, now: float, hello: Hello | None = None) -> None:
        """Frames can be sent from here on; an edge says hello."""
        self._heard_at = now
        self._open_until = now + self.settings.opening
        self._keepalive = self.settings.keepalive
        if self.role is Role.EDGE:
            self._emit(messages.of_hello(hello or Hello()))

    @property
    def suspect(self) -> bool:
        """Questions were not answered: it may be time for another link, though this one is not given up."""
        return self.state is LinkState.UP and (self._suspect or self._asked > SUSPECT_AFTER)

    def unanswered(self, now: float) -> float:
        """Seconds for which a question has been open; 0 when none is."""
        return now - self._first_ask if self._asked else 0.0

    @property
    def silent_since(self) -> float:
        """When the peer was last heard, on the clock of `now`."""
        return self._heard_at

    def heard(self, now: float) -> None:
        """Something came from the peer, data perhaps: it is there."""
        self._heard_at = max(now, self._heard_at)
        self._asked = 0
        self._suspect = False
        self._probe_until = None

    def ask(self, now: float) -> None:
        """What we sent has had no echo of any kind: is the peer there? Does nothing while a question is open."""
        if self.state is LinkState.UP and not self._asked:
            self._ask(now)

    def probe(self, now: float) -> None:
        """The network may have changed: is the peer still there? Suspect until it answers, after a short timeout."""
        if self.state is LinkState.UP and self._probe_until is None:
            self._probe_until = now + max(self.settings.probe_timeout, 3 * (self.rtt or 0.0))
            self._ask(now)

    def welcome(self, welcome: Welcome) -> None:
        """Relay: the answer to HelloHeard. The link is up."""
        self._emit(messages.of_welcome(welcome))
        self.state = LinkState.UP

    def refuse(self, reason: str, *, retry_after: float = 0.0) -> None:
        """Relay: say goodbye with a reason; `retry_after`: seconds to stay away."""
        if self.state is not LinkState.DOWN:
            self._emit({"type": "bye", "reason": reason[:200], "retryAfter": retry_after})
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

    def resolved(self, id: int, number: NodeNumber | None) -> None:
        """Relay: the answer to NameAsked."""
        self._emit({"type": "resolved", "id": id, "number": number})

    def change_routes(self, add: Sequence[Subnet], withdraw: Sequence[str]) -> None:
        """Relay: networks behind other nodes; nothing while the link is not up."""
        if self.state is LinkState.UP:
            self._emit({"type": "routes", "add": messages.of_subnets(add), "withdraw": list(withdraw)})

    def receive(self, payload: bytes, now: float) -> list[LinkEvent]:
        """Raises PeerError for what a peer may not say; the link is then down."""
        if self.state is LinkState.DOWN:
            return []
        self.heard(now)
        try:
            return self._on_message(fields.parse(payload), now)
        except PeerError:
            self.state = LinkState.DOWN
            raise

    def payloads_to_send(self) -> list[bytes]:
        """Payloads of CONTROL frames, in order; the caller sends all of them."""
        payloads, self._outbound = self._outbound, []
        return payloads

    def next_timer(self) -> float | None:
        """When handle_timer() is due, on the clock of `now`; None when no timer is set."""
        match self.state:
            case LinkState.DOWN:
                return None
            case LinkState.OPENING:
                return self._open_until
        if not self._asked:
            return self._heard_at + self._keepalive
        times = [self._last_ask + self._gap(), self._first_ask + self.settings.dead_after]
        if self._probe_until is not None and not self._suspect:
            times.append(self._probe_until)
        return min(times)

    def handle_timer(self, now: float) -> list[LinkEvent]:
        """Time has passed: probes, timeouts."""
        match self.state:
            case LinkState.DOWN:
                return []
            case LinkState.OPENING:
                return [self._down("no welcome in time")] if now >= self._open_until else []
        if not self._asked:
            if now >= self._heard_at + self._keepalive:
                self._ask(now)
            return []
        if now >= self._first_ask + self.settings.dead_after:
            return [self._down(f"silent for {now - self._heard_at:.0f} s, {self._asked} questions without an answer")]
        if self._probe_until is not None and now >= self._probe_until:
            self._suspect = True
        if now >= self._last_ask + self._gap():
            self._ask(now)
        return []

    def _gap(self) -> float:
        return max(self.settings.ask_again, 3 * (self.rtt or 0.0))

    def _on_message(self, message: dict[str, Any], now: float) -> list[LinkEvent]:
        match message.get("type"), self.role, self.state:
            case "hello", Role.RELAY, LinkState.OPENING:
                if message.get("version") != VERSION:
                    raise PeerError(f"version {message.get('version')!r} of the link; this side speaks {VERSION}")
                hello = messages.hello(message)
                if hello.keepalive:  # the edge asks; we only when it should have
                    self._keepalive = min(max(1.5 * hello.keepalive, 5.0), 900.0)
                return [HelloHeard(hello)]
            case "welcome", Role.EDGE, LinkState.OPENING:
                self.state = LinkState.UP
                return [LinkUp(messages.welcome(message))]
            case "resolve", Role.RELAY, LinkState.UP:
                return [NameAsked(fields.integer(message, "id"), fields.text(message, "node"))]
            case "resolved", Role.EDGE, LinkState.UP:
                id = fields.integer(message, "id")
                if id not in self._waiting:
                    raise PeerError(f"an answer to the question {id}, which was not asked")
                self._waiting.discard(id)
                number = None if message.get("number") is None else NodeNumber(fields.integer(message, "number"))
                return [NameResolved(id, number)]
            case "routes", Role.EDGE, LinkState.UP:
                return [RoutesChanged(messages.subnets(message, "add"), fields.prefixes(message, "withdraw"))]
            case "ping", _, LinkState.UP:
                self._emit({"type": "pong"})
                return []
            case "pong", _, LinkState.UP:
                if self._pong_due:
                    self.rtt, self._pong_due = now - self._last_ask, False
                return []
            case "bye", _, _:
                retry = message.get("retryAfter", 0)
                wait = float(retry) if isinstance(retry, int | float) and 0 <= retry <= 3600 else 0.0
                return [self._down(f"the peer says: {fields.text(message, 'reason')[:200]}", wait)]
        raise PeerError(f"{str(message.get('type'))[:40]!r} from the other side while {self.state.value}")

    def _ask(self, now: float) -> None:
        if not self._asked:
            self._first_ask = now
        self._asked += 1
        self._last_ask = now
        self._pong_due = True
        self._emit({"type": "ping"})

    def _emit(self, message: dict[str, Any]) -> None:
        self._outbound.append(json.dumps(message, separators=(",", ":")).encode())

    def _down(self, reason: str, retry_after: float = 0.0) -> LinkDown:
        self.state = LinkState.DOWN
        return LinkDown(reason, retry_after)
