"""What keeps the agent small in memory, all in one place (ADR 54): malloc, the garbage collector, and what is loaded for nothing."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from types import ModuleType

from kubeedge._fastpath import libc
from kubeedge.kit import deferred

_ARENAS = 2  # heaps that all threads share: the main thread's, and one that the others do not have to wait for
_SPARE = 64 * 1024  # bytes of free memory at the end of each that are kept for the next to ask
SETTLED = 30.0  # seconds after which what only the start needed is not needed any more


class _Version(ModuleType):
    """In place of websockets.version, whose import of importlib.metadata brings email and zipfile: 22 modules, 1.2 MB and a tenth of the
    time that the agent takes to start, for a number that it shows to nobody."""

    def __getattr__(self, name: str) -> str:
        return ""


def begin() -> None:
    """Before threads are started and modules loaded, asyncio among them."""
    libc.limit_malloc(_ARENAS, _SPARE)
    libc.read_single_pages()
    deferred.standard_library()
    sys.modules.setdefault("websockets.version", _Version("websockets.version"))
    # newer ones do so by themselves; Python 3.11 has a thread wait for each process that it starts
    if sys.version_info < (3, 12):
        import asyncio

        with contextlib.suppress(OSError):  # a kernel before 5.3
            os.close(os.pidfd_open(os.getpid()))
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


def loaded() -> None:
    """Once all modules are: what is there now stays. The collector need not look at it, nor touch its pages."""
    libc.read_single_pages()  # of the libraries that have come since
    gc.collect()
    gc.freeze()
    libc.trim_malloc()


def settled() -> None:
    """After the start: pages that only it needed go back to the kernel."""
    libc.trim_malloc()
