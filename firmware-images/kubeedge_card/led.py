"""The board's LED, for people who have no other way to see how far it has come: it blinks while it joins, fast where that has failed, and is as a
heartbeat once it has joined."""

from __future__ import annotations

import contextlib
from pathlib import Path

_LEDS = Path("/sys/class/leds")
_NAMES = ("ACT", "led0", "*act*", "*user*")  # the Raspberry Pi's names first
_BLINKS = {"joining": (500, 500), "failed": (100, 100)}  # milliseconds on and off


def show(state: str) -> None:
    """A board without a LED shows nothing."""
    for pattern in _NAMES:
        for led in sorted(_LEDS.glob(pattern)):
            with contextlib.suppress(OSError):
                _set(led, state)
            return


def _set(led: Path, state: str) -> None:
    if state not in _BLINKS:
        (led / "trigger").write_text("heartbeat")
        return
    (led / "trigger").write_text("timer")
    for name, milliseconds in zip(("delay_on", "delay_off"), _BLINKS[state], strict=True):
        (led / name).write_text(str(milliseconds))
