"""Which slot of a card starts: one record of 512 bytes, which is on the card twice. Pure.

    offset  what
    0       magic, 8 bytes
    8       generation: of two good copies the higher one counts, and the other one is written next
    12      good: the slot that starts (0: A, 1: B)
    16      armed: 1 + the slot that the boot loader starts once, after it has written 0 here; 0: none
    20      trial: 1 + the slot that has to prove itself; 0: none
    24      tries: how often it is started yet, after this one
    28      outcome of the last update: 0 none, 1 it works, 2 it was given up
    32, 56  for slot A, for slot B: first sector and sectors of the kernel, of the initramfs, its bytes, and the sector with the kernel's arguments
    80, 152 for slot A, for slot B: epoch of the image (u64), SHA-256 of its manifest, version (32 bytes, filled with zeros)
    224     why the last try failed (128 bytes, likewise)
    508     CRC-32 of what is before it, big endian, as U-Boot writes it

Numbers are little endian, 32 bits where nothing else is said; sectors are those of the card. Everything up to byte 80 is the boot loader's, too.

An update writes the other slot, and then says in one record: try it, once. The boot loader takes that back before it starts it, so a slot that
crashes, hangs until the watchdog ends it, or loses its power is followed by the good one, which tries again while there are tries, and gives up then.
A slot is good when its agent says so, and not before. Power may go at each write: the copy that was written last is whole, or the one before it is.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
import zlib
from collections.abc import Iterable

from kubeedge.kit.dataclasses import dataclass

MAGIC = b"KESLOTS1"
SECTOR = 512  # bytes
COPIES = (2048, 4096)  # sectors; 1 MiB apart, and before the first partition
TRIES = 3
_NAMES = "ab"
_FIRST_LAYOUT, _FIRST_IMAGE, _REASON, _CRC = 32, 80, 224, 508
_HEAD = struct.Struct("<8s6I")
_LAYOUT = struct.Struct("<6I")
_IMAGE = struct.Struct("<Q32s32s")
_TEXT = 128  # bytes of a reason
_MAX_GENERATION = 0xFFFFFFFF


class UpdateOutcome(enum.IntEnum):
    """What became of the last update."""

    NONE = 0
    WORKS = 1
    GIVEN_UP = 2


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """Where a slot has what the boot loader reads, in sectors of the card; all 0 for a slot that must not be started."""

    kernel: int = 0
    kernel_sectors: int = 0
    initrd: int = 0
    initrd_sectors: int = 0
    initrd_bytes: int = 0
    arguments: int = 0


@dataclass(frozen=True, slots=True)
class SlotImage:
    """What is in a slot. `digest`: of the manifest of its bundle, so that it is known again."""

    epoch: int = 0
    digest: bytes = bytes(32)
    version: str = ""


@dataclass(frozen=True, slots=True)
class Slots:
    """What the record says. Slots are 0 and 1."""

    generation: int
    good: int
    layouts: tuple[SlotLayout, SlotLayout]
    images: tuple[SlotImage, SlotImage]
    armed: int | None = None
    trial: int | None = None
    tries: int = 0
    outcome: UpdateOutcome = UpdateOutcome.NONE
    reason: str = ""

    @property
    def spare(self) -> int:
        """The slot that is written by an update."""
        return 1 - self.good


class NextStep(enum.Enum):
    """What a machine that has started does next."""

    WORK = "work"
    PROVE = "prove"  # work, and say within a time that it does
    RESTART = "restart"  # the other slot is tried once more


def name(slot: int) -> str:
    """As the kernel's arguments have it: card.slot=a."""
    return _NAMES[slot]


def number(text: str) -> int | None:
    """The slot of that name; None: there is none."""
    return _NAMES.index(text) if text and text in _NAMES else None


def pack(slots: Slots) -> bytes:
    """One copy of the record, as it is on the card."""
    head = (slots.generation, slots.good, _plus(slots.armed), _plus(slots.trial), slots.tries, slots.outcome)
    out = bytearray(_HEAD.pack(MAGIC, *head))
    for layout in slots.layouts:
        out += _LAYOUT.pack(*dataclasses.astuple(layout))
    for image in slots.images:
        out += _IMAGE.pack(image.epoch, image.digest, _cut(image.version, 32))
    out += _cut(slots.reason, _TEXT).ljust(_TEXT, b"\0")
    out = out.ljust(_CRC, b"\0")
    return bytes(out) + zlib.crc32(out).to_bytes(4, "big")


def parse(sector: bytes) -> Slots | None:
    """One copy; None for what is none, or half of one."""
    if (
        len(sector) < SECTOR
        or sector[:8] != MAGIC
        or zlib.crc32(sector[:_CRC]).to_bytes(4, "big") != sector[_CRC:SECTOR]
    ):
        return None
    _, generation, good, armed, trial, tries, outcome = _HEAD.unpack_from(sector)
    if good > 1 or armed > 2 or trial > 2 or outcome > 2:
        return None
    layouts = [SlotLayout(*_LAYOUT.unpack_from(sector, _FIRST_LAYOUT + n * _LAYOUT.size)) for n in (0, 1)]
    images = []
    for n in (0, 1):
        epoch, digest, version = _IMAGE.unpack_from(sector, _FIRST_IMAGE + n * _IMAGE.size)
        images.append(SlotImage(epoch, digest, _text(version)))
    return Slots(
        generation, good, (layouts[0], layouts[1]), (images[0], images[1]), armed - 1 if armed else None,
        trial - 1 if trial else None, tries, UpdateOutcome(outcome), _text(sector[_REASON : _REASON + _TEXT]),
    )  # fmt: skip


def current(copies: Iterable[bytes]) -> tuple[int, Slots] | None:
    """The index of the copy that counts, and what it says; None where no copy is whole."""
    found = [(index, slots) for index, sector in enumerate(copies) if (slots := parse(sector)) is not None]
    return max(found, key=lambda pair: pair[1].generation, default=None)


def begin(slots: Slots) -> Slots:
    """The spare slot is about to be written: nothing starts it."""
    return _with(
        slots, spare=(SlotLayout(), SlotImage()), armed=None, trial=None, tries=0, outcome=UpdateOutcome.NONE, reason=""
    )


def arm(slots: Slots, layout: SlotLayout, image: SlotImage, tries: int = TRIES) -> Slots:
    """The spare slot is whole: it is started next, `tries` times at most."""
    spare = slots.spare
    return _with(
        slots, spare=(layout, image), armed=spare, trial=spare, tries=tries - 1, outcome=UpdateOutcome.NONE, reason=""
    )


def started(slots: Slots, running: int) -> tuple[NextStep, Slots | None]:
    """What the machine does that has started in that slot; and what the record says from now on, None for no change."""
    if slots.trial is None:
        # nothing was on trial: where the record is older than what runs (it was lost), that is what works
        return NextStep.WORK, None if running == slots.good and slots.armed is None else _with(
            slots, good=running, armed=None
        )
    if running == slots.trial:
        return NextStep.PROVE, None
    if slots.tries:
        return NextStep.RESTART, _with(slots, armed=slots.trial, tries=slots.tries - 1)
    reason = slots.reason or "it did not come up"
    return NextStep.WORK, _with(slots, armed=None, trial=None, outcome=UpdateOutcome.GIVEN_UP, reason=reason)


def works(slots: Slots, running: int) -> Slots:
    """The slot on trial has proved itself."""
    return _with(slots, good=running, armed=None, trial=None, tries=0, outcome=UpdateOutcome.WORKS, reason="")


def failed(slots: Slots, reason: str) -> Slots:
    """Why this try of the slot on trial has failed, for those who ask later."""
    return _with(slots, reason=reason)


def _with(slots: Slots, *, spare: tuple[SlotLayout, SlotImage] | None = None, **changes: object) -> Slots:
    layouts, images = list(slots.layouts), list(slots.images)
    if spare is not None:
        layouts[slots.spare], images[slots.spare] = spare
    both = {
        "layouts": tuple(layouts),
        "images": tuple(images),
        "generation": min(_MAX_GENERATION, slots.generation + 1),
    }
    return dataclasses.replace(slots, **{**both, **changes})  # type: ignore[arg-type]


def _plus(slot: int | None) -> int:
    return 0 if slot is None else slot + 1


def _cut(text: str, size: int) -> bytes:
    """As many whole characters as fit."""
    return text.encode(errors="replace")[:size].decode(errors="ignore").encode()


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
