"""An initramfs as bytes: the "newc" form of cpio (the kernel's buffer-format.rst), of which the same files make the same bytes."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Archive:
    """Files by path, without a slash at the start; directories above them are made."""

    files: dict[str, bytes] = field(default_factory=dict)
    programs: set[str] = field(default_factory=set)  # those of `files` that are executable
    links: dict[str, str] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)  # further ones, that are empty

    def data(self) -> bytes:
        """Uncompressed."""
        entries: dict[str, tuple[int, bytes]] = {}
        for name, data in self.files.items():
            entries[name] = (stat.S_IFREG | (0o755 if name in self.programs else 0o644), data)
        for name, target in self.links.items():
            entries[name] = (stat.S_IFLNK | 0o777, target.encode())
        for name in {*_parents([*entries, *self.directories]), *self.directories}:
            entries.setdefault(name, (stat.S_IFDIR | 0o755, b""))
        return _packed(entries)


def _parents(names: list[str]) -> set[str]:
    found = set()
    for name in names:
        while (name := name.rpartition("/")[0]) and name not in found:
            found.add(name)
    return found


def _packed(entries: Mapping[str, tuple[int, bytes]]) -> bytes:
    out = bytearray()
    for number, (name, (mode, data)) in enumerate(sorted(entries.items()), 1):
        out += _header(number, mode, len(data), name) + data
        out += bytes(-len(out) % 4)
    out += _header(0, 0, 0, "TRAILER!!!")
    return bytes(out + bytes(-len(out) % 512))


def _header(number: int, mode: int, size: int, name: str) -> bytes:
    raw = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    values = (number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in values) + raw
    return head + bytes(-len(head) % 4)
