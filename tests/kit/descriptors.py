"""Descriptors that this process has open, for tests that nothing of theirs stays open."""

from __future__ import annotations

import contextlib
import gc
import os


def descriptors() -> set[str]:
    """Each with what it leads to, which is another for a socket of another connection: what is open now and was not before is `descriptors() - before`.
    Without those of objects that nobody has any more: a cycle of an earlier test would be collected, and its sockets closed, at any moment."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found
