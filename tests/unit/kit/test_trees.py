"""Trees of directories as containers leave them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubeedge.appengine.runtime import mounts
from kubeedge.kit import trees


def deep(root: Path, levels: int) -> None:
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        with open(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "w"):
            pass
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 1500])
def test_however_deep_it_is(tmp_path: Path, levels: int) -> None:
    deep(tmp_path / "t", levels)
    trees.remove(tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other/kept").mkdir(parents=True)
    (tmp_path / "t/a/b").mkdir(parents=True)
    for path in ("t/link", "t/a/link", "t/a/b/link"):
        (tmp_path / path).symlink_to(tmp_path / "other")
    (tmp_path / "t/.removed-0").mkdir()
    os.mkfifo(tmp_path / "t/a/pipe")
    trees.remove(tmp_path / "t")
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["other", "other/kept"]


def test_what_is_no_directory_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "file").touch()
    for name in ("link", "file", "nothing"):
        trees.remove(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


@pytest.mark.root
def test_what_is_mounted_stays_and_the_rest_goes(tmp_path: Path) -> None:
    point = tmp_path / "t/a/b/c"
    point.mkdir(parents=True)
    (tmp_path / "t/x/y/z").mkdir(parents=True)
    mounts.mount("tmpfs", point, "tmpfs")
    try:
        (point / "kept").touch()
        trees.remove(tmp_path / "t")
        assert [p.name for p in (tmp_path / "t").rglob("*") if p.is_file()] == ["kept"]
        assert len(list((tmp_path / "t").rglob("*"))) < 6
    finally:
        for left in mounts.mounted_below(tmp_path):
            mounts.unmount(left)
