"""How long a pod may stay on a node with NoExecute taints. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeedge_cloud.controllers.scheduler.fit import Tolerations

EFFECT = "NoExecute"


def executing(taints: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The taints with effect NoExecute, which evict pods that are running."""
    return [taint for taint in taints if taint.get("effect") == EFFECT]


def stay(tolerations: Sequence[Mapping[str, Any]], taints: Iterable[Mapping[str, Any]]) -> float | None:
    """Seconds that the pod may stay after the taints appear; 0.0: none, None: without limit.

    Every taint has to be tolerated. Of the tolerations that do it, the shortest tolerationSeconds counts; zero and less is at once.
    """
    given = Tolerations(tolerations)
    shortest: float | None = None
    for taint in executing(taints):
        if not given.cover(taint):
            return 0.0
        seconds = given.seconds(taint)
        if seconds is not None:
            shortest = max(0.0, seconds) if shortest is None else min(shortest, max(0.0, seconds))
    return shortest
