"""The card of this machine: its slots, and the record that says which of them starts. A disk, or a file that is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeedge.errors import NotFound, Unavailable
from kubeedge.imageupdate import core, mbr
from kubeedge.imageupdate.core import SECTOR, Slots

#: written by the initramfs: the disk that this machine has started from
DISK = Path("/run/card-disk")
_COMMAND_LINE = Path("/proc/cmdline")
_SLOTS = (1, 2)  # their partitions


class Card:
    """Reads and writes by offset. Nothing that is written counts before `sync`."""

    def __init__(self, disk: Path, *, write: bool = True) -> None:
        """Raises NotFound for what is no card of ours, Unavailable for one that cannot be opened."""
        try:
            self._descriptor = os.open(disk, os.O_RDWR if write else os.O_RDONLY)
        except OSError as exc:
            raise Unavailable(f"the card {disk} cannot be opened: {exc.strerror}") from exc
        try:
            partitions = mbr.read(os.pread(self._descriptor, mbr.SECTOR, 0))
        except (OSError, ValueError) as exc:
            os.close(self._descriptor)
            raise NotFound(f"{disk} is no card with two slots: {exc}") from exc
        if len(partitions) < 3:
            os.close(self._descriptor)
            raise NotFound(f"{disk} is no card with two slots")
        self._slots = [partitions[index] for index in _SLOTS]

    def close(self) -> None:
        """It is not used any more."""
        os.close(self._descriptor)

    def record(self) -> Slots:
        """What counts. Raises NotFound where neither copy is whole."""
        if (found := core.current(self._copies())) is None:
            raise NotFound("the card has no whole record of its slots")
        return found[1]

    def write_record(self, slots: Slots) -> None:
        """Over the copy that does not count, so that the other one stays; it is on the card when this returns."""
        found = core.current(self._copies())
        copy = 1 - found[0] if found else 0
        self.sync()
        self._put(core.COPIES[copy] * SECTOR, core.pack(slots))
        self.sync()

    def first(self, slot: int) -> int:
        """The sector with which a slot begins."""
        return self._slots[slot].start

    def size(self, slot: int) -> int:
        """Of one slot, in bytes."""
        return self._slots[slot].sectors * SECTOR

    def read(self, slot: int, offset: int, length: int) -> bytes:
        """Of a slot, and less at the end of the card."""
        try:
            return os.pread(self._descriptor, length, self._slots[slot].start * SECTOR + offset)
        except OSError as exc:
            raise Unavailable(f"the card cannot be read: {exc.strerror}") from exc

    def write(self, slot: int, offset: int, data: bytes) -> None:
        """Into a slot. Raises Unavailable, too where that would be beyond its end."""
        if offset + len(data) > self.size(slot):
            raise Unavailable("a slot of the card ends before what is written to it")
        self._put(self._slots[slot].start * SECTOR + offset, data)

    def sync(self) -> None:
        """What was written is on the card, and is read from there again. Raises Unavailable."""
        try:
            os.fsync(self._descriptor)
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as exc:
            raise Unavailable(f"the card cannot be written: {exc.strerror}") from exc

    def _copies(self) -> list[bytes]:
        try:
            return [os.pread(self._descriptor, SECTOR, sector * SECTOR) for sector in core.COPIES]
        except OSError as exc:
            raise Unavailable(f"the card cannot be read: {exc.strerror}") from exc

    def _put(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self._descriptor, view, offset)
                view, offset = view[done:], offset + done
        except OSError as exc:
            raise Unavailable(f"the card cannot be written: {exc.strerror}") from exc


@contextmanager
def opened(disk: Path | None = None, *, write: bool = True) -> Iterator[Card]:
    """This machine's. Raises NotFound on a machine that was not started from a card."""
    if disk is None:
        if not DISK.exists():
            raise NotFound("this machine was not started from a card with two slots")
        disk = Path(DISK.read_text().strip())
    card = Card(disk, write=write)
    try:
        yield card
    finally:
        card.close()


def running(slots: Slots) -> int:
    """The slot that this machine has started from, as the boot loader has said; the good one where it did not say."""
    words = _COMMAND_LINE.read_text().split() if _COMMAND_LINE.exists() else []
    said = [word.partition("=")[2] for word in words if word.startswith("card.slot=")]
    slot = core.number(said[-1]) if said else None
    return slots.good if slot is None else slot


def on_trial() -> bool:
    """Whether the image that runs has still to prove itself, so that the one before it may come back. Where the card cannot be read, it may."""
    try:
        with opened(write=False) as own:
            slots = own.record()
    except NotFound:
        return False
    except Unavailable:
        return True
    return slots.trial is not None
