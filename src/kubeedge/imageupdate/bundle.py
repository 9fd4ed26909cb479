"""A bundle: what a slot of one board is to contain, signed. Pure.

    8 bytes   magic
    4 bytes   length of the manifest, big endian
    64 bytes  signature (Ed25519) of magic, length and manifest
    ...       the manifest, JSON
    ...       the contents of the slot: root (squashfs), kernel's arguments, kernel, initramfs

The manifest has the SHA-256 of each MiB of the contents, so that what is written to a slot has been verified before, and what is there already need
not be fetched. Nobody reads further than the signature allows: the length has a bound, and the manifest is parsed when it is somebody's whom this
machine trusts.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.imageupdate.core import SECTOR, SlotImage, SlotLayout
from kubeedge.kit.dataclasses import dataclass

MAGIC = b"KEBUNDL1"
CHUNK = 1 << 20  # bytes
MAX_MANIFEST = 256 * 1024  # bytes; of 2 GiB
HEAD = struct.Struct(">8sI64s")
_DIGEST = 32
_MAX_SIZE = 2 << 30
_BOARD = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_VERSION = re.compile(r"[0-9A-Za-z.+~-]{1,32}")
_SIZES = ("arguments", "kernel", "kernelBytes", "initrd", "initrdBytes")

#: whether the signature of the data is by that key
Verify = Callable[[bytes, bytes, bytes], bool]  # key, signature, data


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself. `digests`: of its chunks, one after the other. Offsets are in bytes from the start of the slot."""

    board: str
    version: str
    epoch: int
    size: int
    digests: bytes
    arguments: int
    kernel: int
    kernel_bytes: int
    initrd: int
    initrd_bytes: int

    @property
    def chunks(self) -> int:
        """How many there are."""
        return len(self.digests) // _DIGEST

    def digest(self, chunk: int) -> bytes:
        """The SHA-256 of one of them."""
        return self.digests[chunk * _DIGEST : (chunk + 1) * _DIGEST]

    def length(self, chunk: int) -> int:
        """The bytes of one of them."""
        return min(CHUNK, self.size - chunk * CHUNK)

    def layout(self, first: int) -> SlotLayout:
        """For a slot that begins with that sector."""
        sectors = (-(-self.kernel_bytes // SECTOR), -(-self.initrd_bytes // SECTOR))
        at = [first + offset // SECTOR for offset in (self.kernel, self.initrd, self.arguments)]
        return SlotLayout(at[0], sectors[0], at[1], sectors[1], self.initrd_bytes, at[2])

    def encode(self) -> bytes:
        """The same manifest, the same bytes."""
        fields = {
            "board": self.board,
            "version": self.version,
            "epoch": self.epoch,
            "size": self.size,
            "chunks": self.digests.hex(),
            "arguments": self.arguments,
            "kernel": self.kernel,
            "kernelBytes": self.kernel_bytes,
            "initrd": self.initrd,
            "initrdBytes": self.initrd_bytes,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def image(self) -> SlotImage:
        """What the record of the card says of a slot with it."""
        return SlotImage(self.epoch, hashlib.sha256(self.encode()).digest(), self.version)


def signed(length: int) -> bytes:
    """What is signed before the manifest."""
    return MAGIC + length.to_bytes(4, "big")


def head(data: bytes) -> tuple[int, bytes]:
    """The manifest's length and the signature, of the first bytes of a bundle. Raises Invalid."""
    if len(data) < HEAD.size or data[:8] != MAGIC:
        raise Invalid("this is no bundle for a card: its first bytes are something else")
    _, length, signature = HEAD.unpack_from(data)
    if not 2 <= length <= MAX_MANIFEST:
        raise Invalid(f"the manifest of this bundle would have {length} bytes; {MAX_MANIFEST} are allowed")
    return length, signature


def manifest(data: bytes, signature: bytes, keys: Iterable[bytes], verify: Verify) -> Manifest:
    """Raises Invalid for one that no key of `keys` has signed, and for what is not well-formed."""
    if not any(verify(key, signature, signed(len(data)) + data) for key in keys):
        raise Invalid("this bundle is not signed by a key that this machine's image trusts")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise Invalid("the manifest of this bundle is not JSON") from exc
    return _checked(fields)


def acceptable(found: Manifest, board: str, epoch: int, slot_bytes: int, *, older: bool = False) -> None:
    """Whether a machine of that board, with an image of that epoch, takes it. Raises Invalid with the reason why not."""
    if found.board != board:
        raise Invalid(f"this bundle is for the board {found.board}; this is {board}")
    if found.epoch < epoch and not older:
        raise Invalid(
            f"this bundle ({found.version}) is older than what runs here; --allow-older takes it all the same"
        )
    if found.size > slot_bytes:
        raise Invalid(f"this bundle has {found.size} bytes, and a slot of this card {slot_bytes}")


def _checked(fields: Any) -> Manifest:
    if not isinstance(fields, dict):
        raise Invalid("the manifest of this bundle has no fields")
    board, version = fields.get("board"), fields.get("version")
    if not (
        isinstance(board, str) and _BOARD.fullmatch(board) and isinstance(version, str) and _VERSION.fullmatch(version)
    ):
        raise Invalid("the manifest of this bundle names no board and version")
    size, epoch = _count(fields, "size", 1, _MAX_SIZE), _count(fields, "epoch", 0, 1 << 40)
    arguments, kernel, kernel_bytes, initrd, initrd_bytes = (_count(fields, key, 1, size) for key in _SIZES)
    for start, length in ((arguments, SECTOR), (kernel, kernel_bytes), (initrd, initrd_bytes)):
        if start % SECTOR or start + length > size:
            raise Invalid("the manifest of this bundle has a part outside of its contents")
    try:
        digests = bytes.fromhex(fields.get("chunks") or "")
    except (TypeError, ValueError, binascii.Error) as exc:
        raise Invalid("the manifest of this bundle has no digests") from exc
    if len(digests) != -(-size // CHUNK) * _DIGEST:
        raise Invalid("the manifest of this bundle has not one digest for each of its chunks")
    return Manifest(board, version, epoch, size, digests, arguments, kernel, kernel_bytes, initrd, initrd_bytes)


def _count(fields: dict[str, Any], key: str, least: int, most: int) -> int:
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Invalid(f"the manifest of this bundle has no {key}, or none that can be")
    return value
