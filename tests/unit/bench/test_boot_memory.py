"""What a machine says of its agent's memory: what is compressed is the agent's, too."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.boot.machine import EMULATED, Machine
from cardimage.root import FILES
from tests.kit.topology import Host


def machine(directory: Path) -> Machine:
    host = Host.__new__(Host)  # it is not started
    return Machine(EMULATED["armhf"], host, *[directory / name for name in ("card", "kernel", "early")], "", directory)


def test_what_is_compressed_counts(tmp_path: Path) -> None:
    found = machine(tmp_path)
    found.log.write_text(
        "card: agent rss 1024 dirty 1024 swapped 0\ncard: agent rss 21504 dirty 4096 swapped 16384\r\n"
    )
    assert found.agent() == (37.0, 20.0, 16.0)


def test_the_machine_s_words_are_understood(tmp_path: Path) -> None:
    """By the very script, which finds the largest Python of this machine, or the one that is there for it."""
    found = machine(tmp_path)
    script = (FILES / "memory").read_text().replace(">/dev/console", f">>{found.log}")
    some = [str(Path(sys.executable).with_name("python3")), "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(some) as python, subprocess.Popen(["busybox", "sh", "-c", script, "memory", "1"]) as run:
        try:
            end = time.monotonic() + 60
            while not (all(found.agent()[:2]) and all(found.memory())):
                assert time.monotonic() < end, found.console()
                time.sleep(0.1)
        finally:
            run.kill()
            python.kill()
    rss, dirty, compressed = found.agent()
    assert rss > dirty >= compressed >= 0
