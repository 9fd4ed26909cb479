"""Debian's packages of a board, with what is said of them in an SBOM; and bytecode, by the same Python on this machine's processor."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cross.wheels.debian import Release

_SUITE = "trixie"
_HOST = (
    "libc6",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "libpython3.13-minimal",
    "python3.13-minimal",
    "libpython3.13-stdlib",
)


@dataclass(frozen=True, slots=True)
class Packed:
    """One package that is in the image."""

    name: str
    version: str
    architecture: str
    source: str


class Packages:
    """Of one architecture, fetched once, below `cache`."""

    def __init__(self, debian: str, cache: Path, kernel_suite: str = "") -> None:
        self._release = Release(_SUITE, debian, cache / "apt")
        self._kernels = Release(kernel_suite, debian, cache / "apt") if kernel_suite else self._release
        self._host = Release(_SUITE, "amd64", cache / "apt")
        self._tools = cache / f"python-{_SUITE}-amd64"
        self.files: list[Path] = []

    def unpack(self, names: Iterable[str], root: Path) -> None:
        """Into `root`; no script runs."""
        names = list(names)
        self._release.unpack(names, root)
        self.files += self._release.fetch(names)

    def unpack_kernel(self, meta: str, root: Path) -> str:
        """What the meta package stands for today; the kernel's release. Of newer kernels the modules are a package of their own, and others."""
        (file,) = self._kernels.fetch([meta])
        (name,) = _depends(file, ("linux-image-",))
        (image,) = self._kernels.fetch([name])
        names = [name, *_depends(image, ("linux-base-", "linux-binary-", "linux-modules-"))]
        self._kernels.unpack(names, root)
        self.files += self._kernels.fetch(names)
        return name.removeprefix("linux-image-")

    def compile_python(self, root: Path) -> None:
        """Bytecode of everything in `root`, with -OO, which holds whatever the dates of the sources are."""
        if not (self._tools / ".ready").exists():
            self._host.unpack(_HOST, self._tools)
            (self._tools / ".ready").touch()
        usr = self._tools / "usr"
        loader = next((usr / "lib64").glob("ld-linux-x86-64.so.2"), usr / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
        command = [str(loader), "--library-path", str(usr / "lib/x86_64-linux-gnu"), str(usr / "bin/python3.13"), "-OO"]
        command += ["-m", "compileall", "-q", "-f", "-o", "2", "--invalidation-mode", "unchecked-hash"]
        command += ["-s", str(root), "-p", "/", str(root / "usr/lib/python3.13"), str(root / "usr/lib/kubeedge/lib")]
        environment = {**os.environ, "PYTHONHOME": str(usr), "PYTHONHASHSEED": "0"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run(command, check=True, env=environment)

    def contents(self, own: Iterable[Path]) -> list[Packed]:
        """Everything that was unpacked, and our own."""
        found = {}
        for file in (*self.files, *own):
            name, version, architecture = (field(file, key) for key in ("Package", "Version", "Architecture"))
            found[name] = Packed(name, version, architecture, field(file, "Source").split(" ")[0] or name)
        return [found[name] for name in sorted(found)]


def _depends(package: Path, starts: tuple[str, ...]) -> list[str]:
    """The packages with such names that it needs."""
    wanted = (word.split()[0] for word in field(package, "Depends").split(","))
    return [name for name in wanted if name.startswith(starts)]


def field(package: Path, name: str) -> str:
    """Of a package's control file; "" where it has none of that name."""
    return subprocess.run(
        ["dpkg-deb", "-f", str(package), name], check=True, capture_output=True, text=True
    ).stdout.strip()
