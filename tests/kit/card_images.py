"""Cards and bundles for tests: files that are disks, with small slots, and bundles that a key of the test has signed."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kubeedge.imageupdate import bundle, core, mbr
from kubeedge.imageupdate.bundle import CHUNK, Manifest
from kubeedge.imageupdate.core import SECTOR, SlotImage, SlotLayout, Slots
from kubeedge.imageupdate.driver import Machine

SLOT = 8 << 20  # bytes
BOOT = mbr.Partition(mbr.FAT, 8192, 81_920, active=True)  # FAT32 is not made smaller
FIRST = BOOT.end  # sector of slot A
END = FIRST + 2 * SLOT // SECTOR  # of slot B
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
BOARD = "tiny"


def public(key: Ed25519PrivateKey = KEY) -> bytes:
    """As images have it."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def machine(epoch: int = 1, board: str = BOARD) -> Machine:
    """One that trusts the test's key."""
    return Machine(board, epoch, (public(),))


def contents(seed: int, size: int = 3 * CHUNK + 4096) -> bytes:
    """Of a slot."""
    return random.Random(seed).randbytes(size)


def manifest(data: bytes, epoch: int = 2, board: str = BOARD, version: str = "2.0") -> Manifest:
    """Of contents whose parts are somewhere in them."""
    digests = b"".join(hashlib.sha256(data[at : at + CHUNK]).digest() for at in range(0, len(data), CHUNK))
    return Manifest(board, version, epoch, len(data), digests, 4096, 8192, 50_000, 65_536, 30_000)


def packed(data: bytes, of: Manifest | None = None, key: Ed25519PrivateKey = KEY) -> bytes:
    """A whole bundle."""
    text = (of or manifest(data)).encode()
    return bundle.signed(len(text)) + key.sign(bundle.signed(len(text)) + text) + text + data


def disk(path: Path, data: bytes, *, epoch: int = 1) -> Slots:
    """A card with these contents in slot A, as an image has it, and nothing on its boot partition; its record."""
    found = manifest(data, epoch, version="1.0")
    slots = Slots(1, 0, (found.layout(FIRST), SlotLayout()), (found.image(), SlotImage()))
    parts = [BOOT]
    parts += [mbr.Partition(mbr.LINUX, FIRST + n * SLOT // SECTOR, SLOT // SECTOR) for n in range(2)]
    with path.open("wb") as file:
        file.write(mbr.table(parts, 0x1234))
        file.seek(core.COPIES[0] * SECTOR)
        file.write(core.pack(slots))
        file.seek(FIRST * SECTOR)
        file.write(data)
        file.truncate(END * SECTOR)
    return slots
