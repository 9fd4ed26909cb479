"""Debian's packages of another release or processor, unpacked without being installed.

apt has lists of its own for each, below the cache: those of this machine, and its architectures, stay as they are. Its signatures are checked
with Debian's keys of this machine. What was fetched is kept, and asked for again after a day: an image has the security updates of its day.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR = "http://deb.debian.org/debian"
_DAY = 24 * 3600.0  # seconds after which the mirror is asked for a later version
_HOUR = 3600.0  # seconds for which its lists are those of today
_URI = re.compile(r"^'[^']+' (\S+_\S+\.deb) ", re.MULTILINE)  # of apt-get --print-uris


class Release:
    """The packages of one suite for one of Debian's architectures, kept in `directory`."""

    def __init__(self, suite: str, architecture: str, directory: Path) -> None:
        self.suite = suite
        self.architecture = architecture
        self._directory = directory / f"{suite}-{architecture}"
        self._has_security = True  # the mirror's updates

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
        """The files of these packages, without what they depend on, from the mirror or kept. Raises subprocess.CalledProcessError where one is
        not there and cannot be had."""
        debs = self._directory / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        with (self._directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = self._kept()
            missing = [name for name in packages if name not in kept or not (debs / kept[name][0]).exists()]
            if missing or any(not 0 <= time.time() - kept[name][1] < _DAY for name in packages):
                try:
                    kept |= self._latest(packages, debs)
                except subprocess.CalledProcessError as exc:
                    print(
                        f"{self._directory.name}: packages without security updates of today, for {exc}",
                        file=sys.stderr,
                    )
                    kept |= self._without_security(missing, debs)
                self._kept_file.write_text(json.dumps(kept, sort_keys=True))
        return [debs / kept[name][0] for name in packages]

    @property
    def _kept_file(self) -> Path:
        return self._directory / "kept.json"

    def _kept(self) -> dict[str, tuple[str, float]]:
        """Package -> its file, and when it was the latest."""
        try:
            return {name: (file, at) for name, (file, at) in json.loads(self._kept_file.read_text()).items()}
        except (OSError, ValueError):  # not there, or half written
            return {}

    def _latest(self, packages: list[str], debs: Path) -> dict[str, tuple[str, float]]:
        now, updated = time.time(), self._directory / "updated"
        if not updated.exists() or not 0 <= now - updated.stat().st_mtime < _HOUR:
            self._apt("update", debs)
            updated.touch()
        with tempfile.TemporaryDirectory(prefix="kubeedge-apt-") as empty:  # of what is there already nothing is said
            said = self._apt("download", Path(empty), *packages, "--print-uris")
        files = {file.partition("_")[0]: file for file in _URI.findall(said)}
        if wanted := [name for name in packages if name not in files or not (debs / files[name]).exists()]:
            self._apt("download", debs, *wanted)
        return {name: (files[name], now) for name in packages}

    def _without_security(self, missing: list[str], debs: Path) -> dict[str, tuple[str, float]]:
        """Of a mirror whose security updates cannot be had, as when it is in the middle of its own update: what is not there from the release
        itself, and what is there as it is. Asked for again next time."""
        if not missing:
            return {}
        self._has_security = False
        try:
            return {name: (file, 0.0) for name, (file, _) in self._latest(missing, debs).items()}
        finally:
            self._has_security = True
            (self._directory / "updated").unlink(missing_ok=True)

    def _apt(self, verb: str, cwd: Path, *arguments: str) -> str:
        environment = os.environ | {"APT_CONFIG": str(self._configuration())}
        command = ["apt-get", "-q", verb, *arguments]
        return subprocess.run(command, check=True, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True).stdout

    def _configuration(self) -> Path:
        base = self._directory
        for name in ("lists/partial", "cache/archives/partial"):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "status").touch()
        sources = [f"{_MIRROR} {self.suite}"]
        if self._has_security and "-" not in self.suite:  # backports have no security updates of their own
            sources += [f"{_MIRROR}-security {self.suite}-security"]
        lines = [f"deb [signed-by={_KEYS}] {source} main non-free-firmware\n" for source in sources]
        (base / "sources.list").write_text("".join(lines))
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
