"""Random sequences of operations on memory, SQLite and a real etcd: the three give the same answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kubeedge.api.names import Revision
from kubeedge.errors import KubeEdgeError
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Compare, CompareTarget, Delete, Get, Op, Put, Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge_cloud.etcd.store import open_etcd
from tests.conformance.store.relative import RelativeStore
from tests.kit.etcd import EtcdCluster

KEYS = st.sampled_from(["a", "a/b", "b", "b/c", "b/d", "c", "ü"])
VALUES = st.binary(max_size=4)
RANGES = st.sampled_from([("a", ""), ("a", "b"), ("b", "c"), ("", "z"), ("b/", "b0"), ("c", "a")])
NUMBERS = st.integers(0, 12)
_serial = itertools.count(1)


@st.composite
def compares(draw: st.DrawFn) -> Compare:
    target = draw(st.sampled_from(list(CompareTarget)))
    operand = draw(VALUES) if target is CompareTarget.VALUE else draw(NUMBERS)
    return Compare(draw(KEYS), target, draw(st.sampled_from("= != < >".split())), operand)


@st.composite
def ops(draw: st.DrawFn) -> Op:
    kind = draw(st.integers(0, 4))
    if kind <= 1:
        return Put(draw(KEYS), draw(VALUES))
    start, end = draw(RANGES)
    if kind == 2:
        return Delete(start or "a", end)
    return Get(start, end, draw(st.integers(0, 3)) if end else 0)


def machine(cluster: EtcdCluster, loop: asyncio.AbstractEventLoop) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        @initialize()
        def open(self) -> None:
            self.directory = tempfile.TemporaryDirectory(prefix="kbdiff")
            self.stores: dict[str, Store] = {}
            self.ask(self._open())

        async def _open(self) -> None:
            etcd = await open_etcd(cluster.settings(namespace=f"/differential{next(_serial)}"))
            self.stores = {
                "memory": MemoryStore(),
                "sqlite": await open_sqlite(Path(self.directory.name) / "store.db"),
                "etcd": RelativeStore(etcd),  # type: ignore[dict-item]
            }

        def ask(self, question: Awaitable[Any]) -> Any:
            return loop.run_until_complete(asyncio.wait_for(question, 20))  # type: ignore[arg-type]

        def all_say(self, question: Callable[[Store], Awaitable[Any]]) -> None:
            answers = {}
            for name, store in self.stores.items():
                try:
                    answers[name] = self.ask(question(store))
                except KubeEdgeError as exc:
                    answers[name] = type(exc)
            assert answers["memory"] == answers["sqlite"] == answers["etcd"], answers

        @rule(compare=st.lists(compares(), max_size=2), yes=st.lists(ops(), max_size=4), no=st.lists(ops(), max_size=2))
        def txn(self, compare: list[Compare], yes: list[Op], no: list[Op]) -> None:
            self.all_say(lambda s: s.txn(compare, yes, no))

        @rule(key=KEYS, value=VALUES)
        def put(self, key: str, value: bytes) -> None:
            self.all_say(lambda s: s.put(key, value))

        @rule(where=RANGES, back=st.integers(-1, 6), limit=st.integers(0, 3), keys_only=st.booleans())
        def read(self, where: tuple[str, str], back: int, limit: int, keys_only: bool) -> None:
            revision = Revision(max(1, self.stores["memory"].revision - back))
            start, end = where
            self.all_say(
                lambda s: s.range(start, end, revision=revision, limit=limit if end else 0, keys_only=keys_only)
            )

        @rule(back=st.integers(-1, 4))
        def compact(self, back: int) -> None:
            revision = Revision(max(1, self.stores["memory"].revision - back))
            self.all_say(lambda s: s.compact(revision))

        @rule(prefix=st.sampled_from(["", "a", "b/"]), back=st.integers(0, 8))
        def watch(self, prefix: str, back: int) -> None:
            after = Revision(max(1, self.stores["memory"].revision - back))

            async def look(store: Store) -> list[Any]:
                await store.put("z/fence", b"")  # the watch of everything sees it, and knows that it is complete
                async with contextlib.aclosing(store.watch("", after=after)) as batches:
                    changes: list[Any] = []
                    async for batch in batches:
                        changes += batch.changes
                        if changes[-1].key == "z/fence" and changes[-1].revision == store.revision:
                            break
                # the changes of one revision have no order among themselves
                return sorted((c for c in changes if c.key.startswith(prefix)), key=lambda c: (c.revision, c.key))

            self.all_say(look)

        @invariant()
        def revisions_agree(self) -> None:
            if getattr(self, "stores", None):
                self.all_say(self._revision)

        async def _revision(self, store: Store) -> int:
            return (await store.range("a")).revision

        def teardown(self) -> None:
            for store in self.stores.values():
                self.ask(store.close())
            self.directory.cleanup()

    return Machine


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


def test_three_stores_answer_alike(etcd: EtcdCluster, loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine(etcd, loop), settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )
