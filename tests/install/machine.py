"""A fresh Debian system: a root of its own, entered through the namespaces of a test host.

The root is made by debootstrap once, kept outside the checkout, and copied for each machine, so nothing of an earlier run is there.
Packages are kept, too, beside it. Commands run in the host's network, which reaches the other machines of the test alone, or, when they
install packages, in the network of the machine that runs the test.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.kit import cache
from tests.kit.topology import Host

ROOT = Path(__file__).resolve().parents[2]
CACHE = cache.directory()
_MIRROR = "http://deb.debian.org/debian"
_AUTHORITIES = Path("/usr/local/share/ca-certificates")  # of the network that this machine is in
#: what pip is told about that network, and nothing else of our environment
_FORWARDED = ("PIP_CERT", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "http_proxy", "https_proxy", "no_proxy")


@contextlib.contextmanager
def alone(release: str) -> Iterator[None]:
    """Two runs would want the lock of one directory of packages, and to make one root."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"install-{release}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def base(release: str) -> Path:
    """The root that is copied."""
    path = CACHE / "roots" / release
    if not path.exists():
        _need_debootstrap()
        fresh, packages = path.with_name(f"{release}.new"), CACHE / "debs" / release
        shutil.rmtree(fresh, ignore_errors=True)
        packages.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--cache-dir={packages}", release, str(fresh), _mirror()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        fresh.rename(path)
    return path


def _need_debootstrap() -> None:
    if shutil.which("debootstrap"):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for verb in (["update", "-q"], ["install", "-yq", "--no-install-recommends", "debootstrap"]):
        subprocess.run(["apt-get", *verb], check=True, stdout=subprocess.DEVNULL, env=environment)


def _mirror() -> str:
    """Where this machine's own packages come from."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return said[0].rstrip("/") if said else _MIRROR


class Machine:
    """One host with a fresh root at `path`."""

    def __init__(self, host: Host, release: str, path: Path, log: Path) -> None:
        self.host = host
        self.root = path
        self.log = log
        self.home = "/root"
        self._exports: list[str] = []
        subprocess.run(["cp", "-a", str(base(release)), str(path)], check=True)
        self._prepare()
        self._mount(CACHE / "debs" / release)

    def _prepare(self) -> None:
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        (self.root / "etc/hostname").write_text(f"{self.host.name}\n")
        never = self.root / "usr/sbin/policy-rc.d"  # no package starts a service of its own
        never.write_text("#!/bin/sh\nexit 101\n")
        never.chmod(0o755)
        if _AUTHORITIES.is_dir():
            shutil.copytree(_AUTHORITIES, self.root / _AUTHORITIES.relative_to("/"), dirs_exist_ok=True)
        if certificates := os.environ.get("PIP_CERT"):
            target = self.root / certificates.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(certificates, target)

    def _mount(self, packages: Path) -> None:
        pip = CACHE / "pip"
        for directory in (pip, packages):
            directory.mkdir(parents=True, exist_ok=True)
        (self.root / "root/.cache/pip").mkdir(parents=True, exist_ok=True)
        for arguments in (
            ("--bind", str(self.root), ""),  # pivot_root(2) wants a mount point
            ("-t", "proc", "proc", "proc"),
            ("--rbind", "/sys", "sys"),
            ("--rbind", "/dev", "dev"),
            ("-t", "tmpfs", "tmpfs", "run"),
            ("--bind", str(packages), "var/cache/apt/archives"),
            ("--bind", str(pip), "root/.cache/pip"),
        ):
            self.host.run("mount", *arguments[:-1], str(self.root / arguments[-1]))

    def path(self, inside: str) -> Path:
        """As the host sees it: with what is mounted there."""
        return Path(f"/proc/{self.host.pid}/root{self.root}{inside}")

    def command(self, script: str, *, outside: bool = False) -> list[str]:
        """The argument vector that runs a script here; `outside`: in the network of the machine that runs the test."""
        enter = self.host.command()
        if outside:
            enter.remove("-n")
        given = [f"{name}={os.environ[name]}" for name in _FORWARDED if name in os.environ]
        environment = ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *given,
                       "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]  # fmt: skip
        lines = ["set -eu", f"cd {self.home}", *self._exports, script]
        return [*enter, "chroot", str(self.root), *environment, "bash", "-c", "\n".join(lines)]

    def run(self, script: str, *, outside: bool = False, timeout: float = 1200) -> str:
        """Both streams of a script that has to end well. What it exports holds for the scripts that follow."""
        done = subprocess.run(
            self.command(script, outside=outside), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout,
        )  # fmt: skip
        with self.log.open("a") as log:
            log.write(f"$ {script}\n{done.stdout}")
        if done.returncode:
            raise AssertionError(f"on {self.host.name}, status {done.returncode}:\n{script}\n{done.stdout[-4000:]}")
        self._exports += [line for line in script.splitlines() if line.startswith("export ")]
        return done.stdout

    def spawn(self, script: str) -> subprocess.Popen[bytes]:
        """A program that runs on; it ends with the host."""
        entered = len(self.host.command())
        return self.host.spawn(*self.command(f"exec {script}")[entered:], log=self.log)
