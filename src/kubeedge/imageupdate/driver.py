"""A bundle into the slot that does not run: verified, chunk by chunk, before it is written; what is there already is not fetched.

So an update that was interrupted, by whatever, is one that is begun again: what it had written is found by its digests. The memory that it needs is
that of two chunks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeedge.errors import Conflict, Invalid, NotFound, Unavailable
from kubeedge.imageupdate import bundle, core
from kubeedge.imageupdate.bundle import HEAD, Manifest
from kubeedge.imageupdate.card import Card
from kubeedge.imageupdate.core import Slots, UpdateOutcome
from kubeedge.imageupdate.source import BundleSource
from kubeedge.kit.dataclasses import dataclass

BOARD, EPOCH = Path("/etc/card-board"), Path("/etc/card-epoch")
KEYS = Path("/etc/card-update-keys")  # the public keys that the image trusts, in DER, in hexadecimal: one a line
TELL = Path("/etc/init.d/tell")  # a program of the image that shows its argument to people without a login
_LOCK = Path("/run/image-update.lock")
_SYNC = 8  # chunks: what waits to be written is memory, too
_MAX_KEYS = 16


@dataclass(frozen=True, slots=True)
class Machine:
    """What an update has to fit."""

    board: str
    epoch: int
    keys: tuple[bytes, ...]


def this_machine() -> Machine:
    """As its image says. Raises NotFound where this is not one of ours, Invalid for one that trusts no key."""
    if not BOARD.exists():
        raise NotFound("this machine was not started from a card's image")
    keys = [bytes.fromhex(line) for line in KEYS.read_text().split()] if KEYS.exists() else []
    if not keys:
        raise Invalid("the image of this machine trusts no key: it was made without one, and takes no updates")
    return Machine(BOARD.read_text().strip(), int(EPOCH.read_text()), tuple(keys[:_MAX_KEYS]))


def read_manifest(source: BundleSource, keys: tuple[bytes, ...]) -> tuple[Manifest, int]:
    """And where the contents begin. Raises Invalid for one that is not trusted."""
    length, signature = bundle.head(source.read(0, HEAD.size))
    data = source.read(HEAD.size, length)
    return bundle.manifest(data, signature, keys, _is_signed), HEAD.size + length


def update(
    source: BundleSource,
    card: Card,
    running: int,
    machine: Machine,
    say: Callable[[str], None],
    *,
    older: bool = False,
    again: bool = False,
    tries: int = core.TRIES,
) -> Slots:
    """The other slot has the bundle's contents and is tried at the next start; what the record says then. Where the bundle is what runs already, nothing
    changes, and no slot is armed. Raises Invalid for a bundle that this
    machine does not take, Conflict where it cannot take any now, Unavailable where source or card cannot be read or written."""
    slots = card.record()
    found, start = read_manifest(source, machine.keys)
    if slots.images[running].digest == found.image().digest and slots.trial is None:
        say(f"{found.version} is what runs already")
        return slots
    _take(slots, running, found, again)
    bundle.acceptable(found, machine.board, machine.epoch, card.size(slots.spare), older=older)
    slots = core.begin(slots)
    card.write_record(slots)
    say(f"{found.board} {found.version}: {found.size} bytes, into slot {core.name(slots.spare)}")
    written = _fill(source, start, found, card, slots.spare, say)
    _check(found, card, slots.spare)
    slots = core.arm(slots, found.layout(card.first(slots.spare)), found.image(), tries)
    card.write_record(slots)
    say(f"{written} of {found.chunks} MiB were written; slot {core.name(slots.spare)} is tried at the next start")
    return slots


def _take(slots: Slots, running: int, found: Manifest, again: bool) -> None:
    if running != slots.good:
        raise Conflict("the image that runs has not proved itself yet: it is the one to return from")
    image = found.image()
    if not again and slots.outcome is UpdateOutcome.GIVEN_UP and slots.images[slots.spare].digest == image.digest:
        raise Conflict(f"{found.version} was tried and given up ({slots.reason}); --again tries it again")


def _fill(source: BundleSource, start: int, found: Manifest, card: Card, slot: int, say: Callable[[str], None]) -> int:
    written = 0
    for chunk in range(found.chunks):
        offset, length = chunk * bundle.CHUNK, found.length(chunk)
        if hashlib.sha256(card.read(slot, offset, length)).digest() == found.digest(chunk):
            continue
        data = source.read(start + offset, length)
        if hashlib.sha256(data).digest() != found.digest(chunk):
            raise Invalid(f"MiB {chunk} of the bundle is not what its manifest says: the file is damaged")
        card.write(slot, offset, data)
        written += 1
        if written % _SYNC == 0:
            card.sync()
            say(f"{chunk + 1} of {found.chunks} MiB")
    card.sync()
    return written


def _check(found: Manifest, card: Card, slot: int) -> None:
    """A worn card takes what is written, and does not keep it."""
    for chunk in range(found.chunks):
        data = card.read(slot, chunk * bundle.CHUNK, found.length(chunk))
        if hashlib.sha256(data).digest() != found.digest(chunk):
            raise Unavailable(f"MiB {chunk} of the slot is not what was written there: the card is worn or broken")


@contextmanager
def alone() -> Iterator[None]:
    """Raises Conflict while another update runs on this machine."""
    descriptor = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise Conflict("another update of this machine is in progress") from exc
    finally:
        os.close(descriptor)


def _is_signed(key: bytes, signature: bytes, data: bytes) -> bool:
    from kubeedge._fastpath import signature as fastpath

    try:
        return fastpath.is_signed(key, b"", signature, data)
    except ValueError:
        return False
