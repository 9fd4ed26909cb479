"""Named fault points: nothing in production, switches in tests (the idea of etcd's gofail).

`faults.at("store.commit.before_fsync")` is one dictionary look-up on an empty dictionary unless a test armed the
point. A test arms a point in its own process with `arm`, or in a child process with the environment variable
KUBEEDGE_FAULTS="point=exit,other=raise": `exit` ends the process at once as SIGKILL would, `raise` raises OSError.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_armed: dict[str, Callable[[], None]] = {}


def at(point: str) -> None:
    """Do what a test armed this point with; else nothing."""
    if _armed and (action := _armed.get(point)) is not None:
        action()


def arm(point: str, action: Callable[[], None]) -> None:
    """Call `action` at a fault point from now on."""
    _armed[point] = action


def disarm(point: str | None = None) -> None:
    """Disarm one point, or all of them."""
    if point is None:
        _armed.clear()
    else:
        _armed.pop(point, None)


def _exit() -> None:
    os._exit(137)


def _raise() -> None:
    raise OSError(5, "injected fault")


for _entry in filter(None, os.environ.get("KUBEEDGE_FAULTS", "").split(",")):
    _point, _, _action = _entry.partition("=")
    arm(_point, _exit if _action == "exit" else _raise)
