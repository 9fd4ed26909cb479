"""Unpacks one layer of an image into the store while its digest is computed, under its name only when the digest is right.

layers/<hex>            the layer's chain id (image-spec, config.md): of it and all below it, for what a layer means depends on those
layers/new-*            what is not whole yet
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from kubeedge._fastpath import libc
from kubeedge.appengine.images.compression import uncompressed
from kubeedge.appengine.images.store import ImageStore, chain_ids
from kubeedge.appengine.images.unpack import unpack
from kubeedge.errors import Invalid

MAX_LAYER = 4 * 1024 * 1024 * 1024  # bytes, unpacked, and of its tar
MAX_LAYERS = 127  # overlayfs can stack more, but images have no more


def unpack_layer(store: ImageStore, diff_ids: Sequence[str], stream: IO[bytes]) -> None:
    """The last of these layers. The diff id is the digest of the uncompressed tar, so it vouches for what is unpacked, however it was compressed."""
    *below, id = chain_ids(diff_ids)
    if store.has_layer(id):
        return
    plain = _Hashing(uncompressed(stream))
    temporary = Path(tempfile.mkdtemp(prefix="new-", dir=store.layers))
    try:
        parents = [store.layer(parent) for parent in below]
        unpack(io.BufferedReader(plain, 256 * 1024), temporary, max_bytes=MAX_LAYER, parents=parents)
        while plain.read(256 * 1024):  # the padding after the end of the archive counts too
            pass
        if f"sha256:{plain.sha256.hexdigest()}" != diff_ids[-1]:
            raise Invalid(f"layer {diff_ids[-1]} does not have its digest")
        os.chmod(temporary, 0o755)
        _sync(temporary)  # before the name says that it is whole: the power may go at any moment
        store.keep_layer(id, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Hashing(io.RawIOBase):
    """Passes a stream on and computes its SHA-256; not without end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = MAX_LAYER
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self.sha256.update(data)
        self._left -= len(data)
        if self._left < 0:  # headers and padding are no entries, but they cost time
            raise Invalid(f"layer of more than {MAX_LAYER} bytes")
        return len(data)


def _sync(directory: Path) -> None:
    """The file system that it is on, and no other."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc.syncfs(fd)
    finally:
        os.close(fd)
