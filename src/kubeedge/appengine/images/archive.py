"""Imports the images of an archive: an OCI image layout (index.json) or what docker save wrote (manifest.json).

Nothing of the archive itself is unpacked, so its links are names of other members and no more.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from kubeedge.appengine.images import documents
from kubeedge.appengine.images.layers import unpack_layer
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.store import ImageStore, chain_ids
from kubeedge.appengine.images.tar_headers import BoundedTarInfo
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

_MAX_LINKS = 8  # from member to member: docker save makes one
_MAX_NAMES = 256  # of images in an archive


def import_archive(store: ImageStore, archive: Path, names: Sequence[str] = ()) -> list[str]:
    """All its images, under their own names and `names`; all names that were given. Raises Invalid."""
    with tarfile.open(archive, tarinfo=BoundedTarInfo) as tar:
        members = ArchiveMembers(tar, archive.name)
        images = images_of(members)
        named = [image for image in images if image.names]  # beside those, one without a name was not asked for
        if len(named or images) > 1 and (names or not named):
            raise Invalid(f"{archive.name} has {len(named or images)} images; a name can be given to one only")
        tagged: list[str] = []
        for image in named or images:
            wanted = [str(parse(name)) for name in (*image.names, *names)]
            if not wanted:
                raise Invalid(f"{archive.name} names no image; give a name")
            config_bytes = members.read(image.config, documents.MAX_MANIFEST)
            config, diff_ids = documents.config(config_bytes, len(image.layers))
            for n, layer in enumerate(image.layers, 1):
                unpack_layer(store, diff_ids[:n], members.open(layer))
            store.tag(wanted, documents.digest(config_bytes), chain_ids(diff_ids), config)
            tagged += wanted
        return tagged


def images_of(members: ArchiveMembers) -> list[ArchivedImage]:
    """The images of an archive, for this machine. Raises Invalid."""
    return _docker_save(members) if members.has("manifest.json") else _oci_layout(members)


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image by the names of its members."""

    config: str
    layers: Sequence[str]
    names: Sequence[str]


class ArchiveMembers:
    """The files of the archive by their names."""

    def __init__(self, tar: tarfile.TarFile, archive: str) -> None:
        self._tar = tar
        self._archive = archive
        self._members = {posixpath.normpath(m.name): m for m in tar if m.isreg() or m.issym() or m.islnk()}

    def has(self, name: str) -> bool:
        """Whether there is such a file, or a link."""
        return name in self._members

    def read(self, name: str, limit: int) -> bytes:
        """The whole file. Raises Invalid when it is missing, or has more bytes than `limit`."""
        member = self._find(name)
        if member.size > limit:
            raise Invalid(f"{self._archive}: {name:.200} is too large")
        return self._open(member).read()

    def open(self, name: str) -> IO[bytes]:
        """The file, at its start. Raises Invalid when it is missing."""
        return self._open(self._find(name))

    def _open(self, member: tarfile.TarInfo) -> IO[bytes]:
        file = self._tar.extractfile(member)
        assert file is not None
        return file

    def _find(self, name: str) -> tarfile.TarInfo:
        """docker save writes a layer that comes again as a link to the first: ../ID/layer.tar."""
        at = posixpath.normpath(str(name))
        for _ in range(_MAX_LINKS):
            member = self._members.get(at)
            if member is None:
                break
            if member.isreg():
                return member
            base = posixpath.dirname(at) if member.issym() else ""
            at = posixpath.normpath(posixpath.join(base, member.linkname))
        raise Invalid(f"{self._archive}: {name:.200} is missing")


def _docker_save(members: ArchiveMembers) -> list[ArchivedImage]:
    entries = documents.json_of(members.read("manifest.json", documents.MAX_MANIFEST), "manifest.json")
    images = [ArchivedImage(entry["Config"], entry["Layers"], entry.get("RepoTags") or ()) for entry in entries]
    return _checked(images)


def _oci_layout(members: ArchiveMembers) -> list[ArchivedImage]:
    """Manifests of one name are for different machines."""
    index = documents.object_of(members.read("index.json", documents.MAX_MANIFEST), "index.json")
    by_name: dict[str, list[dict[str, Any]]] = {}
    for descriptor in index["manifests"]:
        by_name.setdefault(_name(descriptor), []).append(descriptor)
    if len(by_name) > 1:
        by_name.pop("", None)
    return _checked([_oci_image(members, name, descriptors) for name, descriptors in by_name.items()])


def _name(descriptor: dict[str, Any]) -> str:
    """Of the full name and the tag that containerd and others write the first that is a whole name."""
    annotations = descriptor.get("annotations") or {}
    texts = (str(annotations.get(key, "")) for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name"))
    return next((text for text in texts if ":" in text), "")


def _oci_image(members: ArchiveMembers, name: str, descriptors: Sequence[dict[str, Any]]) -> ArchivedImage:
    manifest = _document(members, documents.choose(descriptors))
    if "manifests" in manifest:
        manifest = _document(members, documents.choose(manifest["manifests"]))
    layers = [_blob(item["digest"]) for item in manifest["layers"]]
    return ArchivedImage(_blob(manifest["config"]["digest"]), layers, (name,) if name else ())


def _document(members: ArchiveMembers, descriptor: dict[str, Any]) -> dict[str, Any]:
    """The blob is what its digest says: else an archive could pass one image off as another."""
    data = members.read(_blob(descriptor["digest"]), documents.MAX_MANIFEST)
    if documents.digest(data) != descriptor["digest"]:
        raise Invalid(f"{descriptor['digest']} does not have its digest")
    return documents.object_of(data, f"{descriptor['digest']}")


def _blob(digest: Any) -> str:
    """The path of a blob in an OCI layout. Raises Invalid."""
    return "blobs/" + documents.checked_digest(digest).replace(":", "/")


def _checked(images: list[ArchivedImage]) -> list[ArchivedImage]:
    if not images:
        raise Invalid("the archive has no image")
    if sum(len(image.names) for image in images) > _MAX_NAMES:
        raise Invalid(f"the archive names more than {_MAX_NAMES} images")
    return images
