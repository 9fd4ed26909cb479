"""Wheels for one ARM processor: the same commit makes the same bytes, and what is in them works where it is installed, emulated."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from cross.wheels import root
from cross.wheels.__main__ import build
from cross.wheels.targets import PYTHONS, TARGETS
from cross.wheels.tools import Tools

_MACHINE, _VERSION = "armv7l", "3.11"  # 32 bits, and PyPI has the least for it


def check() -> None:
    """AssertionError, or root.Failed with what a program there printed."""
    target, python = TARGETS[_MACHINE], PYTHONS[_VERSION]
    tools = Tools()
    with tempfile.TemporaryDirectory(prefix="kubeedge-wheels-") as temporary:
        sums = []
        for turn in ("first", "again"):  # each with sources, generated C and a compiler's cache of its own
            began, output = time.monotonic(), Path(temporary, turn, "wheels")
            build(tools, [_MACHINE], [_VERSION], Path(temporary, turn, "work"), output)
            sums.append((output / "SHA256SUMS").read_text())
            print(f"  wheels, {turn}: {time.monotonic() - began:.0f} s", flush=True)
        assert sums[0] == sums[1], f"the same commit made other bytes:\n{sums[0]}\n{sums[1]}"
        began = time.monotonic()
        wheelhouse = output / f"{_MACHINE}-{python.tag}"
        for line in root.try_there(tools, target, python, wheelhouse, Path(temporary, "root"), tests=True):
            print(f"  {target.debian}, emulated: {line}", flush=True)
        print(f"  wheels, tried: {time.monotonic() - began:.0f} s", flush=True)
        shutil.rmtree(Path(temporary, "root"))
