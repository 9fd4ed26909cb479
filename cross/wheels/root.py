"""A fresh Debian root of another processor, just large enough for its Python, and what is tried in it.

Its packages are unpacked, not installed: their scripts would take minutes under emulation. Programs of another processor run through QEMU's
user mode, called by name: the kernel of this machine is told nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from cross.wheels.debian import Release
from cross.wheels.targets import Python, Target
from cross.wheels.tools import CACHE, HERE, Tools

_PACKAGES = {
    "bookworm": ("libssl3", "libffi8", "libdb5.3", "libreadline8"),
    "trixie": ("libssl3t64", "libffi8", "libdb5.3t64", "libreadline8t64"),
}
_COMMON = (
    *("libc6", "libgcc-s1", "zlib1g", "libexpat1", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "libcrypt1"),
    *("libtinfo6", "libzstd1"),
)


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
        clean = ["env", "-i", "PATH=/usr/local/bin:/usr/bin", "HOME=/root", "LANG=C.UTF-8", "KUBEEDGE_REQUIRE_FAST=1"]
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


def try_there(tools: Tools, target: Target, python: Python, wheelhouse: Path, path: Path) -> list[str]:
    """Installs the agent from the wheelhouse alone, without a network, and starts it. What was seen, one line each."""
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
    return [*seen, root.run("/inside.py").strip()]


def _put_pip(tools: Tools, root: Path) -> None:
    """Debian's own would bring some hundred packages."""
    wheels = CACHE / "pip-wheel"
    if not wheels.exists():
        new = wheels.with_suffix(".new")
        tools.python("-m", "pip", "download", "-q", "--no-deps", "-d", str(new), "pip==26.3")
        new.rename(wheels)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as packed:
        packed.extractall(root / "pip")
