"""A fresh Debian root of another processor, just large enough for its Python, and what is tried in it.

Its packages are unpacked, not installed: their scripts would take minutes under emulation. Programs of another processor run through QEMU's
user mode, called by name: the kernel of this machine is told nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from cross.wheels.debian import Release
from cross.wheels.targets import Python, Target
from cross.wheels.tools import CACHE, HERE, Tools, source

_PACKAGES = {
    "bookworm": ("libssl3", "libffi8", "libdb5.3", "libreadline8"),
    "trixie": ("libssl3t64", "libffi8", "libdb5.3t64", "libreadline8t64"),
}
_COMMON = (
    *("libc6", "libgcc-s1", "zlib1g", "libexpat1", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "libcrypt1"),
    *("libtinfo6", "libzstd1"),
)
#: of the tests that need no network, no other program and no package that the agent has not, some of each kind; emulated, a test takes ten
#: times as long
_PYTEST = [
    *("-q", "-p", "no:cacheprovider", "--rootdir", "/src", "-c", "/src/pyproject.toml"),
    *("/src/tests/reference/test_checksum.py", "/src/tests/unit/fastpath/test_libc.py"),
    *(
        "/src/tests/unit/kubebus_l4/test_connections.py",
        "-k",
        "not whatever_the_network_does and not single_pages_are_read",
    ),
]


class Failed(Exception):
    """A program in a root did not end well. Its text has what it printed."""


class Root:
    """A root at `path`, which is made anew."""

    def __init__(self, target: Target, python: Python, path: Path) -> None:
        self._target = target
        self._python = python
        self.path = path
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        version = f"python{python.version}"
        own = (f"{version}-minimal", f"lib{version}-minimal", f"lib{version}-stdlib")
        Release(python.suite, target.debian, CACHE / "apt").unpack((*_COMMON, *_PACKAGES[python.suite], *own), path)
        for name in ("proc", "dev", "run", "tmp", "root"):
            (path / name).mkdir(exist_ok=True)
        if target.emulator:
            shutil.copy2(f"/usr/bin/qemu-{target.emulator}-static", path / "usr/bin/qemu")

    def run(self, *arguments: str) -> str:
        """What Python prints there. Failed where it does not end well."""
        emulator = ["/usr/bin/qemu"] if self._target.emulator else []
        clean = [
            "env",
            "-i",
            "PATH=/usr/local/bin:/usr/bin",
            "HOME=/root",
            "LANG=C.UTF-8",
            "KUBEEDGE_REQUIRE_FAST=1",
            "CI=true",
        ]
        python = f"/usr/bin/python{self._python.version}"
        inside = [*clean, "/usr/sbin/chroot", str(self.path), *emulator, python, *arguments]
        enter = ["unshare", "--mount", "--net", "--", sys.executable, "-m", "cross.enter", str(self.path)]
        done = subprocess.run([*enter, *inside], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(arguments)}: status {done.returncode}\n{done.stdout[-4000:]}")
        return done.stdout


def need_emulator(target: Target) -> None:
    """Installs QEMU's user mode where it is missing."""
    if target.emulator and not Path(f"/usr/bin/qemu-{target.emulator}-static").exists():
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        install = ["apt-get", "install", "-yq", "--no-install-recommends", "qemu-user-static"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)


def try_there(
    tools: Tools, target: Target, python: Python, wheelhouse: Path, path: Path, *, tests: bool = False
) -> list[str]:
    """Installs the agent from the wheelhouse alone, without a network, and starts it. What was seen, one line each; last what a slice of
    the tests says, if they are asked for, which takes minutes."""
    need_emulator(target)
    root = Root(target, python, path)
    shutil.copytree(wheelhouse, root.path / "wheelhouse")
    _put_pip(tools, root.path)
    install = ("/pip/pip", "install", "-q", "--no-compile", "--no-cache-dir", "--no-index", "--break-system-packages")
    root.run(*install, "--find-links", "/wheelhouse", "kubeedge")
    seen = [root.run("/usr/local/bin/kubeedge", "version").strip()]
    try:
        root.run("/usr/local/bin/kubeedge", "status", "--socket", "/run/kubeedge/edge.sock")
        raise AssertionError("status of an agent that does not run")
    except Failed as exc:
        seen.append(str(exc).partition("\n")[2].strip())
    shutil.copyfile(Path(__file__).with_name("inside.py"), root.path / "inside.py")
    seen.append(root.run("/inside.py").strip())
    return [*seen, _test(tools, root)] if tests else seen


def _test(tools: Tools, root: Root) -> str:
    """A slice of the tests, those of C against its reference in Python; what pytest says at its end."""
    for wheel in _downloaded(tools, "test-wheels", "-r", str(Path(__file__).with_name("test-requirements.txt"))):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(root.path / "pytest")
    source(root.path / "src")
    run = f"import sys; sys.path.insert(0, '/pytest'); import pytest; sys.exit(pytest.main({_PYTEST!r}))"
    return root.run("-c", run).strip().splitlines()[-1].strip("= ")


def _put_pip(tools: Tools, root: Path) -> None:
    """Debian's own would bring some hundred packages."""
    (wheel,) = _downloaded(tools, "pip-wheel", "pip==26.3")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(root / "pip")


def _downloaded(tools: Tools, name: str, *requirements: str) -> list[Path]:
    """Wheels of pure Python, kept. The directory's name has a hash of what is asked for."""
    asked = "".join(Path(text).read_text() if text.startswith("/") else text for text in requirements)
    wheels = CACHE / f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
    if not wheels.exists():
        new = wheels.with_suffix(f".{os.getpid()}")
        pure = ("--only-binary", ":all:", "--platform", "any", "--python-version", "3.11", "--no-deps")
        tools.python("-m", "pip", "download", "-q", *pure, "-d", str(new), *requirements)
        with contextlib.suppress(OSError):  # another run was quicker
            new.rename(wheels)
    return sorted(wheels.glob("*.whl"))
