"""Building from source on a machine that lacks something: it says what, by the names of Debian's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def build(directory: Path, compiler: str) -> subprocess.CompletedProcess[str]:
    command = ["setup.py", "-q", "build_ext", "--build-temp", str(directory), "--build-lib", str(directory)]
    environment = {**os.environ, "CC": compiler, "PYTHONWARNINGS": "ignore"}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)


def compiler(directory: Path, *hidden: str) -> str:
    """gcc, on a machine that has no such headers."""
    pattern = "|".join(f"*'#include <{header}>'*" for header in hidden)
    path = directory / "cc"
    path.write_text(
        '#!/bin/sh\nfor word; do case $word in *probe.c) case $(cat "$word") in\n'
        f"{pattern}) echo 'fatal error: No such file or directory' >&2; exit 1;;\nesac;; esac; done\nexec gcc \"$@\"\n"
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("hidden", "packages"),
    [
        (["openssl/ssl.h"], "libssl-dev"),
        (["Python.h"], "python3-dev"),
        (["Python.h", "openssl/ssl.h"], "python3-dev libssl-dev"),
    ],
)
def test_a_header_is_missing(tmp_path, hidden, packages):
    done = build(tmp_path, compiler(tmp_path, *hidden))
    assert done.returncode == 1
    assert f"next: apt-get install --no-install-recommends {packages}\n" in done.stderr
    assert all(header in done.stderr for header in hidden) and "Traceback" not in done.stderr


def test_there_is_no_compiler(tmp_path):
    done = build(tmp_path, str(tmp_path / "no-such-compiler"))
    assert done.returncode == 1
    assert "next: apt-get install --no-install-recommends gcc\n" in done.stderr and "Traceback" not in done.stderr
