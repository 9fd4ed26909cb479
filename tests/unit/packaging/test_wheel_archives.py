"""Wheels and source distributions of cross/wheels: their bytes follow from their content alone, and their records are true."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

from cross.wheels import archive
from cross.wheels.targets import PYTHONS, TARGETS

TAG = ("cp311", "cp311", "manylinux_2_31_armv7l")
INFORMATION = "thing-1.0.dist-info"


def pure(path: Path, names: list[str], date: tuple[int, int, int, int, int, int]) -> Path:
    """A wheel as setuptools makes it: its order and its dates are those of the moment."""
    with zipfile.ZipFile(path, "w") as packed:
        for name in names:
            packed.writestr(zipfile.ZipInfo(name, date), name)
    return path


def test_the_same_files_make_the_same_wheel(tmp_path):
    names = ["thing/__init__.py", f"{INFORMATION}/METADATA", f"{INFORMATION}/WHEEL", f"{INFORMATION}/RECORD"]
    made = []
    for turn, (order, year) in enumerate(((names, 2020), (names[::-1], 2025))):
        (tmp_path / str(turn)).mkdir()
        source = pure(tmp_path / f"{turn}.whl", order, (year, 1, 1, 0, 0, 0))
        made.append(archive.retagged(source, TAG, {"thing/fast.so": b"\x7fELF"}, 1_700_000_000, tmp_path / str(turn)))
    assert made[0].read_bytes() == made[1].read_bytes()
    assert made[0].name == "thing-1.0-cp311-cp311-manylinux_2_31_armv7l.whl"


def test_the_record_is_that_of_the_files(tmp_path):
    names = ["thing/__init__.py", f"{INFORMATION}/METADATA", f"{INFORMATION}/WHEEL"]
    source = pure(tmp_path / "thing-1.0-py3-none-any.whl", names, (2020, 1, 1, 0, 0, 0))
    (tmp_path / "out").mkdir()
    made = archive.retagged(source, TAG, {"thing/fast.so": b"\x7fELF"}, 0, tmp_path / "out")
    with zipfile.ZipFile(made) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    rows = {
        name: (digest, size) for name, digest, size in csv.reader(files[f"{INFORMATION}/RECORD"].decode().splitlines())
    }
    assert rows.keys() == files.keys()
    assert rows.pop(f"{INFORMATION}/RECORD") == ("", "")
    for name, (digest, size) in rows.items():
        expected = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        assert (digest, size) == (f"sha256={expected}", str(len(files[name])))
    assert b"Root-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_31_armv7l\n" in files[f"{INFORMATION}/WHEEL"]


def test_the_same_files_make_the_same_source_distribution():
    made = []
    for owner, date, names in (("me", 1, ["a/x.py", "a/y.py"]), ("you", 2_000, ["a/y.py", "a/x.py"])):
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w:gz") as packed:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.uname, entry.mtime, entry.size = owner, date, len(name)
                packed.addfile(entry, io.BytesIO(name.encode()))
        made.append(archive.normalised(plain.getvalue(), 1_700_000_000))
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as packed:
        assert [packed.extractfile(name).read() for name in packed.getnames()] == [b"a/x.py", b"a/y.py"]


def test_sums_are_read_by_sha256sum(tmp_path):
    (tmp_path / "armv7l-cp311").mkdir()
    (tmp_path / "armv7l-cp311/thing.whl").write_bytes(b"x")
    (tmp_path / "SHA256SUMS").write_text(archive.sums(tmp_path))
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "armv7l-cp311/thing.whl: OK\n")


def test_names_of_targets():
    target, python = TARGETS["armv7l"], PYTHONS["3.11"]
    assert target.platform in target.platforms and python.suffix(target) == ".cpython-311-arm-linux-gnueabihf.so"
    assert {t.platform for t in TARGETS.values()} == {
        *("manylinux_2_31_armv7l", "manylinux_2_28_aarch64", "manylinux_2_28_x86_64"),
    }
