"""The source distribution has all that building needs. `make fresh` builds wheels of it, in an environment without anything else."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BESIDE = {"LICENSE", "README.md", "CHANGELOG.md", "MANIFEST.in", "pyproject.toml", "setup.py"}


def tracked(*directories: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *directories], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def test_it_has_every_source_and_nothing_that_was_built(tmp_path):
    # the directory in which setuptools collects is in the current one; what setup.py reads is found by links
    for name in (*BESIDE, "src", "build"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path / "dist")]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (packed,) = (tmp_path / "dist").iterdir()
    with tarfile.open(packed) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    wanted = tracked("src/kubeedge", "src/_fastpath") | BESIDE
    assert wanted - names == set()
    assert {name for name in names - wanted if not name.startswith("src/kubeedge.egg-info/")} <= {
        "PKG-INFO",
        "setup.cfg",
    }
