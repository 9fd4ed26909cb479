"""Variables from files of a volume (fileKeyRef): files that an init container wrote, in the form that Kubernetes defines.

    NAME='value'     # a comment

The value stands in single quotes, may go over several lines, and is taken as it is. Blank lines and those that begin with # count for nothing.
A blank before "=" is a mistake; one behind it is an empty value, which is as good as none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

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


def value_of(ref: Mapping[str, Any], files: Mapping[tuple[str, str], str | None]) -> str:
    """Of a fileKeyRef; "" for a file or key that is not there. Raises Invalid for a file that is not of that form."""
    return find(files.get((ref["volumeName"], ref["path"])) or "", ref["key"])


def find(text: str, key: str) -> str:
    """As the kubelet, it looks at nothing behind the key."""
    return next((value for name, value in _entries(text) if name == key), "")


def _entries(text: str) -> Iterator[tuple[str, str]]:
    lines = enumerate(text.split("\n"), 1)
    for number, line in lines:
        line = line.removesuffix("\r").lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name or name != name.rstrip(" \t"):
            raise Invalid(f"line {number} is not NAME='value'", path="fileKeyRef")
        if value[:1] in (" ", "\t", ""):
            if value[:1]:
                yield name, ""
                continue
            raise Invalid(f"line {number}: the value is not in single quotes", path="fileKeyRef")
        if not value.startswith("'"):
            raise Invalid(f"line {number}: the value is not in single quotes", path="fileKeyRef")
        pieces, rest = [], value[1:]
        while "'" not in rest:
            pieces.append(rest)
            _, following = next(lines, (0, None))
            if following is None:
                raise Invalid(f"the quote of line {number} has no end", path="fileKeyRef")
            rest = following.removesuffix("\r")
        last, _, behind = rest.partition("'")
        if behind.lstrip(" \t")[:1] not in ("", "#"):
            raise Invalid(f"line {number}: there is more behind the value", path="fileKeyRef")
        yield name, "\n".join([*pieces, last])
