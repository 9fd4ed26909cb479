"""Prometheus text of figures that the kubelet shows, a family at a time, so that the text of many pods is never in memory as a whole. Pure.

Lives elsewhere: metrics of our own, with counters that are kept (kubeedge.kit.metrics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from kubeedge.kit.dataclasses import dataclass

Row = TypeVar("Row")
#: labels beyond those of its row, and the value
RowSample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class RowFamily(Generic[Row]):
    """A metric and how it is read from a row; a row may have none of it, or several samples with labels of their own."""

    name: str
    kind: str  # counter, gauge
    help: str
    read: Callable[[Row], Iterable[RowSample]]


def one(value: float | None) -> tuple[RowSample, ...]:
    """A sample without labels of its own; None: no sample."""
    return () if value is None else (({}, value),)


def expose(
    families: Iterable[RowFamily[Row]], rows: Iterable[tuple[Mapping[str, str], Row]], at: float | None = None
) -> Iterator[str]:
    """One text for each family that has a sample. `rows` have labels. `at`: seconds since the epoch, the time of every sample; None: none is
    written."""
    named = [(_labels(labels), row) for labels, row in rows]
    stamp = f" {int(at * 1000)}" if at is not None else ""
    for family in families:
        lines = [
            f"{family.name}{_braced(common, _labels(own))} {_number(value)}{stamp}\n"
            for common, row in named
            for own, value in family.read(row)
        ]
        if lines:
            yield f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n" + "".join(lines)


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _braced(common: str, own: str) -> str:
    inside = ",".join(part for part in (common, own) if part)
    return f"{{{inside}}}" if inside else ""


def _number(value: float) -> str:
    return repr(value)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
