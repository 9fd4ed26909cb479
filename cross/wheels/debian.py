"""Debian's packages of another release or processor, unpacked without being installed.

apt has lists of its own for each, below the cache: those of this machine, and its architectures, stay as they are. Its signatures are checked
with Debian's keys of this machine.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR = "http://deb.debian.org/debian"


class Release:
    """The packages of one suite for one of Debian's architectures, kept in `directory`."""

    def __init__(self, suite: str, architecture: str, directory: Path) -> None:
        self.suite = suite
        self.architecture = architecture
        self._directory = directory / f"{suite}-{architecture}"

    def unpack(self, packages: Iterable[str], root: Path) -> None:
        """Into `root`, in whose /usr everything is (as in Debian 12 and later). No script of a package runs."""
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            if not (root / name).is_symlink():
                (root / name).symlink_to(f"usr/{name}")
        for package in self.fetch(list(packages)):
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as packed:
                unpack = ["tar", "-x", "--keep-directory-symlink", "-C", str(root)]
                subprocess.run(unpack, stdin=packed.stdout, check=True)
            if packed.returncode:
                raise subprocess.CalledProcessError(packed.returncode, packed.args)

    def fetch(self, packages: list[str]) -> list[Path]:
        """The files of these packages, without what they depend on, from the mirror or kept. Raises subprocess.CalledProcessError."""
        debs = self._directory / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        with (self._directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if missing := [name for name in packages if not list(debs.glob(f"{name}_*.deb"))]:
                self._apt("update", debs)
                self._apt("download", debs, *missing)
        return [next(debs.glob(f"{name}_*.deb")) for name in packages]

    def _apt(self, verb: str, cwd: Path, *packages: str) -> None:
        configuration = self._configuration()
        environment = os.environ | {"APT_CONFIG": str(configuration)}
        subprocess.run(
            ["apt-get", "-q", verb, *packages], check=True, cwd=cwd, env=environment, stdout=subprocess.DEVNULL
        )

    def _configuration(self) -> Path:
        base = self._directory
        for name in ("lists/partial", "cache/archives/partial"):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "status").touch()
        (base / "sources.list").write_text(f"deb [signed-by={_KEYS}] {_MIRROR} {self.suite} main non-free-firmware\n")
        values = {
            "Dir::State::lists": base / "lists",
            "Dir::State::status": base / "status",
            "Dir::Cache": base / "cache",
            "Dir::Etc::sourcelist": base / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "APT::Architecture": self.architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        path = base / "apt.conf"
        text = "".join(f'{name} "{value}";\n' for name, value in values.items())
        path.write_text(f'APT::Architectures {{ "{self.architecture}"; }};\n{text}')
        return path
