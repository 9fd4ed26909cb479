"""`make dev`: the compiled modules, in place, compiling what has changed and nothing else.

    python -m tests.kit.dev_build

Sources and flags are those of setup.py. Each object keeps the compiler's list of the headers that it read (-MMD) and the command that made it;
one that is younger than all of them stays. Cython translates again when a .pyx, or what it includes, has changed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shlex
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OBJECTS = ROOT / "build" / "dev"


def extensions() -> list[Any]:
    """As setup.py describes them, translated by Cython."""
    from distutils.core import run_setup  # setuptools' own copy, which setup.py has loaded by then

    with contextlib.redirect_stdout(sys.stderr):
        return list(run_setup("setup.py", stop_after="init").ext_modules)


def command(source: Path, extension: Any) -> list[str]:
    variables = sysconfig.get_config_vars()
    return [
        *shlex.split(variables["CC"]), *shlex.split(variables["CFLAGS"]), "-fPIC", *extension.extra_compile_args,
        *(f"-I{directory}" for directory in extension.include_dirs), f"-I{sysconfig.get_path('include')}", "-c", str(source),
    ]  # fmt: skip


def needed(dependencies: Path) -> list[Path]:
    """The files of a make rule "object: file file \\ file"."""
    words = shlex.split(dependencies.read_text().replace("\\\n", " "))
    return [Path(word) for word in words if not word.endswith(":")]


def is_stale(target: Path, line: list[str]) -> bool:
    note, dependencies = target.with_suffix(".cmd"), target.with_suffix(".d")
    try:
        made = target.stat().st_mtime_ns
        if note.read_text() != shlex.join(line):
            return True
        return any(path.stat().st_mtime_ns >= made for path in needed(dependencies))
    except FileNotFoundError:
        return True


def build_object(source: Path, target: Path, extension: Any) -> bool:
    """True: it was compiled. Raises CalledProcessError."""
    line = command(source, extension)
    if not is_stale(target, line):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    subprocess.run([*line, "-MMD", "-MF", str(target.with_suffix(".d")), "-o", str(target)], check=True)
    target.with_suffix(".cmd").write_text(shlex.join(line))
    return True


def link(extension: Any, objects: list[Path], module: Path) -> None:
    """Beside the old one first: a process that has that one loaded keeps it."""
    new = module.with_suffix(".new")
    libraries = [f"-l{name}" for name in extension.libraries]
    linker = shlex.split(sysconfig.get_config_var("LDSHARED"))
    subprocess.run([*linker, *map(str, objects), *libraries, *extension.extra_link_args, "-o", str(new)], check=True)
    os.replace(new, module)


def build(extension: Any) -> int:
    """How many objects were compiled."""
    name = extension.name.rpartition(".")[2]
    module = ROOT / "src" / "_fastpath" / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = [Path(source) for source in extension.sources]
    objects = [OBJECTS / name / source.with_suffix(".o") for source in sources]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = sum(pool.map(build_object, sources, objects, [extension] * len(sources)))
    newest = max(path.stat().st_mtime_ns for path in objects)
    if compiled or not module.exists() or module.stat().st_mtime_ns < newest:
        link(extension, objects, module)
    return compiled


def main() -> int:
    os.chdir(ROOT)
    begun = time.monotonic()
    try:
        compiled = sum(build(extension) for extension in extensions())
    except subprocess.CalledProcessError as exc:
        return int(exc.returncode)
    print(f"{compiled} files compiled in {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
