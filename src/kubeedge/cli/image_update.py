"""`kubeedge image-update FILE|URL`: a new image for a machine that was started from a card, and what becomes of it."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from contextlib import closing
from typing import Any

from kubeedge.cli.show import as_json, table
from kubeedge.errors import KubeEdgeError
from kubeedge.imageupdate import card, core, driver
from kubeedge.imageupdate.core import Slots
from kubeedge.imageupdate.source import MAX_URL, open_source

_MAX_TRIES = 20
_TELLING = 60.0  # seconds


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises KubeEdgeError for what this machine does not take."""
    if not options.source:
        with card.opened(write=False) as own:
            slots = own.record()
        shown = _shown(slots, card.running(slots))
        print(as_json(shown) if options.output == "json" else _text(shown))
        return 0
    try:
        slots = _update(options)
    except KubeEdgeError as exc:
        _tell(f"refused: {exc}")
        raise
    if options.output == "json":
        print(as_json(_shown(slots, card.running(slots))))
    if options.restart and slots.armed is not None:
        _say("the machine starts again")
        subprocess.run(["reboot"], check=True)
    return 0


def _update(options: argparse.Namespace) -> Slots:
    machine = driver.this_machine()
    tries = max(1, min(_MAX_TRIES, options.tries))
    with driver.alone(), card.opened() as own, closing(open_source(_named(options.source), _say)) as source:
        running = card.running(own.record())
        older, again = options.allow_older, options.again
        return driver.update(source, own, running, machine, _say, older=older, again=again, tries=tries)


def _named(source: str) -> str:
    """What is in the arguments of a process everybody on the machine can read, and a URL may have a signature in it."""
    return sys.stdin.readline(MAX_URL + 2).strip() if source == "-" else source


def _tell(text: str) -> None:
    """On the boot partition of a card."""
    if driver.TELL.exists():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([str(driver.TELL), text], timeout=_TELLING)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _shown(slots: Slots, running: int) -> dict[str, Any]:
    rows = []
    for number, (image, layout) in enumerate(zip(slots.images, slots.layouts, strict=True)):
        state = "good" if number == slots.good else "on trial" if number == slots.trial else ""
        state = state or ("spare" if layout.kernel_sectors else "empty")
        rows.append(
            {"slot": core.name(number), "version": image.version, "epoch": image.epoch, "state": state,
             "runs": number == running, "digest": image.digest.hex()}
        )  # fmt: skip
    return {
        "slots": rows,
        "armed": slots.armed is not None,
        "tries": slots.tries,
        "outcome": slots.outcome.name.lower(),
        "reason": slots.reason,
    }


def _text(shown: dict[str, Any]) -> str:
    rows = [[r["slot"], r["version"], r["digest"][:12], r["state"], "yes" if r["runs"] else ""] for r in shown["slots"]]
    text = table(["SLOT", "VERSION", "DIGEST", "STATE", "RUNS"], rows)
    return text + (f"\n{shown['reason']}" if shown["reason"] else "")
