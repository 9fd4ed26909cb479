"""A device without hardware. Pure: seconds in, values out.

The visitor's configData says what a property does:

    wave    "constant" (where nothing is said), "sine", "counter"
    low, high, period     of the sine, and period (seconds) of the counter's steps; 0, 100 and 60 by default
    value   of a constant, as text; without it 0, or the bound of the range that is nearest to it

What was written to a property is what it has from then on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kubeedge.api import devices
from kubeedge.mapper.values import MappedProperty, TypedValue, is_finite

_NULLS: Mapping[str, TypedValue] = {"INT": 0, "FLOAT": 0.0, "DOUBLE": 0.0, "BOOLEAN": False, "BYTES": b""}


class VirtualDevice:
    """`start`: when it was switched on, in the seconds that `read` gets."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._written: dict[str, TypedValue] = {}

    def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """From here on the property has this value."""
        self._written[prop.name] = value

    def read(self, prop: MappedProperty, now: float) -> TypedValue:
        """Raises Invalid for a configuration that says nothing."""
        if prop.name in self._written:
            return self._written[prop.name]
        since = now - self._start
        period = _number(prop, "period", 60.0)
        if period <= 0:
            raise prop.invalid("period must be above 0")
        match prop.visitor.get("wave", "constant"):
            case "constant":
                text = prop.visitor.get("value")
                return _rest(prop) if text is None else prop.typed(str(text))
            case "sine":
                low, high = _number(prop, "low", 0.0), _number(prop, "high", 100.0)
                value = low + (high - low) * (1 + math.sin(2 * math.pi * since / period)) / 2
                return _typed(prop, round(value, 3))
            case "counter":
                return _typed(prop, int(since / period))
            case other:
                raise prop.invalid(f"wave {str(other)[:40]!r} is none of constant, sine, counter")


def _rest(prop: MappedProperty) -> TypedValue:
    """What a property has that nothing is said of: 0, or the bound that is nearest to it."""
    null = _NULLS.get(prop.type, "")
    if prop.type in ("INT", "FLOAT", "DOUBLE") and prop.refusal(str(null)):
        return next((prop.typed(bound) for bound in (prop.minimum, prop.maximum) if not prop.refusal(bound)), null)
    return null


def _number(prop: MappedProperty, key: str, default: float) -> float:
    found = prop.visitor.get(key, default)
    if isinstance(found, str):
        found = devices.number(found)
    if not is_finite(found):
        raise prop.invalid(f"{key} must be a number")
    return found


def _typed(prop: MappedProperty, value: float) -> TypedValue:
    match prop.type:
        case "INT":
            return round(value)
        case "BOOLEAN":
            return bool(round(value) % 2)
        case "BYTES":
            return str(value).encode()
        case "FLOAT" | "DOUBLE":
            return value
    return str(value)
