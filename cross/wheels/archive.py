"""Wheels and source distributions whose bytes follow from what is in them: names in order, one date, no owner, modes of two kinds."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

_GENERATOR = "Generator: kubeedge cross/wheels"


def retagged(
    wheel: Path, tag: tuple[str, str, str], programs: Mapping[str, bytes], epoch: int, directory: Path
) -> Path:
    """The wheel for `tag` (python, ABI, platform) of a pure one, with compiled files put in. The path of what was written."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    information = next(name.partition("/")[0] for name in files if name.endswith(".dist-info/WHEEL"))
    files |= programs
    files[f"{information}/WHEEL"] = _wheel(tag, is_pure=not programs).encode()
    record = f"{information}/RECORD"
    files.pop(record, None)
    files[record] = _record(files, record).encode()
    path = directory / f"{information.removesuffix('.dist-info')}-{'-'.join(tag)}.whl"
    # what describes the wheel is last, so that it can be read without the rest (PEP 427)
    _write(path, sorted(files.items(), key=lambda item: (item[0].startswith(information), item[0])), epoch)
    return path


def _wheel(tag: tuple[str, str, str], *, is_pure: bool) -> str:
    pure = "true" if is_pure else "false"
    return f"Wheel-Version: 1.0\n{_GENERATOR}\nRoot-Is-Purelib: {pure}\nTag: {'-'.join(tag)}\n"


def _record(files: Mapping[str, bytes], record: str) -> str:
    def line(name: str, data: bytes) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        return f"{name},sha256={digest},{len(data)}\n"

    return "".join(line(name, files[name]) for name in sorted(files)) + f"{record},,\n"


def _write(path: Path, files: list[tuple[str, bytes]], epoch: int) -> None:
    date = time.gmtime(max(epoch, 315532800))[:6]  # a zip file knows nothing before 1980
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files:
            entry = zipfile.ZipInfo(name, date)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, data)


def normalised(sdist: bytes, epoch: int) -> bytes:
    """A gzipped tar file with the same files as `sdist`."""
    plain = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as old,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            entry = tarfile.TarInfo(member.name)
            entry.type, entry.size, entry.mtime = member.type, member.size, epoch
            entry.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(entry, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(plain.getvalue(), compresslevel=9, mtime=epoch)


def sums(directory: Path) -> str:
    """As sha256sum -c reads them."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(directory)}\n" for path in files
    )
