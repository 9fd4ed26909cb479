"""Power cuts at every write of the real SQLite store: python -m tests.faults.powercut --cuts 10000 [--seed 1]

A workload runs once on the real store, real SQLite and real file system, and every write, truncation, sync and rename is recorded
(recorder.c, preloaded). Then each boundary between two of them is a moment at which the power may have gone, in three ways:

    kept     everything written so far had reached the disk
    dropped  nothing that was not synced had
    torn     some 512-byte sectors of what was not synced had, by chance, in any order

A name is no better than a byte: that a file was made, renamed or removed is certain only once its directory was synced.

The disk of that moment is built, the store opened as after a boot, and compared with what had been acknowledged by then: it opens, it is
the same store, its integrity check passes, every acknowledged transaction is there whole, and what is there is exactly the outcome of some
transactions up to the revision that it says, nothing invented, nothing half. Some of the transactions are those of a sink of sync: what
it has is at least what its last sync revision says, and what it has acknowledged to its source.

What this does not model: a disk that lies about a sync, or returns other bytes later (bit rot; see test_sqlite.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kubeedge.store.model import Put
from kubeedge.store.sqlite import open_sqlite
from tests.faults.powercut_worker import LSR_KEY, PREFIX, SETTINGS, SOURCE_PREFIX, TOLD, source_transactions

ROOT = Path(__file__).parents[2]
SECTOR = 512
WAYS = ("kept", "dropped", "torn")
_HEAD = struct.Struct("<BIQI")


@dataclass(slots=True)
class Operation:
    kind: str
    file: int
    offset: int
    data: bytes


@dataclass(slots=True)
class File:
    """A file as it is, and what of it is certain to survive."""

    name: str
    now: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)  # writes since the last sync; offset -1: truncated

    def write(self, offset: int, data: bytes) -> None:
        _put(self.now, offset, data)
        self.pending.append((offset, data))

    def truncate(self, length: int) -> None:
        _resize(self.now, length)
        self.pending.append((-1, length.to_bytes(8, "little")))

    def sync(self) -> None:
        """Whatever was written before is certain."""
        self.synced = bytearray(self.now)
        self.pending.clear()

    def after(self, way: str, rng: random.Random) -> bytes:
        if way == "kept" or not self.pending:
            return bytes(self.now)
        found = bytearray(self.synced)
        if way == "torn":
            for offset, data in self.pending:
                if offset < 0:
                    if rng.random() < 0.5:
                        _resize(found, int.from_bytes(data, "little"))
                    continue
                for start in range(0, len(data), SECTOR):
                    if rng.random() < 0.5:
                        _put(found, offset + start, data[start : start + SECTOR])
        return bytes(found)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, length: int) -> None:
    if len(content) > length:
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


def build_recorder(library: Path) -> None:
    source = Path(__file__).with_name("recorder.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)


def record(directory: Path, seed: int, count: int, *, mistake: str = "") -> list[Operation]:
    """Run the workload under the recorder."""
    library, log, place = directory / "recorder.so", directory / "log", directory / "disk"
    place.mkdir()
    build_recorder(library)
    subprocess.run(
        [sys.executable, "-m", "tests.faults.powercut_worker", str(place), str(seed), str(count), mistake],
        check=True, cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "RECORD_DIR": str(place), "RECORD_LOG": str(log)},
    )  # fmt: skip
    shutil.rmtree(place)
    return list(operations(log.read_bytes()))


def operations(data: bytes) -> Iterator[Operation]:
    at = 0
    while at < len(data):
        kind, file, offset, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield Operation(chr(kind), file, offset, data[at : at + length])
        at += length


@dataclass(slots=True)
class Told:
    """What the workload had said by then."""

    store_id: str = ""  # it had been opened
    intended: dict[int, dict[str, bytes | None]] = field(
        default_factory=dict
    )  # number of the transaction -> what it writes
    acknowledged: dict[int, int] = field(default_factory=dict)  # number of the transaction -> revision
    sync: int = 0  # revision of the source that the sink had acknowledged

    def hear(self, line: str) -> None:
        kind, *words = line.split()
        match kind:
            case "store":
                self.store_id = words[0]
            case "wants":
                ops = json.loads(words[1])
                self.intended[int(words[0])] = {k: None if v is None else bytes.fromhex(v) for k, v in ops.items()}
            case "has":
                self.acknowledged[int(words[0])] = int(words[1])
            case "sync":
                self.sync = max(self.sync, int(words[0]))


@dataclass(slots=True)
class Entry:
    """A change of a directory."""

    number: int  # of the file
    name: str  # that it had, or "" if it is new
    to: str  # that it has now, or "" if it is gone

    @property
    def parent(self) -> str:
        return (self.name or self.to).rpartition("/")[0]

    def apply(self, names: dict[str, int]) -> None:
        if self.name and names.get(self.name) == self.number:
            del names[self.name]
        if self.to:
            names[self.to] = self.number


class Disk:
    """Plays the record forward, one operation after the other."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.directories: dict[int, str] = {}
        self.now: dict[str, int] = {}  # name -> number of the file
        self.synced: dict[str, int] = {}
        self.pending: list[Entry] = []  # since their directory was synced
        self.told = Told()

    def play(self, operation: Operation) -> bool:
        """False: it does not change what a power cut finds."""
        number = operation.file
        match operation.kind:
            case "N":
                name = operation.data.decode()
                self.files[number] = File(name)
                self._name(Entry(number, "", name))
                return False
            case "P":
                self.directories[number] = operation.data.decode()
                return False
            case "W" if self.files[number].name == TOLD:
                self.told.hear(operation.data.decode())
            case "S" if number in self.directories:
                self._sync_names(self.directories[number])
            case "W":
                self.files[number].write(operation.offset, operation.data)
            case "T":
                self.files[number].truncate(operation.offset)
            case "S":
                self.files[number].sync()
            case "U":
                self._name(Entry(number, self.files[number].name, ""))
            case "R":
                name = operation.data.decode()
                self._name(Entry(number, self.files[number].name, name))
                self.files[number].name = name
        return True

    def _name(self, entry: Entry) -> None:
        entry.apply(self.now)
        self.pending.append(entry)

    def _sync_names(self, directory: str) -> None:
        for entry in self.pending:
            if entry.parent == directory:
                entry.apply(self.synced)
        self.pending = [entry for entry in self.pending if entry.parent != directory]

    def settle(self, directory: str) -> None:
        """Everything there is certain: it was so for a long time."""
        for name, number in self.now.items():
            if name.rpartition("/")[0] == directory:
                self.files[number].sync()
        self._sync_names(directory)

    def _names(self, way: str, rng: random.Random) -> dict[str, int]:
        if way == "kept" or not self.pending:
            return self.now
        names = dict(self.synced)
        for entry in self.pending:
            if way == "torn" and rng.random() < 0.5:
                entry.apply(names)
        return names

    def build(self, directory: Path, way: str, rng: random.Random, *, under: str = "") -> None:
        """What a boot finds of the files below `under`."""
        for name, number in self._names(way, rng).items():
            place, _, base = name.rpartition("/")
            if (
                place == under and base.startswith("store.db") and not base.endswith((".lock", "-shm"))
            ):  # nothing durable
                (directory / base).write_bytes(self.files[number].after(way, rng))


def everything(record: list[Operation]) -> Told:
    """What the whole record tells."""
    disk = Disk()
    for operation in record:
        disk.play(operation)
    return disk.told


class Known:
    """What every revision of the store holds, and what the source of sync held."""

    def __init__(self, seed: int, count: int, told: Told) -> None:
        state: dict[str, bytes] = {}
        self.at = {1: dict(state)}
        for revision, number in sorted((r, n) for n, r in told.acknowledged.items()):
            for key, value in told.intended[number].items():
                if value is None:
                    state.pop(key, None)
                else:
                    state[key] = value
            self.at[revision] = dict(state)
        self._source: dict[str, list[tuple[int, bytes | None]]] = {}  # key -> its values, and since when
        for n, ops in enumerate(source_transactions(seed, count)):
            for op in ops:
                value = op.value if isinstance(op, Put) else None
                self._source.setdefault(op.key.removeprefix(SOURCE_PREFIX), []).append((n + 2, value))  # type: ignore[union-attr]

    def behind(self, there: dict[str, bytes], revision: int) -> str:
        """A key below PREFIX that is not as the source had it at that revision or later, or ""."""
        for key, values in self._source.items():
            then = [value for since, value in values if since <= revision][-1:] or [None]
            allowed = then + [value for since, value in values if since > revision]
            if there.get(PREFIX + key) not in allowed:
                return key
        return ""


async def check(directory: Path, told: Told, known: Known) -> str:
    """'' or what is wrong."""
    path = directory / "store.db"
    if not path.exists():
        return "" if not told.store_id else "there is no store, and it had been opened"
    try:
        store = await open_sqlite(path, settings=SETTINGS)
    except Exception as exc:
        return f"it does not open: {exc}"
    try:
        if told.store_id and store.store_id != told.store_id:
            return "it is another store"
        newest = max(told.acknowledged.values(), default=1)
        if store.revision < newest:
            return f"revision {store.revision}, and {newest} was acknowledged"
        if store.revision not in known.at:
            return f"revision {store.revision}, which never was"
        there = {kv.key: kv.value for kv in (await store.range("", "\U0010ffff")).kvs}
        if there != known.at[store.revision]:
            return f"at revision {store.revision} it holds something else"
        lsr = json.loads(there.get(LSR_KEY, b'["", 0]'))[1]
        if key := known.behind(there, lsr):
            return f"its last sync revision is {lsr}, and {key} is older"
        if key := known.behind(there, told.sync):
            return f"it had acknowledged {told.sync} to its source, and {key} is older"
        if await store.put("/after", b"") != store.revision or store.compacted > store.revision:
            return "it does not go on"
    finally:
        await store.close()
    return ""


@dataclass(slots=True)
class Result:
    cuts: int = 0
    boundaries: int = 0
    wrong: list[str] = field(default_factory=list)


def cut_everywhere(seed: int, cuts: int, *, count: int = 0) -> Result:
    """As many cuts as asked for, spread evenly over all boundaries and ways."""
    count = count or max(60, cuts // 25)
    result = Result()
    shared = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="kbcut", dir=shared if shared.is_dir() else None))
    try:
        recorded = record(directory, seed, count)
        known = Known(seed, count, everything(recorded))
        asyncio.run(_cut(directory, recorded, known, seed, cuts, result))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return result


async def _cut(
    directory: Path,
    recorded: list[Operation],
    known: Known,
    seed: int,
    cuts: int,
    result: Result,
) -> None:
    disk, rng = Disk(), random.Random(seed)
    boundaries = sum(1 for o in recorded if o.kind not in "NP")
    every = max(1.0, len(WAYS) * boundaries / cuts)
    due = 0.0
    moment = 0
    for operation in recorded:
        if not disk.play(operation):
            continue
        result.boundaries += 1
        for way in WAYS:
            moment += 1
            if moment < due:
                continue
            due += every
            place = directory / "cut"
            place.mkdir()
            disk.build(place, way, rng)
            wrong = await check(place, disk.told, known)
            shutil.rmtree(place)
            result.cuts += 1
            if wrong:
                result.wrong.append(
                    f"seed {seed}, after operation {result.boundaries} ({operation.kind}), {way}: {wrong}"
                )


def _seeds(seed: int, cuts: int) -> Iterator[tuple[int, int]]:
    while cuts > 0:
        yield seed, min(cuts, 10_000)
        seed, cuts = seed + 1, cuts - 10_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="make powercut", description=__doc__)
    parser.add_argument("--cuts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    total = Result()
    for seed, cuts in _seeds(options.seed, options.cuts):
        result = cut_everywhere(seed, cuts)
        total.cuts += result.cuts
        total.boundaries += result.boundaries
        total.wrong += result.wrong
    seconds = time.monotonic() - begun
    for line in total.wrong[:20]:
        print(line)
    print(f"{total.cuts} cuts at {total.boundaries} boundaries in {seconds:.0f} s ({total.cuts / seconds:.0f}/s), "
          f"{len(total.wrong)} wrong; seeds from {options.seed}")  # fmt: skip
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
