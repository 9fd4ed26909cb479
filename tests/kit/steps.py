"""What the cloud does in turns of its event loop, done by a test without a pause."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def at_once(steps: Generator[None, None, T]) -> T:
    """What they return in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
