"""Layers and images of a few entries, made in memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes | None = None, **fields: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.uid, info.gid, info.mode = os.getuid(), os.getgid(), 0o644
    if data is not None:
        info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data or b""


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    return entry(name, type=kind, linkname=target)


def directory(name: str) -> Entry:
    return entry(name, type=tarfile.DIRTYPE, mode=0o755)


def layer(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data) if info.size else None)
    return out.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def machine() -> str:
    """As image indexes name it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


class Image:
    """One image: its layers, its blobs by digest, its manifest."""

    def __init__(
        self, *layers: bytes, compress: bool = True, config: dict[str, Any] | None = None, architecture: str = ""
    ) -> None:
        self.blobs: dict[str, bytes] = {}
        self.diff_ids = [digest(data) for data in layers]
        packed = [gzip.compress(data, mtime=0) if compress else data for data in layers]
        document = json.dumps(
            {
                "architecture": architecture or machine(),
                "os": "linux",
                "config": config or {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            }
        ).encode()
        kind = "application/vnd.oci.image"
        tar = f"{kind}.layer.v1.tar" + ("+gzip" if compress else "")
        self.manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": {"mediaType": f"{kind}.config.v1+json", "digest": self.add(document), "size": len(document)},
            "layers": [{"mediaType": tar, "digest": self.add(data), "size": len(data)} for data in packed],
        }
        self.digest = self.add(json.dumps(self.manifest).encode())

    def add(self, data: bytes) -> str:
        self.blobs[digest(data)] = data
        return digest(data)

    def archive(self, path: Path, *, name: str = "") -> Path:
        annotations = {"io.containerd.image.name": name} if name else {}
        manifest = {
            "mediaType": self.manifest["mediaType"],
            "digest": self.digest,
            "size": len(self.blobs[self.digest]),
            "annotations": annotations,
        }
        index = {"schemaVersion": 2, "manifests": [manifest]}
        files = {"index.json": json.dumps(index).encode()}
        files |= {f"blobs/sha256/{d.removeprefix('sha256:')}": data for d, data in self.blobs.items()}
        path.write_bytes(layer(*(entry(n, data) for n, data in files.items())))
        return path
