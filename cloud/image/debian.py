"""The base of the image: the files of a few Debian packages, without what only a person or a package manager needs.

The packages are those of the release that built the wheels (their compiled code is for its Python), fetched and verified by apt. Nothing of
them is run: no maintainer script, hence no root. There is no shell in it.
"""

from __future__ import annotations

import email
import fnmatch
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cloud.image.tree import Tree

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
#: what `import` of the cloud side and of all its dependencies opens (a test runs it), and the authorities of public registries and clusters
PACKAGES = (
    "base-files", "ca-certificates", "libbz2-1.0", "libc6", "libcrypt1", "libexpat1", "libffi8", "libgcc-s1", "liblzma5",
    f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libsqlite3-0", "libssl3", "libstdc++6", "libuuid1", "netbase",
    f"{PYTHON}-minimal", "zlib1g",
)  # fmt: skip
_LEFT_OUT = (
    "usr/share/man/*", "usr/share/locale/*", "usr/share/lintian/*", "usr/share/bug/*", "usr/share/bash-completion/*", "usr/share/info/*",
    "usr/share/dict/*", "usr/share/base-files/*", "usr/share/binfmts/*", "usr/share/apps/*", "usr/share/gcc/*", "usr/share/gdb/*",
    "usr/share/applications/*", "usr/share/pixmaps/*", "usr/sbin/*", "usr/bin/pdb*", "usr/bin/pydoc*", "usr/bin/pygettext*",
    "usr/bin/ld.so", "etc/update-motd.d/*", "etc/profile.d/*", "etc/ld.so.conf.d/*", "etc/ca-certificates/*", "etc/default/*",
    "etc/logcheck/*", "etc/skel/*", "etc/issue*", "etc/motd", "var/*", "home", "home/*", "mnt", "media", "srv", "boot", "usr/games*",
    "usr/src*", "usr/include*", "usr/lib/*/gconv/*", "usr/lib/*/audit/*", "usr/lib/valgrind/*", f"usr/lib/{PYTHON}/lib2to3/*",
    f"usr/lib/{PYTHON}/idlelib/*", f"usr/lib/{PYTHON}/pydoc_data/*", f"usr/lib/{PYTHON}/turtle*", f"usr/lib/{PYTHON}/ensurepip/*",
    f"usr/lib/{PYTHON}/tkinter/*", f"usr/lib/{PYTHON}/distutils/*", f"usr/lib/{PYTHON}/curses/*", f"usr/lib/{PYTHON}/unittest/*", f"usr/lib/{PYTHON}/__phello__*", f"usr/lib/{PYTHON}/sitecustomize.py",
    f"etc/{PYTHON}/*", "usr/lib/*/perl*", "usr/share/ca-certificates/*", "usr/lib/systemd/*",
)  # fmt: skip
_MERGED = re.compile(r"^(bin|sbin|lib|lib32|lib64|libx32)(?=/|$)")  # Debian's merged /usr


@dataclass(frozen=True, slots=True)
class Package:
    """A package as its control file and the archive's checksum describe it."""

    name: str
    version: str
    architecture: str
    source: str
    file: Path
    sha256: str


def fetch(directory: Path) -> list[Package]:
    """All of PACKAGES into `directory`, once. Raises FileNotFoundError without apt, subprocess.CalledProcessError, ValueError (wrong checksum)."""
    if not shutil.which("apt-get"):
        raise FileNotFoundError("apt-get: the base of the image is made of Debian packages, on Debian")
    directory.mkdir(parents=True, exist_ok=True)
    try:
        listed = _listed()
    except subprocess.CalledProcessError:  # a machine that has no lists yet
        _run("apt-get", "update", "-q")
        listed = _listed()
    packages = []
    for name, checksum in re.findall(r"^'[^']+' (\S+\.deb) \d+ SHA256:([0-9a-f]{64})$", listed, re.MULTILINE):
        file = directory / name
        if not file.exists():
            _run("apt-get", "download", "-q", _package_of(name), cwd=directory)
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != checksum:
            raise ValueError(f"{file} has the checksum {found} instead of {checksum}")
        packages.append(_described(file, checksum))
    if missing := set(PACKAGES) - {package.name for package in packages}:
        raise ValueError(f"this Debian has no {', '.join(sorted(missing))}")
    return sorted(packages, key=lambda package: package.name)


def _listed() -> str:
    with tempfile.TemporaryDirectory() as empty:  # what is in the directory is not printed
        return _run("apt-get", "download", "--print-uris", *PACKAGES, cwd=Path(empty))


def unpack(packages: list[Package]) -> Tree:
    """The base, with users, name service and the bundle of certificate authorities."""
    tree, authorities = Tree(), dict[str, bytes]()
    for package in packages:
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package.file)], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                _take(tree, tar, member, authorities)
    _configure(tree, b"".join(authorities[name] for name in sorted(authorities)))
    return tree


def _take(tree: Tree, tar: tarfile.TarFile, member: tarfile.TarInfo, authorities: dict[str, bytes]) -> None:
    path = _MERGED.sub(r"usr/\1", member.name.removeprefix("./").strip("/"))
    content = tar.extractfile(member) if member.isreg() or member.islnk() else None
    if path.startswith("usr/share/ca-certificates/") and content is not None:
        authorities[path] = content.read().rstrip() + b"\n"
    if not path or any(fnmatch.fnmatchcase(path, pattern) for pattern in _LEFT_OUT):
        return
    if path.startswith("usr/share/doc/") and not path.endswith("/copyright"):
        return
    if content is not None:
        tree.file(path, content.read(), member.mode & 0o755)
    elif member.issym():
        tree.link(path, member.linkname)
    elif path not in tree.entries:
        tree.directory(path, member.mode & 0o1777)


def _configure(tree: Tree, authorities: bytes) -> None:
    for name in ("bin", "lib", "lib64", "sbin"):
        tree.directory(f"usr/{name}")
        tree.link(name, f"usr/{name}")
    tree.link("usr/bin/python3", PYTHON)
    tree.file(
        "etc/passwd", b"root:x:0:0:root:/root:/nonexistent\nkubeedge:x:65532:65532:kubeedge:/nonexistent:/nonexistent\n"
    )
    tree.file("etc/group", b"root:x:0:\nkubeedge:x:65532:\n")
    tree.file(
        "etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"
    )
    tree.file("etc/ssl/certs/ca-certificates.crt", authorities)
    tree.directory("tmp", 0o1777)
    for path in ("dev", "etc/kubeedge", "proc", "run", "sys", "var/lib/kubeedge", "var/tmp"):
        tree.directory(path)


def _described(file: Path, checksum: str) -> Package:
    control = email.message_from_string(_run("dpkg-deb", "--field", str(file)))
    name = str(control["Package"])
    source = str(control["Source"] or name).split()[0]
    return Package(name, str(control["Version"]), str(control["Architecture"]), source, file, checksum)


def _package_of(file: str) -> str:
    """The name and the version, as apt-get takes them, of libssl3_3.0.22-1~deb12u2_amd64.deb."""
    name, version, _ = file.split("_")
    return f"{name}={version.replace('%3a', ':')}"


def _run(*argv: str, cwd: Path | None = None) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=cwd).stdout
