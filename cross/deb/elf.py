"""Shared libraries without what is for debuggers: wheels of others have it, Debian's packages have not, and binutils strip their own processor's only."""

from __future__ import annotations

import struct

_MAGIC, _LITTLE = b"\x7fELF", 1
_LOAD = 1  # PT_LOAD
#: by the class of the file, 32 or 64 bits: where the header says the offsets of programs and sections (one after the other), and from where on sizes and
#: counts; a program header as type, offset, size in the file
_FORMS = {
    1: ("<II", 28, "<HHHHHH", 40, lambda at: struct.unpack_from("<II8xI", at)),
    2: ("<QQ", 32, "<HHHHHH", 52, lambda at: struct.unpack_from("<I4xQ16xQ", at)),
}


def stripped(data: bytes) -> bytes:
    """The file up to the end of what is loaded, without its table of sections, which nothing that runs it reads. What is no such file stays as it is."""
    if len(data) < 64 or data[:4] != _MAGIC or data[4] not in _FORMS or data[5] != _LITTLE:
        return data
    offsets, at, counts, counted, read = _FORMS[data[4]]
    programs, sections = struct.unpack_from(offsets, data, at)
    header, size, number, *_ = struct.unpack_from(counts, data, counted)
    if programs + size * number > len(data) or not sections:
        return data
    entries = [data[programs + size * n : programs + size * (n + 1)] for n in range(number)]
    try:
        loaded = [read(entry) for entry in entries]
    except struct.error:
        return data
    end = max([offset + length for kind, offset, length in loaded if kind == _LOAD], default=0)
    end = max(end, header, programs + size * number)
    if not header <= end <= len(data) or any(offset + length > end for _, offset, length in loaded):
        return data
    out = bytearray(data[:end])
    struct.pack_into(offsets, out, at, programs, 0)
    struct.pack_into(counts, out, counted, header, size, number, 0, 0, 0)
    return bytes(out)
