"""C sources of this folder, compiled when first used."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_HERE = Path(__file__).parent


def compiled(source: str, *options: str) -> Path:
    """The program, or with "-shared" the library, that gcc makes of it below build/."""
    code = _HERE / source
    made = _HERE.parents[1] / "build" / code.stem
    if not made.exists() or made.stat().st_mtime < code.stat().st_mtime:
        made.parent.mkdir(exist_ok=True)
        half = made.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", *options, "-o", str(half), str(code)], check=True)
        half.rename(made)
    return made
