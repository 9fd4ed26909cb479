"""Durations as kubectl writes them: two units while it matters, one when it does not."""

from __future__ import annotations

from typing import Any

from kubeedge.api.meta import parse_timestamp

UNKNOWN = "<unknown>"


def age(timestamp: Any, now: float) -> str:
    """The time since a timestamp, as kubectl prints it."""
    moment = parse_timestamp(timestamp)
    return UNKNOWN if moment is None else since(now - moment)


def since(seconds: float | None) -> str:
    """90 -> "90s", 150 -> "2m30s", 12000 -> "3h20m", 200000 -> "2d7h"."""
    if seconds is None:
        return UNKNOWN
    if seconds < -1:
        return "<invalid>"
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 2 * 60:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 3 * 60:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 8 * 24:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    if days < 8 * 365:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
