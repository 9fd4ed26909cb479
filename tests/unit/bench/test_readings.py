"""What the budgets read of a process."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time

from bench.budgets import readings
from bench.budgets.readings import MB
from tests.kit.topology import until


def test_a_thread_that_sleeps_has_been_woken() -> None:
    before, over = readings.wakeups(os.getpid()), threading.Event()

    def sleep() -> None:
        for _ in range(10):
            time.sleep(0.01)
        over.wait()

    thread = threading.Thread(target=sleep, name="sleeper")
    thread.start()
    try:
        now = lambda: sum(readings.wakeups(os.getpid()).values())  # noqa: E731
        until(lambda: now() - sum(before.values()) >= 10, timeout=60, what="10 sleeps")
    finally:
        over.set()
        thread.join()


def test_pages_that_are_written_are_private_and_dirty() -> None:
    before = readings.memory(os.getpid())
    with mmap.mmap(-1, 8 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages.write(b"x" * len(pages))
        after = readings.memory(os.getpid())
    for value in ("rss", "private_dirty", "private", "anonymous"):
        assert getattr(after, value) - getattr(before, value) > 7 * MB, value
    assert readings.memory(2**22 + 1) == readings.ProcessMemory(0, 0, 0, 0), "no such process"


def test_two_processes_of_one_program_have_its_file_pages_once() -> None:
    def start() -> subprocess.Popen[bytes]:
        code = "print(flush=True); input()"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        return process

    with start() as one, start() as two:
        first, second = readings.memory(one.pid), readings.memory(two.pid)
        both = readings.together([one.pid, two.pid])
        assert both == first.anonymous + second.anonymous + max(first.of_files, second.of_files)
        for process in (one, two):
            process.communicate(b"\n")
