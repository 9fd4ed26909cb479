"""Power cuts at every write of the real SQLite store: python -m tests.faults.powercut --cuts 10000 [--seed 1]

A workload runs once on the real store, real SQLite and real file system, and every write, truncation, sync and rename is recorded
(recorder.c, preloaded). Then each boundary between two of them is a moment at which the power may have gone, in three ways:

    kept     everything written so far had reached the disk
    dropped  nothing that was not synced had
    torn     some 512-byte sectors of what was not synced had, by chance, in any order

The disk of that moment is built, the store opened as after a boot, and compared with what had been acknowledged by then: it opens, its
integrity check passes, every acknowledged transaction is there whole, and what is there is exactly the outcome of some transactions up to
the revision that it says, nothing invented, nothing half.

What this does not model: a disk that lies about a sync, or returns other bytes later (bit rot; see test_sqlite.py).
"""

from __future__ import annotations

import argparse
import asyncio
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
from tests.faults.powercut_worker import SETTINGS, transactions

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


def record(directory: Path, seed: int, count: int) -> list[Operation]:
    """Run the workload under the recorder."""
    library, log, place = directory / "recorder.so", directory / "log", directory / "disk"
    place.mkdir()
    source = Path(__file__).with_name("recorder.c")
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True
    )
    subprocess.run(
        [sys.executable, "-m", "tests.faults.powercut_worker", str(place), str(seed), str(count)],
        check=True, cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "RECORD_DIR": str(place), "RECORD_LOG": str(log)},
    )  # fmt: skip
    shutil.rmtree(place)
    found: list[Operation] = []
    data = log.read_bytes()
    at = 0
    while at < len(data):
        kind, file, offset, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        found.append(Operation(chr(kind), file, offset, data[at : at + length]))
        at += length
    return found


class Disk:
    """Plays the record forward, one operation after the other."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.acknowledged: dict[int, int] = {}  # number of the transaction -> revision

    def play(self, operation: Operation) -> bool:
        """False: it does not change what a power cut finds."""
        number = operation.file
        match operation.kind:
            case "N":
                self.files[number] = File(operation.data.decode())
                return False
            case "W" if self.files[number].name == "ack":
                transaction, revision = operation.data.split()
                self.acknowledged[int(transaction)] = int(revision)
            case "W":
                self.files[number].write(operation.offset, operation.data)
            case "T":
                self.files[number].truncate(operation.offset)
            case "S":
                self.files[number].sync()
            case "U":
                del self.files[number]
            case "R":
                self.files[number].name = operation.data.decode()
        return True

    def build(self, directory: Path, way: str, rng: random.Random) -> None:
        for file in self.files.values():
            if file.name.startswith("store.db") and not file.name.endswith(
                (".lock", "-shm")
            ):  # these hold nothing durable
                (directory / file.name).write_bytes(file.after(way, rng))


def states(seed: int, count: int, revisions: dict[int, int]) -> dict[int, dict[str, bytes]]:
    """What every revision holds."""
    work = transactions(seed, count)
    state: dict[str, bytes] = {}
    found = {1: dict(state)}
    for number, revision in sorted(revisions.items(), key=lambda pair: pair[1]):
        for op in work[number]:
            if isinstance(op, Put):
                state[op.key] = op.value
            else:
                state.pop(op.key, None)  # type: ignore[union-attr]
        found[revision] = dict(state)
    return found


def everything(operations: list[Operation]) -> dict[int, int]:
    """The revision of every transaction, as the whole record tells it."""
    disk = Disk()
    for operation in operations:
        disk.play(operation)
    return disk.acknowledged


async def check(directory: Path, acknowledged: dict[int, int], known: dict[int, dict[str, bytes]]) -> str:
    """'' or what is wrong."""
    path = directory / "store.db"
    if not path.exists():
        return "" if not acknowledged else "there is no store, and something was acknowledged"
    try:
        store = await open_sqlite(path, settings=SETTINGS)
    except Exception as exc:
        return f"it does not open: {exc}"
    try:
        newest = max(acknowledged.values(), default=1)
        if store.revision < newest:
            return f"revision {store.revision}, and {newest} was acknowledged"
        if store.revision not in known:
            return f"revision {store.revision}, which never was"
        there = {kv.key: kv.value for kv in (await store.range("", "\U0010ffff")).kvs}
        if there != known[store.revision]:
            return f"at revision {store.revision} it holds something else"
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
        operations = record(directory, seed, count)
        known = states(seed, count, everything(operations))
        asyncio.run(_cut(directory, operations, known, seed, cuts, result))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return result


async def _cut(
    directory: Path,
    operations: list[Operation],
    known: dict[int, dict[str, bytes]],
    seed: int,
    cuts: int,
    result: Result,
) -> None:
    disk, rng = Disk(), random.Random(seed)
    boundaries = sum(1 for o in operations if o.kind != "N")
    every = max(1.0, len(WAYS) * boundaries / cuts)
    due = 0.0
    moment = 0
    for operation in operations:
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
            wrong = await check(place, disk.acknowledged, known)
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
