"""Programs of others that run in the emulated machine beside the node's own mappers: can-utils, libgpiod's, and what attaches a Bluetooth controller.

Debian's, of the machine's processor and release; nothing of them is in the card's image.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cross.wheels.debian import Release
from cross.wheels.tools import CACHE

_PACKAGES = ("can-utils", "gpiod", "libgpiod3", "bluez", "libc6")
_PROGRAMS = ("cansend", "candump", "gpioinfo", "gpiodetect", "btattach")
_LIBRARIES = ("libc.so.6", "ld-linux-aarch64.so.1", "libgpiod.so.3")


def unpack(directory: Path) -> None:
    """What bench.boot.registry puts into the image `tools`: bin and lib."""
    root = directory.with_name(directory.name + ".all")
    shutil.rmtree(root, ignore_errors=True)
    Release("trixie", "arm64", CACHE / "apt").unpack(_PACKAGES, root)
    for place, names in (("bin", _PROGRAMS), ("lib", _LIBRARIES)):
        (directory / place).mkdir(parents=True, exist_ok=True)
        for name in names:
            source = next(path for path in sorted((root / "usr").rglob(name)) if path.is_file())
            shutil.copy2(source, directory / place / name)
    shutil.rmtree(root)
