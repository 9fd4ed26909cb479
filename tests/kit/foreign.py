"""Python programs of others that are peers of a few tests and too large for everybody's .venv: installed once, each kind into a directory of its own
outside the checkout.

    environment("bluetooth")        # of a process whose Python finds them: PYTHONPATH, and PATH with ffmpeg where there is one

Versions are those of all packages, for pip is not asked what else they want.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.kit.cache import directory

PACKAGES: dict[str, Sequence[str]] = {
    # Bumble: Google's Bluetooth stack with a controller and a radio in software. BlueZoo: BlueZ's D-Bus API over a radio in software
    "bluetooth": (
        "bumble==0.0.236", "pyee==13.0.1", "cryptography==50.0.2", "cffi==2.1.1", "pycparser==3.12",
        "typing_extensions==4.16.0", "bluezoo==1.0.2", "sdbus==0.14.3", "pyventus==0.8.0",
    ),
    # IPyCam: an ONVIF camera with RTSP, whose video is made and packed by ffmpeg
    "camera": ("ipycam==1.3.0", "opencv-python-headless==5.0.0.93", "numpy==2.4.6", "imageio-ffmpeg==0.8.1"),
    # onveef: a client of ONVIF
    "onvif": (
        "onveef==0.6.0", "defusedxml==0.7.1", "httpx==0.28.1", "httpcore==1.0.9", "anyio==4.16.0", "idna==3.20",
        "certifi==2026.10.19.post1", "h11==0.16.0", "typing_extensions==4.16.0",
    ),
    "ffmpeg": ("imageio-ffmpeg==0.8.1",),
}  # fmt: skip


def packages(kind: str) -> Path:
    """Where they are; installed first when they are missing. Raises KeyError, subprocess.CalledProcessError."""
    wanted = PACKAGES[kind]
    text = f"{sys.version_info[:2]} {' '.join(wanted)}"
    home = directory() / "foreign" / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with (home.parent / f"{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not home.is_dir():
                _install(wanted, home)
    return home


def _install(wanted: Sequence[str], home: Path) -> None:
    fresh = home.with_name(home.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target", str(fresh),
         *wanted], check=True, stdout=sys.stderr,
    )  # fmt: skip
    if binaries := sorted(fresh.glob("imageio_ffmpeg/binaries/ffmpeg-*")):
        (fresh / "bin").mkdir(exist_ok=True)
        (fresh / "bin/ffmpeg").symlink_to(Path("..") / binaries[0].relative_to(fresh))
    fresh.rename(home)


def ffmpeg() -> str:
    """The program, as PyPI's imageio-ffmpeg carries it: with what it makes H.264 and JPEG, and all that it reads."""
    return str(packages("ffmpeg") / "bin/ffmpeg")


def environment(kind: str) -> dict[str, str]:
    """Of a process that uses them."""
    home = packages(kind)
    return {**os.environ, "PYTHONPATH": str(home), "PATH": f"{home / 'bin'}:{os.environ.get('PATH', '')}"}
