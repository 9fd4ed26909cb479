"""Kubernetes quantities ("128Mi", "250m", "1.5", "2e3") as exact integers.

A quantity is decimal digits with an optional suffix: m k M G T P E and n u (powers of ten), Ki Mi Gi Ti Pi Ei
(powers of two), or an exponent. Fractions of the unit asked for are rounded up, as Kubernetes does: asking for 0.1
byte takes one byte.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kubeedge.errors import Invalid

if TYPE_CHECKING:
    from fractions import Fraction

_SYNTAX = re.compile(r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,3})?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_MAX_LENGTH = 64  # characters; keeps the arithmetic small whatever a manifest says
_MAX = 2**63 - 1


def parse(quantity: str | int | float) -> Fraction:
    """Exact value in base units. Raises Invalid."""
    from fractions import Fraction  # brings decimal and numbers; a node gets along with whole numbers

    return Fraction(*_ratio(quantity))


def bytes_of(quantity: str | int | float) -> int:
    """Whole base units, rounded up, at most 2**63 - 1. Raises Invalid."""
    return _whole(*_ratio(quantity))


def millicores(quantity: str | int | float) -> int:
    """Thousandths of a CPU, rounded up. Raises Invalid."""
    numerator, denominator = _ratio(quantity)
    return _whole(numerator * 1000, denominator)


def _ratio(quantity: str | int | float) -> tuple[int, int]:
    """Numerator and denominator. Raises Invalid."""
    if isinstance(quantity, bool) or not isinstance(quantity, str | int | float):
        raise Invalid(f"{quantity!r} is not a quantity")
    text = str(quantity)
    match = _SYNTAX.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise Invalid(f'{text[:_MAX_LENGTH]!r} is not a quantity: write digits and a suffix, as in "128Mi" or "250m"')
    sign, digits, suffix = match.groups()
    whole, _, part = digits.partition(".")
    value, power = int(sign + whole + part), -len(part)
    if suffix in _BINARY:
        value <<= _BINARY[suffix]
    elif suffix:
        power += _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return (value * 10**power, 1) if power >= 0 else (value, 10**-power)


def _whole(numerator: int, denominator: int) -> int:
    return max(-_MAX, min(_MAX, -(-numerator // denominator)))


def format_bytes(value: int) -> str:
    """The shortest exact binary form: 134217728 -> "128Mi"."""
    for suffix, power in reversed(_BINARY.items()):
        if value and value % (1 << power) == 0:
            return f"{value >> power}{suffix}"
    return str(value)


def format_millicores(value: int) -> str:
    """1500 -> "1500m", 2000 -> "2"."""
    return str(value // 1000) if value % 1000 == 0 else f"{value}m"


def is_quantity(value: object) -> bool:
    """Is it a resource quantity, like "100m" or "1Gi"?"""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    text = str(value)
    return len(text) <= _MAX_LENGTH and _SYNTAX.fullmatch(text) is not None
