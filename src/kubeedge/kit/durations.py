"""Lengths of time for people. Pure."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """For messages, in the largest unit of which there are at least two: "90 minutes", "2 hours"."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
