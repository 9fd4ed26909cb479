"""Disks with real SQLite files, and the product's durable store on them, in virtual time.

Everything that the store and SQLite do to their files is recorded (tests/faults/recorder.c, which must have been loaded before
SQLite). When a process dies, the disk is built anew from the record, up to that operation, as it may look then:

    killed      everything that was written is there: the kernel goes on
    power cut   what was not synced is lost, or there in part, sectors of 512 bytes and names in any order

A process that dies while it commits dies at any operation of that commit. The next one opens what is there, and finds all that was
acknowledged, whole, or the scenario has failed. A full disk is a write that fails with ENOSPC.

Beside the files the checks have a copy of what was committed, as of the disks that are only modelled (disks.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextvars import copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubeedge.store.sqlite_file as sqlite_file
from kubeedge.api.names import Revision
from kubeedge.errors import Unavailable
from kubeedge.store.model import Change, Compare, Op, TxnResult
from kubeedge.store.sealing import Plain
from kubeedge.store.sqlite import CorruptStore, SqliteSettings, SqliteStore
from kubeedge.store.sqlite_history import COLUMNS, change, rows
from kubeedge.store.sqlite_writer import Job, WriteAnswers, Writer, WriteRequest
from tests.faults import powercut
from tests.simulator.disks import Data, Disk
from tests.simulator.invariants import Violation

SETTINGS = SqliteSettings(keep_revisions=60, compact_every=20)


def recorder_is_there() -> bool:
    return hasattr(ctypes.CDLL(None), "record_into")


class Recorder:
    """What happens below a directory, and how it would look after a power cut."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._log = directory.with_suffix(".log")
        self._library = ctypes.CDLL(None)
        self._library.record_into(str(directory).encode(), str(self._log).encode())
        self._read = self._log.open("rb")
        self._lives = 0
        self.disk = powercut.Disk()

    def new(self) -> Path:
        """An empty directory."""
        self._lives += 1
        place = self.directory / str(self._lives)
        place.mkdir()
        return place

    def full(self, now: bool) -> None:
        self._library.record_full(int(now))

    def operations(self) -> list[powercut.Operation]:
        """What was done since the last call; play them."""
        return list(powercut.operations(self._read.read()))

    def catch_up(self) -> None:
        for operation in self.operations():
            self.disk.play(operation)

    def copy(self, place: Path, way: str, rng: random.Random) -> Path:
        """The directory as it looks after a cut now, in a directory of its own."""
        made = self.new()
        self.disk.build(made, way, rng, under=place.name)
        self.catch_up()
        self.disk.settle(made.name)
        return made

    def close(self) -> None:
        self._read.close()
        self._log.unlink()


class SqliteDisk(Disk):
    def __init__(
        self, recorder: Recorder, store_id: str, *, data: Data | None = None, place: Path | None = None
    ) -> None:
        super().__init__(store_id, data=data)
        self.recorder = recorder
        self.place = place or recorder.new()
        if place is None:
            self._create()

    def _create(self) -> None:
        path, data = self.place / "store.db", self.data
        known = SimpleNamespace(token_hex=lambda size: data.store_id)
        before, sqlite_file.secrets = sqlite_file.secrets, known  # type: ignore[assignment]
        try:
            sqlite_file.create(path, SETTINGS)
        finally:
            sqlite_file.secrets = before
        if data.revision > 1:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute("BEGIN")
                db.executemany(
                    "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)",
                    rows(data.between(Revision(0), data.revision), Plain()),
                )
                db.execute("COMMIT")
        self.recorder.catch_up()
        self.recorder.disk.settle(self.place.name)

    def open(self, rng: random.Random) -> SimSqlite:  # type: ignore[override]
        store = SimSqlite(self, rng)
        self._compare(store)
        return store

    def _compare(self, store: SimSqlite) -> None:
        """What a process finds when it starts, with what was committed."""
        data = self.data
        if store.store_id != data.store_id or store.revision < data.revision:
            raise Violation(
                f"{data.store_id} at {data.revision} was {store.store_id} at {store.revision} after a death"
            )
        changes, _ = store._changes("/", data.revision, 1 << 40)
        for revision in sorted({c.revision for c in changes}):  # committed, and nobody heard of it
            self.follow([c for c in changes if c.revision == revision])
        there = {kv.key: kv for kv in store.everything()}
        for key in {*there, *data.past("/")}:
            if there.get(key) != data.newest(key):
                raise Violation(
                    f"{data.store_id} has {there.get(key)!r:.60} after a death, not {data.newest(key)!r:.60}"
                )

    def follow(self, changes: Sequence[Change]) -> None:
        self.data.follow(changes, changes[0].revision)
        self.took(changes)

    def image(self) -> SqliteDisk:
        self.recorder.catch_up()
        place = self.recorder.copy(self.place, "kept", random.Random(0))
        other = SqliteDisk(self.recorder, "", data=self.data.copy(), place=place)
        other.newest = dict(self.newest)
        return other

    def flip(self, rng: random.Random) -> SqliteDisk | None:
        """A bit of the files is another one. The disk as it is now, or None: the store says that it is sick, and is set aside."""
        self.recorder.catch_up()
        files = [file for file in sorted(self.place.iterdir()) if file.name in ("store.db", "store.db-wal")]
        sizes = [file.stat().st_size for file in files]
        at = rng.randrange(sum(sizes))
        file = files[0]
        if at >= sizes[0]:
            file, at = files[1], at - sizes[0]
        content = bytearray(file.read_bytes())
        content[at] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        self.recorder.catch_up()
        self.recorder.disk.settle(self.place.name)
        try:
            store = SimSqlite(self, rng)
        except CorruptStore:
            return None
        data = Data(store_id=store.store_id)
        changes = [change(row, Plain()) for row in store._reader.execute(f"SELECT {COLUMNS} FROM history ORDER BY id")]
        for one in changes:
            data.follow([one], one.revision)
        data._revision, data._compacted = store.revision, store.compacted
        store.die(power=False)
        other = SqliteDisk(self.recorder, "", data=data, place=self.place)
        for key in data.past("/"):
            if (kv := data.newest(key)) and kv != self.data.newest(key):
                other.rotten[key] = kv.mod_revision
        return other


class SimWriter(Writer):
    """The store's writer without its thread: it takes turns with everybody else."""

    dead = False
    busy = False
    disk: SqliteDisk
    rng: random.Random

    def start(self) -> None:
        self._context = copy_context()

    async def run(self, work: Callable[[sqlite3.Connection], None]) -> None:
        if self.dead:
            raise Unavailable("the process is dead")
        await super().run(work)

    def _put(self, item: WriteRequest | Job | None) -> None:
        self._wait_turn(item)
        self._kick()

    def _kick(self) -> None:
        if not self.busy:
            self.busy = True
            delay = self.rng.choice((0.0, 0.001, 0.01, 0.2))
            self._loop.call_later(delay, self._context.run, self._turn)

    def _turn(self) -> None:
        if self.dead:
            return
        with contextlib.suppress(asyncio.CancelledError):  # the process died in it
            self.take()
            self.busy = False
            if self._turns:
                self._kick()

    def take(self) -> None:
        items = self._turns.take()
        self.disk.recorder.full(self.disk.full and self.rng.random() < 0.8)
        try:
            self._serve(items)
        finally:
            self.disk.recorder.full(False)

    def _post(self, callback: Callable[[], None]) -> None:
        def heard() -> None:
            if not self.dead:
                callback()

        self._loop.call_soon(heard, context=self._context)


class SimSqlite(SqliteStore):
    """The product's store with a writer of the simulator."""

    dead = False
    _writer: SimWriter

    def __init__(self, disk: SqliteDisk, rng: random.Random) -> None:
        super().__init__(disk.place / "store.db", SETTINGS, writer=SimWriter)
        self.disk = disk
        self.path = self._writer.path = Path(
            self.store_id
        )  # errors tell of it, and go to the peer: the same in each run
        self._writer.disk, self._writer.rng = disk, rng
        self._rng = rng

    def _committed(self, answers: WriteAnswers) -> None:
        for _, answer in answers:
            if not isinstance(answer, BaseException) and answer.changes:
                self.disk.follow(answer.changes)  # type: ignore[attr-defined]
        super()._committed(answers)

    def _arm(self) -> None:
        if not self.dead:
            super()._arm()

    def everything(self) -> Sequence[Any]:
        return _now(self.range("", "\U0010ffff")).kvs

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        self._alive()
        return await super().txn(compares, success, failure)

    async def compact(self, revision: Revision) -> None:
        self._alive()
        if self.disk.data.compacted < revision <= self.disk.data.revision:
            _now(self.disk.data.compact(revision))
        await super().compact(revision)

    def _alive(self) -> None:
        if self.dead:
            raise Unavailable("the process is dead")

    def die(self, *, power: bool) -> None:
        if self.dead:
            return
        self.dead = self._writer.dead = True
        if self._expiry:
            self._expiry.cancel()
        for task in (self._compacting, *self._tasks):
            if task:
                task.cancel()
        disk, rng = self.disk, self._rng
        assert isinstance(disk, SqliteDisk)
        recorder = disk.recorder
        recorder.catch_up()
        rest: list[powercut.Operation] = []
        writer = self._writer
        if writer.busy and rng.random() < 0.7 and not writer.db.in_transaction:  # in the middle of a commit
            writer.take()
            rest = recorder.operations()
            for _ in range(rng.randint(0, len(rest))):
                recorder.disk.play(rest.pop(0))
        way = rng.choice(("dropped", "torn")) if power else "kept"
        made = recorder.new()
        recorder.disk.build(made, way, rng, under=disk.place.name)
        for operation in rest:
            recorder.disk.play(operation)
        self._reader.close()
        writer.db.close()
        self._lock.close()
        recorder.catch_up()
        recorder.disk.settle(made.name)
        disk.place = made


def _now(work: Coroutine[Any, Any, Any]) -> Any:
    """What waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError(f"{work} waits")


@contextlib.contextmanager
def sqlite_disks(seed: int) -> Iterator[Callable[..., SqliteDisk]]:
    """What makes the disks of a scenario."""
    shared = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix=f"kbsim{seed}-", dir=shared if shared.is_dir() else None))
    recorder = Recorder(directory)
    try:
        yield lambda store_id, *, data=None: SqliteDisk(recorder, store_id, data=data)
    finally:
        recorder.close()
        shutil.rmtree(directory, ignore_errors=True)


__all__ = ["SimSqlite", "SqliteDisk", "recorder_is_there", "sqlite_disks"]
