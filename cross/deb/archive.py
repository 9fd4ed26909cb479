"""One Debian package: its files and its fields in, an archive by dpkg-deb out, whose bytes follow from them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class DebPackage:
    """`fields` as in deb-control(5), without the size; paths of `files` and `links` begin below the root, without a slash."""

    fields: dict[str, str]
    files: dict[str, bytes] = field(default_factory=dict)
    programs: set[str] = field(default_factory=set)  # which of `files` have the mode 0755; others have 0644
    links: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)  # preinst, postinst, prerm, postrm

    @property
    def file_name(self) -> str:
        """As apt names packages."""
        return "_".join(self.fields[name] for name in ("Package", "Version", "Architecture")) + ".deb"

    def write(self, directory: Path, work: Path, epoch: int) -> Path:
        """The package in `directory`. `work` is filled, and must be empty. Raises subprocess.CalledProcessError."""
        for name, data in sorted(self.files.items()):
            _put(work / name, data, 0o755 if name in self.programs else 0o644)
        for name, target in sorted(self.links.items()):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).symlink_to(target)
        control = work / "DEBIAN"
        _put(control / "control", _control(self.fields, self.files).encode(), 0o644)
        _put(control / "md5sums", _sums(self.files).encode(), 0o644)
        for name, text in self.scripts.items():
            _put(control / name, text.encode(), 0o755)
        for path in (work, *work.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)  # whatever the umask is
        directory.mkdir(parents=True, exist_ok=True)
        made = directory / self.file_name
        # one thread: more of them cut what they compress in pieces, by the number of processors
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(work), str(made)]
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return made


def _put(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def _control(fields: Mapping[str, str], files: Mapping[str, bytes]) -> str:
    """The description is last, and its lines but the first are indented."""
    size = sum(-(-len(data) // 1024) for data in files.values())
    rest = {name: value for name, value in fields.items() if name != "Description"}
    first, *lines = fields["Description"].splitlines()
    described = "\n".join([first, *(f" {line or '.'}" for line in lines)])
    return "".join(
        f"{name}: {value}\n"
        for name, value in (rest | {"Installed-Size": str(size), "Description": described}).items()
        if value
    )


def _sums(files: Mapping[str, bytes]) -> str:
    return "".join(
        f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {name}\n" for name, data in sorted(files.items())
    )
