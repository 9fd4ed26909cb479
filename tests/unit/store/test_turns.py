"""Which transactions share a commit: one tenant's large ones do not stand before another's small one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import keys
from kubeedge.store.sqlite import open_sqlite
from kubeedge.store.turns import ALONE, BYTES, TRANSACTIONS, WriterTurns

KB = 1024


def test_a_key_says_whose_turn_it_takes() -> None:
    assert keys.owner("/t/home/registry/core/pods/default/p") == "/t/home"
    assert keys.owner("/t/home/") == "/t/home"
    assert keys.owner("/desired/pods/default/p") == keys.owner("/tenants/home") == ""


def test_each_owner_has_a_place_in_every_commit() -> None:
    turns = WriterTurns[str]()
    for n in range(64):
        turns.add(f"a{n}", "/t/a", 800 * KB)
    turns.add("b", "/t/b", 300)
    assert turns.take() == ["a0", "b"]
    assert turns.take() == ["a1"]
    turns.add("c", "/t/c", 3 * BYTES)
    assert turns.take() == ["a2"]
    assert turns.take() == ["c"]
    assert turns.take() == ["a3"]


def test_a_barrier_is_served_after_all_before_it_and_before_all_after_it() -> None:
    turns = WriterTurns[str]()
    turns.add_barrier("first")
    turns.add("a", "/t/a", 1)
    turns.add("b", "/t/b", 1)
    turns.add_barrier("second")
    turns.add_barrier("third")
    turns.add("c", "/t/b", 1)
    assert [turns.take() for _ in range(6)] == [["first"], ["a", "b"], ["second"], ["third"], ["c"], []]
    turns.add("d", "/t/b", 1)
    assert turns.take() == ["d"] and not turns


def test_what_shares_with_nobody_has_its_turn_among_others() -> None:
    turns = WriterTurns[str]()
    for n in range(2):
        turns.add(f"job{n}", "", ALONE)
        turns.add(f"a{n}", "/t/a", 1)
    turns.add("b", "/t/b", 1)
    assert sorted(turns) == ["a0", "a1", "b", "job0", "job1"]
    assert [turns.take() for _ in range(4)] == [["job0"], ["a0", "b"], ["job1"], ["a1"]]


ITEMS = st.lists(st.tuples(st.sampled_from("abc|"), st.integers(0, 2 * BYTES)), max_size=400)


@given(ITEMS)
def test_nothing_is_lost_the_order_of_each_owner_is_kept_and_commits_are_bounded(items: list[tuple[str, int]]) -> None:
    turns, taken = WriterTurns[int](), []
    for n, (owner, size) in enumerate(items):
        if owner == "|":
            turns.add_barrier(n)
        else:
            turns.add(n, owner, size)
    assert len(turns) == len(items)
    while turns:
        group = turns.take()
        assert 0 < len(group) <= TRANSACTIONS
        assert len(group) == 1 or sum(items[n][1] for n in group) <= BYTES
        taken += group
    assert sorted(taken) == [*range(len(items))]
    for owner in "abc":
        mine = [n for n in taken if items[n][0] in (owner, "|")]
        assert mine == sorted(mine)


def test_a_small_write_is_in_the_commit_after_the_one_at_hand(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(tmp_path / "store.db")
        done: list[str] = []

        async def put(key: str, size: int) -> None:
            await store.put(key, bytes(size))
            done.append(key)

        many = [asyncio.create_task(put(f"/t/a/{n}", 1000 * KB)) for n in range(40)]
        await asyncio.sleep(0)  # all of them are in the queue
        await put("/t/b/small", 300)
        # the thread may have taken one when we came, and ours shares its commit with the next
        assert len(done) <= 4, done
        await asyncio.gather(*many)
        await store.close()

    asyncio.run(scenario())


def test_the_end_of_a_lease_deletes_what_was_asked_for_before_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(tmp_path / "store.db")
        lease = await store.lease_grant(60)
        others = [asyncio.create_task(store.put(f"/t/a/{n}", bytes(900 * KB))) for n in range(6)]
        puts = [asyncio.create_task(store.put(f"/t/a/leased{n}", b"1", lease)) for n in range(3)]
        await asyncio.sleep(0)
        await store.lease_revoke(lease)
        assert [(await store.get(f"/t/a/leased{n}")) for n in range(3)] == [None] * 3
        await asyncio.gather(*puts, *others)
        await store.close()

    asyncio.run(scenario())
