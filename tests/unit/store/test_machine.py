"""SQLite does what the readable model does, whatever the order of operations, across restarts and compactions."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kubeedge.api.names import Revision
from kubeedge.errors import KubeEdgeError
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Change, Compare, CompareTarget, Delete, Get, Op, Put, RangeResult, Store
from kubeedge.store.sqlite import SqliteSettings, SqliteStore, open_sqlite

T = TypeVar("T")

KEYS = st.sampled_from(["a", "a/b", "a/c", "b", "b/é", "c"])
VALUES = st.sampled_from([b"", b"1", b"2", b"x" * 300])
ENDS = st.sampled_from(["", "a/", "b", "b/", "z"])
OPS: st.SearchStrategy[Op] = st.one_of(
    st.builds(Put, KEYS, VALUES), st.builds(Delete, KEYS, ENDS), st.builds(Get, KEYS, ENDS, st.integers(0, 2))
)
COMPARES = st.one_of(
    st.builds(Compare, KEYS, st.just(CompareTarget.VALUE), st.sampled_from("=<>"), VALUES),
    st.builds(
        Compare,
        KEYS,
        st.sampled_from([CompareTarget.VERSION, CompareTarget.CREATE, CompareTarget.MOD]),
        st.sampled_from(["=", "!=", "<", ">"]),
        st.integers(0, 6),
    ),
)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="kubeedge-store-"))
        self.model = MemoryStore()
        self.store: SqliteStore = self.loop.run_until_complete(self._open())
        self.store_id = self.store.store_id

    async def _open(self) -> SqliteStore:
        manual = SqliteSettings(keep_revisions=10**9)
        return await open_sqlite(self.directory / "store.db", settings=manual)

    def both(self, ask: Callable[[Store], Awaitable[T]]) -> T | None:
        """The same answer, or the same class of error, from both."""

        async def attempt(store: Store) -> tuple[T | None, type[KubeEdgeError] | None]:
            try:
                return await ask(store), None
            except KubeEdgeError as exc:
                return None, type(exc)

        mine = self.loop.run_until_complete(attempt(self.store))
        model = self.loop.run_until_complete(attempt(self.model))
        assert mine == model
        return mine[0]

    @rule(compares=st.lists(COMPARES, max_size=2), success=st.lists(OPS, max_size=4), failure=st.lists(OPS, max_size=2))
    def txn(self, compares: list[Compare], success: list[Op], failure: list[Op]) -> None:
        async def ask(store: Store) -> tuple[bool, int, list[RangeResult | int | None]]:
            result = await store.txn(compares, success, failure)
            return result.succeeded, result.revision, list(result.responses)

        self.both(ask)

    @rule(puts=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=6))
    def puts_at_once(self, puts: list[tuple[str, bytes]]) -> None:
        async def ask(store: Store) -> list[Revision]:
            return await asyncio.gather(*(store.put(key, value) for key, value in puts))

        self.both(ask)

    @rule(key=KEYS, end=ENDS, back=st.integers(-1, 8), limit=st.integers(0, 3), keys_only=st.booleans())
    def read(self, key: str, end: str, back: int, limit: int, keys_only: bool) -> None:
        at = Revision(self.model.revision - back)
        self.both(lambda store: store.range(key, end, revision=at, limit=limit, keys_only=keys_only))

    @rule(back=st.integers(-1, 5))
    def compact(self, back: int) -> None:
        at = Revision(self.model.revision - back)
        self.both(lambda store: store.compact(at))

    @rule(prefix=st.sampled_from(["a", "a/", "b", "c", "zz"]), back=st.integers(0, 10))
    def history(self, prefix: str, back: int) -> None:
        after = Revision(max(0, self.model.revision - back))

        async def ask(store: Store) -> list[Change]:
            got: list[Change] = []
            async with contextlib.aclosing(store.watch(prefix, after=after, progress=True)) as watch:
                async for batch in watch:
                    if not batch.changes:  # caught up
                        assert batch.revision == store.revision
                        return got
                    got += batch.changes
            return got

        self.both(ask)

    @rule()
    def restart(self) -> None:
        async def again() -> SqliteStore:
            await self.store.close()
            return await self._open()

        self.store = self.loop.run_until_complete(again())

    @invariant()
    def same_place(self) -> None:
        assert (self.store.revision, self.store.compacted) == (self.model.revision, self.model.compacted)
        assert self.store.store_id == self.store_id

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.directory)


TestSqliteIsLikeMemory = StoreMachine.TestCase
TestSqliteIsLikeMemory.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
