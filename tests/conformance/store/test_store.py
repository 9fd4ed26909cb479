"""What the contract (kubeedge.store.model) says, sentence by sentence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import pytest

from kubeedge.api.keys import prefix_end
from kubeedge.api.names import Revision
from kubeedge.errors import Gone, Invalid, Misuse, NotFound
from kubeedge.store.model import (
    MAX_KEY,
    MAX_VALUE,
    Change,
    ChangeKind,
    Compare,
    CompareTarget,
    Delete,
    Get,
    Op,
    Put,
    RangeResult,
    Store,
    WatchBatch,
)
from tests.conformance.store.conftest import StoreFactory

PUT, DELETE = ChangeKind.PUT, ChangeKind.DELETE


def play(new_store: StoreFactory, scenario: Callable[[Store], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), new_store() as store:
            await scenario(store)

    asyncio.run(run())


async def batches(store: Store, prefix: str, after: int, changes: int) -> list[WatchBatch]:
    """What a watch delivers until it has delivered that many changes."""
    got: list[WatchBatch] = []
    async with contextlib.aclosing(store.watch(prefix, after=Revision(after))) as watch:
        while sum(len(b.changes) for b in got) < changes:
            got.append(await anext(watch))
    return got


def flat(got: Sequence[WatchBatch]) -> list[tuple[ChangeKind, str, bytes, int]]:
    return [(c.kind, c.key, c.value, c.revision) for batch in got for c in batch.changes]


def keys_of(result: object) -> list[str]:
    assert isinstance(result, RangeResult)
    return [kv.key for kv in result.kvs]


# -- revisions and versions ------------------------------------------------------------------------------------------------


def test_an_empty_store_is_at_revision_1(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        assert store.revision == 1
        assert (await store.range("a", "z")).revision == 1
        assert await store.get("a") is None

    play(new_store, scenario)


def test_each_transaction_with_a_change_raises_the_revision_by_one(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        assert await store.put("a", b"1") == 2
        result = await store.txn((), [Put("b", b"1"), Put("c", b"1"), Delete("a")])
        assert result.revision == 3 and store.revision == 3
        assert [kv.mod_revision for kv in (await store.range("a", "z")).kvs] == [3, 3]

    play(new_store, scenario)


def test_what_changes_nothing_does_not_move_the_revision(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")
        assert await store.delete("absent") == 0
        assert await store.delete("x", "z") == 0
        assert (await store.txn((), [Get("a")])).revision == 2
        assert (await store.txn((), ())).revision == 2
        assert store.revision == 2

    play(new_store, scenario)


def test_a_put_of_the_same_value_is_a_change(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")
        assert await store.put("a", b"1") == 3
        kv = await store.get("a")
        assert kv and (kv.version, kv.create_revision, kv.mod_revision) == (2, 2, 3)

    play(new_store, scenario)


def test_a_delete_ends_the_generation_of_a_key(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")
        await store.put("a", b"2")
        assert await store.delete("a") == 1
        await store.put("a", b"3")
        kv = await store.get("a")
        assert kv and (kv.version, kv.create_revision, kv.mod_revision, kv.value) == (1, 5, 5, b"3")

    play(new_store, scenario)


# -- transactions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare("a", CompareTarget.VALUE, "=", b"1"), True),
        (Compare("a", CompareTarget.VALUE, "!=", b"1"), False),
        (Compare("a", CompareTarget.VALUE, "<", b"2"), True),
        (Compare("a", CompareTarget.VALUE, ">", b"2"), False),
        (Compare("a", CompareTarget.VERSION, "=", 1), True),
        (Compare("a", CompareTarget.VERSION, ">", 1), False),
        (Compare("a", CompareTarget.CREATE, "=", 2), True),
        (Compare("a", CompareTarget.MOD, "<", 3), True),
        (Compare("absent", CompareTarget.VERSION, "=", 0), True),
        (Compare("absent", CompareTarget.CREATE, "=", 0), True),
        (Compare("absent", CompareTarget.MOD, ">", 0), False),
        (Compare("absent", CompareTarget.VALUE, "=", b""), False),
        (Compare("absent", CompareTarget.VALUE, "!=", b"x"), False),
    ],
)
def test_compares_choose_the_branch(new_store: StoreFactory, compare: Compare, holds: bool) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")
        result = await store.txn([compare], [Put("yes", b"")], [Put("no", b"")])
        assert result.succeeded is holds
        assert keys_of(await store.range("b", "z")) == (["yes"] if holds else ["no"])

    play(new_store, scenario)


def test_all_compares_must_hold(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")
        compares = [Compare("a", CompareTarget.VALUE, "=", b"1"), Compare("b", CompareTarget.VERSION, ">", 0)]
        assert not (await store.txn(compares, [Put("c", b"")])).succeeded
        assert store.revision == 2

    play(new_store, scenario)


def test_a_read_sees_the_writes_before_it_in_its_transaction(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"old")
        ops: list[Op] = [Get("a"), Put("b", b"new"), Delete("a"), Get("a", "c"), Get("b")]
        first, nothing, deleted, second, third = (await store.txn((), ops)).responses
        assert keys_of(first) == ["a"] and nothing is None and deleted == 1
        assert keys_of(second) == ["b"]
        assert isinstance(third, RangeResult) and third.kvs[0].value == b"new" and third.kvs[0].mod_revision == 3

    play(new_store, scenario)


def test_a_limited_read_in_a_transaction_tells_the_whole_count(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.txn((), [Put(f"k{n}", b"") for n in range(5)])
        (found,) = (await store.txn((), [Get("k", "l", limit=2)])).responses
        assert isinstance(found, RangeResult)
        assert (keys_of(found), found.more, found.count) == (["k0", "k1"], True, 5)

    play(new_store, scenario)


@pytest.mark.parametrize(
    "ops",
    [
        [Put("a", b"1"), Put("a", b"2")],
        [Put("a", b"1"), Delete("a")],
        [Delete("a"), Put("a", b"1")],
        [Delete("a", "c"), Put("b", b"1")],
        [Put("b", b"1"), Delete("a", "c")],
    ],
)
@pytest.mark.parametrize("taken", [True, False])
def test_a_key_is_written_once_in_a_transaction(new_store: StoreFactory, ops: Sequence[Op], taken: bool) -> None:
    async def scenario(store: Store) -> None:
        compare = Compare("x", CompareTarget.VERSION, "=" if taken else "!=", 0)
        with pytest.raises(Misuse):
            await store.txn([compare], ops)
        assert store.revision == 1

    play(new_store, scenario)


def test_a_delete_beside_a_put_is_fine_when_they_do_not_meet(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.txn((), [Put("a", b""), Put("c", b"")])
        result = await store.txn((), [Put("c", b"2"), Delete("a", "c")])
        assert result.responses == (None, 1) or list(result.responses) == [None, 1]

    play(new_store, scenario)


def test_of_two_deletes_of_a_key_the_second_finds_nothing(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.txn((), [Put("a", b""), Put("b", b"")])
        result = await store.txn((), [Delete("a"), Delete("a", "c")])
        assert list(result.responses) == [1, 1] and store.revision == 3

    play(new_store, scenario)


@pytest.mark.parametrize("key", ["", "a\0b", "k" * (MAX_KEY + 1), "\ud800"])
def test_a_key_that_cannot_be_is_refused_and_harms_nobody_else(new_store: StoreFactory, key: str) -> None:
    async def scenario(store: Store) -> None:
        results = await asyncio.gather(
            store.put("before", b""), store.put(key, b""), store.put("after", b""), return_exceptions=True
        )
        assert isinstance(results[1], Invalid)
        assert keys_of(await store.range("a", "z")) == ["after", "before"]

    play(new_store, scenario)


def test_lone_surrogates_are_refused_everywhere(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        with pytest.raises(Invalid):
            await store.get("\udfff")
        with pytest.raises(Invalid):
            await store.range("a", "\ud800")
        with pytest.raises(Invalid):
            await store.delete("\ud800")
        with pytest.raises(Invalid):
            await store.txn([Compare("\ud800", CompareTarget.VERSION, "=", 0)], [])

    play(new_store, scenario)


def test_a_value_may_have_the_largest_size_and_not_a_byte_more(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", bytes(MAX_VALUE))
        kv = await store.get("a")
        assert kv and len(kv.value) == MAX_VALUE
        with pytest.raises(Invalid):
            await store.put("a", bytes(MAX_VALUE + 1))
        assert store.revision == 2

    play(new_store, scenario)


def test_of_many_writers_that_compare_one_wins(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        results = await asyncio.gather(
            *(store.txn([Compare("a", CompareTarget.VERSION, "=", 0)], [Put("a", b"%d" % n)]) for n in range(50))
        )
        assert sum(r.succeeded for r in results) == 1 and store.revision == 2

    play(new_store, scenario)


def test_writers_at_once_each_get_their_own_revision(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        revisions = await asyncio.gather(*(store.put(f"k{n % 7}", b"%d" % n) for n in range(100)))
        assert sorted(revisions) == list(range(2, 102))

    play(new_store, scenario)


# -- ranges ----------------------------------------------------------------------------------------------------------------


def test_a_range_is_in_the_order_of_the_bytes_of_its_keys(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        names = ["a", "a/", "a/b", "aa", "z", "~", "\x7f", "é", "ﬀ", "\U0001f600", "A", "a\x01"]
        for name in names:
            await store.put("p" + name, b"")
        got = keys_of(await store.range("p", prefix_end("p")))
        assert got == sorted(("p" + n for n in names), key=str.encode)

    play(new_store, scenario)


@pytest.mark.parametrize(
    "last", ["\ud7ff".encode("utf-8", "surrogatepass").decode(), "\uffff", "\U0010ffff", "a\U0010ffff"]
)
def test_a_prefix_may_end_anywhere_in_unicode(new_store: StoreFactory, last: str) -> None:
    async def scenario(store: Store) -> None:
        await store.put("p" + last + "x", b"")
        await store.put("q", b"")
        assert keys_of(await store.range("p" + last, prefix_end("p" + last))) == ["p" + last + "x"]

    play(new_store, scenario)


def test_a_range_does_not_hold_its_end(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.txn((), [Put(k, b"") for k in "abcd"])
        assert keys_of(await store.range("b", "d")) == ["b", "c"]
        assert keys_of(await store.range("d", "b")) == []
        assert await store.delete("b", "d") == 2

    play(new_store, scenario)


def test_a_limit_cuts_and_says_so(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.txn((), [Put(f"k{n}", b"v") for n in range(5)])
        await store.delete("k1")
        cut = await store.range("k", "l", limit=2)
        assert (keys_of(cut), cut.more, cut.count) == (["k0", "k2"], True, 4)
        whole = await store.range("k", "l", limit=4)
        assert (len(whole.kvs), whole.more, whole.count) == (4, False, 4)

    play(new_store, scenario)


def test_pages_of_a_range_follow_each_other_without_gap_or_repetition(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.txn((), [Put(f"k{n:02}", b"") for n in range(23)])
        at, got, start = store.revision, [], "k"
        await store.put("k03x", b"too late")
        while True:
            page = await store.range(start, "l", revision=at, limit=5)
            got += keys_of(page)
            if not page.more:
                break
            start = page.kvs[-1].key + "\0"
        assert got == [f"k{n:02}" for n in range(23)]

    play(new_store, scenario)


def test_keys_only_leaves_the_values_out(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.txn((), [Put("a", b"value"), Put("b", b"")])
        await store.delete("b")
        for args in (("a", "z"), ("a",)):
            (kv,) = (await store.range(*args, keys_only=True)).kvs
            assert (kv.key, kv.value, kv.version) == ("a", b"", 1)
        assert (await store.range("b", keys_only=True)).kvs == ()

    play(new_store, scenario)


def test_the_past_can_be_read(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")  # 2
        await store.put("b", b"1")  # 3
        await store.put("a", b"2")  # 4
        await store.delete("b")  # 5
        assert [(kv.key, kv.value) for kv in (await store.range("a", "z", revision=Revision(3))).kvs] == [
            ("a", b"1"),
            ("b", b"1"),
        ]
        assert [(kv.key, kv.value) for kv in (await store.range("a", "z", revision=Revision(4))).kvs] == [
            ("a", b"2"),
            ("b", b"1"),
        ]
        assert keys_of(await store.range("a", "z", revision=Revision(1))) == []
        assert (await store.range("a", revision=Revision(2))).revision == 5

    play(new_store, scenario)


def test_the_future_cannot_be_read(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        with pytest.raises(Invalid):
            await store.range("a", revision=Revision(2))

    play(new_store, scenario)


# -- watches ---------------------------------------------------------------------------------------------------------------


def test_a_watch_delivers_history_and_then_the_present(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("p/a", b"1")
        await store.put("q/a", b"other prefix")
        watching = asyncio.create_task(batches(store, "p/", 1, 3))
        await asyncio.sleep(0.01)
        await store.put("p/b", b"2")
        await store.delete("p/a")
        assert flat(await watching) == [
            (PUT, "p/a", b"1", 2),
            (PUT, "p/b", b"2", 4),
            (DELETE, "p/a", b"", 5),
        ]

    play(new_store, scenario)


def test_a_watch_starts_after_the_revision_that_it_names(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        for n in range(3):
            await store.put("a", b"%d" % n)
        assert [c[3] for c in flat(await batches(store, "a", 2, 2))] == [3, 4]

    play(new_store, scenario)


@pytest.mark.parametrize("late", [True, False])
def test_changes_of_one_revision_come_in_one_batch(new_store: StoreFactory, late: bool) -> None:
    async def scenario(store: Store) -> None:
        watching = asyncio.create_task(batches(store, "k", 1, 1500))
        if not late:
            await asyncio.sleep(0.01)
        for start in (0, 500, 1000):
            await store.txn((), [Put(f"k{n:04}", b"") for n in range(start, start + 500)])
        got = await watching
        assert [c.key for b in got for c in b.changes] == [f"k{n:04}" for n in range(1500)]
        seen: set[int] = set()
        for batch in got:
            revisions = {int(c.revision) for c in batch.changes}
            assert not revisions & seen and batch.revision >= max(revisions)
            seen |= revisions

    play(new_store, scenario)


def test_a_change_carries_version_and_creation(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")
        await store.put("a", b"2")
        await store.delete("a")
        got = [c for b in await batches(store, "a", 1, 3) for c in b.changes]
        assert got == [
            Change(PUT, "a", b"1", Revision(2), Revision(2), 1),
            Change(PUT, "a", b"2", Revision(3), Revision(2), 2),
            Change(DELETE, "a", b"", Revision(4)),
        ]

    play(new_store, scenario)


def test_a_watcher_that_falls_far_behind_misses_nothing(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        async with contextlib.aclosing(store.watch("k", after=store.revision)) as watch:
            first = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0.01)
            await store.put("k", b"first")
            assert (await first).changes[0].value == b"first"
            await asyncio.gather(*(store.put("k", b"%d" % n) for n in range(1500)))  # nobody reads meanwhile
            values: list[bytes] = []
            while len(values) < 1500:
                values += [c.value for c in (await anext(watch)).changes]
            assert sorted(map(int, values)) == list(range(1500)) and len(set(values)) == 1500

    play(new_store, scenario)


def test_a_watch_from_the_future_waits_for_it(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        watching = asyncio.create_task(batches(store, "a", 3, 1))
        await asyncio.sleep(0.01)
        for n in range(4):
            await store.put("a", b"%d" % n)
        assert flat(await watching)[0] == (PUT, "a", b"2", 4)

    play(new_store, scenario)


def test_a_watch_from_compacted_history_is_gone(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        for n in range(4):
            await store.put("a", b"%d" % n)
        await store.compact(Revision(4))
        with pytest.raises(Gone) as gone:
            await batches(store, "a", 3, 1)
        assert gone.value.compacted == 4
        assert flat(await batches(store, "a", 4, 1)) == [(PUT, "a", b"3", 5)]

    play(new_store, scenario)


def test_progress_is_told_when_history_is_read_though_nothing_happened(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("other", b"")
        async with contextlib.aclosing(store.watch("k", after=Revision(1), progress=True)) as watch:
            assert await anext(watch) == WatchBatch((), Revision(2))

    play(new_store, scenario)


def test_progress_is_told_to_a_quiet_prefix_of_a_busy_store(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        async with contextlib.aclosing(store.watch("k", after=Revision(1), progress=True)) as watch:
            assert await anext(watch) == WatchBatch((), Revision(1))
            told = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            for _ in range(45):
                await asyncio.gather(*(store.put("other", b"") for _ in range(100)))
            batch = await told
            assert not batch.changes and 1000 < batch.revision <= store.revision

    play(new_store, scenario)


def test_closing_the_store_ends_its_watches(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        async def all_of_it() -> int:
            return sum([1 async for _ in store.watch("a", after=Revision(1))])

        watching = asyncio.create_task(all_of_it())
        await asyncio.sleep(0.01)
        await store.put("a", b"")
        await asyncio.sleep(0.01)
        await store.close()
        assert await watching == 1

    play(new_store, scenario)


# -- compaction ------------------------------------------------------------------------------------------------------------


def test_compaction_keeps_the_newest_value_and_refuses_the_past(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")  # 2
        await store.put("a", b"2")  # 3
        await store.put("b", b"1")  # 4
        await store.delete("b")  # 5
        await store.put("a", b"3")  # 6
        await store.compact(Revision(5))
        assert store.compacted == 5 and store.revision == 6
        assert [(kv.value, kv.version) for kv in (await store.range("a", "z", revision=Revision(5))).kvs] == [(b"2", 2)]
        assert [(kv.value, kv.version) for kv in (await store.range("a", "z")).kvs] == [(b"3", 3)]
        with pytest.raises(Gone):
            await store.range("a", revision=Revision(4))

    play(new_store, scenario)


def test_compaction_of_everything_keeps_the_revision(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")
        await store.delete("a")
        await store.compact(Revision(3))
        assert store.revision == 3
        assert await store.put("a", b"2") == 4
        kv = await store.get("a")
        assert kv and (kv.version, kv.create_revision) == (1, 4)

    play(new_store, scenario)


def test_compaction_goes_forward_only(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("a", b"1")
        await store.put("a", b"2")
        await store.compact(Revision(2))
        with pytest.raises(Gone):
            await store.compact(Revision(2))
        with pytest.raises(Invalid):
            await store.compact(Revision(4))

    play(new_store, scenario)


def test_compaction_again_and_again_leaves_one_value_a_key(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        for n in range(60):
            await store.put(f"k{n % 7}", b"%d" % n)
            if n % 3 == 0:
                await store.delete(f"k{(n + 3) % 7}")
            if n % 10 == 9:
                before = await store.range("k", "l")
                await store.compact(store.revision)
                assert await store.range("k", "l") == before

    play(new_store, scenario)


# -- leases ----------------------------------------------------------------------------------------------------------------


def test_keys_of_a_lease_that_is_revoked_go_at_once_and_together(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        lease = await store.lease_grant(60)
        await store.put("a", b"", lease)
        await store.put("b", b"", lease)
        await store.put("c", b"")
        revision = store.revision
        await store.lease_revoke(lease)
        assert keys_of(await store.range("a", "z")) == ["c"]
        assert store.revision == revision + 1
        with pytest.raises(NotFound):
            await store.put("d", b"", lease)
        with pytest.raises(NotFound):
            await store.lease_revoke(lease)
        with pytest.raises(NotFound):
            await store.lease_keepalive(lease)

    play(new_store, scenario)


def test_a_put_without_the_lease_frees_the_key_from_it(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        one, two = await store.lease_grant(60), await store.lease_grant(60)
        assert one != two
        await store.put("a", b"", one)
        await store.put("a", b"", two)
        await store.put("b", b"", one)
        await store.put("b", b"")
        await store.lease_revoke(one)
        kv = await store.get("a")
        assert kv and kv.lease == two and await store.get("b")

    play(new_store, scenario)


def test_a_lease_that_nobody_keeps_alive_expires(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        dying, living = await store.lease_grant(3), await store.lease_grant(3)  # a disk may stall for a second
        await store.put("dying", b"", dying)
        await store.put("living", b"", living)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 60
        while await store.get("dying"):
            assert loop.time() < deadline, "the lease did not expire"
            await store.lease_keepalive(living)
            await asyncio.sleep(0.05)
        assert await store.get("living")

    play(new_store, scenario)


def test_a_put_that_races_with_the_end_of_its_lease_leaves_nothing_behind(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        lease = await store.lease_grant(60)
        puts = (store.put("a", b"", lease), store.put("b", b"", lease))
        done = await asyncio.gather(*puts, store.lease_revoke(lease), return_exceptions=True)
        assert not [e for e in done[:2] if isinstance(e, BaseException) and not isinstance(e, NotFound)]
        assert not isinstance(done[2], BaseException)
        assert keys_of(await store.range("a", "z")) == []

    play(new_store, scenario)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
def test_a_lease_needs_a_time(new_store: StoreFactory, ttl: float) -> None:
    async def scenario(store: Store) -> None:
        with pytest.raises(Invalid):
            await store.lease_grant(ttl)

    play(new_store, scenario)
