"""What U-Boot runs: it reads the record of the slots (kubeedge.imageupdate.core), takes back what was armed, and starts a slot.

It is on the boot partition, made with the image, and no update writes it, or anything else beside the slots and their record.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass

from kubeedge.imageupdate.core import COPIES, SlotLayout

_HEADER = struct.Struct(">7I4B32s")  # U-Boot's legacy image
_MAGIC, _LINUX, _SCRIPT = 0x27051956, 5, 6


@dataclass(frozen=True, slots=True)
class Loader:
    """How U-Boot starts Linux on a board. `kernel`, `initrd`: where they are loaded; `scratch`: 16 KiB for the record; `fdt`: of the device tree."""

    processor: int  # as U-Boot's images number them
    command: str
    kernel: int
    initrd: int
    scratch: int
    fdt: str


def script(loader: Loader, serial: int, first: SlotLayout) -> str:
    """`serial`: of the card's partition table; `first`: where slot A was when the image was made, for a card that has lost its record."""
    work, crc, text = loader.scratch, loader.scratch + 0x3000, loader.scratch + 0x3800
    copies = [loader.scratch + 0x1000 * (n + 1) for n in range(2)]
    lines = ["echo card: which slot starts", "setenv good0 0", "setenv good1 0", "setenv slot 0", "setenv armed 0"]
    for n, at in enumerate(copies):
        lines += _read(n, at, crc)
    lines += [
        "setenv from none",
        "if test ${good0} = 1; then setenv from 0; fi",
        "if test ${good1} = 1; then setenv from 1; fi",
        f"if test ${{good0}}${{good1}} = 11; then if itest.l *{copies[0] + 8:x} > *{copies[1] + 8:x}; then setenv from 0; fi; fi",
        f"if test ${{from}} = 0; then cp.b {copies[0]:x} {work:x} 200; setenv other {COPIES[1]:x}; fi",
        f"if test ${{from}} = 1; then cp.b {copies[1]:x} {work:x} 200; setenv other {COPIES[0]:x}; fi",
        "if test ${from} = none; then echo card: no record; else",
        f"setexpr.l slot *{work + 12:x}",
        f"setexpr.l armed *{work + 16:x}",
        "fi",
        "if test ${armed} != 0; then",
        *_disarm(work),
        "fi",
        "for number in ${slot} 0 1; do",
        *_layout(work, first),
        "if test ${ks} != 0; then",
        "if test ${number} = 0; then setenv name a; else setenv name b; fi",
        "echo card: slot ${name}",
        f"${{devtype}} read {text:x} ${{as}} 1",
        f"env import -t {text:x} 200",
        f'setenv bootargs "${{args}} card.id={serial:08x} card.slot=${{name}}"',
        f"if ${{devtype}} read {loader.kernel:x} ${{k}} ${{ks}}; then",
        f"if ${{devtype}} read {loader.initrd:x} ${{i}} ${{is}}; then",
        f"{loader.command} {loader.kernel:x} {loader.initrd:x}:${{ib}} ${{{loader.fdt}}}",
        "fi; fi",
        "fi",
        "done",
        "echo card: no slot can be started",
        "sleep 10",
        "reset",
    ]
    return "\n".join(lines) + "\n"


def image(text: str, loader: Loader, epoch: int) -> bytes:
    """As `source` takes it: boot.scr."""
    body = text.encode()
    data = struct.pack(">II", len(body), 0) + body
    fields = (epoch & 0xFFFFFFFF, len(data), 0, 0, binascii.crc32(data))
    kinds = (_LINUX, loader.processor, _SCRIPT, 0, b"card")
    header = _HEADER.pack(_MAGIC, 0, *fields, *kinds)
    return _HEADER.pack(_MAGIC, binascii.crc32(header), *fields, *kinds) + data


def _read(number: int, at: int, crc: int) -> list[str]:
    """Whether one copy of the record is whole."""
    return [
        f"mw.b {at:x} 0 200",
        f"if ${{devtype}} read {at:x} {COPIES[number]:x} 1; then",
        f"crc32 {at:x} 1fc {crc:x}",
        f"if itest.l *{crc:x} == *{at + 0x1FC:x}; then if itest.l *{at:x} == 4c53454b; then if itest.l *{at + 4:x} == 3153544f; then",
        f"setenv good{number} 1",
        "fi; fi; fi; fi",
    ]


def _disarm(work: int) -> list[str]:
    """What was armed is started only if that has been taken back."""
    return [
        "setexpr once ${armed} - 1",
        f"mw.l {work + 16:x} 0",
        f"setexpr.l generation *{work + 8:x}",
        "setexpr generation ${generation} + 1",
        f"mw.l {work + 8:x} ${{generation}}",
        f"crc32 {work:x} 1fc {work + 0x1FC:x}",
        f"if ${{devtype}} write {work:x} ${{other}} 1; then setenv slot ${{once}}; echo card: once; fi",
    ]


def _layout(work: int, first: SlotLayout) -> list[str]:
    """Of slot ${number}, from the record; of slot A, as it was made, without one."""
    names = ("k", "ks", "i", "is", "ib", "as")
    fields = (
        first.kernel,
        first.kernel_sectors,
        first.initrd,
        first.initrd_sectors,
        first.initrd_bytes,
        first.arguments,
    )
    lines = [f"setenv {name} {value:x}" for name, value in zip(names, fields, strict=True)]
    lines += ["if test ${number} != 0; then setenv ks 0; fi", "if test ${from} != none; then"]
    for slot in (0, 1):
        lines.append(f"if test ${{number}} = {slot}; then")
        lines += [f"setexpr.l {name} *{work + 32 + slot * 24 + 4 * n:x}" for n, name in enumerate(names)]
        lines.append("fi")
    return [*lines, "fi"]
