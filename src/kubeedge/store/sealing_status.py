"""What a store says of its encryption at rest. Pure."""

from __future__ import annotations

from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingStatus:
    """How a store is sealed, for the node's condition and for operators."""

    enabled: bool  # it should be
    key: str = ""  # id of the key that seals; "" when nothing is sealed
    lasting: bool = False  # that key is one of the configuration
    unreadable: int = 0  # values whose key is not there
    problem: str = ""  # why there is no key
    reopen: bool = False  # the file was to be rewritten: its connection is closed
