"""The boot partition (FAT) inside an image file: made, read and changed by mtools. Nothing is mounted, and nobody needs to be root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kubeedge.imageupdate import mbr

CONFIG = "kubeedge.yaml"


def make(path: Path, size: int, files: Mapping[str, bytes], epoch: int, serial: int) -> None:
    """A file system of `size` bytes at `path`, whose bytes follow from the arguments."""
    subprocess.run(
        ["mkfs.fat", "--invariant", "-F", "32", "-n", "KUBEEDGE", "-i", f"{serial:08x}", "-C", str(path), str(size // 1024)],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for name in sorted({name.rpartition("/")[0] for name in files} - {""}):
        _mtools(epoch, "mmd", "-i", str(path), f"::{name}")
    for name, data in sorted(files.items()):
        _put(str(path), name, data, epoch)


def put(image: Path, name: str, data: bytes, epoch: int) -> None:
    """Writes a file to the boot partition of a whole image. Raises ValueError for what is no image."""
    _put(_partition(image), name, data, epoch)


def get(image: Path, name: str) -> bytes | None:
    """A file of the boot partition of a whole image; None where it is not."""
    done = subprocess.run(["mcopy", "-n", "-i", _partition(image), f"::{name}", "-"], capture_output=True)
    return None if done.returncode else done.stdout


def _partition(image: Path) -> str:
    with image.open("rb") as file:
        sector = file.read(mbr.SECTOR)
    try:
        partitions = mbr.read(sector)
    except ValueError:
        partitions = []
    if not partitions or partitions[0].kind != mbr.FAT:
        raise ValueError(f"{image} has no boot partition: is it an image of ours, uncompressed?")
    return f"{image}@@{partitions[0].start * mbr.SECTOR}"


def _put(where: str, name: str, data: bytes, epoch: int) -> None:
    with tempfile.TemporaryDirectory(prefix="kubeedge-fat-") as directory:
        source = Path(directory) / "file"
        source.write_bytes(data)
        source.chmod(0o644)
        os.utime(source, (epoch, epoch))
        _mtools(epoch, "mcopy", "-o", "-m", "-i", where, str(source), f"::{name}")


def _mtools(epoch: int, *arguments: str) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"}
    subprocess.run(arguments, check=True, env=environment, stdin=subprocess.DEVNULL)
