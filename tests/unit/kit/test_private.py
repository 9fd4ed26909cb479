"""Directories and files that are nobody else's, as they are made and as they are found."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kubeedge.errors import Invalid
from kubeedge.kit import private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest):
    old = os.umask(request.param)
    yield
    os.umask(old)


def test_a_directory_is_made_private_and_those_above_it_can_be_entered(tmp_path: Path, umask: None) -> None:
    private.directory(tmp_path / "a/b/c")
    private.directory(tmp_path / "a/b/d", 0o711)
    assert [mode(tmp_path / p) for p in ("a", "a/b", "a/b/c", "a/b/d")] == [0o755, 0o755, 0o700, 0o711]


@pytest.mark.parametrize("found", [0o755, 0o777, 0o1777, 0o4755, 0o2770, 0o701, 0o500, 0o000])
def test_a_mode_is_mended(tmp_path: Path, found: int) -> None:
    for name, wanted in (("d", 0o700), ("f", 0o600)):
        path = tmp_path / name
        path.mkdir() if name == "d" else path.touch()
        path.chmod(found)
        private.directory(path) if name == "d" else private.file(path)
        assert mode(path) == wanted


def test_what_is_more_private_than_it_must_be_stays(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    private.directory(tmp_path / "d", 0o711)
    assert mode(tmp_path / "d") == 0o700


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    private.files([tmp_path / "f", tmp_path / "g"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "pipe"])
def test_what_is_no_directory_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    target, path = tmp_path / "target", tmp_path / "d"
    target.mkdir(mode=0o755)
    match kind:
        case "link":
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(tmp_path / "nothing")
        case "file":
            path.touch(0o644)
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(Invalid, match="symbolic link|not a directory"):
        private.directory(path)
    assert mode(target) == 0o755 and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory", "pipe"])
def test_what_is_no_file_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    target, path = tmp_path / "target", tmp_path / "f"
    target.touch(0o644)
    match kind:
        case "link":
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(tmp_path / "nothing")
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(Invalid, match="symbolic link|not a file"):
        private.file(path)
    assert mode(target) == 0o644


@pytest.mark.root
def test_what_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o755)
    (tmp_path / "f").touch(0o644)
    for name, mend in (("d", private.directory), ("f", private.file)):
        os.chown(tmp_path / name, 1000, 1000)
        with pytest.raises(Invalid, match="belongs to the user 1000"):
            mend(tmp_path / name)


@pytest.mark.parametrize("path", ["/", "/tmp", "/run", "/etc/", "/var/lib", "/tmp/../run", "//tmp", "/var/run"])
def test_a_directory_of_the_whole_system_is_not_closed(path: str) -> None:
    before = mode(Path(path).resolve())
    with pytest.raises(Invalid, match="of the whole system"):
        private.directory(Path(path))
    assert mode(Path(path).resolve()) == before
