"""Shared libraries of wheels lose what is for debuggers, and still load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kubeedge._fastpath.records
import pytest

from cross.deb import elf

OWN = Path(str(kubeedge._fastpath.records.__file__))


def test_a_library_loads_without_its_sections(tmp_path: Path) -> None:
    data = OWN.read_bytes()
    shorter = elf.stripped(data)
    assert len(shorter) < len(data) and elf.stripped(shorter) == shorter
    (tmp_path / "records.so").write_bytes(shorter)
    code = (
        "import importlib.util as u, sys; "
        "s = u.spec_from_file_location('kubeedge._fastpath.records', sys.argv[1]); m = u.module_from_spec(s); s.loader.exec_module(m); print(m.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "records.so")], capture_output=True, text=True)
    assert done.stdout.strip() == "kubeedge._fastpath.records", done.stderr
    needed = [
        subprocess.run(["readelf", "-d", p], capture_output=True, text=True).stdout
        for p in (OWN, tmp_path / "records.so")
    ]
    libraries = [[line.split("[")[1] for line in text.splitlines() if "(NEEDED)" in line] for text in needed]
    assert libraries[0] == libraries[1] != []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\x7fELF" + bytes(20),
        b"\x7fELF\x02\x02" + bytes(100),
        b"\x7fELF\x02\x01" + b"\xff" * 100,
        OWN.read_bytes()[:4000],
    ],
)
def test_what_is_none_or_cut_short_stays_as_it_is(data: bytes) -> None:
    assert elf.stripped(data) == data
