"""The compiled part of a distribution for another processor, by zig's C compiler, which knows the symbols of every C library."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cross.wheels import archive
from cross.wheels.targets import Python, Target
from cross.wheels.tools import Tools, sysroot

#: of the machine that runs it, as Python has them: their security fixes come from Debian. auditwheel is told so
SYSTEM_LIBRARIES = ("libssl.so.3", "libcrypto.so.3")
_PURE = Path(__file__).with_name("pure.py")


@dataclass(frozen=True, slots=True)
class Distribution:
    """One source tree: its wheel without compiled files, and what setup.py says of those."""

    source: Path
    wheel: Path
    extensions: tuple[dict[str, Any], ...]


def prepare(tools: Tools, source: Path, directory: Path) -> Distribution:
    """Runs setup.py of `source`, Cython included, once for all targets."""
    directory.mkdir(parents=True, exist_ok=True)
    tools.python(str(_PURE), str(source), str(directory), cwd=source)
    (wheel,) = directory.glob("*.whl")
    return Distribution(source, wheel, tuple(json.loads((directory / "extensions.json").read_text())))


def wheel(tools: Tools, distribution: Distribution, target: Target, python: Python, directory: Path) -> Path:
    """Compiled, packed, and found to keep to its platform tag."""
    directory.mkdir(parents=True, exist_ok=True)
    compiled = dict(_programs(tools, distribution, target, python))
    tag = (python.tag, python.tag, target.platform)
    packed = archive.retagged(distribution.wheel, tag, compiled, tools.epoch, directory)
    _audit(tools, packed, target)
    return packed


def _programs(tools: Tools, distribution: Distribution, target: Target, python: Python) -> Iterator[tuple[str, bytes]]:
    root = sysroot(target, python)
    for extension in distribution.extensions:
        name = extension["name"].replace(".", "/") + python.suffix(target)
        output = distribution.source / "build" / f"{target.machine}-{python.tag}" / name
        output.parent.mkdir(parents=True, exist_ok=True)
        # names are relative, so that no part of them is in what is compiled
        where = os.path.relpath(output, distribution.source)
        tools.compile(*_arguments(extension, target, python, root), "-o", where, cwd=distribution.source)
        yield name, output.read_bytes()


def _arguments(extension: dict[str, Any], target: Target, python: Python, root: Path) -> list[str]:
    include, library = root / "usr/include", root / "usr/lib" / target.triple
    headers = [f"-I{path}" for path in extension["include_dirs"] if not path.startswith("/")]
    return [
        *("-target", f"{target.triple}.{target.glibc}", f"-mcpu={target.cpu}"),
        *("-shared", "-fPIC", "-fwrapv", "-DNDEBUG", "-O3", "-s"),
        *headers,
        *("-isystem", f"{include}/python{python.version}", "-isystem", str(include)),
        *("-isystem", f"{include}/{target.triple}"),
        *extension["extra_compile_args"],
        *extension["sources"],
        f"-L{library}",
        *(f"-l{name}" for name in extension["libraries"]),
        *extension["extra_link_args"],
    ]


def _audit(tools: Tools, packed: Path, target: Target) -> None:
    """ValueError where it needs a newer C library than its tag says, or another library that is not of every system."""
    excluded = [argument for name in SYSTEM_LIBRARIES for argument in ("--exclude", name)]
    checked = packed.parent / "audited"
    # "auto": other platforms than that of this machine have no name on its command line
    tools.python("-m", "auditwheel", "repair", "--plat", "auto", *excluded, "-w", str(checked), str(packed))
    (copy,) = checked.iterdir()
    needed = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", copy.name)]
    with zipfile.ZipFile(copy) as archived:
        bundled = [name for name in archived.namelist() if ".libs/" in name]
    shutil.rmtree(checked)
    if not needed or min(needed) > int(target.glibc.partition(".")[2]) or bundled:
        raise ValueError(f"{packed.name} is none of its platform: auditwheel finds {copy.name}, {bundled}")
