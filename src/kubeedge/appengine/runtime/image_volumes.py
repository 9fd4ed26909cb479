"""The volumes that an image asks for (VOLUME in a Dockerfile, `Volumes` in its configuration), and images that are volumes themselves.

The former are directories of the container's own file system, with owner, mode and content as in the image, and end with the container, as the
anonymous volumes of the other Kubernetes runtimes do. They can be written to also when the rest of that file system cannot.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from kubeedge.appengine.images.store import Image
from kubeedge.appengine.images.tree import Tree
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.runtime.base import BindMount, StartError
from kubeedge.kit.dataclasses import replace


def prepare(rootfs: Path, paths: Sequence[str], mounted: Collection[str], *, read_only_root: bool) -> list[BindMount]:
    """What has to be mounted for them. `mounted` is where the pod mounts something: that is what it wants there. Raises Invalid, OSError."""
    tree, binds = Tree(rootfs), []
    taken = [posixpath.normpath(target) for target in mounted]
    for path in sorted({posixpath.normpath(f"/{path.lstrip('/')}") for path in paths} - {"/"}):
        if any(path == target or path.startswith(target + "/") for target in taken):
            continue
        directory = tree.directory(path.strip("/").split("/"))
        if read_only_root:
            binds.append(BindMount(directory, path))
    return binds


def mount(directory: Path, asked: Sequence[BindMount], images: Mapping[str, Image]) -> Iterator[BindMount]:
    """Each image that is mounted as a volume gets a directory of its own below `directory`. Raises StartError, OSError."""
    for number, wanted in enumerate(asked):
        if not wanted.image:
            yield wanted
            continue
        target = directory / str(number)
        target.mkdir(parents=True)
        mounts.overlay_read_only(images[wanted.image].layers, target)
        source = (target / wanted.sub_path).resolve() if wanted.sub_path else target
        if not source.exists() or not source.is_relative_to(target):
            raise StartError("CreateContainerError", f"subPath {wanted.sub_path!r} is not in image {wanted.image}")
        yield replace(wanted, source=source)


def mounted(directory: Path) -> list[Path]:
    """The directories that mount() has mounted something on."""
    return list(directory.iterdir()) if directory.is_dir() else []
