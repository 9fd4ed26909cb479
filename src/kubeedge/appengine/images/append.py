"""An image that is another one and a directory on top of it, from archive to archive: without a daemon, a store, or a network.

The layers of the base are copied as they are; the new one is a plain tar whose bytes depend on the files' names, modes and contents alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from kubeedge.appengine.images import documents
from kubeedge.appengine.images.archive import ArchivedImage, ArchiveMembers, images_of
from kubeedge.appengine.images.export import add_document, add_file
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.tar_headers import BoundedTarInfo
from kubeedge.errors import Invalid

_TYPE = "application/vnd.oci.image"
_LEFT_OUT = ("__pycache__",)
_MOST = 256 * 1024 * 1024  # bytes of the directory
_MAGICS = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


def append(base: Path, directory: Path, target: str, config: Mapping[str, Any], name: str, archive: Path) -> str:
    """Writes `archive`, an OCI layout: the image of `base` with what is in `directory` at `target` and `config` (Cmd, Entrypoint, ... of the
    image specification) in place of its own. Hidden files and bytecode are left out. The image's name. Raises Invalid, OSError; then there is
    no archive."""
    full = str(parse(name))
    temporary = archive.with_name(f".{archive.name}.new")
    try:
        with tarfile.open(base, tarinfo=BoundedTarInfo) as source, tarfile.open(temporary, "w") as out:
            members = ArchiveMembers(source, base.name)
            images = images_of(members)
            if len(images) != 1:
                raise Invalid(f"{base.name} has {len(images)} images, and one is needed")
            _write(out, members, images[0], _layer(directory, target), config, full)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
    return full


def _write(
    out: tarfile.TarFile,
    members: ArchiveMembers,
    image: ArchivedImage,
    layer: bytes,
    config: Mapping[str, Any],
    name: str,
) -> None:
    below = members.read(image.config, documents.MAX_MANIFEST)
    _, diff_ids = documents.config(below, len(image.layers))
    document = documents.object_of(below, "configuration")
    layers = [_copy(out, members.open(each)) for each in image.layers]
    layers.append(_added(out, io.BytesIO(layer)))
    document["config"] = {**(document.get("config") or {}), **config}
    document["rootfs"] = {"type": "layers", "diff_ids": [*diff_ids, layers[-1]["digest"]]}
    document.pop("history", None)  # it would have to name the new layer, too
    described = add_document(out, "config", document)
    manifest = {"schemaVersion": 2, "mediaType": f"{_TYPE}.manifest.v1+json", "config": described, "layers": layers}
    descriptor = add_document(out, "manifest", manifest)
    descriptor["platform"] = {key: str(document.get(key) or default) for key, default in _platform()}
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
    for path, data in (("index.json", index), ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')):
        add_file(out, path, len(data), io.BytesIO(data))


def _platform() -> Sequence[tuple[str, str]]:
    return (("architecture", documents.architecture()), ("os", "linux"))


def _copy(out: tarfile.TarFile, file: IO[bytes]) -> dict[str, Any]:
    kind = _MAGICS.get(file.read(2), "")
    file.seek(0)
    return _added(out, file, kind)


def _added(out: tarfile.TarFile, file: IO[bytes], kind: str = "") -> dict[str, Any]:
    """The descriptor of a layer that is now in the archive."""
    digest = hashlib.sha256()
    while data := file.read(1 << 20):
        digest.update(data)
    size = file.tell()
    file.seek(0)
    add_file(out, f"blobs/sha256/{digest.hexdigest()}", size, file)
    return {"mediaType": f"{_TYPE}.layer.v1.tar{kind}", "digest": f"sha256:{digest.hexdigest()}", "size": size}


def _layer(directory: Path, target: str) -> bytes:
    """The tar of a directory, owned by root."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.PAX_FORMAT) as tar:
        parents = [part for part in target.split("/") if part not in ("", ".")]
        if not parents or ".." in parents:
            raise Invalid(f"{target[:64]!r} is no directory of an image")
        for count in range(1, len(parents) + 1):
            tar.addfile(_entry("/".join(parents[:count]), 0o755, tarfile.DIRTYPE))
        for path in _paths(directory):
            name = "/".join((*parents, *path.relative_to(directory).parts))
            if path.is_dir():
                tar.addfile(_entry(name, 0o755, tarfile.DIRTYPE))
                continue
            if found.tell() + path.stat().st_size > _MOST:
                raise Invalid(f"{directory} has more than {_MOST} bytes")
            data = path.read_bytes()
            entry = _entry(name, 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644, tarfile.REGTYPE)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return found.getvalue()


def _entry(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type = mode, kind
    return entry


def _paths(directory: Path) -> Iterator[Path]:
    """Directories before what is in them. Raises Invalid for what is neither a file nor a directory: a link may lead anywhere."""
    for where, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith(".") and name not in _LEFT_OUT)
        for name in (*directories, *sorted(name for name in files if not name.startswith("."))):
            path = Path(where, name)
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise Invalid(f"{path} is neither a file nor a directory")
            yield path
