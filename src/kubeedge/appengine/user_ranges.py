"""Which users of the machine are those of a pod with hostUsers: false: a range for each, kept for as long as the pod is on this node.

A file named by the pod's uid has the first of the range. Which one is free is looked for from a place that the uid chooses: what one pod leaves behind on
the machine is not the next one's, and pods of two nodes have other users as a rule. They are beyond what systemd and /etc/subuid give away (0x70000000 and on, of 31 bits).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection
from pathlib import Path

from kubeedge.appengine.runtime.base import RANGE, StartError
from kubeedge.kit import private

FIRST, COUNT = 0x70000000, 4096


class UserRanges:
    """Those of one node. `directory` is made for the first pod that has one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, int] | None = None  # uid of the pod -> the first of its range

    def of(self, uid: str) -> int:
        """The same for each call. Raises StartError when all are taken, OSError."""
        known = self._all()
        if uid not in known:
            taken = set(known.values())
            begin = int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=4).digest(), "big")
            ranges = (FIRST + (begin + n) % COUNT * RANGE for n in range(COUNT))
            free = next((first for first in ranges if first not in taken), None)
            if free is None:
                raise StartError("FailedCreatePodSandBox", f"all {COUNT} ranges of users are taken")
            private.directory(self._directory)
            new = self._directory / f".{uid}"
            new.write_text(str(free))
            new.replace(self._directory / uid)
            known[uid] = free
        return known[uid]

    def release(self, uid: str) -> None:
        """Nothing of the pod is left. Idempotent. Raises OSError."""
        (self._directory / uid).unlink(missing_ok=True)
        if self._known is not None:
            self._known.pop(uid, None)

    def sweep(self, known: Collection[str]) -> None:
        """Ranges of pods that are not on this node any more."""
        for uid in set(self._all()) - set(known):
            with contextlib.suppress(OSError):
                self.release(uid)

    def _all(self) -> dict[str, int]:
        if self._known is None:
            self._known = {}
            for file in self._directory.iterdir() if self._directory.is_dir() else ():
                with contextlib.suppress(OSError, ValueError):  # a file that a power cut has emptied
                    first = int(file.read_text())
                    if not file.name.startswith(".") and FIRST <= first < FIRST + COUNT * RANGE:
                        self._known[file.name] = first
        return self._known
