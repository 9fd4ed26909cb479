"""The agent as a machine has it: a wheel, its dependencies, bytecode for all of it; and a Python of its own.

    DIRECTORY/wheel/*.whl        built from this checkout
    DIRECTORY/site/              what pip would install: the wheel and the dependencies that it names, each file of theirs
    DIRECTORY/python/            bin, lib, libs: copies of the interpreter, its library and every shared library that it loads

No other process has these files open, so their pages are read, and paid for, by the agent alone. `cold` takes them out of the page cache.
"""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

from bench.report import ROOT

#: of the standard library; not in Debian's libpython3-stdlib, or not there for a program that runs
_LEFT_OUT = (
    "test",
    "idlelib",
    "lib2to3",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "config-*",
    "dist-packages",
    "__pycache__",
)
_LIBRARY = re.compile(r"=> (/\S+)")


class Installation:
    """Made in a directory of its own, once; what is there is taken as it is. `without_docstrings`: with the bytecode of -OO, too, as images
    have it; the agent then uses that (kubeedge.cli.agent_process)."""

    def __init__(self, directory: Path, *, without_docstrings: bool = True) -> None:
        self.directory, self.without_docstrings = directory, without_docstrings
        self.site, self.python = directory / "site", directory / "python"

    def ensure(self, *, keep: bool) -> None:
        """Makes it, unless one is there that may be kept. Raises as `make`."""
        if not keep or not self.directory.exists():
            print("building a wheel and a Python of its own", flush=True)
            self.make()

    def make(self) -> None:
        """Builds and copies. Raises CalledProcessError with the compiler's words on stderr."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.site.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*pip, "--no-build-isolation", "-w", str(self.directory / "wheel"), str(ROOT)], check=True, timeout=900
        )
        with zipfile.ZipFile(self.wheel) as packed:
            packed.extractall(self.site)
        for name in dependencies("kubeedge"):
            for source, inside in files_of(name):
                (self.site / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, self.site / inside)
        self._copy_python()
        for optimize in (0, 2) if self.without_docstrings else (0,):
            for directory in (self.site, self.python / "lib"):
                compileall.compile_dir(str(directory), quiet=1, optimize=optimize)

    @property
    def wheel(self) -> Path:
        """The file."""
        (found,) = (self.directory / "wheel").glob("kubeedge-*.whl")
        return found

    def command(self, *arguments: str) -> list[str]:
        """What runs `kubeedge` from here, with bytecode on, whatever the environment says."""
        variables = {
            "PYTHONHOME": self.python,
            "PYTHONPATH": self.site,
            "LD_LIBRARY_PATH": self.python / "libs",
            "PYTHONNOUSERSITE": "1",
        }
        return [
            *("env", "-u", "PYTHONDONTWRITEBYTECODE", *(f"{name}={value}" for name, value in variables.items())),
            *(str(self.python / "bin/python3"), "-m", "kubeedge", *arguments),
        ]

    def size(self) -> int:
        """Bytes of the agent with its dependencies and their bytecode, as pip leaves them; Python itself is the system's. The bytecode of -OO beside it, which
        this installation has for the sake of other figures, is in images, which have no other."""
        return sum(path.stat().st_size for path in self._files())

    def sizes(self) -> dict[str, int]:
        """The same, by the name at the top."""
        found: dict[str, int] = {}
        for path in self._files():
            top = path.relative_to(self.site).parts[0]
            found[top] = found.get(top, 0) + path.stat().st_size
        return found

    def _files(self) -> Iterator[Path]:
        return (path for path in self.site.rglob("*") if path.is_file() and not path.name.endswith(".opt-2.pyc"))

    def cold(self) -> None:
        """No page of these files is in memory any more. Whoever reads them next is charged with them."""
        for path in self.directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(fd)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(fd)

    def _copy_python(self) -> None:
        (self.python / "bin").mkdir(parents=True)
        (self.python / "libs").mkdir()
        program = Path(sys.executable).resolve()
        shutil.copy2(program, self.python / "bin/python3")
        library = Path(sysconfig.get_path("stdlib"))
        shutil.copytree(
            library, self.python / "lib" / library.name, ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=False
        )
        loaded = {program, *(self.python / "lib").rglob("*.so"), *self.site.rglob("*.so")}
        for source in {name for path in loaded for name in _libraries(path)}:
            shutil.copy2(source, self.python / "libs" / Path(source).name)


def _libraries(program: Path) -> list[str]:
    """The shared libraries that a program or module loads; ld.so itself is named by the program, and stays the system's."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    return _LIBRARY.findall(said)


def dependencies(name: str) -> list[str]:
    """What a distribution of this environment requires without extras, and what that requires. Raises PackageNotFoundError."""
    found: list[str] = []
    todo = [name]
    while todo:
        for requirement in importlib.metadata.requires(todo.pop()) or ():
            word, _, condition = requirement.partition(";")
            (one,) = re.findall(r"^[A-Za-z0-9._-]+", word)
            if "extra ==" not in condition and one not in found:
                found.append(one)
                todo.append(one)
    return found


def files_of(name: str) -> Iterator[tuple[Path, Path]]:
    """(file, its path in site-packages) of a distribution of this environment, bytecode and programs left out."""
    for file in importlib.metadata.files(name) or ():
        source = Path(str(file.locate()))
        if file.suffix != ".pyc" and ".." not in file.parts and source.is_file():
            yield source, Path(str(file))
