"""Cards whose power goes: what was written, in the order in which it was, is replayed up to a moment, and the card of that moment is looked at.

Of what was written since the last flush all, nothing, or some 512-byte sectors by chance have reached the card, in any order. What is asked of it:

    the partition table   is there, and names the partitions that it named before; the data's entry is absent, being made or whole
    the record            one of its two copies is whole, and the slot that the boot loader takes has exactly the contents of an image
    the boot partition    its boot script is what it was
    the data              where the table says that they are whole, e2fsck repairs what there is to repair without a question

What this does not model: a sector that is half of one write and half of another (the record survives that, too: tests/unit/imageupdate), and cards that
lose what they had before.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cardimage import fat
from kubeedge.imageupdate import core, mbr
from kubeedge.imageupdate.bundle import CHUNK, Manifest
from kubeedge.imageupdate.core import SECTOR, Slots

WAYS = ("kept", "dropped", "torn")
_SUPER = struct.Struct("<QQQI")  # of a log of writes (Linux's dm-log-writes): magic, version, entries, sector size
_ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, length of data
_MAGIC = 0x6A736677736872
_FLUSH, _FUA, _DISCARD = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Write:
    """At once on the card, where it is `forced`."""

    offset: int
    data: bytes
    forced: bool = False


#: a write, or a flush: None
Step = Write | None


def read_log(path: Path) -> Iterator[Step]:
    """What QEMU's blklogwrites has recorded. Discards are writes of nothing: they may be lost, and nobody counts on them."""
    with path.open("rb") as log:
        magic, _, entries, size = _SUPER.unpack(log.read(_SUPER.size))
        if magic != _MAGIC:
            raise ValueError(f"{path} is no log of writes")
        log.seek(size)
        for _ in range(entries):
            head = log.read(size)
            if len(head) < size:
                return
            sector, sectors, flags, _ = _ENTRY.unpack_from(head)
            if flags & _DISCARD:
                continue
            data = log.read(sectors * size)
            if flags & _FLUSH:
                yield None
            if data:
                yield Write(sector * size, data, bool(flags & _FUA))


def differences(before: bytes, after: bytes) -> list[Step]:
    """What is not as it was, as writes of sectors that follow each other, and a flush."""
    found: list[Step] = []
    run = bytearray()
    for offset in range(0, len(after) + SECTOR, SECTOR):
        data = after[offset : offset + SECTOR]
        if data and data != before[offset : offset + SECTOR]:
            run += data
        elif run:
            found.append(Write(offset - len(run), bytes(run)))
            run.clear()
    return [*found, None]


@dataclass(slots=True)
class Cuts:
    """What came out of a run."""

    cuts: int = 0
    steps: int = 0
    trials: int = 0  # cuts after which an image that is new is started
    repaired: int = 0  # file systems for data that were looked at
    wrong: list[str] = field(default_factory=list)


class Card:
    """A card as it is, written by replaying; `known`: the images that its slots may have."""

    def __init__(self, disk: Path, known: Sequence[Manifest], work: Path) -> None:
        self._file = os.open(disk, os.O_RDWR)
        self._disk, self._work = disk, work
        self._known = {manifest.image().digest: manifest for manifest in known}
        self._parts = mbr.read(self.read(0, SECTOR))[:3]
        self._starts = [*(part.start for part in self._parts), self._parts[2].end]
        self._script = fat.get(disk, "boot.scr")
        self._dirty = {0, 1, 2, 3}  # partitions that have changed since they were looked at
        self.looked_at_data = 0

    def close(self) -> None:
        os.close(self._file)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        os.pwrite(self._file, data, offset)
        sector = offset // SECTOR
        if not sector:
            self._dirty.add(3)  # what is there may be data from now on
        # a write is that of one file system, or of what is before all of them
        if (index := bisect.bisect_right(self._starts, sector) - 1) >= 0:
            self._dirty.add(index)

    def wrong(self) -> str:
        """What is wrong with it; "" for nothing."""
        try:
            parts = mbr.read(self.read(0, SECTOR))
        except ValueError as exc:
            return str(exc)
        if parts[:3] != self._parts:
            return "the partition table names other partitions"
        slots = self.slots()
        if slots is None:
            return "no copy of the record is whole"
        said = self._slot(slots, slots.good) or ("" if slots.armed is None else self._slot(slots, slots.armed))
        if not said and 0 in self._dirty and fat.get(self._disk, "boot.scr") != self._script:
            said = "the boot script is not what it was"
        self._dirty.discard(0)
        if not said and 3 in self._dirty and parts[3:] and parts[3].kind == mbr.LINUX:
            said = self._data(parts[3])
            self._dirty.discard(3)
        return said

    def slots(self) -> Slots | None:
        """What the boot loader reads."""
        found = core.current(self.read(sector * SECTOR, SECTOR) for sector in core.COPIES)
        return found[1] if found else None

    def _slot(self, slots: Slots, number: int) -> str:
        part, image = self._parts[1 + number], slots.images[number]
        manifest = self._known.get(image.digest)
        if manifest is None or slots.layouts[number] != manifest.layout(part.start):
            return f"slot {core.name(number)}, which is started, has no image"
        if 1 + number in self._dirty:
            for chunk in range(manifest.chunks):
                data = self.read(part.start * SECTOR + chunk * CHUNK, manifest.length(chunk))
                if hashlib.sha256(data).digest() != manifest.digest(chunk):
                    return f"slot {core.name(number)}, which is started, is not what its image was: MiB {chunk}"
            self._dirty.discard(1 + number)
        return ""

    def _data(self, part: mbr.Partition) -> str:
        """By e2fsck, as the initramfs asks it, in a copy."""
        self.looked_at_data += 1
        copy = self._work / "data"
        _copy(
            self._file,
            part.start * SECTOR,
            min(part.sectors * SECTOR, os.fstat(self._file).st_size - part.start * SECTOR),
            copy,
        )
        for how in ("-p", "-y"):
            done = subprocess.run(["e2fsck", "-f", how, str(copy)], capture_output=True, text=True)
            if done.returncode in (0, 1):
                return ""
        return f"e2fsck: status {done.returncode}: {done.stdout[-300:]}"


def replay(
    card: Card, steps: Sequence[Step], cuts: int, seed: int, report: Callable[[int], None] = lambda done: None
) -> Cuts:
    """Cuts the power so often, at random moments, each in one of the ways, and looks."""
    rng = random.Random(seed)
    moments = sorted(rng.randrange(len(steps) + 1) for _ in range(cuts))
    result = Cuts(steps=len(steps))
    pending: list[Write] = []
    done = 0
    for moment in moments:
        for step in steps[done:moment]:
            _advance(card, pending, step)
        done = moment
        way = rng.choice(WAYS)
        before = _reached(card, pending, way, rng)
        said = card.wrong()
        slots = card.slots()
        result.trials += slots is not None and slots.armed is not None
        for offset, data in reversed(before):
            card.write(offset, data)
        result.cuts += 1
        report(result.cuts)
        if said:
            result.wrong.append(f"after {moment} of {len(steps)} steps, {way}: {said}")
    result.repaired = card.looked_at_data
    return result


def _advance(card: Card, pending: list[Write], step: Step) -> None:
    if step is None:
        for write in pending:
            card.write(write.offset, write.data)
        pending.clear()
    elif step.forced:
        # an older write of the same sectors cannot come after it
        card.write(step.offset, step.data)
        end = step.offset + len(step.data)
        pending[:] = [w for w in pending if not (step.offset <= w.offset and w.offset + len(w.data) <= end)]
    else:
        pending.append(step)


def _reached(card: Card, pending: Iterable[Write], way: str, rng: random.Random) -> list[tuple[int, bytes]]:
    """Writes what has reached the card; what was there before, to be put back."""
    before = []
    for write in pending:
        for offset, data in _some(write, way, rng):
            before.append((offset, card.read(offset, len(data))))
            card.write(offset, data)
    return before


def _some(write: Write, way: str, rng: random.Random) -> Iterator[tuple[int, bytes]]:
    """Of its sectors; those that follow each other together."""
    if way == "kept":
        yield write.offset, write.data
    if way != "torn":
        return
    first, size = 0, len(write.data)
    for start in range(0, size + SECTOR, SECTOR):
        if start >= size or rng.random() < 0.5:  # this one has not
            if first < min(start, size):
                yield write.offset + first, write.data[first:start]
            first = start + SECTOR


def _copy(source: int, offset: int, length: int, target: Path) -> None:
    """Without its holes."""
    with target.open("wb") as out:
        out.truncate(length)
        at, end = offset, offset + length
        while at < end:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError:
                return
            stop = min(end, os.lseek(source, at, os.SEEK_HOLE))
            while at < min(stop, end):
                data = os.pread(source, min(1 << 20, stop - at), at)
                os.pwrite(out.fileno(), data, at - offset)
                at += len(data)
