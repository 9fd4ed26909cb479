"""What the kernel says of a process: memory, processor time, wake-ups.

Memory is what would be used if the process were alone on its machine. PSS is not: where other Pythons run, they pay for most of the
interpreter's pages. RSS counts each page that the process has mapped, whoever else has it; private dirty pages are its own and can only be
swapped. Both are the same beside a hundred other agents.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

MB = 2**20
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Bytes, from /proc/PID/smaps_rollup."""

    rss: int
    private_dirty: int
    private: int  # clean ones included
    anonymous: int

    @property
    def of_files(self) -> int:
        """Pages of the program and its libraries, which another process of the same program shares."""
        return self.rss - self.anonymous


def memory(pid: int) -> ProcessMemory:
    """All zero for a process that has ended."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if rest.endswith(" kB"):
                found[name] = int(rest.split()[0]) * 1024
    dirty = found.get("Private_Dirty", 0)
    return ProcessMemory(found.get("Rss", 0), dirty, dirty + found.get("Private_Clean", 0), found.get("Anonymous", 0))


def cpu_seconds(pid: int) -> float:
    """Processor time of all its threads. Raises OSError for a process that has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wakeups(pid: int) -> dict[str, int]:
    """thread -> how often it has gone to sleep: its voluntary context switches. Each is one wake-up later on."""
    found: dict[str, int] = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/task/{task}/comm").read_text().strip()
            for line in Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    found[f"{name}/{task}"] = int(line.split()[1])
    return found


@dataclass(frozen=True, slots=True)
class Idleness:
    """What a process did in a time in which there was nothing to do."""

    seconds: float
    cpu: float  # share of one core, 0 to 1
    wakeups: dict[str, float]  # a minute, by thread; those of threads that slept all the time are left out

    @property
    def wakeups_a_minute(self) -> float:
        """Of all threads."""
        return sum(self.wakeups.values())


def idleness(pid: int, seconds: float) -> Idleness:
    """Watches for so long. Raises OSError when the process ends meanwhile."""
    began, cpu, before = time.monotonic(), cpu_seconds(pid), wakeups(pid)
    time.sleep(seconds)
    took = time.monotonic() - began
    counts = {name: (count - before.get(name, 0)) * 60 / took for name, count in wakeups(pid).items()}
    used = cpu_seconds(pid) - cpu
    return Idleness(took, used / took, {name: count for name, count in counts.items() if count})


def together(pids: Iterable[int]) -> int:
    """Bytes of several processes at once. File pages count once for each program: two processes of one share them."""
    anonymous, of_files, agents = 0, dict[str, int](), set[bytes]()
    for pid in pids:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"kubeedge\0edge" in words:
                if words in agents:
                    continue  # a child before exec(2): it has the memory of its parent, not one of its own
                agents.add(words)
            program = os.readlink(f"/proc/{pid}/exe")
            used = memory(pid)
            anonymous += used.anonymous
            of_files[program] = max(of_files.get(program, 0), used.of_files)
    return anonymous + sum(of_files.values())


class PeakMemory:
    """Samples `together` in a thread of its own for as long as the `with` lasts; `bytes` is the most that was seen."""

    def __init__(self, pids: Callable[[], Iterable[int]], every: float = 0.005) -> None:
        self._pids, self._every = pids, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak")
        self.bytes = 0
        self.samples = 0

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self.bytes = max(self.bytes, together(self._pids()))
            self.samples += 1

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
