"""The writer of a SQLite store: one thread, one connection, group commit.

Writers queue; the thread takes some of what waits, decides the transactions in order inside one SQLite transaction, and answers all
of them after its one fsync. A transaction that changes nothing writes nothing.

Lives elsewhere: copying the log into the file (checkpointer.py), which of those that wait come next (turns.py), what a transaction means (core.py), statements (sqlite_history.py), what a commit changes for readers (sqlite.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from kubeedge import faults
from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.errors import KubeEdgeError, Misuse
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store import sqlite_history as history
from kubeedge.store.checkpointer import Checkpointer, pages
from kubeedge.store.core import Outcome, evaluate
from kubeedge.store.model import Compare, Delete, Op, Put, TxnResult
from kubeedge.store.sealing import Values
from kubeedge.store.sqlite_file import translate
from kubeedge.store.turns import ALONE, WriterTurns


@dataclass(slots=True)
class WriteRequest:
    """A transaction that waits for its turn."""

    compares: Sequence[Compare]
    success: Sequence[Op]
    failure: Sequence[Op]
    future: asyncio.Future[TxnResult]
    ends_lease: int = 0  # instead of `success`: delete what this lease owns when the request's turn comes

    def puts(self) -> Iterator[Put]:
        """What it may write, of both branches."""
        return (op for ops in (self.success, self.failure) for op in ops if isinstance(op, Put))


@dataclass(slots=True)
class Job:
    """Something else for the thread to do with its connection, outside of any transaction."""

    work: Callable[[sqlite3.Connection], None]
    future: asyncio.Future[None]


def _owner(request: WriteRequest) -> str:
    """The owner of a request, by the keys that it writes, or else reads."""
    asked = (*request.success, *request.failure, *request.compares)
    named = [op for op in asked if isinstance(op, Put | Delete)] or asked
    return keys.owner(named[0].key) if named else ""


WriteAnswers: TypeAlias = Sequence[tuple[WriteRequest, Outcome | BaseException]]


class Writer:
    """Made inside a running event loop. What is public is for the loop's thread, except for the connection once `start` was called.

    `committed` hears the answers of each group on the loop's thread, before those that wait for them do.
    """

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        revision: Revision,
        committed: Callable[[WriteAnswers], None],
        values: Values,
    ) -> None:
        self.path = path
        self.db = db
        self._values = values
        self._revision = revision  # of the last commit; the loop's thread hears of it later
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[WriteRequest | Job | None] = queue.SimpleQueue()
        self._turns: WriterTurns[WriteRequest | Job | None] = (
            WriterTurns()
        )  # the thread's own: what it has taken from the queue
        self._unanswered = 0  # requests in the queue or at the thread
        self._closed = False
        self._checkpointer: Checkpointer | None = (
            None  # while the thread runs; without it SQLite makes checkpoints in commits
        )
        self._thread = threading.Thread(target=self._work, name=f"store {path.name}", daemon=True)

    @property
    def idle(self) -> bool:
        """Whether no request is queued or being worked on."""
        return not self._unanswered

    def start(self) -> None:
        """The connection belongs to the thread from here on."""
        self._checkpointer = Checkpointer(self.path)
        self.db.execute("PRAGMA wal_autocheckpoint = 0")
        self._thread.start()

    async def transact(
        self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op], *, ends_lease: int = 0
    ) -> TxnResult:
        """Durable when it returns. Raises what the transaction's rules say, Unavailable on a full disk, Misuse after `stop`."""
        self._check_open()
        future: asyncio.Future[TxnResult] = self._loop.create_future()
        self._unanswered += 1
        self._put(WriteRequest(compares, success, failure, future, ends_lease))
        return await future

    async def run(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Call `work` on the thread, outside of any transaction. Raises its errors, Misuse after `stop`."""
        self._check_open()
        future: asyncio.Future[None] = self._loop.create_future()
        self._put(Job(work, future))
        await future

    async def stop(self) -> None:
        """What was queued is still written; then the connection belongs to who made it."""
        self._closed = True
        self._put(None)
        await self._loop.run_in_executor(None, self._join)

    def _join(self) -> None:
        self._thread.join()
        if self._checkpointer is not None:
            self._checkpointer.stop()

    def _check_open(self) -> None:
        if self._closed:
            raise Misuse("the store is closed")

    def _put(self, item: WriteRequest | Job | None) -> None:
        self._queue.put(item)

    # -- the thread ----------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        stop = False
        while not stop:
            if not self._turns:
                self._wait_turn(self._queue.get())
            with contextlib.suppress(queue.Empty):
                while True:
                    self._wait_turn(self._queue.get_nowait())
            items = self._turns.take()
            self._serve(items)
            stop = None in items

    def _wait_turn(self, item: WriteRequest | Job | None) -> None:
        if item is None:
            self._turns.add_barrier(item)
        elif isinstance(item, Job):
            self._turns.add(item, "", ALONE)
        elif item.ends_lease:
            self._end_of_lease(item)
        else:
            self._turns.add(item, _owner(item), sum(len(put.value) for put in item.puts()))

    def _end_of_lease(self, item: WriteRequest) -> None:
        """It deletes what the puts before it have made, whoever asked for them."""
        before = (request for request in self._turns if isinstance(request, WriteRequest))
        if any(put.lease == item.ends_lease for request in before for put in request.puts()):
            self._turns.add_barrier(item)
        else:
            self._turns.add(item, "", 0)

    def _serve(self, items: Sequence[WriteRequest | Job | None]) -> None:
        """What waited, in order: requests that stand together share a commit."""
        group: list[WriteRequest] = []
        for item in items:
            if isinstance(item, WriteRequest):
                group.append(item)
                continue
            self._commit(group)
            group = []
            if item is not None:
                self._do(item)
        self._commit(group)

    def _commit(self, group: list[WriteRequest]) -> None:
        """Decide and commit a group. Answers every future, after the fsync."""
        if not group:
            return
        try:
            answers = self._decide(group)
        except Exception as exc:  # nothing of the group happened; a full disk, a corrupt file
            self._roll_back()
            error = translate(exc, self.path)
            answers = [(request, error) for request in group]
        faults.at("store.commit.after_fsync")
        self._post(lambda: self._answer(answers))
        self._checkpoint(answers)

    def _checkpoint(self, answers: WriteAnswers) -> None:
        if self._checkpointer is not None:
            changes = [c for _, answer in answers if not isinstance(answer, BaseException) for c in answer.changes]
            self._checkpointer.written(pages(sum(len(c.value) for c in changes), len(changes)))
            self._checkpointer.catch_up(self.db)

    def _decide(self, group: list[WriteRequest]) -> WriteAnswers:
        answers: list[tuple[WriteRequest, Outcome | BaseException]] = []
        revision = self._revision
        view = history.HistoryView(self.db, self._values)
        self.db.execute("BEGIN IMMEDIATE")
        for request in group:
            success = view.owned(request.ends_lease) if request.ends_lease else request.success
            view.expect(success)
            try:
                outcome = evaluate(view, revision, request.compares, success, request.failure)
            except KubeEdgeError as exc:
                answers.append((request, exc))
                continue
            if outcome.changes:
                history.append(self.db, outcome.changes, self._values)
                revision = outcome.revision
            answers.append((request, outcome))
        if revision == self._revision:
            self.db.execute("ROLLBACK")
        else:
            faults.at("store.commit.before_fsync")
            self.db.execute("COMMIT")
            self._revision = revision
        return answers

    def _do(self, job: Job) -> None:
        try:
            job.work(self.db)
        except Exception as exc:
            self._roll_back()
            error = translate(exc, self.path)
            self._post(lambda: None if job.future.done() else job.future.set_exception(error))
        else:
            self._checkpoint(())
            self._post(lambda: None if job.future.done() else job.future.set_result(None))

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def _post(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
            self._loop.call_soon_threadsafe(callback)

    # -- the loop's thread again ---------------------------------------------------------------------------------------------

    def _answer(self, answers: WriteAnswers) -> None:
        self._unanswered -= len(answers)
        self._committed(answers)
