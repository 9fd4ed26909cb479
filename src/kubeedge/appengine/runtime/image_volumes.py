"""The volumes that an image asks for (VOLUME in a Dockerfile, `Volumes` in its configuration).

They are directories of the container's own file system, with owner, mode and content as in the image, and end with the container, as the
anonymous volumes of the other Kubernetes runtimes do. They can be written to also when the rest of that file system cannot.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from pathlib import Path

from kubeedge.appengine.images.tree import Tree
from kubeedge.appengine.runtime.base import BindMount


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
