"""After an update: whether the image that has started is on trial, and whether the one on trial is tried once more. See kubeedge.imageupdate.core."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from kubeedge.errors import KubeEdgeError, NotFound
from kubeedge.imageupdate import card, core
from kubeedge.imageupdate.core import NextStep, Slots, UpdateOutcome

_PROVING = Path("/run/proving")  # there is a process that waits for the proof
#: this start is in the record. An agent that ends and begins again is none, whatever was armed for the next one meanwhile
_STARTED = Path("/run/card-started")
_AT_ONCE = 90.0  # seconds after which a restart waits for nothing


def at_start() -> str:
    """What there is to say about the last update, "" for nothing. Where the other slot is tried again this does not return."""
    if _PROVING.exists() or not card.DISK.exists():
        return ""
    try:
        with card.opened() as own:
            slots = own.record()
            running = card.running(slots)
            step, changed = core.started(slots, running)
            if step is not NextStep.PROVE and _STARTED.exists():
                step, changed = NextStep.WORK, None
            if changed is not None:
                own.write_record(changed)
        _STARTED.touch()
    except NotFound:
        return ""  # nothing to return to, and nothing on trial
    except (KubeEdgeError, OSError) as exc:
        return f"image: {exc}"
    if step is NextStep.RESTART:
        print(f"card: slot {core.name(1 - running)} is tried once more", flush=True)
        restart()
    if step is NextStep.PROVE:
        subprocess.Popen([sys.executable, "-OO", "-m", "kubeedge_card.proving"], start_new_session=True)
        _PROVING.touch()
    return outcome(changed or slots, running)


def outcome(slots: Slots, running: int) -> str:
    """Of the last update, for people who read status files; "" where none has failed or is unfinished."""
    other = slots.images[1 - running].version
    if slots.trial == running:
        return on_trial(slots.images[running].version)
    if slots.outcome is UpdateOutcome.GIVEN_UP:
        return f"the update to image {other} was given up: {slots.reason}"
    return ""


def on_trial(version: str) -> str:
    """What the status file says until the image is good."""
    return f"image {version} is on trial: it is good once its agent has reached the cloud"


def restart() -> None:
    """The machine starts again; what hangs while it ends is not waited for."""
    subprocess.run(["reboot"])
    time.sleep(_AT_ONCE)
    subprocess.run(["reboot", "-f"])
    time.sleep(_AT_ONCE)
