"""Limits of the operating system and of Python's garbage collector that suit a process with thousands of nodes."""

from __future__ import annotations

import gc
import resource

#: a node that attaches leaves hundreds of objects behind, which live as long as its channel: Python's usual 700 would have the collector
#: look at them again and again. Not many more: unauthenticated clients of the HTTP ports leave cycles, with large buffers in them, until it looks
_COLLECT = (2_000, 10, 10)


def raise_descriptor_limit() -> None:
    """As far as we may: a shell gives 1,024 file descriptors, and thousands of nodes have a channel and several links each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def freeze_heap() -> None:
    """Keep the collector from looking at what is on the heap now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
