"""What the links of a node decide, without I/O. Pure: clock readings, counters and random numbers come in."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from kubeedge.kit import dataclasses
from kubeedge.kit.backoff import OutageBackoff
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kubebus.l2.core import LinkCore, LinkSettings
from kubeedge.kubebus.l2.messages import Subnet

_SIDE_KEEPALIVE = 3.0  # times: the links of slots above 0 are probed less often, for traffic has a price
#: seconds, or three round trips: a link that was probed because another one is suspect has answered by then
_HASTE = 0.5
_NO_ECHO = 1.5  # seconds in which we sent data and heard nothing: probe


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksSettings:
    """The settings of all links of a node. Times are seconds."""

    relays: Sequence[str]  # "host:port"
    connections: int = 2
    link: LinkSettings = field(default_factory=LinkSettings)
    subnets: Sequence[Subnet] = ()  # networks behind this node
    connect_timeout: float = 3.0  # seconds to reach any relay, and again for handshake and welcome
    backoff_first: float = 0.25  # seconds between two attempts, doubling
    backoff_last: float = 1.0  # in the first minute of an outage
    backoff_late: float = 5.0  # after that: each attempt costs a SYN

    def of_slot(self, slot: int) -> LinkSettings:
        """The settings of the conversation on the link in that slot."""
        if slot == 0:
            return self.link
        return dataclasses.replace(self.link, keepalive=self.link.keepalive * _SIDE_KEEPALIVE)

    @property
    def backoff(self) -> OutageBackoff:
        """Between attempts to bring a link up."""
        return OutageBackoff(self.backoff_first, self.backoff_last, self.backoff_late)

    def setup_timeout(self, outage: float) -> float:
        """Seconds for handshake and welcome at a relay that was reached, both of which are two round trips."""
        return self.connect_timeout * self.backoff.timeout_factor(outage)


class Candidates(enum.Enum):
    """Which relays a slot without a link may try."""

    SAME = "the relay of the other links"
    ANY = "all that are configured"
    FOLLOW = "none until another slot has found one"
    UNDECIDED = "the answer to a probe decides, soon"


def candidates(slot: int, others: Sequence[LinkCore], now: float) -> Candidates:
    """Slot 0 may go anywhere when all links are gone or do not answer; otherwise all stay at one relay.

    `others`: the links of all slots that are up and not suspect.
    """
    asked = [core for core in others if core.unanswered(now)]
    if len(asked) < len(others):
        return Candidates.SAME
    if all(core.unanswered(now) > max(_HASTE, 3 * (core.rtt or 0.0)) for core in asked):
        return Candidates.ANY if slot == 0 else Candidates.FOLLOW
    return Candidates.UNDECIDED


@dataclass(slots=True)
class Activity:
    """What a conversation learns from the counters of its link: data that arrived counts as heard, so a busy link is not probed."""

    _received: tuple[int, int] = (0, 0)
    _sent: int = 0
    _no_echo: bool = False  # we sent data, and have heard nothing since

    def look(self, core: LinkCore, received: tuple[int, int], sent: int, now: float) -> bool:
        """`received`, `sent`: totals since the link began. True: something moved, look again soon."""
        heard, said = received != self._received, sent != self._sent
        self._received, self._sent = received, sent
        if heard:
            core.heard(now)
            self._no_echo = said
        else:
            self._no_echo = self._no_echo or said
            if self._no_echo and now - core.silent_since > _NO_ECHO:
                core.ask(now)
        return heard or self._no_echo
