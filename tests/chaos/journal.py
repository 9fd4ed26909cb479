"""What the clients saw and did, and what the stores went through. Values only; the checks over them are in checks.py."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Journal:
    """Of one writer, which counts one field of one object up, one by one. Its own thread writes it, others may look."""

    name: str
    node: str  # at which it writes; "" in the cloud
    key: str  # of the object, below the registry: "core/configmaps/default/c-edge0"
    field: tuple[str, ...]  # of the number; beside it is a field that is 0 or 1 with it, so that values come again
    attempted: int = 0  # the highest number that was tried
    acknowledged: dict[int, int] = field(default_factory=dict)  # number -> resourceVersion of the answer
    unknown: int = 0  # attempts without an answer
    refused: dict[int, int] = field(default_factory=dict)  # HTTP status -> how often
    wrong: list[str] = field(default_factory=list)  # what the writer saw and should not have


@dataclass(slots=True)
class Pods:
    """Of a writer that creates and deletes objects, each under a name of its own."""

    name: str
    attempted: set[str] = field(default_factory=set)
    created: set[str] = field(default_factory=set)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Readings:
    """Of one reader: (object, resourceVersion, its numbers by field), in the order in which it got them."""

    name: str
    seen: list[tuple[str, int, Mapping[str, int]]] = field(default_factory=list)
    watching: bool = False  # it is told every change after `start`
    start: int = 0
    wrong: list[str] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)  # it had to list again, at that revision
    connections: int = 0


@dataclass(slots=True)
class History:
    """Every change of one store, from a first state on. One thread extends it."""

    revisions: list[tuple[int, dict[str, bytes | None]]] = field(default_factory=list)
    state: dict[str, bytes] = field(default_factory=dict)
    revision: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, revision: int, changes: Iterable[tuple[str, bytes | None]]) -> None:
        with self.lock:
            made = dict(changes)
            if revision <= self.revision and made:
                self.wrong.append(f"revision {revision} after {self.revision}")
            self.revision = max(revision, self.revision)
            if made:
                self.revisions.append((revision, made))
            for key, value in made.items():
                if value is None:
                    self.state.pop(key, None)
                else:
                    self.state[key] = value

    def below(self, prefix: str) -> dict[str, bytes]:
        with self.lock:
            return {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}

    def values(self, key: str) -> list[tuple[int, bytes | None]]:
        return [(revision, changes[key]) for revision, changes in self.revisions if key in changes]
