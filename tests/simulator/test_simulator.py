"""A slice of the scenarios, and the proof that the checks would notice: each mutation below is a mistake that was made or nearly made."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kubeedge.sync.sink as sink
import kubeedge.sync.source as source
from kubeedge.api.names import Revision
from kubeedge.hub.driver import Channel
from kubeedge.store.leases import Leases
from kubeedge.store.watch import Watches
from kubeedge.sync.codec import Batch, Fetch, Message, Patch, Start
from kubeedge.sync.core import Apply, Lsr, Sink, SinkAction, Source
from tests.faults.powercut import build_recorder
from tests.simulator import scenario as scenarios
from tests.simulator.disks import SimStore
from tests.simulator.scenario import POINTS, SQLITE_POINTS, Counts, play


@pytest.mark.parametrize("block", range(4))
def test_nothing_is_lost_in_fifty_stories(block: int) -> None:
    failures = [f"seed {o.seed}: {o.failure}" for o in map(play, range(50 * block, 50 * block + 50)) if o.failure]
    assert failures == []


def test_one_seed_is_one_story_in_every_process() -> None:
    command = [sys.executable, "-m", "tests.simulator", "--seeds", "12", "--trace", "--digests", "--jobs", "1"]
    traces = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": hashes}
        ).stdout.splitlines()[:-2]
        for hashes in ("1", "2")
    ]
    assert traces[0] == traces[1] and len(traces[0]) > 200
    assert sum("digest" in line for line in traces[0]) == 12


def test_a_seed_that_fails_says_how_to_play_it_again() -> None:
    broken = (
        "import sys; import kubeedge.store.leases as l; l.Leases.keepalive = lambda *a: None;"
        "from tests.simulator.__main__ import main; sys.argv[1:] = ['--seeds', '60', '--disk', 'memory']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(r"seed (\d+): .* is gone before its lease\n    again: make simulate SEED=\1\n", done.stdout)


def test_the_real_sqlite_store_loses_nothing_in_forty_stories() -> None:
    command = [sys.executable, "-m", "tests.simulator", "--seeds", "40", "--disk", "sqlite"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "40 seeds" in done.stdout and ", 0 failed" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    again = subprocess.run([*command, "--jobs", "1"], capture_output=True, text=True)
    assert done.stdout.split("digest ")[1] == again.stdout.split("digest ")[1]


def test_a_real_disk_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    library = tmp_path / "library" / "recorder.so"
    library.parent.mkdir()
    build_recorder(library)
    lying = (
        "import sys; import kubeedge.store.sqlite as q, kubeedge.store.sqlite_file as f; real = f.connect\n"
        "def connect(*args):\n    db = real(*args); db.execute('PRAGMA synchronous = OFF'); return db\n"
        "q.connect = f.connect = connect\n"
        "from tests.simulator.__main__ import main; sys.argv[1:] = ['--seeds', '20', '--disk', 'sqlite']; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", lying], capture_output=True, text=True, env={**os.environ, "LD_PRELOAD": str(library)}
    )
    assert done.returncode == 1 and "after a death" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]


def test_a_process_dies_at_every_fault_point_of_store_sync_and_hub() -> None:
    root = Path(__file__).parents[2]
    folders = ("src/kubeedge/store", "src/kubeedge/sync", "src/kubeedge/hub", "cloud/kubeedge_cloud/cloudhub")
    sources = "".join(file.read_text() for folder in folders for file in sorted((root / folder).rglob("*.py")))
    there = set(re.findall(r'faults\.at\("([^"]+)"\)', sources))
    # of files before a process serves them: tests/unit/store/test_salvage.py, test_upkeep.py, test_sealing.py and test_layouts.py die there
    repairs = {"store.rebuild.before_create", "store.restore.before_rename"}
    repairs |= {"store.reseal.before_rename", "store.reseal.before_scrub"}
    repairs |= {"store.migrate.after_copy", "store.migrate.before_commit"}
    # of a thread beside the writer, which virtual time does not have: tests/faults/test_store_crash.py
    beside = {"store.checkpoint.before", "store.checkpoint.after"}
    assert there == {*POINTS, *SQLITE_POINTS, *repairs, *beside}
    died = Counts()
    for seed in range(400):
        died.add(play(seed).counts)
        if died.deaths.keys() >= set(POINTS):
            return
    pytest.fail(f"nobody died at {set(POINTS) - died.deaths.keys()}")


# -- mutations ---------------------------------------------------------------------------------------------------------------


def lsr_before_data(patch: pytest.MonkeyPatch) -> None:
    apply = sink._apply

    async def mutant(store: Any, prefix: str, lsr_key: str, action: Apply, written: Revision) -> Revision:
        if action.lsr is not None:
            written = await sink._commit(store, lsr_key, [], action.lsr, written)
        return await apply(store, prefix, lsr_key, dataclasses.replace(action, lsr=None), written)

    patch.setattr(sink, "_apply", mutant)


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
    # digests would heal it, and it takes two changes of the cloud's store: once in 500 of all scenarios
    patch.setattr(scenarios, "ENDS", ((),))
    patch.setattr(scenarios, "TOGETHER", (("slow", "to and fro"),))


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
    apply = sink._apply

    async def mutant(store: Any, prefix: str, lsr_key: str, action: Apply, written: Revision) -> Revision:
        return await apply(store, prefix, lsr_key, dataclasses.replace(action, keep=None), written)

    patch.setattr(sink, "_apply", mutant)


def the_newest_commit_dies_with_the_process(patch: pytest.MonkeyPatch) -> None:
    die = SimStore.die

    def mutant(self: SimStore, *, power: bool) -> None:
        data = self.disk.data
        for changes in data._history.values():
            if changes and changes[-1].revision == data.revision > data.compacted:
                changes.pop()
        die(self, power=power)

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
    news = sink._only_news

    async def mutant(store: Any, prefix: str, items: Any) -> Any:
        return [item for item in await news(store, prefix, items) if item.value is not None]

    patch.setattr(sink, "_only_news", mutant)


def what_is_there_is_written_again(patch: pytest.MonkeyPatch) -> None:
    async def mutant(store: Any, prefix: str, items: Any) -> Any:
        there = {item.key: await store.get(prefix + item.key) for item in items}
        return [
            sink._patched(item, there[item.key].value if there[item.key] else None) if isinstance(item, Patch) else item
            for item in items
        ]

    patch.setattr(sink, "_only_news", mutant)


def a_batch_is_applied_twice(patch: pytest.MonkeyPatch) -> None:
    what_is_there_is_written_again(patch)
    apply = sink._apply

    async def mutant(store: Any, prefix: str, lsr_key: str, action: Apply, written: Revision) -> Revision:
        written = await apply(store, prefix, lsr_key, action, written)
        return await apply(store, prefix, lsr_key, action, written)

    patch.setattr(sink, "_apply", mutant)


def nobody_compares_digests(patch: pytest.MonkeyPatch) -> None:
    async def mutant(self: Any) -> bool:
        return True

    patch.setattr(source._Outgoing, "_agrees", mutant)


def a_lease_is_not_kept_alive(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "keepalive", lambda self, lease, now: None)


#: and within how many seeds each is found, generously
MUTATIONS: dict[Callable[[pytest.MonkeyPatch], None], int] = {
    lsr_before_data: 20,
    snapshot_keeps_the_old_lsr: 1000,
    every_part_carries_the_new_revision: 20,
    revisions_of_another_history_are_believed: 20,
    a_snapshot_deletes_nothing: 50,
    the_newest_commit_dies_with_the_process: 50,
    reading_waits_for_writing: 400,
    a_watcher_that_overflows_forgets: 50,
    deletions_are_not_written: 50,
    a_batch_is_applied_twice: 5,
    what_is_there_is_written_again: 100,
    nobody_compares_digests: 1000,
    a_lease_is_not_kept_alive: 50,
}


@pytest.mark.parametrize(("mutation", "within"), MUTATIONS.items(), ids=lambda m: getattr(m, "__name__", ""))
def test_a_mistake_is_found(
    mutation: Callable[[pytest.MonkeyPatch], None], within: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    for seed in range(within):
        if (outcome := play(seed)).failure:
            print(f"found with seed {outcome.seed}: {outcome.failure}")
            return
    pytest.fail(f"{within} scenarios went well in spite of it")
