"""A card's image: partition table, boot partition, a slot with the root and the kernel; compressed, with its checksum, its SBOM, the entry of
Imager's list and the bundle for machines that have such an image beside it."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import kubeedge
from cardimage import boot_script, fat, root, sbom, slot_image
from cardimage.boards import Board
from cardimage.packages import Packages
from cardimage.signing import UpdateKey
from cardimage.slot_image import SlotParts
from kubeedge.imageupdate import core, mbr
from kubeedge.imageupdate.bundle import Manifest
from kubeedge_card.status import NAME as STATUS

_ALIGN = 4 << 20  # bytes: more than any card's erase block
#: for whoever holds a card that does not start: what cannot run can say nothing itself
BOARD = "kubeedge-board.txt"
_EXAMPLE = Path(__file__).parents[1] / "files" / "kubeedge.yaml.example"


def build(
    board: Board,
    packages: Packages,
    own: list[Path],
    work: Path,
    output: Path,
    epoch: int,
    key: UpdateKey,
    trusted: Iterable[bytes] = (),
    level: int = 19,
) -> Path:
    """The compressed image in `output`. `work` is emptied and filled. Machines with it take updates of `key`, and of the public keys `trusted`.
    `level`: of zstd; 19 is what the figures are for, and most of the time that this takes."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "root").mkdir(parents=True)
    output.mkdir(parents=True, exist_ok=True)
    release = root.build(board, packages, own, work / "root", epoch)
    root.trust(work / "root", [key.public, *trusted])
    early = gzip.compress(root.initramfs(board, work / "root", release), 9, mtime=0)
    parts = SlotParts(_squashfs(work, epoch, level), arguments(board), (work / "vmlinuz").read_bytes(), early)
    slot = work / "slot"
    manifest = slot_image.make(slot, parts, board.name, kubeedge.__version__, epoch)
    if manifest.size > board.slot_size:
        raise ValueError(f"{board.name}: a slot of {board.slot_size} bytes, and {manifest.size} are needed")
    name = f"kubeedge-{board.name}-{kubeedge.__version__}"
    raw = assemble(board, work, f"{name}.img", slot, manifest, epoch)
    slot_image.write_bundle(output / f"{name}.bundle", manifest, slot, key.sign(manifest))
    listed = packages.contents(own)
    return _publish(board, raw, output, sbom.spdx(raw.name, listed, epoch), epoch, 6 if level > 9 else 0)


def arguments(board: Board) -> str:
    """What the kernel is told, but for what is the card's own. No profiles of AppArmor or Tomoyo are in an image, and nobody mounts debugfs: both
    take memory at each inode and each driver."""
    consoles = " ".join(f"console={name}" for name in board.consoles)
    return (
        f"{consoles} net.ifnames=0 panic=10 quiet slab_merge "
        "cma=0 transparent_hugepage=never cgroup_enable=memory random.trust_cpu=on lsm=landlock,yama debugfs=off"
    )


def _squashfs(work: Path, epoch: int, level: int) -> Path:
    made = work / "root.squashfs"
    dates = ["-mkfs-time", str(epoch), "-all-time", str(epoch)]
    packing = ["-comp", "zstd", "-Xcompression-level", str(level), "-b", "131072", "-processors", "1"]
    flags = ["-noappend", "-all-root", "-no-xattrs", "-no-progress", "-quiet"]
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    command = ["mksquashfs", str(work / "root"), str(made), *flags, *dates, *packing]
    subprocess.run(command, check=True, env=environment)
    return made


def assemble(board: Board, work: Path, name: str, slot: Path, manifest: Manifest, epoch: int) -> Path:
    """The whole card, up to the end of what is in slot A: whoever writes it does not write an empty slot."""
    serial = int.from_bytes(manifest.image().digest[:4])
    boot = mbr.Partition(mbr.FAT, _ALIGN // mbr.SECTOR, board.boot_size // mbr.SECTOR, active=True)
    size = board.slot_size // mbr.SECTOR
    slots = [mbr.Partition(mbr.LINUX, boot.end + n * size, size) for n in range(2)]
    record = slot_image.record(manifest, slots[0].start)
    script = boot_script.script(board.loader, serial, record.layouts[0])
    files = {"boot.scr": boot_script.image(script, board.loader, epoch), "kubeedge.yaml.example": _EXAMPLE.read_bytes()}
    files[BOARD] = (
        f"This image is for: {board.description}.\r\nOn another board it does not start, and {STATUS} is never written.\r\n".encode()
    )
    if board.firmware:
        files |= {path.name: path.read_bytes() for path in (work / "firmware").iterdir()}
    fat.make(work / "boot.fat", board.boot_size, files, epoch, serial)
    raw = work / name
    with raw.open("wb") as out:
        out.write(mbr.table([boot, *slots], serial))
        out.seek(core.COPIES[0] * core.SECTOR)
        out.write(core.pack(record))
        for partition, source in ((boot, work / "boot.fat"), (slots[0], slot)):
            out.seek(partition.start * mbr.SECTOR)
            with source.open("rb") as data:
                shutil.copyfileobj(data, out, 1 << 20)
        out.truncate(-(-out.tell() // _ALIGN) * _ALIGN)
    return raw


def _publish(board: Board, raw: Path, output: Path, bill: str, epoch: int, preset: int) -> Path:
    data = raw.read_bytes()
    made = output / f"{raw.name}.xz"
    packed = lzma.compress(data, preset=preset)
    made.write_bytes(packed)
    made.with_suffix(".spdx.json").write_text(bill)
    entry = sbom.imager(
        name=f"KubeEdge {kubeedge.__version__}, {board.name}", description=board.description, file=made.name,
        packed=packed, size=len(data), sha256=hashlib.sha256(data).hexdigest(), epoch=epoch, devices=board.imager,
    )  # fmt: skip
    made.with_suffix(".imager.json").write_text(entry)
    made.with_suffix(".xz.sha256").write_text(f"{hashlib.sha256(packed).hexdigest()}  {made.name}\n")
    return made
