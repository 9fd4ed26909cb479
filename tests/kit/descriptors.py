"""Descriptors that this process has open, for tests that nothing of theirs stays open."""

from __future__ import annotations

import gc
import os


def descriptors() -> set[str]:
    """Without those of objects that nobody has any more: a cycle of an earlier test would be collected, and its sockets closed, at any moment."""
    gc.collect()
    return set(os.listdir("/proc/self/fd"))
