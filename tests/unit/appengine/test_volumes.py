"""Volumes on disk: swapped at once, and never a way out of them. (Mounts need root: tests/netns.)"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kubeedge.appengine import volumes
from kubeedge.appengine.pod import Mount, Volume
from kubeedge.appengine.resolve import Files
from kubeedge.appengine.runtime.base import StartError


def write(directory: Path, files: Files) -> bool:
    return volumes.write_files(directory, files, default_mode=0o640, group=None)


def content(directory: Path) -> dict[str, bytes]:
    """As a container sees it: through the links."""
    return {
        str(Path(root, name).relative_to(directory)): Path(root, name).read_bytes()
        for root, _, names in os.walk(directory, followlinks=True)
        for name in names
        if not Path(root, name).relative_to(directory).parts[0].startswith("..")
    }


def test_files_are_written_with_their_modes(tmp_path: Path) -> None:
    v = tmp_path / "v"
    assert write(v, {"a": (b"1", None), "d/b": (b"2", 0o400)})
    assert content(v) == {"a": b"1", "d/b": b"2"}
    assert stat.S_IMODE((v / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((v / "d/b").stat().st_mode) == 0o400


def test_a_change_is_swapped_in_by_one_link_and_the_old_files_go(tmp_path: Path) -> None:
    v = tmp_path / "v"
    write(v, {"a": (b"1", None), "gone": (b"1", None)})
    first = os.readlink(v / "..data")
    assert write(v, {"a": (b"2", None), "new": (b"3", None)})
    assert os.readlink(v / "..data") != first and not (v / first).exists()
    assert content(v) == {"a": b"2", "new": b"3"}
    assert os.readlink(v / "a") == "..data/a" and not (v / "gone").is_symlink()


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    v = tmp_path / "v"
    write(v, {"a": (b"1", None)})
    before = os.readlink(v / "..data")
    assert not write(v, {"a": (b"1", None)})
    assert os.readlink(v / "..data") == before


def test_a_volume_that_a_power_cut_left_half_written_is_written_anew(tmp_path: Path) -> None:
    v = tmp_path / "v"
    write(v, {"a": (b"1", None)})
    (v / os.readlink(v / "..data") / "a").write_bytes(b"")  # the data did not reach the disk, the names did
    (v / "..2").mkdir()  # and somebody was at the next one
    assert write(v, {"a": (b"1", None)})
    assert content(v) == {"a": b"1"}


def test_a_sub_path_of_a_configmap_is_the_file_itself(tmp_path: Path) -> None:
    v = tmp_path / "v"
    write(v, {"a": (b"1", None)})
    volume = Volume("v", "configMap", {})
    found = volumes.bind(volume, Mount("v", "/etc/a", False, "a"), v, tmp_path / "pin")
    assert found.source.read_bytes() == b"1" and not found.source.is_symlink() and found.read_only
    with pytest.raises(StartError, match="is not in volume v"):
        volumes.bind(volume, Mount("v", "/etc/a", False, "other"), v, tmp_path / "pin")


@pytest.mark.parametrize("links", [{"a": "/etc"}, {"a": ".."}, {"a": "b"}])
def test_a_sub_path_does_not_follow_links_of_containers(tmp_path: Path, links: dict[str, str]) -> None:
    v, outside = tmp_path / "v", tmp_path / "outside"
    v.mkdir()
    outside.mkdir()
    (v / "b").mkdir()
    for name, target in links.items():
        (v / name).symlink_to(target)
    for sub_path in ("a", "a/made"):
        with pytest.raises(StartError, match="subPath"):
            volumes.bind(Volume("v", "emptyDir", {}), Mount("v", "/m", False, sub_path), v, tmp_path / "pin")
    assert not (tmp_path / "made").exists() and not (v / "b/made").exists() and not Path("/etc/made").exists()


@pytest.mark.parametrize("kind", ["Directory", "File", "Socket", "CharDevice", "BlockDevice"])
def test_a_host_path_must_be_of_its_type(tmp_path: Path, kind: str) -> None:
    (tmp_path / "missing").unlink(missing_ok=True)
    with pytest.raises(StartError, match=f"is not a {kind}"):
        volumes.host_path(Volume("v", "hostPath", {"path": str(tmp_path / "missing"), "type": kind}))


def test_host_paths_are_made_when_their_type_says_so(tmp_path: Path) -> None:
    def path(kind: str, name: str) -> Path:
        return volumes.host_path(Volume("v", "hostPath", {"path": str(tmp_path / name), "type": kind}))

    assert path("DirectoryOrCreate", "d/e").is_dir() and path("FileOrCreate", "f/g").is_file()
    assert path("", "plain").is_dir()
    for bad in ("relative", "/a/../b", ""):
        with pytest.raises(StartError, match="not an absolute path"):
            volumes.host_path(Volume("v", "hostPath", {"path": bad}))


def test_an_empty_dir_is_for_everybody_and_keeps_its_content(tmp_path: Path) -> None:
    directory, volume = tmp_path / "v", Volume("v", "emptyDir", {})
    volumes.empty_dir(directory, volume, None)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o777
    (directory / "kept").touch()
    volumes.empty_dir(directory, volume, None)
    assert (directory / "kept").exists()
    volumes.remove(directory)
    assert not directory.exists()
