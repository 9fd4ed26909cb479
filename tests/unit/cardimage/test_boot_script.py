"""The boot loader's part, by U-Boot itself (emulated): which slot it starts, and what it leaves in the record. There is no kernel in the slots, so
what it would start is what it says, and what it loads."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from bench.boot.machine import EMULATED
from cardimage import boot_script, fat
from cardimage.boards import BOARDS
from kubeedge.imageupdate import core, mbr
from kubeedge.imageupdate.core import SECTOR, SlotImage, SlotLayout, Slots
from tests.kit.topology import until

A, B = SlotLayout(40_000, 8, 40_100, 8, 4_000, 40_200), SlotLayout(50_000, 8, 50_100, 8, 4_000, 50_200)
CARD = Slots(5, 0, (A, B), (SlotImage(), SlotImage()))
ARMED = core.arm(CARD, B, SlotImage(1, bytes(32), "2"))
TORN = bytes(256) + core.pack(ARMED)[256:]


class BootLoader:
    """A card with a record, and what U-Boot says when it starts from it."""

    def __init__(self, directory: Path, board: str, copies: list[bytes]) -> None:
        self.disk, self._log, self._board = directory / "disk", directory / "console", board
        script = boot_script.script(BOARDS[board].loader, 0xDEADBEEF, A)
        fat.make(directory / "fat", 40 << 20, {"boot.scr": boot_script.image(script, BOARDS[board].loader, 0)}, 0, 1)
        boot = mbr.Partition(mbr.FAT, 65_536, 81_920, active=True)
        with self.disk.open("wb") as file:
            file.write(mbr.table([boot], 0xDEADBEEF))
            for copy, sector in zip(copies, core.COPIES, strict=True):
                file.seek(sector * SECTOR)
                file.write(copy)
            for layout, name in ((A, "A"), (B, "B")):
                file.seek(layout.arguments * SECTOR)
                file.write(f"args=root-{name}\n".encode().ljust(SECTOR, b"\0"))
            file.seek(boot.start * SECTOR)
            file.write((directory / "fat").read_bytes())
            file.truncate(boot.end * SECTOR)

    def start(self) -> str:
        """What it says until there is nothing left to start."""
        emulated = EMULATED[self._board]
        devices = ["-m", "128", "-nic", "none", "-nographic", "-no-reboot", "-bios", str(emulated.u_boot)]
        devices += ["-drive", f"if=none,file={self.disk},format=raw,id=card", "-device", "virtio-blk-pci,drive=card"]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [emulated.program, *emulated.arguments, *devices], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            until(
                lambda: b"no slot can be started" in self._log.read_bytes() or process.poll() is not None,
                timeout=180,
                what="U-Boot",
            )
        finally:
            process.kill()
            process.wait()
        return self._log.read_bytes().decode(errors="replace")

    @property
    def copies(self) -> list[bytes]:
        data = self.disk.read_bytes()
        return [data[sector * SECTOR : (sector + 1) * SECTOR] for sector in core.COPIES]


def slots(console: str) -> list[str]:
    return [line.split()[-1] for line in console.splitlines() if line.startswith("card: slot ")]


def blocks(console: str) -> list[int]:
    return [int(line.partition("block # ")[2].partition(",")[0]) for line in console.splitlines() if " read: " in line]


@pytest.mark.parametrize("board", ["tiny", "armhf"])
def test_what_is_armed_is_started_once_and_that_is_written_before(tmp_path: Path, board: str) -> None:
    loader = BootLoader(tmp_path, board, [core.pack(ARMED), core.pack(CARD)])
    console = loader.start()
    assert slots(console)[0] == "b" and "card: once" in console, console
    assert blocks(console)[2:5] == [B.arguments, B.kernel, B.initrd]
    assert console.index("blocks written: OK") < console.index("card: slot b")
    left = core.parse(loader.copies[1])
    assert left == dataclasses.replace(ARMED, armed=None, generation=ARMED.generation + 1)
    assert loader.copies[0] == core.pack(ARMED), "the copy that was there is overwritten by the next writer only"
    assert slots(loader.start())[0] == "a"


@pytest.mark.parametrize(
    ("copies", "wanted"),
    [
        ([core.pack(CARD), core.pack(core.works(ARMED, 1))], "b"),
        ([TORN, core.pack(CARD)], "a"),
        ([bytes(SECTOR), bytes(SECTOR)], "a"),
    ],
    ids=["newer", "torn", "lost"],
)
def test_the_good_slot_is_started_by_whichever_copy_is_whole(tmp_path: Path, copies: list[bytes], wanted: str) -> None:
    loader = BootLoader(tmp_path, "tiny", copies)
    console = loader.start()
    assert slots(console)[0] == wanted, console
    assert loader.copies == copies, "nothing was armed, nothing is written"
    layout = A if wanted == "a" else B
    assert blocks(console)[2:5] == [layout.arguments, layout.kernel, layout.initrd]
