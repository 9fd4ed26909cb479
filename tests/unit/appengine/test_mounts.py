"""What is mounted below a directory, whatever its name is: to miss one is to delete what is mounted there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubeedge.api.pod import Mount
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.volumes import sub_path

#: blanks and ends of lines of Unicode, what the kernel writes in octal, and what is no text
NAMES = (
    "データ　1",
    "a\u00a0b",
    "a\u2028b",
    "a\u0085b",
    "a\x1cb",
    "a\vb",
    "a b\tc\nd",
    "a\\040b",
    os.fsdecode(b"a\xffb"),
)


@pytest.mark.root
@pytest.mark.parametrize("name", NAMES)
def test_a_volume_s_part_outlives_the_pod_that_had_it(tmp_path: Path, name: str) -> None:
    volume, pins = tmp_path / "volume", tmp_path / "pod" / sub_path.PINS
    (volume / name).mkdir(parents=True)
    (volume / name / "data").touch()
    mount = Mount(name="v", path="/v", sub_path=name, read_only=False)
    pin = sub_path.bind(mount, volume, pins / "0", read_only=False).source
    try:
        assert mounts.is_mounted(Path(pin)) and mounts.mounted_below(pins) == [Path(pin)]
        mounts.remove_tree(pins)
        assert not pins.exists() and (volume / name / "data").exists()
    finally:
        mounts.unmount(Path(pin))


@pytest.mark.root
@pytest.mark.parametrize("name", NAMES)
def test_what_is_mounted_below_such_a_name_is_found(tmp_path: Path, name: str) -> None:
    point = tmp_path / name / "point"
    point.mkdir(parents=True)
    mounts.mount("tmpfs", point, "tmpfs")
    try:
        assert mounts.mounted_below(tmp_path / name) == [point] and mounts.is_mounted(point)
    finally:
        mounts.unmount(point)
