"""Debian packages: their bytes follow from the wheels, their fields are what dpkg reads, and their scripts and units are well formed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cross.deb import contents, units
from cross.deb.archive import DebPackage
from cross.wheels.targets import PYTHONS, TARGETS
from kubeedge.cli import preflight, reset, service
from kubeedge.cli.join import STATE_MARK
from kubeedge.config import edge, node_credentials

ROOT = Path(__file__).parents[3]
SCRIPTS = sorted(Path(contents.__file__).with_name("scripts").iterdir())
VERSION = contents.Version("1.2.3", "1", 1_700_000_000)
METADATA = "Metadata-Version: 2.4\nName: {}\nVersion: 1.2.3\nLicense-Expression: MIT\n"


def wheel(path: Path, name: str, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as packed:
        for inside, data in files.items():
            packed.writestr(inside, data)
        packed.writestr(f"{name}-1.2.3.dist-info/METADATA", METADATA.format(name))
        packed.writestr(f"{name}-1.2.3.dist-info/RECORD", b"")
    return path


def test_they_are_built_by_a_python_that_has_none_of_ours() -> None:
    """`make deb` is for a machine with git, make and python3-venv: nothing is installed, nor compiled for it."""
    command = [sys._base_executable, "-S", "-c", "import cross.deb.__main__ as deb; print(deb.contents.units.cloud())"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": "src"}, capture_output=True, text=True)
    assert done.returncode == 0 and "User=kubeedge" in done.stdout, done.stderr


@pytest.fixture
def packages(tmp_path: Path) -> list[DebPackage]:
    wheelhouse = tmp_path / "wheels"
    wheel(
        wheelhouse / "kubeedge-1.2.3-cp311.whl",
        "kubeedge",
        {"kubeedge/__init__.py": b"", "kubeedge/fast.so": b"\x7fELF"},
    )
    wheel(wheelhouse / "h11-1.2.3-py3-none-any.whl", "h11", {"h11/__init__.py": b""})
    cloud = wheel(tmp_path / "cloud.whl", "kubeedge-cloud", {"kubeedge_cloud/__init__.py": b"x = 1\n"})
    return contents.packages(TARGETS["armv7l"], PYTHONS["3.11"], VERSION, wheelhouse, cloud)


def fields(deb: Path) -> dict[str, str]:
    said = subprocess.run(["dpkg-deb", "--field", str(deb)], check=True, capture_output=True, text=True).stdout
    return dict(line.split(": ", 1) for line in said.splitlines() if ": " in line and not line.startswith(" "))


def listed(deb: Path) -> dict[str, str]:
    """Mode and owner of each path."""
    said = subprocess.run(["dpkg-deb", "--contents", str(deb)], check=True, capture_output=True, text=True).stdout
    rows = (line.split(maxsplit=5) for line in said.splitlines())
    return {row[5].split(" -> ")[0].removeprefix("./"): f"{row[0]} {row[1]}" for row in rows}


def write(package: DebPackage, directory: Path, stage: str) -> Path:
    (directory / stage).mkdir()
    return package.write(directory / f"{stage}-out", directory / stage, VERSION.epoch)


def test_the_same_files_make_the_same_package_whatever_the_umask(tmp_path, packages):
    made = []
    for number, umask in enumerate((0o022, 0o077)):
        old = os.umask(umask)
        try:
            made.append([write(package, tmp_path, f"{number}-{package.fields['Package']}") for package in packages])
        finally:
            os.umask(old)
    for first, second in zip(*made, strict=True):
        assert first.name == second.name and first.read_bytes() == second.read_bytes()


def test_dpkg_reads_what_was_meant(tmp_path, packages):
    common, agent, cloud = (write(package, tmp_path, package.fields["Package"]) for package in packages)
    assert common.name == "kubeedge-common_1.2.3-1+deb12_armhf.deb"
    assert fields(common)["Architecture"] == "armhf" and "Source" not in fields(agent)
    assert (fields(agent)["Architecture"], fields(cloud)["Architecture"]) == ("all", "all")
    for deb in (agent, cloud):
        assert "kubeedge-common (= 1.2.3-1+deb12)" in fields(deb)["Depends"]
    inside = listed(common)
    assert inside["usr/lib/kubeedge/bin/kubeedge"] == "-rwxr-xr-x root/root"
    assert inside["usr/lib/kubeedge/lib/python3.11/site-packages/kubeedge/__init__.py"] == "-rw-r--r-- root/root"
    assert inside["usr/bin/keadm"].startswith("lrwxrwxrwx") and not [n for n in inside if n.endswith("RECORD")]
    assert "usr/lib/systemd/system/kubeedge-edge.service" in listed(agent)
    assert "usr/lib/kubeedge/lib/python3.11/site-packages/kubeedge_cloud/__init__.py" in listed(cloud)


def test_a_package_of_a_later_debian_is_the_newer_one():
    versions = [VERSION.of(python) for python in PYTHONS.values()]
    done = subprocess.run(["dpkg", "--compare-versions", versions[0], "lt", versions[1]], check=False)
    assert done.returncode == 0, versions


def test_the_agent_depends_on_every_program_that_it_looks_for():
    packages = {package for _, package in preflight._PROGRAMS.values()}
    assert packages | {"crun", "containernetworking-plugins"} <= set(contents.NODE)


def test_the_command_runs_in_the_environment_of_the_package(packages):
    common = packages[0]
    program = common.files["usr/lib/kubeedge/bin/kubeedge"].decode()
    assert program.startswith(f"#!{service.PACKAGED_PYTHON}\n")
    assert common.links[service.PACKAGED_PYTHON.lstrip("/")] == "/usr/bin/python3.11"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_maintainer_script_is_shell(path):
    assert path.read_text().startswith("#!/bin/sh\nset -e\n")
    done = subprocess.run(["sh", "-n"], input=path.read_text(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def purged(package: str, root: Path) -> subprocess.CompletedProcess[str]:
    """By the very script, below another root."""
    text = (SCRIPTS[0].parent / f"{package}.postrm").read_text()
    for name in ("/etc", "/var/lib", "/run"):
        text = text.replace(f"{name}/kubeedge", f"{root}{name}/kubeedge")
    return subprocess.run(["sh", "-c", text, "postrm", "purge"], capture_output=True, text=True)


def joined(root: Path) -> tuple[Path, Path]:
    """What a node has on its disk: /etc/kubeedge and its state."""
    etc, state = root / "etc/kubeedge", root / "var/lib/kubeedge/edge"
    credentials = node_credentials.credentials_path(edge.at_root(root))
    for path in (
        credentials,
        node_credentials.ipv6_path(credentials),
        *(etc / "pki" / name for name in reset._PKI_FILES),
        *(etc / name for name in ("kubeedge.yaml", "kubeconfig")),
        state / STATE_MARK,
        state / "edge.db",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return etc, state


def test_a_purge_leaves_nothing_of_a_node(tmp_path: Path) -> None:
    etc, state = joined(tmp_path)
    assert purged("kubeedge", tmp_path).returncode == 0
    assert not etc.exists() and not state.parent.exists()
    (state.parent / "cloud").mkdir(parents=True)
    assert purged("kubeedge-cloud", tmp_path).returncode == 0 and not state.parent.exists()


@pytest.mark.root
@pytest.mark.parametrize(("package", "name"), [("kubeedge", "edge"), ("kubeedge-cloud", "cloud")])
def test_a_purge_of_a_state_on_a_partition_of_its_own_ends(tmp_path: Path, package: str, name: str) -> None:
    state = tmp_path / "var/lib/kubeedge" / name
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(state)], check=True)
    try:
        (state / STATE_MARK).touch()
        done = purged(package, tmp_path)
        assert done.returncode == 0 and "not all of" in done.stderr and list(state.iterdir()) == []
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_no_script_of_a_package_is_left_out(packages):
    assert sum(len(package.scripts) for package in packages) == len(SCRIPTS)
    assert all("@" not in text for package in packages for text in package.scripts.values())


def test_the_cloud_side_is_no_root_and_its_configuration_stays_roots():
    text = units.cloud()
    assert "\nUser=kubeedge\n" in text and "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE\n" in text
    assert (
        "=+/usr/bin/install -m 0400 -o kubeedge -g kubeedge /etc/kubeedge/cloud.yaml /run/kubeedge-cloud/cloud.yaml\n"
        in text
    )
    assert "--config /run/kubeedge-cloud/cloud.yaml\n" in text
    assert "User=" not in units.edge(), "an agent makes containers"
