"""One version, and a cloud side that goes with every compatible edge."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import kubeedge

ROOT = Path(__file__).resolve().parents[3]


def test_the_version_stands_in_one_file():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    code = [n for n in listed.split("\0") if n.endswith((".py", ".toml", ".in", ".sh")) or n == "Makefile"]
    code = [n for n in code if not n.startswith(("tests/", "bench/")) and (ROOT / n).is_file()]
    version = f'{kubeedge.__version__}"'
    assert [n for n in code if version in (ROOT / n).read_text(encoding="utf-8")] == ["src/kubeedge/__init__.py"]


def test_both_distributions_have_it():
    for name in ("kubeedge", "kubeedge-cloud"):
        assert importlib.metadata.version(name) == kubeedge.__version__


def test_the_cloud_takes_every_compatible_edge():
    major, minor = map(int, kubeedge.__version__.split(".")[:2])
    required = [r for r in importlib.metadata.requires("kubeedge-cloud") or [] if "extra" not in r]
    assert required == [f"kubeedge<{major}.{minor + 1},>={major}.{minor}", "cryptography>=42"]
