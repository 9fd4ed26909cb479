"""The connection limiter of a listener: which connections are served, which wait, and which give way to others. Pure; `now` comes in.

    arrived ──> silent ──> queued ──> served, not authenticated yet ──> authenticated

A connection that has sent nothing costs a file descriptor and no more: buffers for TLS are for those that speak. What is not authenticated counts by
client network (an IPv4 address, a /64 of IPv6), what is authenticated by identity and tenant, and not by address any more: thousands of nodes
behind one address come in as fast as handshakes can be done, one after the other.

When a stage is full, a new connection whose owner has less than the greatest share replaces the oldest connection of the owner with the most.
One that is not displaced in its work may be while it waits for a request (`rests`): the oldest one of the owner with the most of these.
Where no network has more than others (a flood from a thousand addresses), the oldest silent connection goes, and of those that are served one
that has owed us its next bytes for some time.

Lives elsewhere: sockets and time (acceptor.py).
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from collections.abc import Callable

from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.shares import Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections of a listener may be in each stage, and for how many seconds."""

    silent: int = 4096  # connections that have sent nothing yet; 0: they are served at once
    first_byte: float = 10.0  # seconds until they must have
    queued: int = 4096  # that have spoken and wait for their turn; 0: they are refused
    unauthenticated: int = 256  # served at once
    per_address: int = 1 << 20  # of these, from one client network
    displace: bool = True  # whether what is served may give way to a new connection; False: only while it rests
    stall: float = 2.0  # seconds for which one that is served may owe us bytes while others wait
    authenticated: int = 1 << 20
    per_tenant: int = 1 << 20  # of these
    per_identity: int = 1 << 20  # likewise


class Refusal(enum.Enum):
    """Why a connection was closed, in words for its other end."""

    FULL = "too many connections are open"
    ADDRESS = "too many connections from your address are open"
    TENANT = "too many connections of your tenant are open"
    IDENTITY = "too many connections with your certificate are open"
    DISPLACED = "the connection gave way to others"
    SILENT = "nothing was sent"


@dataclass(slots=True)
class Decision:
    """What is closed is no longer counted."""

    start: list[int] = field(default_factory=list)
    close: list[tuple[int, Refusal]] = field(default_factory=list)


class ConnectionLimiter:
    """Connections are numbers here; none is used twice."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.silent = Shares()
        self.queued = Shares()
        self.served = Shares()  # and not authenticated
        self.resting = Shares()  # of these, who wait for a request
        self.tenants = Shares()
        self._identity_of: dict[int, str] = {}
        self._identities: Counter[str] = Counter()
        self._since: OrderedDict[int, float] = (
            OrderedDict()
        )  # of those that are silent or served, from when they are that
        self._turns: OrderedDict[str, None] = OrderedDict()  # owners of what is queued: one of each, and round again

    def arrived(self, number: int, network: str, now: float) -> Decision:
        """The kernel accepted it; `network` is its client network."""
        decision = Decision()
        if not self.limits.silent:
            self._enqueue(number, network, now, decision)
            return decision
        if len(self.silent) >= self.limits.silent:
            self._close(self._least_worth(self.silent, network), Refusal.DISPLACED, decision)
        self.silent.add(network, number)
        self._since[number] = now
        return decision

    def spoke(self, number: int, now: float) -> Decision:
        """The first bytes of a connection have arrived."""
        decision = Decision()
        if number in self.silent:
            network = self.silent.owner(number)
            self._forget(number)
            self._enqueue(number, network, now, decision)
        return decision

    def rests(self, number: int, resting: bool) -> None:
        """The connection is served, and begins or ends to wait for a request."""
        if number in self.resting:
            self.resting.remove(number)
        if resting and number in self.served:
            self.resting.add(self.served.owner(number), number)

    def authenticated(
        self, number: int, tenant: str, identity: str, now: float, *, most: int | None = None
    ) -> Decision:
        """It is in `close` when this one may have no more. `most`: for this identity instead of per_identity."""
        limits, decision = self.limits, Decision()
        if number not in self.served:
            return decision
        refusal = None
        if self._identities[identity] >= (limits.per_identity if most is None else most):
            refusal = Refusal.IDENTITY
        elif self.tenants.count(tenant) >= limits.per_tenant:
            refusal = Refusal.TENANT
        elif len(self.tenants) >= limits.authenticated:
            heaviest, count = self.tenants.heaviest()
            if count > self.tenants.count(tenant) + 1:
                self._close(self.tenants.oldest(heaviest), Refusal.DISPLACED, decision)
            else:
                refusal = Refusal.FULL
        if refusal is not None:
            self._close(number, refusal, decision)
        else:
            self._forget(number)
            self.tenants.add(tenant, number)
            self._identity_of[number] = identity
            self._identities[identity] += 1
        self._next(now, decision)
        return decision

    def left(self, number: int, now: float) -> Decision:
        """A connection is closed; one that was closed here already changes nothing."""
        decision = Decision()
        self._forget(number)
        self._next(now, decision)
        return decision

    @property
    def needs_ticks(self) -> bool:
        """Whether some connection is silent or waits for its turn; what is served has no deadline here."""
        return bool(self.silent) or bool(self.queued)

    def tick(self, now: float, owes: Callable[[int], float]) -> Decision:
        """At least once a second while needs_ticks. `owes`: for how many seconds the other end of a connection that is served has owed us bytes."""
        decision, limits = Decision(), self.limits
        while self.silent and now - self._since[number := self.silent.oldest()] >= limits.first_byte:
            self._close(number, Refusal.SILENT, decision)
        if limits.displace and self.queued:
            self._displace_stalled(now, owes, decision)
        self._next(now, decision)
        return decision

    def shed(self) -> Decision:
        """No file descriptor is left: a silent connection is closed, the oldest of the network with the most of them."""
        decision = Decision()
        if self.silent:
            self._close(self.silent.oldest(self.silent.heaviest()[0]), Refusal.DISPLACED, decision)
        return decision

    # -- stages --------------------------------------------------------------------------------------------------------

    def _enqueue(self, number: int, network: str, now: float, decision: Decision) -> None:
        limits = self.limits
        heaviest, count = self.served.heaviest()
        if self.served.count(network) >= limits.per_address:
            self._wait(number, network, Refusal.ADDRESS, decision)
        elif len(self.served) < limits.unauthenticated:
            self._serve(number, network, now, decision)
        elif limits.displace and count > self.served.count(network) + 1:
            self._close(self.served.oldest(heaviest), Refusal.DISPLACED, decision)
            self._serve(number, network, now, decision)
        elif self.resting and self.served.count(most := self.resting.heaviest()[0]) > self.served.count(network) + 1:
            self._close(self.resting.oldest(most), Refusal.DISPLACED, decision)
            self._serve(number, network, now, decision)
        else:
            self._wait(number, network, Refusal.FULL, decision)

    def _wait(self, number: int, network: str, otherwise: Refusal, decision: Decision) -> None:
        if len(self.queued) >= self.limits.queued:
            heaviest, count = self.queued.heaviest()
            if count <= self.queued.count(network) + 1:
                decision.close.append((number, otherwise))
                return
            self._close(
                self.queued.newest(heaviest), Refusal.DISPLACED, decision
            )  # who has waited longest goes in first
        self.queued.add(network, number)
        self._turns[network] = None

    def _next(self, now: float, decision: Decision) -> None:
        for _ in range(len(self._turns)):
            if len(self.served) >= self.limits.unauthenticated:
                return
            while self._turns and len(self.served) < self.limits.unauthenticated:
                network, _ = self._turns.popitem(last=False)
                self._turns[network] = None
                if self.served.count(network) >= self.limits.per_address:
                    break  # and look at the next owner, at most once at each
                number = self.queued.oldest(network)
                self._forget(number)
                self._serve(number, network, now, decision)

    def _serve(self, number: int, network: str, now: float, decision: Decision) -> None:
        self.served.add(network, number)
        self._since[number] = now
        decision.start.append(number)

    def _displace_stalled(self, now: float, owes: Callable[[int], float], decision: Decision) -> None:
        """As many as there are that could be served instead."""
        limits, waiting = self.limits, len(self.queued)
        full = len(self.served) >= limits.unauthenticated
        at_cap = {network for network in self._turns if self.served.count(network) >= limits.per_address}
        for number in list(self.served):
            if not waiting or now - self._since[number] < limits.stall:
                return
            if (full or self.served.owner(number) in at_cap) and owes(number) >= limits.stall:
                self._close(number, Refusal.DISPLACED, decision)
                waiting -= 1

    @staticmethod
    def _least_worth(shares: Shares, network: str) -> int:
        heaviest, count = shares.heaviest()
        return shares.oldest(heaviest) if count > shares.count(network) + 1 else shares.oldest()

    def _close(self, number: int, reason: Refusal, decision: Decision) -> None:
        self._forget(number)
        decision.close.append((number, reason))

    def _forget(self, number: int) -> None:
        self._since.pop(number, None)
        for shares in (self.silent, self.served, self.resting, self.tenants):
            if number in shares:
                shares.remove(number)
        if number in self.queued:
            network = self.queued.owner(number)
            self.queued.remove(number)
            if not self.queued.count(network):
                del self._turns[network]
        identity = self._identity_of.pop(number, None)
        if identity is not None:
            self._identities[identity] -= 1
            if not self._identities[identity]:
                del self._identities[identity]
