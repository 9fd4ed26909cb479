"""What a slot contains: the root, the kernel's arguments, the kernel, the initramfs, each from a whole page on; and a card that has it in slot A."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from kubeedge.imageupdate import bundle, core, mbr
from kubeedge.imageupdate.bundle import CHUNK, Manifest
from kubeedge.imageupdate.core import SECTOR, Slots

_PAGE = 4096
PARTS = (
    "vmlinuz",
    "initrd.img",
    "cmdline.txt",
)  # what the boot loader reads of a slot, by the names that `cardimage read` takes


@dataclass(frozen=True, slots=True)
class SlotParts:
    """`arguments`: of the kernel, without what is the card's own."""

    root: Path
    arguments: str
    kernel: bytes
    initrd: bytes


def make(path: Path, parts: SlotParts, board: str, version: str, epoch: int) -> Manifest:
    """The contents in a file, and their manifest. Raises ValueError for arguments that are longer than a sector."""
    text = f"args={parts.arguments}\n".encode()
    if len(text) >= SECTOR:
        raise ValueError(f"the kernel's arguments are longer than {SECTOR} bytes: {parts.arguments}")
    with path.open("wb") as out:
        with parts.root.open("rb") as source:
            shutil.copyfileobj(source, out, 1 << 20)
        arguments, kernel, initrd = (
            _append(out, data) for data in (text.ljust(SECTOR, b"\0"), parts.kernel, parts.initrd)
        )
        out.write(bytes(-out.tell() % _PAGE))
        size = out.tell()
    return Manifest(
        board, version, epoch, size, _digests(path), arguments, kernel, len(parts.kernel), initrd, len(parts.initrd)
    )


def record(manifest: Manifest, first: int) -> Slots:
    """Of a card that is new: slot A, which begins with that sector, has the image, and slot B nothing."""
    return Slots(
        1,
        0,
        (manifest.layout(first), core.SlotLayout()),
        (manifest.image(), core.SlotImage()),
        outcome=core.UpdateOutcome.NONE,
    )


def part(card: Path, name: str) -> bytes:
    """What the boot loader would read of the good slot of a card. Raises ValueError for what is no image of ours."""
    with card.open("rb") as file:

        def read(sector: int, length: int) -> bytes:
            file.seek(sector * SECTOR)
            return file.read(length)

        found = core.current(read(copy, SECTOR) for copy in core.COPIES)
        if found is None:
            raise ValueError(f"{card} has no slots: is it an image of ours, uncompressed?")
        slots = found[1]
        layout = slots.layouts[slots.good]
        if name == "vmlinuz":
            return read(layout.kernel, layout.kernel_sectors * SECTOR)
        if name == "initrd.img":
            return read(layout.initrd, layout.initrd_bytes)
        text = read(layout.arguments, SECTOR).rstrip(b"\0\n").removeprefix(b"args=").decode()
        return f"{text} card.id={mbr.signature(read(0, SECTOR)):08x} card.slot={core.name(slots.good)}\n".encode()


def _append(out, data: bytes) -> int:  # type: ignore[no-untyped-def]
    """From the next page on; where that is."""
    out.write(bytes(-out.tell() % _PAGE))
    start: int = out.tell()
    out.write(data)
    return start


def _digests(path: Path) -> bytes:
    found = bytearray()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found += hashlib.sha256(chunk).digest()
    return bytes(found)


def write_bundle(path: Path, manifest: Manifest, contents: Path, signature: bytes) -> None:
    """What a machine of that board takes as an update."""
    data = manifest.encode()
    with path.open("wb") as out, contents.open("rb") as source:
        out.write(bundle.signed(len(data)) + signature + data)
        shutil.copyfileobj(source, out, 1 << 20)
