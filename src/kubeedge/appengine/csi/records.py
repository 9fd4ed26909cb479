"""What was asked of drivers and not taken back: a file for each volume of each pod, written before the first call.

Whoever finds one knows whom to ask to unpublish and unstage, though the pod's specification and its PersistentVolume are gone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from kubeedge.kit.dataclasses import asdict, dataclass
from kubeedge.pki.files import sync_directory, write_whole


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """`staging` is "" for what is not staged."""

    uid: str  # of the pod
    name: str
    driver: str
    handle: str
    target: str
    staging: str


class VolumeRecords:
    """In one directory. Blocking, and small: a file has some hundred bytes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, record: VolumeRecord) -> None:
        """Durable when it returns. Raises OSError."""
        path = self._path(record)
        data = json.dumps(asdict(record), sort_keys=True).encode()
        with contextlib.suppress(OSError):
            if path.read_bytes() == data:
                return
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, data)

    def discard(self, record: VolumeRecord) -> None:
        """It was taken back."""
        self._path(record).unlink(missing_ok=True)
        sync_directory(self._directory)

    def __iter__(self) -> Iterator[VolumeRecord]:
        """All of them; a file that is damaged is passed over."""
        for path in sorted(self._directory.glob("*.json")) if self._directory.is_dir() else ():
            with contextlib.suppress(OSError, ValueError, TypeError):
                record = VolumeRecord(**json.loads(path.read_bytes()))
                if all(isinstance(value, str) for value in asdict(record).values()):
                    yield record

    def _path(self, record: VolumeRecord) -> Path:
        return self._directory / f"{record.uid}.{record.name}.json"
