"""The schedule of faults: which process or link, when, how, and for how long. A seed always gives the same schedule.

    kill      kill -9; started again after `lasts` seconds
    pause     SIGSTOP, and SIGCONT after that
    unplug    its cable is pulled: no carrier, which the kernel reports
    blackhole packets to and from it vanish, which nothing reports
    one-way   packets to it vanish; those from it arrive

Lives elsewhere: doing it (site.py).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("kill", "pause", "unplug", "blackhole", "one-way")
QUORUM_LOST = 3.0  # seconds at most that etcd is without a majority, in one go
PAUSES = (0.3, 0.9, 2.5)  # seconds between two faults, on average, one of these by chance: bursts and pauses
FOLLOW_UP = 0.6  # probability that the return of a node is followed by a fault of a cloud process
SHORT = 30.0  # seconds; a shorter schedule has no long pauses
_SHORT, _MEDIUM, _LONG = (0.1, 1.0), (1.0, 4.0), (4.0, 9.0)  # leases are lost after 3 s, nodes not ready after 10 s


@dataclass(frozen=True, slots=True)
class Fault:
    at: float  # seconds from the start
    lasts: float
    kind: str
    target: str  # "agent0", "cloud1", "etcd2"

    @property
    def ends(self) -> float:
        return self.at + self.lasts

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.kind:9} {self.target:7} for {self.lasts:.2f} s"


def schedule(seed: int, seconds: float, *, agents: int, clouds: int, members: int) -> Sequence[Fault]:
    """Faults in order of time. Each is over by the end; no target has two at a time."""
    rng = random.Random(seed)
    classes = [(name, count) for name, count in (("agent", agents), ("cloud", clouds), ("etcd", members)) if count]
    found: list[Fault] = []
    bag: list[tuple[str, str, int]] = []
    at = 0.3
    while at < seconds - 0.5:
        if not bag:  # every kind of fault of every kind of process comes before any comes again
            bag = [(kind, name, count) for kind in KINDS for name, count in classes]
            rng.shuffle(bag)
        kind, name, count = bag.pop()
        lasts = min(rng.uniform(*rng.choice((_SHORT, _MEDIUM, _MEDIUM, _LONG))), seconds - at, max(seconds / 4, 1.0))
        free = _free(found, name, count, at, lasts)
        if name == "etcd" and free:
            others = [s for s in found if s.target.startswith("etcd") and s.at < at + lasts and s.ends > at]
            if len(others) + 1 > (members - 1) // 2:  # the majority is lost while the faults overlap
                bound = QUORUM_LOST if len(others) == (members - 1) // 2 else 0.0
                left = max((s.ends - at for s in others), default=lasts)
                if members > 1 and min(lasts, left) > bound:
                    lasts = min(lasts, bound)
        if free and lasts >= 0.1:
            found.append(Fault(round(at, 3), round(lasts, 3), kind, rng.choice(free)))
            if name == "agent" and kind not in ("kill", "pause") and rng.random() < FOLLOW_UP:
                # the node comes back with all that it has queued: the process that takes it in fails in the middle
                then, down = found[-1].ends + rng.uniform(0.02, 1.5), rng.uniform(0.3, 3.0)
                down = min(down, seconds - then)
                if down > 0.1 and (free := _free(found, "cloud", clouds, then, down)):
                    target = rng.choice(free)
                    found.append(Fault(round(then, 3), round(down, 3), rng.choice(("kill", "pause")), target))
        else:
            bag.insert(0, (kind, name, count))
        at += rng.expovariate(1 / rng.choice(PAUSES if seconds >= SHORT else PAUSES[:2]))
    return sorted(found, key=lambda s: (s.at, s.target))


def _free(found: Sequence[Fault], name: str, count: int, at: float, lasts: float) -> list[str]:
    """Which of a class have no fault in that time."""
    busy = {s.target for s in found if s.at < at + lasts + 0.01 and s.ends > at - 0.01}
    return [target for n in range(count) if (target := f"{name}{n}") not in busy]
