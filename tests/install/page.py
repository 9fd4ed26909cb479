"""What a page tells its reader to type: blocks of shell, each on one machine.

A block begins with ```sh MACHINE. Words in capitals stand for what the reader knows: their values are given to `text`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_BLOCK = re.compile(r"^```sh ([a-z]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    machine: str
    commands: str

    def text(self, values: Mapping[str, str]) -> str:
        """Only whole words: NODE is not a part of NODES."""
        return re.sub(r"\b[A-Z]+(?:_[A-Z]+)*\b", lambda found: values.get(found[0], found[0]), self.commands)


def blocks(page: str) -> list[Block]:
    """In their order. ValueError for a block that no machine would run."""
    found = [Block(match[1], match[2]) for match in _BLOCK.finditer(page)]
    if 2 * len(found) != len(_FENCE.findall(page)):
        raise ValueError("every block of code begins with ```sh MACHINE")
    return found
