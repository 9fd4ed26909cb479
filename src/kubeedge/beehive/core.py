"""When a module that crashed is started again. Pure: clock readings come in, delays go out.

A module that keeps crashing waits twice as long each time, up to a limit; one that lived well for a while is trusted again:

    started(0) ended(1) -> 0.5   started(1.5) ended(2) -> 1.0   started(3) ended(100) -> 0.5

Lives elsewhere: tasks, signals and logs (supervisor.py).
"""

from __future__ import annotations

from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How long a crashed module waits for its next start."""

    backoff: Backoff = Backoff(0.5, 30.0)  # a longer delay would keep a node out of service after the cause is gone
    healthy_after: float = 60.0  # seconds of life after which a crash counts as the first again


class Restarts:
    """The history of one module, as far as it matters for the next start."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._began = 0.0
        self._in_a_row = 0
        self.total = 0

    def started(self, now: float) -> None:
        """The module was started at `now`."""
        self._began = now

    def ended(self, now: float) -> float:
        """The module has crashed; returns the seconds until it may start again."""
        healthy = now - self._began >= self._policy.healthy_after
        self._in_a_row = 1 if healthy else self._in_a_row + 1
        self.total += 1
        return self._policy.backoff.delay(self._in_a_row)
