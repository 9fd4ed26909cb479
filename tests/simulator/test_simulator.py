"""A slice of the stories, and the proof that the judge would notice: each mutation below is a mistake that was made or nearly made."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kubeedge.sync.driver as driver
from kubeedge.api.names import Revision
from kubeedge.hub.driver import Channel
from kubeedge.store.watch import Watches
from kubeedge.sync.codec import Batch, Fetch, Message, Start
from kubeedge.sync.core import Apply, Lsr, Sink, SinkAction, Source
from tests.simulator.story import play
from tests.simulator.world import SimStore


@pytest.mark.parametrize("block", range(4))
def test_nothing_is_lost_in_fifty_stories(block: int) -> None:
    failures = [f"seed {o.seed}: {o.failure}" for o in map(play, range(50 * block, 50 * block + 50)) if o.failure]
    assert failures == []


def test_one_seed_is_one_story_in_every_process() -> None:
    command = [sys.executable, "-m", "tests.simulator", "--seed", "7", "--trace"]
    told = [
        [line for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[:-1]]
        for _ in range(2)
    ]
    assert told[0] == told[1] and len(told[0]) > 20


# -- mutations ---------------------------------------------------------------------------------------------------------------


def lsr_before_data(patch: pytest.MonkeyPatch) -> None:
    apply = driver._apply

    async def mutant(store: Any, prefix: str, lsr_key: str, action: Apply, written: Revision) -> Revision:
        if action.lsr is not None:
            written = await driver._commit(store, lsr_key, [], action.lsr, written)
        return await apply(store, prefix, lsr_key, dataclasses.replace(action, lsr=None), written)

    patch.setattr(driver, "_apply", mutant)


def snapshot_keeps_the_old_lsr(patch: pytest.MonkeyPatch) -> None:
    receive = Sink.receive

    def mutant(self: Sink, message: Message) -> SinkAction:
        before = self.lsr
        action = receive(self, message)
        if isinstance(action, Apply) and action.lsr == Lsr():
            self.lsr = before
            return dataclasses.replace(action, lsr=None)
        return action

    patch.setattr(Sink, "receive", mutant)


def every_part_carries_the_new_revision(patch: pytest.MonkeyPatch) -> None:
    delta = Source.delta

    def mutant(self: Source, changes: Any, prefix: str, before: Revision, revision: Revision) -> Iterator[Batch]:
        for batch in delta(self, changes, prefix, before, revision):
            yield Batch(revision, batch.items)

    patch.setattr(Source, "delta", mutant)


def revisions_of_another_history_are_believed(patch: pytest.MonkeyPatch) -> None:
    answer = Source.answer

    def mutant(self: Source, fetch: Fetch, current: Revision, compacted: Revision, **agreed: bool) -> Start:
        start = answer(self, Fetch(self.store_id, fetch.after, fetch.digest), current, compacted)
        return start if start.snapshot else Start(fetch.store_id or self.store_id, start.revision, snapshot=False)

    patch.setattr(Source, "answer", mutant)


def a_snapshot_deletes_nothing(patch: pytest.MonkeyPatch) -> None:
    apply = driver._apply

    async def mutant(store: Any, prefix: str, lsr_key: str, action: Apply, written: Revision) -> Revision:
        return await apply(store, prefix, lsr_key, dataclasses.replace(action, keep=None), written)

    patch.setattr(driver, "_apply", mutant)


def the_newest_commit_dies_with_the_process(patch: pytest.MonkeyPatch) -> None:
    die = SimStore.die

    async def mutant(self: SimStore) -> None:
        data = self.disk.data
        for changes in data._history.values():
            if changes and changes[-1].revision == data.revision > data.compacted:
                changes.pop()
        await die(self)

    patch.setattr(SimStore, "die", mutant)


def reading_waits_for_writing(patch: pytest.MonkeyPatch) -> None:
    receive = Channel._receive

    async def mutant(self: Channel) -> bytes | None:
        await self._flush()
        return await receive(self)

    patch.setattr(Channel, "_receive", mutant)


def a_watcher_that_overflows_forgets(patch: pytest.MonkeyPatch) -> None:
    committed = Watches.committed

    def mutant(self: Watches, changes: Any, revision: Revision) -> None:
        synced = [w for group in self._by_prefix.values() for w in group if not w.behind]
        committed(self, changes, revision)
        for watcher in synced:
            watcher.behind = False

    patch.setattr(Watches, "committed", mutant)


def deletions_are_not_written(patch: pytest.MonkeyPatch) -> None:
    news = driver._only_news

    async def mutant(store: Any, prefix: str, items: Any) -> Any:
        return [item for item in await news(store, prefix, items) if item.value is not None]

    patch.setattr(driver, "_only_news", mutant)


MUTATIONS: list[Callable[[pytest.MonkeyPatch], None]] = [
    lsr_before_data,
    snapshot_keeps_the_old_lsr,
    every_part_carries_the_new_revision,
    revisions_of_another_history_are_believed,
    a_snapshot_deletes_nothing,
    the_newest_commit_dies_with_the_process,
    reading_waits_for_writing,
    a_watcher_that_overflows_forgets,
    deletions_are_not_written,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_a_mistake_is_found(mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    for seed in range(400):
        if (outcome := play(seed)).failure:
            print(f"found with seed {outcome.seed}: {outcome.failure}")
            return
    pytest.fail("400 stories went well in spite of it")
