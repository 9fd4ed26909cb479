"""A card's image: partition table, boot partition, root; compressed, with its checksum, its SBOM and the entry of Imager's list beside it."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import kubeedge
from cardimage import fat, mbr, root, sbom
from cardimage.boards import Board
from cardimage.packages import Packages

_ALIGN = 4 << 20  # bytes: more than any card's erase block
_EXAMPLE = Path(__file__).parents[1] / "files" / "kubeedge.yaml.example"


def build(board: Board, packages: Packages, own: list[Path], work: Path, output: Path, epoch: int) -> Path:
    """The compressed image in `output`. `work` is emptied and filled."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "root").mkdir(parents=True)
    output.mkdir(parents=True, exist_ok=True)
    release = root.build(board, packages, own, work / "root", epoch)
    early = gzip.compress(root.initramfs(board, work / "root", release), 9, mtime=0)
    squashfs = _squashfs(work, epoch)
    name = f"kubeedge-{board.name}-{kubeedge.__version__}.img"
    raw = _assemble(board, work, name, early, squashfs, epoch)
    listed = packages.contents(own)
    return _publish(board, raw, output, sbom.spdx(name, listed, epoch), epoch)


def command_line(board: Board, serial: int) -> str:
    """What the kernel is told. The initramfs reads card.id: the card is the disk whose partition table has this signature."""
    consoles = " ".join(f"console={name}" for name in board.consoles)
    return (
        f"{consoles} card.id={serial:08x} net.ifnames=0 panic=10 quiet slab_merge "
        "cma=0 transparent_hugepage=never cgroup_enable=memory random.trust_cpu=on"
    )


def _squashfs(work: Path, epoch: int) -> Path:
    made = work / "root.squashfs"
    dates = ["-mkfs-time", str(epoch), "-all-time", str(epoch)]
    packing = ["-comp", "zstd", "-Xcompression-level", "19", "-b", "131072", "-processors", "1"]
    flags = ["-noappend", "-all-root", "-no-xattrs", "-no-progress", "-quiet"]
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    command = ["mksquashfs", str(work / "root"), str(made), *flags, *dates, *packing]
    subprocess.run(command, check=True, env=environment)
    return made


def _assemble(board: Board, work: Path, name: str, early: bytes, squashfs: Path, epoch: int) -> Path:
    digest = hashlib.sha256(squashfs.read_bytes()).digest()
    serial = int.from_bytes(digest[:4])
    files = {
        "vmlinuz": (work / "vmlinuz").read_bytes(),
        "initrd.img": early,
        "cmdline.txt": command_line(board, serial).encode() + b"\n",
        "kubeedge.yaml.example": _EXAMPLE.read_bytes(),
    }
    if board.firmware:
        files |= {path.name: path.read_bytes() for path in (work / "firmware").iterdir()}
    else:
        files["extlinux/extlinux.conf"] = _extlinux(command_line(board, serial)).encode()
    fat.make(work / "boot.fat", board.boot_size, files, epoch, serial)
    boot = mbr.Partition(mbr.FAT, _ALIGN // mbr.SECTOR, board.boot_size // mbr.SECTOR, active=True)
    sectors = -(-squashfs.stat().st_size // _ALIGN) * (_ALIGN // mbr.SECTOR)
    system = mbr.Partition(mbr.LINUX, -(-boot.end * mbr.SECTOR // _ALIGN) * (_ALIGN // mbr.SECTOR), sectors)
    raw = work / name
    with raw.open("wb") as out:
        out.write(mbr.table([boot, system], serial))
        for partition, source in ((boot, work / "boot.fat"), (system, squashfs)):
            out.seek(partition.start * mbr.SECTOR)
            with source.open("rb") as data:
                shutil.copyfileobj(data, out, 1 << 20)
        out.truncate(system.end * mbr.SECTOR)
    return raw


def _extlinux(arguments: str) -> str:
    """For U-Boot, which finds it by itself."""
    return f"default card\ntimeout 1\nlabel card\n  linux /vmlinuz\n  initrd /initrd.img\n  append {arguments}\n"


def _publish(board: Board, raw: Path, output: Path, bill: str, epoch: int) -> Path:
    data = raw.read_bytes()
    made = output / f"{raw.name}.xz"
    packed = lzma.compress(data, preset=6)
    made.write_bytes(packed)
    made.with_suffix(".spdx.json").write_text(bill)
    entry = sbom.imager(
        name=f"KubeEdge {kubeedge.__version__}, {board.name}", description=board.description, file=made.name,
        packed=packed, size=len(data), sha256=hashlib.sha256(data).hexdigest(), epoch=epoch, devices=board.imager,
    )  # fmt: skip
    made.with_suffix(".imager.json").write_text(entry)
    made.with_suffix(".xz.sha256").write_text(f"{hashlib.sha256(packed).hexdigest()}  {made.name}\n")
    return made
