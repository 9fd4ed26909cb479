"""What files take of a disk, as a value. Pure."""

from __future__ import annotations

from typing import NamedTuple


class DiskUse(NamedTuple):
    """Of a tree of directories: blocks and entries, as the file system counts them."""

    bytes: int
    inodes: int
