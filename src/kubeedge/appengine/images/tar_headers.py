"""Tar headers within bounds: of an untrusted archive, before its entries are looked at.

What comes before the header of an entry (a long name, a long link, pax records) is read whole by tarfile, as large as it says that it is, and one such
header after another by one call inside of another. Real writers put three before an entry, of some kilobytes.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from typing import IO, Any

from kubeedge.errors import Invalid

MAX_CHAINED = 16  # headers in front of an entry
MAX_BYTES = 1024 * 1024  # of all of them; Linux' longest path has 4 KiB, its longest extended attribute 64 KiB
_ROOM = 2 * MAX_BYTES  # between two entries: headers, the map of a sparse file, and what tarfile reads ahead
_IN_FRONT = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


class BoundedTarInfo(tarfile.TarInfo):
    """For `tarfile.open(tarinfo=...)`. Reading a header raises Invalid for what is beyond the bounds."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> BoundedTarInfo:
        """The next entry. Calls itself for the entry behind a header that stands in front of one."""
        chain: list[int] = tarfile.__dict__.setdefault("_kubeedge_chain", [])
        if len(chain) > MAX_CHAINED:
            raise Invalid(f"archive has more than {MAX_CHAINED} headers in front of one entry")
        chain.append(0)
        try:
            return super().fromtarfile(tarfile)
        finally:
            chain.pop()

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> BoundedTarInfo:
        """One block. Raises Invalid for a header in front of an entry that says it is longer than any is."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in _IN_FRONT and found.size > MAX_BYTES:
            raise Invalid(f"archive has a header of {found.size} bytes in front of an entry")
        return found


class BoundedHeaders:
    """A stream of which between two entries no more is read than headers may have: also the map of a sparse file is one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._room = _ROOM

    def entry_of(self, size: int) -> None:
        """The next reads are `size` bytes of an entry, and the headers of the one behind it."""
        self._room = size + _ROOM

    def read(self, size: int = -1) -> Any:
        """Read as a file does, within the bounds. Raises Invalid."""
        data = self._stream.read(size)
        self._room -= len(data)
        if self._room < 0:
            raise Invalid(f"archive has more than {_ROOM} bytes of headers in front of one entry")
        return data


def stored_size(member: tarfile.TarInfo) -> int:
    """Bytes of an entry in the archive: of a sparse file those that are no hole."""
    sparse: Sequence[tuple[int, int]] | None = getattr(member, "sparse", None)  # (offset, size)
    return member.size if sparse is None else sum(size for _, size in sparse)
