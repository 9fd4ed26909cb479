"""The storm: which process or link is struck when, how, and for how long. A seed gives the same storm for ever.

    kill      kill -9; started again after `lasts` seconds
    pause     SIGSTOP, and SIGCONT after that
    unplug    its cable is pulled: no carrier, which the kernel tells
    silence   packets to and from it vanish, which nobody tells
    deaf      packets to it vanish; what it says is heard

Lives elsewhere: doing it (site.py).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("kill", "pause", "unplug", "silence", "deaf")
QUORUM_LOST = 3.0  # seconds at most that etcd is without a majority, in one go
PAUSES = (0.3, 0.9, 2.5)  # seconds between two strikes, on average, one of these by chance: squalls and lulls
SHORT = 30.0  # seconds; a shorter storm has no lulls
_SHORT, _MEDIUM, _LONG = (0.1, 1.0), (1.0, 4.0), (4.0, 9.0)  # leases are lost after 3 s, nodes not ready after 10 s


@dataclass(frozen=True, slots=True)
class Strike:
    at: float  # seconds from the start of the storm
    lasts: float
    kind: str
    target: str  # "agent0", "cloud1", "etcd2"

    @property
    def ends(self) -> float:
        return self.at + self.lasts

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.kind:8} {self.target:7} for {self.lasts:.2f} s"


def schedule(seed: int, seconds: float, *, agents: int, clouds: int, members: int) -> Sequence[Strike]:
    """Strikes in order of time. Each is over by the end; no target is struck twice at a time."""
    rng = random.Random(seed)
    classes = [(name, count) for name, count in (("agent", agents), ("cloud", clouds), ("etcd", members)) if count]
    found: list[Strike] = []
    bag: list[tuple[str, str, int]] = []
    at = 0.3
    while at < seconds - 0.5:
        if not bag:  # every kind of strike on every kind of process comes before any comes again
            bag = [(kind, name, count) for kind in KINDS for name, count in classes]
            rng.shuffle(bag)
        kind, name, count = bag.pop()
        lasts = min(rng.uniform(*rng.choice((_SHORT, _MEDIUM, _MEDIUM, _LONG))), seconds - at, max(seconds / 4, 1.0))
        busy = {s.target: s for s in found if s.ends > at}
        free = [target for n in range(count) if (target := f"{name}{n}") not in busy]
        if name == "etcd" and free:
            others = [s for target, s in busy.items() if target.startswith("etcd")]
            if len(others) + 1 > (members - 1) // 2:  # the majority is lost while the strikes overlap
                bound = QUORUM_LOST if len(others) == (members - 1) // 2 else 0.0
                left = max((s.ends - at for s in others), default=lasts)
                if members > 1 and min(lasts, left) > bound:
                    lasts = min(lasts, bound)
        if free and lasts >= 0.1:
            found.append(Strike(round(at, 3), round(lasts, 3), kind, rng.choice(free)))
        else:
            bag.insert(0, (kind, name, count))
        at += rng.expovariate(1 / rng.choice(PAUSES if seconds >= SHORT else PAUSES[:2]))
    return found
