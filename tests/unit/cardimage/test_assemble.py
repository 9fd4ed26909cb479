"""An image put together of small parts, and its bundle: what the boot loader, the initramfs and an update find where they look."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cardimage import fat, image, signing, slot_image
from cardimage.boards import BOARDS
from cardimage.signing import UpdateKey
from cardimage.slot_image import SlotParts
from kubeedge import edgecore
from kubeedge.errors import Conflict
from kubeedge.imageupdate import card, driver, mbr
from kubeedge.imageupdate.bundle import Manifest
from kubeedge.imageupdate.driver import Machine
from kubeedge.imageupdate.source import FileSource

ROOT, KERNEL, INITRD = os.urandom(3_000_001), os.urandom(70_001), os.urandom(20_003)
TINY = BOARDS["tiny"]


def slot(directory: Path, epoch: int = 7) -> tuple[Path, Manifest]:
    (directory / "squashfs").write_bytes(ROOT)
    parts = SlotParts(directory / "squashfs", image.arguments(TINY), KERNEL, INITRD)
    return directory / "slot", slot_image.make(directory / "slot", parts, "tiny", "1.0", epoch)


def test_a_card_has_its_first_slot_where_its_record_says(tmp_path: Path) -> None:
    contents, manifest = slot(tmp_path)
    raw = image.assemble(TINY, tmp_path, "x.img", contents, manifest, 0)
    boot, first, second = mbr.read(raw.read_bytes()[:512])
    assert boot.active and first.sectors == second.sectors == TINY.slot_size // 512 and second.start == first.end
    assert first.start * 512 + manifest.size <= raw.stat().st_size < second.start * 512, (
        "an empty slot is not in an image"
    )
    with card.opened(raw) as own:
        slots = own.record()
        assert slots.good == slots.spare - 1 == 0 and slots.layouts[0] == manifest.layout(first.start)
        assert own.read(0, 0, len(ROOT)) == ROOT, "the root begins where the kernel mounts it"
    assert slot_image.part(raw, "vmlinuz")[: len(KERNEL)] == KERNEL
    assert slot_image.part(raw, "initrd.img") == INITRD
    serial = mbr.signature(raw.read_bytes()[:512])
    assert slot_image.part(raw, "cmdline.txt").decode() == f"{image.arguments(TINY)} card.id={serial:08x} card.slot=a\n"
    board = fat.get(raw, image.BOARD)
    assert board is not None and TINY.description.encode() in board, (
        "whoever has another board reads it on any computer"
    )
    script = fat.get(raw, "boot.scr")
    assert (
        script is not None
        and f"card.id={serial:08x}".encode() in script
        and f"setenv k {slots.layouts[0].kernel:x}\n".encode() in script
    )
    with pytest.raises(ValueError, match="no slots"):
        slot_image.part(contents, "vmlinuz")


def test_its_bundle_is_taken_by_machines_with_an_older_image(tmp_path: Path) -> None:
    contents, manifest = slot(tmp_path)
    raw = image.assemble(TINY, tmp_path, "x.img", contents, manifest, 0)
    os.truncate(raw, 1 << 29)
    key = UpdateKey(tmp_path / "keys/update.pem")
    new, newer = slot(tmp_path, 8)
    slot_image.write_bundle(tmp_path / "bundle", newer, new, key.sign(newer))
    with card.opened(raw) as own:
        source = FileSource(tmp_path / "bundle")
        slots = driver.update(source, own, 0, Machine("tiny", 7, (key.public,)), lambda text: None)
        assert slots.armed == 1 and own.read(1, 0, newer.size) == new.read_bytes()
        with pytest.raises(Conflict):
            driver.update(source, own, 1, Machine("tiny", 7, (key.public,)), lambda text: None)
        source.close()


def test_the_same_parts_make_the_same_slot(tmp_path: Path) -> None:
    contents, manifest = slot(tmp_path)
    before = contents.read_bytes()
    assert slot(tmp_path)[1] == manifest and contents.read_bytes() == before


def test_arguments_that_are_too_long_are_said(tmp_path: Path) -> None:
    (tmp_path / "squashfs").write_bytes(b"x")
    with pytest.raises(ValueError, match="longer than 512"):
        slot_image.make(tmp_path / "slot", SlotParts(tmp_path / "squashfs", "x" * 512, b"k", b"i"), "tiny", "1", 1)


def test_a_key_is_made_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a/key.pem"
    key = UpdateKey(path)
    assert path.stat().st_mode & 0o777 == 0o600 and UpdateKey(path).public == key.public
    subprocess.run(["openssl", "pkey", "-in", str(path), "-pubout", "-out", str(tmp_path / "public.pem")], check=True)
    assert signing.public(tmp_path / "public.pem") == key.public
    subprocess.run(["openssl", "genrsa", "-out", str(path), "2048"], check=True, capture_output=True)
    with pytest.raises(ValueError, match="no Ed25519"):
        UpdateKey(path)


def test_every_board_fits_its_card() -> None:
    assert edgecore.CARD == card.DISK
    for board in BOARDS.values():
        if board.name.startswith("rpi") or board.name in ("zero2w", "devices"):
            names = {"can_raw", "gs_usb", "ftdi_sio", "hci_uart", "btusb", "i2c_dev"}
            assert names <= set(board.module_names), "what devices of the field are behind"
        assert board.boot_size >= 64 << 20 and board.slot_size % (4 << 20) == 0 and len(image.arguments(board)) < 480
