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
AMBUSH = 0.6  # probability that the return of a node is followed by a strike on a cloud process
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
        free = _free(found, name, count, at, lasts)
        if name == "etcd" and free:
            others = [s for s in found if s.target.startswith("etcd") and s.at < at + lasts and s.ends > at]
            if len(others) + 1 > (members - 1) // 2:  # the majority is lost while the strikes overlap
                bound = QUORUM_LOST if len(others) == (members - 1) // 2 else 0.0
                left = max((s.ends - at for s in others), default=lasts)
                if members > 1 and min(lasts, left) > bound:
                    lasts = min(lasts, bound)
        if free and lasts >= 0.1:
            found.append(Strike(round(at, 3), round(lasts, 3), kind, rng.choice(free)))
            if name == "agent" and kind not in ("kill", "pause") and rng.random() < AMBUSH:
                # the node comes back with all that it has queued: who takes it in is struck in the middle
                then, down = found[-1].ends + rng.uniform(0.02, 1.5), rng.uniform(0.3, 3.0)
                down = min(down, seconds - then)
                if down > 0.1 and (free := _free(found, "cloud", clouds, then, down)):
                    target = rng.choice(free)
                    found.append(Strike(round(then, 3), round(down, 3), rng.choice(("kill", "pause")), target))
        else:
            bag.insert(0, (kind, name, count))
        at += rng.expovariate(1 / rng.choice(PAUSES if seconds >= SHORT else PAUSES[:2]))
    return sorted(found, key=lambda s: (s.at, s.target))


def _free(found: Sequence[Strike], name: str, count: int, at: float, lasts: float) -> list[str]:
    """Who of a class is not struck in that time."""
    busy = {s.target for s in found if s.at < at + lasts + 0.01 and s.ends > at - 0.01}
    return [target for n in range(count) if (target := f"{name}{n}") not in busy]
