"""Reads the files that variables of a container refer to (fileKeyRef): an init container wrote them into a volume. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from kubeedge.api.pod import Container
from kubeedge.errors import Invalid

MAX_FILE = 256 * 1024  # bytes; the containers of the pod write it
MAX_FILES = 16  # of one container


def read(directory: Path, path: str) -> str | None:
    """A file of the volume at `directory`; None: it is not there. Blocking. Containers may change what is there at any moment, so no link is followed.
    Raises Invalid, OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    *parents, name = [part for part in path.split("/") if part not in ("", ".")] or [""]
    fd = -1
    try:
        fd = os.open(directory, os.O_DIRECTORY | os.O_CLOEXEC)
        for part, more in [*((part, os.O_DIRECTORY) for part in parents), (name, 0)]:
            fd, above = os.open(part, flags | more, dir_fd=fd), fd
            os.close(above)
        return _content(fd, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        if fd >= 0:
            os.close(fd)


def _content(fd: int, path: str) -> str:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Invalid(f"{path!r:.200} is no file", path="fileKeyRef")
    data = b""
    while len(data) <= MAX_FILE and (piece := os.read(fd, MAX_FILE + 1 - len(data))):
        data += piece
    if len(data) > MAX_FILE:
        raise Invalid(f"{path!r:.200} is longer than {MAX_FILE} bytes", path="fileKeyRef")
    return data.decode(errors="replace")


def read_all(container: Container, volume: Callable[[str], Path]) -> dict[tuple[str, str], str | None]:
    """(name of the volume, path in it) -> content of each file that the container's variables refer to; `volume` says where one is. Blocking. Raises
    Invalid, OSError."""
    refs = [
        variable.source["fileKeyRef"]
        for variable in container.env
        if variable.source and "fileKeyRef" in variable.source
    ]
    wanted = dict.fromkeys((ref["volumeName"], ref["path"]) for ref in refs)
    if len(wanted) > MAX_FILES:
        raise Invalid(f"more than {MAX_FILES} files with variables", path="fileKeyRef")
    return {(name, path): read(volume(name), path) for name, path in wanted}
