"""The partition table of a card (MBR), as bytes.

Its four entries are the boot partition (FAT), slots A and B, and the data. The last is not in an image: a machine makes it when it starts first,
from where slot B ends to the end of its card (firmware-images/files/data-partition).
"""

from __future__ import annotations

import struct

from kubeedge.kit.dataclasses import dataclass

SECTOR = 512  # bytes
FAT, LINUX = 0x0C, 0x83  # FAT32 with LBA; anything of Linux
#: a partition whose file system is being made: one that is started over
MAKING = 0xDA
ENTRIES = 446  # where the entries begin
_ENTRY = struct.Struct("<B3sB3sII")
_NO_CHS = b"\xfe\xff\xff"  # cylinders and heads say nothing: LBA only


@dataclass(frozen=True, slots=True)
class Partition:
    """One entry; `start` and `sectors` in sectors of 512 bytes."""

    kind: int
    start: int
    sectors: int
    active: bool = False

    @property
    def end(self) -> int:
        """The first sector after it."""
        return self.start + self.sectors


def table(partitions: list[Partition], signature: int) -> bytes:
    """The first sector of a card. `signature`: 32 bits that are the card's own. Raises ValueError for partitions that overlap, leave the 32 bits
    of a sector number or are more than four."""
    if len(partitions) > 4:
        raise ValueError(f"{len(partitions)} partitions; an MBR has four")
    for before, after in zip(partitions, partitions[1:], strict=False):
        if after.start < before.end:
            raise ValueError(f"{after} begins in {before}")
    for partition in partitions:
        if partition.start < 1 or partition.sectors < 1 or partition.end > 1 << 32:
            raise ValueError(f"{partition} is outside of what an MBR describes")
    entries = b"".join(
        _ENTRY.pack(0x80 if p.active else 0, _NO_CHS, p.kind, _NO_CHS, p.start, p.sectors) for p in partitions
    )
    head = bytes(440) + struct.pack("<IH", signature, 0)
    return head + entries.ljust(64, b"\0") + b"\x55\xaa"


def signature(sector: bytes) -> int:
    """By which a card is known."""
    return int.from_bytes(sector[440:444], "little")


def read(sector: bytes) -> list[Partition]:
    """The entries in use. Raises ValueError for what is no MBR."""
    if len(sector) < SECTOR or sector[510:512] != b"\x55\xaa":
        raise ValueError("no partition table (MBR)")
    found = []
    for index in range(4):
        active, _, kind, _, start, sectors = _ENTRY.unpack_from(sector, ENTRIES + index * _ENTRY.size)
        if kind:
            found.append(Partition(kind, start, sectors, active == 0x80))
    return found
