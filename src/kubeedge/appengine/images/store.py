"""Which images are on this node.

    images/refs.json              name -> {"id", "layers": [diff id, ...], "config"}
    images/layers/<hex>/          one unpacked layer, made whole by rename
    images/preload/*.tar          archives that are imported when the agent starts

Several processes write (helpers); a lock file orders them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeedge.appengine.images.names import parse
from kubeedge.appengine.runtime.oci_spec import ImageConfig


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    id: str  # digest of its configuration
    layers: Sequence[Path]  # from the lowest up
    config: ImageConfig


class ImageStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.layers = root / "layers"
        self.preload = root / "preload"
        self.refs_file = root / "refs.json"
        for directory in (self.layers, self.preload):
            directory.mkdir(parents=True, exist_ok=True)

    def find(self, name: str) -> Image | None:
        """By any spelling of its name. None: not here, or one of its layers is missing."""
        entry = self._refs().get(str(parse(name)))
        if entry is None:
            return None
        layers = [self.layer(diff_id) for diff_id in entry["layers"]]
        if not all(layer.is_dir() for layer in layers):
            return None
        c = entry["config"]
        config = ImageConfig(
            tuple(c.get("Entrypoint") or ()),
            tuple(c.get("Cmd") or ()),
            tuple(c.get("Env") or ()),
            str(c.get("WorkingDir") or ""),
            str(c.get("User") or ""),
            _stop_signal(c.get("StopSignal")),
        )
        return Image(str(parse(name)), entry["id"], layers, config)

    def names(self) -> list[str]:
        return sorted(self._refs())

    def layer(self, diff_id: str) -> Path:
        return self.layers / diff_id.removeprefix("sha256:")

    def tag(self, names: Sequence[str], id: str, layers: Sequence[str], config: Mapping[str, Any]) -> None:
        """Every layer must be there."""
        with self._locked():
            refs = self._refs()
            for name in names:
                refs[str(parse(name))] = {"id": id, "layers": list(layers), "config": dict(config)}
            temporary = self.refs_file.with_suffix(".new")
            with open(temporary, "w") as file:
                json.dump(refs, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.refs_file)

    def imported(self, archive: Path) -> bool:
        """This archive was imported already, as it is now."""
        try:
            stat = archive.stat()
            mark: list[int] = json.loads(archive.with_suffix(archive.suffix + ".imported").read_text())
        except (OSError, ValueError):
            return False
        return mark == [stat.st_size, stat.st_mtime_ns]

    def mark_imported(self, archive: Path) -> None:
        stat = archive.stat()
        archive.with_suffix(archive.suffix + ".imported").write_text(json.dumps([stat.st_size, stat.st_mtime_ns]))

    def _refs(self) -> dict[str, Any]:
        try:
            refs = json.loads(self.refs_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return refs if isinstance(refs, dict) else {}

    def sweep(self) -> None:
        """What interrupted pulls left. Only when no helper of this store can be running: at the start of its agent."""
        for left in self.layers.glob("new-*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.root / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _stop_signal(text: Any) -> str:
    """ "SIGQUIT", "3" or nothing in an image's configuration; what is no signal is passed over."""
    name = str(text or "TERM").upper().removeprefix("SIG")
    if name.isdigit():
        return name if 0 < int(name) < signal.NSIG else "TERM"
    return name if f"SIG{name}" in signal.Signals.__members__ else "TERM"
