"""The boot partition of this machine: mounted read-only, and writable for as long as a file is written."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = Path("/boot")


def read(name: str, limit: int) -> str | None:
    """The text of a file; None where there is none. Raises ValueError where it is too long or no text."""
    try:
        with (DIRECTORY / name).open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    if len(data) > limit:
        raise ValueError(f"{name} is longer than {limit // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ValueError(f"{name} is no text in UTF-8: {exc.reason} at byte {exc.start}") from exc


def write(name: str, text: str) -> None:
    """The file has all of it, or what it had. Nothing is written where nothing changes. Raises OSError."""
    path = DIRECTORY / name
    data = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    with _writable():
        new = DIRECTORY / ((name.rpartition(".")[0] or name) + ".new")
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        descriptor = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _writable() -> Iterator[None]:
    _remount("rw")
    try:
        yield
    finally:
        _remount("ro")


def _remount(mode: str) -> None:
    done = subprocess.run(["mount", "-o", f"remount,{mode}", str(DIRECTORY)], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"the boot partition cannot be mounted {mode}: {done.stderr.strip()}")
