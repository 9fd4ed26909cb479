"""Volumes on disk: swapped at once, and never a way out of them. (Mounts need root: tests/netns.)"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kubeedge.api.pod import Mount, Volume
from kubeedge.appengine import volumes
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


@pytest.mark.parametrize(("mode", "expected"), [(0o400, 0o440), (0o600, 0o640), (0o444, 0o444), (0o000, 0o440)])
def test_fs_group_lets_the_group_read(tmp_path: Path, mode: int, expected: int) -> None:
    files: Files = {"default": (b"1", None), "d/own": (b"2", mode)}
    volumes.write_files(tmp_path / "v", files, default_mode=mode, group=os.getgid())
    for name in files:
        assert stat.S_IMODE((tmp_path / "v" / name).stat().st_mode) == expected
    volumes.write_files(tmp_path / "w", files, default_mode=mode, group=None)
    assert stat.S_IMODE((tmp_path / "w/default").stat().st_mode) == mode


def test_which_volumes_hold_secrets() -> None:
    def projected(*sources: dict[str, object]) -> Volume:
        return Volume("v", "projected", {"sources": list(sources)})

    assert volumes.holds_secrets(Volume("v", "secret", {"secretName": "s"}))
    assert volumes.holds_secrets(projected({"configMap": {"name": "c"}}, {"secret": {"name": "s"}}))
    assert volumes.holds_secrets(projected({"serviceAccountToken": {"path": "t"}}))
    assert not volumes.holds_secrets(projected({"configMap": {"name": "c"}}))
    assert not volumes.holds_secrets(Volume("v", "configMap", {"name": "c"}))


def test_what_a_volume_uses_counts_each_file_once_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 4_000_000)
    inside = tmp_path / "v"
    (inside / "d").mkdir(parents=True)
    (inside / "d/a").write_bytes(b"x" * 1_000_000)
    os.link(inside / "d/a", inside / "b")
    (inside / "link").symlink_to(outside)
    assert 1_000_000 <= volumes.used_bytes(inside) < 1_500_000
