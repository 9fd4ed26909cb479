"""Which user a container runs as: the pod's choice before the image's; names are looked up in the image's own files."""

from __future__ import annotations

import os
from pathlib import Path

from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.runtime.oci_spec import ContainerUser

_MAX_FILE = 1024 * 1024  # bytes
_MAX_LINKS = 40  # followed on one way, as in Linux


def resolve(
    rootfs: Path, image_user: str, user: int | None, group: int | None, *, strict: bool = False
) -> ContainerUser:
    """Raises StartError for a name that the image does not know. `strict`: its groups file gives the user no further groups."""
    name, _, group_name = image_user.partition(":")
    passwd = _read(rootfs, "etc/passwd")
    uid, gid, home = 0, 0, "/root" if not name else "/"
    if user is not None:
        name = str(user)
        group_name = ""
    if name:
        entry = next((e for e in passwd if e[0] == name or (name.isdigit() and len(e) > 2 and e[2] == name)), None)
        if entry is not None and len(entry) >= 6:
            uid, gid, home = int(entry[2]), int(entry[3]), entry[5]
        elif name.isdigit():
            uid = int(name)
        else:
            raise StartError("CreateContainerConfigError", f"the image has no user {name!r}")
    if group is not None:
        gid = group
    elif group_name:
        gid = _group(rootfs, group_name)
    if strict:
        return ContainerUser(uid, gid, (), home)
    own = [e[0] for e in passwd if len(e) > 2 and e[2] == str(uid)]
    members = [int(g[2]) for g in _read(rootfs, "etc/group") if len(g) > 3 and set(own) & set(g[3].split(","))]
    return ContainerUser(uid, gid, tuple(sorted(set(members) - {gid})), home)


def _group(rootfs: Path, name: str) -> int:
    if name.isdigit():
        return int(name)
    for entry in _read(rootfs, "etc/group"):
        if entry[0] == name and len(entry) > 2:
            return int(entry[2])
    raise StartError("CreateContainerConfigError", f"the image has no group {name!r}")


def _read(rootfs: Path, name: str) -> list[list[str]]:
    """Links are followed as a process with that root would follow them: the image is not to be trusted, and in some images these are links."""
    path = _inside(rootfs, name)
    if path is None or not path.is_file():
        return []
    with open(path, errors="replace") as file:
        return [line.rstrip("\n").split(":") for line in file.read(_MAX_FILE).splitlines() if ":" in line]


def _inside(rootfs: Path, name: str) -> Path | None:
    """A path without links below `rootfs`, where no process runs yet; None: too many links."""
    pending, way, links = name.split("/")[::-1], list[str](), 0
    while pending:
        part = pending.pop()
        if part == "..":
            del way[-1:]
        elif part not in ("", "."):
            path = rootfs.joinpath(*way, part)
            if not path.is_symlink():
                way.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                return None
            target = os.readlink(path)
            if target.startswith("/"):
                way.clear()
            pending += target.split("/")[::-1]
    return rootfs.joinpath(*way)
