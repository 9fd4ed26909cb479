"""An OCI image layout in one tar, which `docker load` reads as well (manifest.json beside index.json)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloud.image.tree import compress

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def write(
    path: Path, name: str, layers: Sequence[bytes], config: Mapping[str, Any], *, created: str, epoch: int
) -> str:
    """The image `name` (REPOSITORY:TAG) of uncompressed layers, lowest first; its digest. `config`: architecture and the OCI's `config`."""
    blobs: dict[str, bytes] = {}
    packed = [_descriptor(blobs, compress(layer), "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers]
    document = {
        **config,
        "created": created,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
        "history": [{"created": created, "created_by": "make cloud-image"} for _ in layers],
    }
    described = _descriptor(blobs, _json(document), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": packed}
    entry = _descriptor(blobs, _json(manifest), _MANIFEST)
    entry["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    saved = {"Config": _blob(described), "RepoTags": [name], "Layers": [_blob(layer) for layer in packed]}
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": [entry]}),
        "manifest.json": _json([saved]),
        **{f"blobs/sha256/{digest}": data for digest, data in blobs.items()},
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in sorted(files.items()):
            info = tarfile.TarInfo(member)
            info.size, info.mode, info.mtime = len(data), 0o644, epoch
            tar.addfile(info, io.BytesIO(data))
    return str(entry["digest"])


def _descriptor(blobs: dict[str, bytes], data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _blob(descriptor: Mapping[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
