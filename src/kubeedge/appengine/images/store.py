"""Which images are on this node.

    images/refs.json              name -> {"id", "layers": [chain id, ...], "config", "digest"}
    images/layers/<hex>/          one unpacked layer, made whole by rename; by its chain id, for it was unpacked with its parents in view
    images/layers/<hex>.names     how many names it has in its root, and its bytes: a layer that lost names is not here
    images/blobs/<hex>.part       what has come of a blob (parts.py)
    images/preload/*.tar          archives that are imported when the agent starts

Several processes write (helpers); a lock file orders them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubeedge.appengine.images import parts
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.tree import seen_layers
from kubeedge.appengine.runtime.image_config import ImageConfig
from kubeedge.errors import Invalid
from kubeedge.kit import private, trees
from kubeedge.kit.dataclasses import dataclass


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain id of each layer, which stands for it and all below it (image-spec, config.md)."""
    chain: list[str] = []
    for diff_id in diff_ids:
        both = f"{chain[-1]} {diff_id}".encode() if chain else b""
        chain.append(f"sha256:{hashlib.sha256(both).hexdigest()}" if both else diff_id)
    return chain


_PART_LIFE = 7 * 86400.0  # seconds that what has come of a blob waits for the rest


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is complete on this node, as a container can be started from it."""

    name: str
    id: str  # digest of its configuration
    layers: Sequence[Path]  # from the lowest up
    config: ImageConfig
    pulled_as: str = ""  # REPOSITORY@DIGEST of its manifest in the registry


class ImageStore:
    """The directory `root` of images. Processes share it; a file is replaced by rename, so a reader never sees half of one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layers = root / "layers"
        self.blobs = root / "blobs"
        self.preload = root / "preload"
        self.refs_file = root / "refs.json"
        for directory in (self.root, self.layers, self.blobs, self.preload):
            private.directory(directory)  # what lies setuid in a layer is for containers alone

    def find(self, name: str) -> Image | None:
        """By any spelling of its name. None: not here, or one of its layers is missing."""
        entry = self._refs().get(str(parse(name)))
        if entry is None:
            return None
        if not all(self.has_layer(id) for id in entry["layers"]):
            return None
        c = entry["config"]
        config = ImageConfig(
            tuple(c.get("Entrypoint") or ()),
            tuple(c.get("Cmd") or ()),
            tuple(c.get("Env") or ()),
            str(c.get("WorkingDir") or ""),
            str(c.get("User") or ""),
            _stop_signal(c.get("StopSignal")),
            tuple(c.get("Volumes") or ()),
        )
        full = parse(name)
        pulled_as = f"{full.registry}/{full.repository}@{entry['digest']}" if entry.get("digest") else ""
        return Image(str(full), entry["id"], [self.layer(id) for id in entry["layers"]], config, pulled_as)

    def names(self) -> list[str]:
        """Every name in full, sorted, also of images that lack a layer."""
        return sorted(self._refs())

    def layer(self, id: str) -> Path:
        """Where the layer of a chain id ("sha256:...") is or would be."""
        return self.layers / id.removeprefix("sha256:")

    def part(self, digest: str) -> Path:
        """The path of a blob while it is being fetched."""
        return self.blobs / f"{digest.removeprefix('sha256:')}.part"

    def free_bytes(self) -> int:
        """What this process may still write."""
        disk = os.statvfs(self.root)
        return disk.f_bavail * disk.f_frsize

    def layer_bytes(self, id: str) -> int:
        """What its files take; 0 when it is not here."""
        try:
            return int(self._count_file(id).read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return trees.used_bytes(self.layer(id))  # of an agent that did not count yet

    def has_layer(self, id: str) -> bool:
        """Whether it is here with all its files."""
        try:
            names = len(os.listdir(self.layer(id)))
            return names == int(self._count_file(id).read_text().split()[0])
        except FileNotFoundError:
            return self.layer(id).is_dir()  # of an agent that did not count yet
        except (OSError, IndexError, ValueError):
            return False

    def keep_layer(self, id: str, directory: Path) -> None:
        """It becomes this layer, unless another helper was first; what was left of a damaged one makes way."""
        with self._locked():
            if self.has_layer(id):
                return
            if self.layer(id).exists():
                self.layer(id).rename(f"{directory}-old")  # swept later: a container may still have it mounted
            size = trees.used_bytes(directory)
            self._count_file(id).write_text(f"{len(os.listdir(directory))} {size}")
            directory.rename(self.layer(id))

    def _count_file(self, id: str) -> Path:
        return self.layer(id).with_suffix(".names")

    def tag(
        self, names: Sequence[str], id: str, layers: Sequence[str], config: Mapping[str, Any], *, digest: str = ""
    ) -> None:
        """Every layer must be there. `digest`: of the manifest that its registry has under this name."""
        seen = len(seen_layers([self.layer(layer) for layer in layers]))
        with self._locked():
            refs = self._refs()
            for name in names:
                refs[str(parse(name))] = {
                    "id": id,
                    "layers": list(layers[-seen:]),
                    "config": dict(config),
                    **({"digest": digest} if digest else {}),
                }
            self._write(refs)

    def _write(self, refs: Mapping[str, Any]) -> None:
        temporary = self.refs_file.with_suffix(".new")
        with open(temporary, "w") as file:
            json.dump(refs, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.refs_file)

    def remove(self, name: str, in_use: Collection[str] | None) -> None:
        """The name, and those of its layers that no other image is made of and no container is mounted from (`in_use`, by directory
        name; None: any may be). A helper that needs one of them at this moment finds it missing, and its image is pulled again."""
        with self._locked():
            refs = self._refs()
            entry = refs.pop(str(parse(name)), None)
            if entry is None:
                return
            gone = []
            if in_use is not None:
                kept = {*in_use, *(self.layer(id).name for other in refs.values() for id in other["layers"])}
                gone = [id for id in entry["layers"] if self.layer(id).name not in kept]
            written = False
            with contextlib.suppress(OSError):  # on a full disk only what is removed makes room for saying so
                self._write(refs)
                written = True
            for id in gone:
                self._remove_layer(id)
            if not written:
                self._write(refs)

    def _remove_layer(self, id: str) -> None:
        """Under a name of what is swept first: half a layer is none."""
        left = self.layers / f"new-removed-{self.layer(id).name}"
        trees.remove(left)
        with contextlib.suppress(FileNotFoundError):
            self.layer(id).rename(left)
        self._count_file(id).unlink(missing_ok=True)
        trees.remove(left)

    def imported(self, archive: Path) -> bool:
        """This archive was imported already, as it is now, and its images are still here."""
        try:
            status = archive.stat()
            record = json.loads(_import_record(archive).read_text())
            if [record["size"], record["mtime"]] != [status.st_size, status.st_mtime_ns] or not record["names"]:
                return False
            return all(self.find(name) is not None for name in record["names"])
        except (OSError, ValueError, TypeError, KeyError, Invalid):
            return False

    def mark_imported(self, archive: Path, names: Sequence[str]) -> None:
        """Remember the archive by its size and modification time, so that an unchanged one is not imported at each start."""
        status = archive.stat()
        record = {"size": status.st_size, "mtime": status.st_mtime_ns, "names": list(names)}
        _import_record(archive).write_text(json.dumps(record))

    def preloaded(self, name: str) -> Path | None:
        """The archive beside the agent that an image of this name came from."""
        for archive in sorted(self.preload.glob("*.tar")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                if name in json.loads(_import_record(archive).read_text())["names"]:
                    return archive
        return None

    def _refs(self) -> dict[str, Any]:
        try:
            refs = json.loads(self.refs_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return refs if isinstance(refs, dict) else {}

    def prune(self, in_use: Collection[str] | None) -> int:
        """Layers of no image, unless containers are mounted from them (as for remove), and parts of blobs; how many bytes they had.
        Only when no helper of this store is running: it may have layers that no image has yet."""
        freed = parts.sweep(self.blobs)
        if in_use is None:
            return freed
        with self._locked():
            kept = {*in_use, *(self.layer(id).name for entry in self._refs().values() for id in entry["layers"])}
            for layer in list(self.layers.iterdir()):
                if layer.is_dir() and layer.name not in kept:
                    id = f"sha256:{layer.name}"
                    freed += self.layer_bytes(id)
                    self._remove_layer(id)
        return freed

    def sweep(self, part_life: float = _PART_LIFE) -> None:
        """What interrupted pulls left; parts of blobs only after so many seconds. Only when no helper of this store can be running: at
        the start of its agent."""
        for left in self.layers.glob("new-*"):
            trees.remove(left)
        parts.sweep(self.blobs, part_life)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.root / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _import_record(archive: Path) -> Path:
    return archive.with_suffix(archive.suffix + ".imported")


def _stop_signal(text: Any) -> str:
    """ "SIGQUIT", "3" or nothing in an image's configuration; what is no signal is passed over."""
    name = str(text or "TERM").upper().removeprefix("SIG")
    if name.isdigit():
        return name if 0 < int(name) < signal.NSIG else "TERM"
    return name if f"SIG{name}" in signal.Signals.__members__ else "TERM"
