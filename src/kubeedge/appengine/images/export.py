"""Writes an image of this node as an OCI archive (image-layout.md), for another node.

Layers are kept unpacked, so they are packed anew: the same files, in an order of their own, hence with other digests than in the registry.
What overlayfs keeps as devices and attributes becomes whiteouts again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kubeedge.appengine.images import documents
from kubeedge.appengine.images.store import Image, ImageStore
from kubeedge.errors import Invalid

_TYPE = "application/vnd.oci.image"
_CAPABILITY = "security.capability"


def export_archive(store: ImageStore, name: str, archive: Path) -> list[str]:
    """The name that it has in the archive. Raises Invalid when the image is not here, OSError; then there is no archive."""
    image = store.find(name)
    if image is None:
        raise Invalid(f"image {name} is not on this node")
    temporary = archive.with_name(f".{archive.name}.new")
    try:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            _write(tar, image, temporary.with_suffix(".layer"))
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_suffix(".layer").unlink(missing_ok=True)
    return [image.name]


def _write(tar: tarfile.TarFile, image: Image, scratch: Path) -> None:
    layers = []
    for directory in image.layers:
        with open(scratch, "w+b") as file:
            _pack(directory, file)
            digest = hashlib.sha256()
            file.seek(0)
            while data := file.read(1024 * 1024):
                digest.update(data)
            size = file.tell()
            file.seek(0)
            layers.append(
                {"mediaType": f"{_TYPE}.layer.v1.tar", "digest": f"sha256:{digest.hexdigest()}", "size": size}
            )
            add_file(tar, f"blobs/sha256/{digest.hexdigest()}", size, file)
    config = add_document(tar, "config", {"architecture": documents.architecture(), "os": "linux",
        "config": _config(image), "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}})  # fmt: skip
    manifest = add_document(
        tar,
        "manifest",
        {"schemaVersion": 2, "mediaType": f"{_TYPE}.manifest.v1+json", "config": config, "layers": layers},
    )
    manifest["annotations"] = {"io.containerd.image.name": image.name}
    for name, document in (
        ("index.json", {"schemaVersion": 2, "manifests": [manifest]}),
        ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
    ):
        data = json.dumps(document).encode()
        add_file(tar, name, len(data), io.BytesIO(data))


def _config(image: Image) -> dict[str, Any]:
    c = image.config
    return {
        "Entrypoint": list(c.entrypoint),
        "Cmd": list(c.command),
        "Env": list(c.env),
        "WorkingDir": c.working_dir,
        "User": c.user,
        "StopSignal": f"SIG{c.stop_signal}" if not c.stop_signal.isdigit() else c.stop_signal,
        "Volumes": {path: {} for path in c.volumes},
    }


def add_document(tar: tarfile.TarFile, kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """Add a JSON document to the archive; returns its descriptor."""
    data = json.dumps(document).encode()
    digest = documents.digest(data)
    add_file(tar, f"blobs/sha256/{digest.removeprefix('sha256:')}", len(data), io.BytesIO(data))
    return {"mediaType": f"{_TYPE}.{kind}.v1+json", "digest": digest, "size": len(data)}


def add_file(tar: tarfile.TarFile, name: str, size: int, file: IO[bytes]) -> None:
    """Add `size` bytes of a file to the archive."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, file)


def _pack(root: Path, out: IO[bytes]) -> None:
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in _entries(root):
            name = str(path.relative_to(root))
            status = path.lstat()
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                _marker(tar, path.parent.relative_to(root) / f".wh.{path.name}")
                continue
            info = tar.gettarinfo(path, name)
            info.uname = info.gname = ""
            if (capability := _attribute(path, _CAPABILITY)) and info.isreg():
                info.pax_headers = {f"SCHILY.xattr.{_CAPABILITY}": capability.decode("utf-8", "surrogateescape")}
            if info.isreg():
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
            if info.isdir() and _attribute(path, "trusted.overlay.opaque") == b"y":
                _marker(tar, Path(name) / ".wh..wh..opq")


def _entries(root: Path) -> Iterator[Path]:
    """Directories before what is in them; no link is followed."""
    for directory, directories, files in os.walk(root):
        directories.sort()
        links = [d for d in directories if os.path.islink(os.path.join(directory, d))]
        if directory != str(root):
            yield Path(directory)
        for name in sorted((*files, *links)):
            yield Path(directory, name)


def _marker(tar: tarfile.TarFile, name: Path) -> None:
    tar.addfile(tarfile.TarInfo(str(name)))


def _attribute(path: Path, name: str) -> bytes:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return b""
