"""What the agent depends on, as wheels for another processor: PyPI's where it has them, else built here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cross.wheels import archive, compile
from cross.wheels.targets import Python, Target
from cross.wheels.tools import CACHE, Tools, sysroot

_PINNED = Path(__file__).with_name("dependencies.txt")
#: armv7l: PyPI has no wheel of them. PyYAML's own is its Python part, which is all that the agent uses
OURS = {"armv7l": ("PyYAML", "cffi")}


def fill(tools: Tools, target: Target, python: Python, directory: Path, work: Path) -> None:
    """Puts a wheel of each dependency into `directory`. Nothing in it needs a compiler there."""
    ours = OURS.get(target.machine, ())
    pinned = [line.split("#")[0].strip() for line in _PINNED.read_text().splitlines()]
    for requirement in filter(None, pinned):
        if requirement.partition("==")[0] in ours:
            _build(tools, requirement, target, python, directory, work)
        else:
            _download(tools, requirement, target, python, directory)


def _download(tools: Tools, requirement: str, target: Target, python: Python, directory: Path) -> None:
    platforms = [argument for name in target.platforms for argument in ("--platform", name)]
    tools.python(
        *("-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "--python-version", python.version),
        *("--implementation", "cp", *platforms, "-d", str(directory), requirement),
    )


def _build(tools: Tools, requirement: str, target: Target, python: Python, directory: Path, work: Path) -> None:
    name = requirement.partition("==")[0]
    source = _unpacked(tools, requirement, work / f"{name}-{target.machine}-{python.tag}")
    prepared = compile.prepare(tools, source, source.parent / "pure")
    if name == "cffi":
        _link_ffi(prepared, target, python)
        compile.wheel(tools, prepared, target, python, directory)
    else:
        archive.retagged(prepared.wheel, ("py3", "none", "any"), {}, tools.epoch, directory)


def _unpacked(tools: Tools, requirement: str, directory: Path) -> Path:
    sdists = CACHE / "sdists"
    sdists.mkdir(parents=True, exist_ok=True)
    name, _, version = requirement.lower().partition("==")
    if not list(sdists.glob(f"{name}-{version}.tar.gz")):
        pip = ("-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", ":all:")
        tools.python(*pip, "-d", str(sdists), requirement)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    packed = next(sdists.glob(f"{name}-{version}.tar.gz"))
    subprocess.run(["tar", "-xf", str(packed), "-C", str(directory), "--no-same-owner"], check=True)
    (source,) = directory.iterdir()
    return source


def _link_ffi(prepared: compile.Distribution, target: Target, python: Python) -> None:
    """libffi is linked in: cffi alone would want it of the system, and no two releases need have the same."""
    archive_of_debian = sysroot(target, python) / "usr/lib" / target.triple / "libffi_pic.a"
    own = prepared.source / "libffi.a"
    shutil.copyfile(archive_of_debian, own)
    for extension in prepared.extensions:
        extension["libraries"] = []
        extension["extra_link_args"] = [own.name]
        extension["extra_compile_args"] = ["-DFFI_BUILDING=1", "-DUSE__THREAD", "-DHAVE_SYNC_SYNCHRONIZE", "-w"]
