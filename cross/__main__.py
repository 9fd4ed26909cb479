"""`make cross ARCH=armhf`: the compiled code and its tests on another processor, emulated by QEMU's user mode in a Debian root.

    python -m cross --arch armhf [-- PYTEST-ARGUMENTS]

armhf has words of 32 bits, s390x has its most significant byte first. The root is made once, in build/cross/ARCH; the tree that git
knows is copied into it and built there, and the tests that need no namespaces run. Root only; Debian packages and PyPI are the sources.
Mounts belong to a mount namespace of this run, so nothing stays behind. An emulated processor says nothing about speed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
BUILD = HERE / "build" / "cross"
EMULATORS = {"armhf": "arm", "arm64": "aarch64", "s390x": "s390x", "riscv64": "riscv64", "i386": "i386"}
TOOLS = ("debootstrap", "qemu-user-static", "binfmt-support")
#: of the Debian inside; what PyPI has no wheels of for these processors comes from there
INSIDE = (
    *(
        "gcc",
        "libc6-dev",
        "libssl-dev",
        "python3-dev",
        "python3-venv",
        "python3-pip",
        "openssl",
        "ca-certificates",
        "iproute2",
    ),
    # debootstrap does not find what provides the virtual packages that cryptography depends on
    *("python3-yaml", "python3-cryptography", "python3-cffi-backend"),
)
#: pure Python. hypothesis: the last versions that are
WHEELS = (
    "setuptools>=77",
    "wheel",
    "cython>=3.0",
    "pytest>=8",
    "hypothesis<6.150",
    "websockets>=15",
    "h11",
)
TESTS = (
    *("wire", "kubebus_l2", "kubebus_l3", "kubebus_l4", "kubebus_http", "store", "sync", "hub"),
    *("api", "config", "kit"),
)
#: QEMU's user mode answers getsockopt(TCP_INFO, TCP_CONGESTION) with one word, and not in the order of the bytes
LEFT_OUT = (
    "congestion_control_is_read_back",
    "bytes_that_came_and_bytes_that_were_taken",
    "desired_goes_down_and_reported_comes_up",
)
BINFMT = Path("/proc/sys/fs/binfmt_misc")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make cross", description=__doc__)
    parser.add_argument("--arch", default="armhf", choices=sorted(EMULATORS))
    parser.add_argument("--suite", default="bookworm", help="of Debian")
    parser.add_argument("rest", nargs="*", help="for pytest, instead of our choice of tests")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make cross needs root: it makes a Debian root and enters it", file=sys.stderr)
        return 2
    if missing := [name for name in TOOLS if not _installed(name)]:
        _run("apt-get", "install", "-yq", "--no-install-recommends", *missing)
    _register(EMULATORS[options.arch])
    root = BUILD / options.arch
    if not (root / ".ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        _run(
            "debootstrap",
            f"--arch={options.arch}",
            "--variant=minbase",
            f"--include={','.join(INSIDE)}",
            options.suite,
            str(root),
        )
        (root / ".ready").touch()
    _copy(root / "src")
    for name in ("/etc/resolv.conf", os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt")):
        if Path(name).exists():
            (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, root / name[1:])
    chosen = options.rest or [f"tests/unit/{name}" for name in TESTS]
    steps = (
        ("/usr/bin/python3", "-m", "venv", "--system-site-packages", ".venv"),
        (".venv/bin/pip", "install", "-q", "--upgrade", "--ignore-installed", *WHEELS),
        (".venv/bin/pip", "install", "-q", "--no-build-isolation", "--no-deps", "-e", ".", "-e", "./cloud"),
        (".venv/bin/python", "-m", "pytest", "-q", "-k", f"not ({' or '.join(LEFT_OUT)})", *chosen),
    )
    for step in steps:
        inside = ("chroot", str(root), "env", "-C", "/src", *step)
        done = subprocess.run(
            ["unshare", "--mount", "--", sys.executable, "-m", "cross.enter", str(root), *inside], cwd=HERE
        )
        if done.returncode:
            return done.returncode
    return 0


def _installed(package: str) -> bool:
    argv = ["dpkg-query", "-W", "-f=${db:Status-Status}", package]
    return subprocess.run(argv, capture_output=True, text=True).stdout == "installed"


def _register(emulator: str) -> None:
    """The kernel starts programs of this processor through QEMU (Linux: Documentation/admin-guide/binfmt-misc.rst)."""
    if not (BINFMT / "register").exists():
        _run("mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT))
    if not (BINFMT / f"qemu-{emulator}").exists():
        subprocess.run(["update-binfmts", "--import", f"qemu-{emulator}"], check=False)
        subprocess.run(["update-binfmts", "--enable", f"qemu-{emulator}"], check=False)


def _copy(target: Path) -> None:
    """What git knows, as it is in the working tree."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=HERE, check=True, capture_output=True).stdout.split(b"\0")
    shutil.rmtree(target, ignore_errors=True)
    for name in filter(None, map(os.fsdecode, names)):
        if (HERE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, target / name)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


if __name__ == "__main__":
    sys.exit(main())
