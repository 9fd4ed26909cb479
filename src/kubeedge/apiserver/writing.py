"""An object to write, with what is written in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence

from kubeedge.api.names import Object
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store.model import Compare, Op


@dataclass(frozen=True, slots=True)
class Writing:
    """An object to write, and what is written with it in one transaction."""

    obj: Object
    compares: Sequence[Compare] = ()
    ops: Sequence[Op] = ()
    lease: int = 0
