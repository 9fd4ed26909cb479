"""Today's versions of the peers, beside those that Debian ships: built or fetched once by their ecosystem's ordinary client, and cached.

yggdrasil, wireguard-go   Go modules (tests/kit/upstream)
Tailscale                 Go module, with the control server and the DERP relay of its own tests
rathole                   crates.io, by cargo
EasyTier                  the wheel easytier-pyo3 of PyPI; run by easytier.py, which has no package but that directory

frp, headscale and NetBird are not to be had from the Go module proxy, and EasyTier has no crate of its program: they are missing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.kit.upstream import build

RATHOLE = "0.5.0"
EASYTIER = "0.1.3"  # of the wheel; version() asks for that of the core in it
_MODULES = {
    "yggdrasil": ("overlays", "github.com/yggdrasil-network/yggdrasil-go"),
    "wireguard-go": ("overlays", "golang.zx2c4.com/wireguard"),
    "tailscale-derp": ("tailscale", "tailscale.com"),
    "tailscale-relay": ("tailscale", "tailscale.com"),
}


def program(name: str) -> str:
    """Path of yggdrasil, wireguard-go, rathole or a program of Tailscale; built when it is missing. Raises subprocess.CalledProcessError, FileNotFoundError."""
    return str(_rathole() if name == "rathole" else build.program(name))


def easytier() -> Path:
    """The directory that has the package easytier_pyo3."""
    where = build.cache() / f"easytier-pyo3-{EASYTIER}"
    if not where.exists():
        fresh = where.with_name(where.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        pip = (
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
        )
        subprocess.run([*pip, "--target", str(fresh), f"easytier-pyo3=={EASYTIER}"], check=True, stdout=sys.stderr)
        fresh.rename(where)
    return where


def _rathole() -> Path:
    where = build.cache() / f"rathole-{RATHOLE}"
    if not (path := where / "bin/rathole").exists():
        cargo = shutil.which("cargo")
        if cargo is None:
            raise FileNotFoundError("rathole is built by cargo, which is not on this machine")
        subprocess.run(
            [cargo, "install", "-q", "--locked", "--root", str(where), f"rathole@{RATHOLE}"],
            check=True,
            stdout=sys.stderr,
        )
    return path


def version(name: str) -> str:
    if name == "rathole":
        return RATHOLE
    if name == "easytier":
        said = subprocess.run(
            [sys.executable, "-c", "import easytier_pyo3 as e; print(e.version())"], capture_output=True, text=True,
            check=True, env={"PYTHONPATH": str(easytier())},
        )  # fmt: skip
        return said.stdout.strip()
    return build.version(*_MODULES[name])
