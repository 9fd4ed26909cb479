"""The image's parts: the same in gives the same out, nothing that is not asked for, file capabilities where they belong."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from cloud.image import archive, sbom, wheels
from cloud.image.debian import PYTHON, Package
from cloud.image.tree import Tree, compress
from kubeedge.appengine.images.archive import import_archive
from kubeedge.appengine.images.store import ImageStore


def site(directory: Path) -> Path:
    for name, data in {
        "thing/__init__.py": b"x = {'a', 'b', 'c'}\n",
        "thing/tests/test.py": b"",
        "thing/fast.c": b"",
        "thing/fast.so": b"\x7fELF",
        "bin/tool": b"",
        "thing-1.0.dist-info/METADATA": b"Name: thing\nVersion: 1.0\nLicense-Expression: MIT\n",
        "thing-1.0.dist-info/RECORD": b"",
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def base() -> Tree:
    tree = Tree()
    tree.file(f"usr/bin/{PYTHON}", b"python", 0o755)
    return tree


def test_a_layer_has_what_runs_and_no_more(tmp_path: Path) -> None:
    where = site(tmp_path)
    wheels.compile_all(where)
    found = wheels.layer(where, base()).entries
    packages = f"usr/local/lib/{PYTHON}/dist-packages"
    files = sorted(path.removeprefix(packages + "/") for path, entry in found.items() if entry.data is not None)
    assert [name for name in files if not name.startswith("usr/bin")] == [
        "thing-1.0.dist-info/METADATA", "thing/__init__.py", f"thing/__pycache__/__init__.{PYTHON.replace('python3.', 'cpython-3')}.pyc",
        "thing/fast.so",
    ]  # fmt: skip
    assert found[f"{packages}/thing/fast.so"].mode == 0o755
    capable = [path for path, entry in found.items() if entry.capability]
    assert capable == [f"usr/bin/{PYTHON}-net-admin"], "what every pod runs has no capability"
    assert wheels.installed(where) == [("thing", "1.0", "MIT")]
    plain = wheels.layer(where, base(), net_admin=False).entries
    assert "usr/bin/kubeedge" in plain and not [path for path, entry in plain.items() if entry.capability]


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    def made(name: str, backwards: bool) -> bytes:
        tree = Tree()
        for path in sorted(("etc/a", "etc/b/c", "usr/x"), reverse=backwards):
            tree.file(path, path.encode(), capability=b"\x01\xff" if path == "usr/x" else b"")
        tree.link("etc/z", "a")
        archive.write(tmp_path / name, "a/b:1", [tree.layer(7)], {"architecture": "amd64"}, created="now", epoch=7)
        return (tmp_path / name).read_bytes()

    assert made("one", False) == made("two", True)
    wheels.compile_all(site(tmp_path / "p"))
    wheels.compile_all(site(tmp_path / "q"))
    assert wheels.layer(tmp_path / "p", base()).layer(7) == wheels.layer(tmp_path / "q", base()).layer(7)
    assert compress(b"x") == compress(b"x")


def test_everything_is_of_one_time_and_belongs_to_root() -> None:
    tree = base()
    tree.directory("tmp", 0o1777)
    with tarfile.open(fileobj=io.BytesIO(tree.layer(1234))) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == ["tmp", "usr", "usr/bin", f"usr/bin/{PYTHON}"]
    assert {(m.mtime, m.uid, m.gid) for m in members} == {(1234, 0, 0)}
    assert members[0].mode == 0o1777


@pytest.mark.root
@pytest.mark.parametrize("left_out", ["manifest.json", "index.json"])
def test_both_forms_of_the_archive_are_read(tmp_path: Path, left_out: str) -> None:
    """As docker save writes it, and the OCI's layout."""
    name = "docker.io/kubeedge/cloud:1"
    archive.write(
        tmp_path / "both", name, [base().layer(7)], {"architecture": "amd64", "config": {}}, created="", epoch=7
    )
    with tarfile.open(tmp_path / "both") as whole, tarfile.open(tmp_path / "one.tar", "w") as one:
        for member in whole:
            if member.name != left_out:
                one.addfile(member, whole.extractfile(member))
    assert import_archive(ImageStore(tmp_path / "store"), tmp_path / "one.tar") == [name]


def test_the_sbom_names_every_package() -> None:
    package = Package("libc6", "2.36-9", "amd64", "glibc", Path("/none"), "0" * 64)
    found = json.loads(sbom.document("kubeedge/cloud:1", [package], [("PyYAML", "6.0", "MIT")], 0))
    assert found["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
    locators = [each["externalRefs"][0]["referenceLocator"] for each in found["packages"]]
    assert locators == ["pkg:deb/debian/libc6@2.36-9?arch=amd64", "pkg:pypi/pyyaml@6.0"]
    assert len({each["SPDXID"] for each in found["packages"]}) == 2
