"""One story: writers, faults, and what must hold at every commit and at the end.

At every commit of a sink:  what it holds of each key is what the source held at some moment not before the sink's LSR (the LSR
                            is never ahead of the data); the values of a key appear in the order in which they were written, each once.
At the end, when everything works again: both stores agree in both directions; each acknowledged write is there or was overwritten
                            by a later one; the node has a session; and nothing is written any more (no write without a change).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import kubeedge.hub.core as hub_core
import kubeedge.store.watch as store_watch
import kubeedge.sync.core as sync_core
import kubeedge.sync.driver as sync_driver
from kubeedge.api import keys
from kubeedge.api.names import NodeName, Revision
from kubeedge.errors import KubeEdgeError
from kubeedge.store.model import ChangeKind, Delete, Put
from tests.simulator.world import TENANT, Cloud, Disk, Edge, LateLoop, Wire

SETTLE = (
    180.0  # seconds for everything to agree once everything works: 45 to find a peer dead, then back-off, then sync
)
QUIET = 100.0  # seconds without a write at the end


class Violation(AssertionError):
    pass


@dataclass
class Direction:
    """From one prefix of a source to one of a sink, with what the judge remembers."""

    name: str
    source: Disk
    prefix: str
    sink: Disk
    sink_prefix: str
    lsr_key: str
    acknowledged: dict[str, tuple[Revision, bytes | None]] = field(default_factory=dict)
    place: dict[str, int] = field(default_factory=dict)  # key -> how far in its log the sink has come
    checked: tuple[str, Revision] = ("", Revision(0))  # history and LSR at which every key was last found right

    def check_commit(
        self, before: Revision, logs: dict[str, list[bytes | None]], former: Callable[[str, bytes], bool]
    ) -> None:
        """After a commit at the sink. `logs`: all values of a key of the source, oldest first; None is a deletion. `former`: did
        a source that was replaced have that value? What it had sent may still arrive."""
        changes, _ = self.sink.data._changes(self.sink_prefix, before, 0)
        touched: set[str] = set()
        for change in changes:
            touched.add(change.key.removeprefix(self.sink_prefix))
            key = change.key.removeprefix(self.sink_prefix)
            value = change.value if change.kind is ChangeKind.PUT else None
            log, at = [None, *logs.get(key, ())], self.place.get(key, -1)  # before all, there was nothing
            later = [n for n in range(at + 1, len(log)) if log[n] == value]
            if not later and value is not None and (value in log or not former(key, value)):
                raise Violation(f"{self.name}: {key} became {value[:20]!r} twice, out of order, or out of nothing")
            if later:
                self.place[key] = later[0]
        self.check_lsr(touched)

    def check_lsr(self, touched: set[str]) -> None:
        """Every key is at the sink as it was at the LSR, or newer. Looked at are those that the sink has just touched, and those that
        changed at the source between the LSR that was checked last and this one: for the others neither side of the question moved."""
        record = self.sink.data.newest(self.lsr_key)
        store_id, revision = json.loads(record.value) if record else ("", 0)
        source = self.source.data
        if store_id != source.store_id or revision < source.compacted:
            return
        if revision > source.revision:
            raise Violation(f"{self.name}: the LSR {revision} is ahead of its source at {source.revision}")
        have = self.sink.live(self.sink_prefix)
        history, since = self.checked
        if history == store_id and source.compacted <= since <= revision:
            passed, _ = source._changes(self.prefix, since, 0)
            suspects = touched | {c.key.removeprefix(self.prefix) for c in passed if c.revision <= revision}
        else:
            suspects = {*have, *self.source.live(self.prefix), *(k.removeprefix(self.prefix) for k in self._past())}
        self.checked = (store_id, revision)
        for key in suspects:
            past = self.source.history(self.prefix + key)
            then = [c for c in past if c.revision <= revision][-1:] or [None]
            allowed = [None if c is None or c.kind is ChangeKind.DELETE else c.value for c in then]
            allowed += [None if c.kind is ChangeKind.DELETE else c.value for c in past if c.revision > revision]
            if have.get(key) not in allowed:
                raise Violation(
                    f"{self.name}: LSR {revision}, but {key} is {have.get(key)!r:.40} and was none of {allowed!r:.80}"
                )

    def _past(self) -> list[str]:
        return [k for k in self.source.data._history if k.startswith(self.prefix)]

    def check_end(self, committed: dict[str, tuple[Revision, bytes | None]]) -> None:
        """`committed`: the newest of each key that the disk of the source took."""
        have, want = self.sink.live(self.sink_prefix), self.source.live(self.prefix)
        if have != want:
            wrong = sorted(k for k in {*have, *want} if have.get(k) != want.get(k))
            raise Violation(f"{self.name}: the stores differ at the end in {wrong}")
        if self.source.live("/") != {k.removeprefix("/"): v for k, (_, v) in committed.items() if v is not None}:
            raise Violation(f"{self.name}: the disk of the source does not hold what was committed")
        for key, (revision, value) in self.acknowledged.items():
            at, newest = committed.get(key, (0, None))
            if at < revision and newest != value:
                raise Violation(f"{self.name}: {key} was acknowledged at revision {revision} and is lost")


class Story:
    def __init__(self, seed: int, loop: LateLoop) -> None:
        self.seed = seed
        self.loop = loop
        self.rng = random.Random(f"{seed} story")
        # not everything in every story: some mistakes show only when nothing else disturbs them
        self.faults = [*REPAIRS, *(f for f in FAULTS if self.rng.random() < 0.5)]
        self.trace: list[str] = []
        self.failure: Violation | None = None
        self.count = 0
        self.nodes = [NodeName(f"edge{n + 1}") for n in range(self.rng.choice((1, 1, 2)))]
        self.cloud_disk = Disk("cloud-0")
        self.other_cloud_disk: Disk | None = None
        self.cloud: Cloud | None = None
        self.disks = {node: Disk(f"{node}-0") for node in self.nodes}
        self.wires = {node: Wire(random.Random(f"{seed} wire {node}")) for node in self.nodes}
        self.edges: dict[NodeName, Edge | None] = dict.fromkeys(self.nodes)
        self.directions: list[Direction] = []
        self.logs: dict[str, dict[str, list[bytes | None]]] = {}  # store id and prefix -> key -> values
        self.committed: dict[str, dict[str, tuple[Revision, bytes | None]]] = {}
        self._watch_disks()

    # -- telling ------------------------------------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        self.trace.append(f"{self.loop.time():9.3f} {text}")

    def fail(self, why: str) -> None:
        if self.failure is None:
            self.failure = Violation(why)
            self.tell(f"VIOLATION {why}")

    # -- judging ------------------------------------------------------------------------------------------------------------

    def _watch_disks(self) -> None:
        """Anew whenever a disk was replaced: what the judge remembers of a store that is gone means nothing."""
        old = {(d.name, d.source.data.store_id, d.sink.data.store_id): d for d in self.directions}
        self.directions = []
        for node, disk in self.disks.items():
            cloud = self.cloud_disk
            for made in (
                Direction(
                    f"down to {node}", cloud, keys.edge_desired(TENANT, node), disk, keys.DESIRED, keys.SYNC + "down"
                ),
                Direction(
                    f"up from {node}",
                    disk,
                    keys.REPORTED,
                    cloud,
                    keys.edge_reported(TENANT, node),
                    keys.edge(TENANT, node) + "sync/up",
                ),
            ):
                known = old.get((made.name, made.source.data.store_id, made.sink.data.store_id))
                self.directions.append(known or made)
        for disk in (self.cloud_disk, *self.disks.values()):
            self.committed.setdefault(disk.data.store_id, {})
            disk.on_commit = lambda before, disk=disk: self._committed(disk, before)

    def _committed(self, disk: Disk, before: Revision) -> None:
        self.tell(f"{disk.data.store_id} at {disk.data.revision}")
        changes, _ = disk.data._changes("/", before, 0)
        for change in changes:  # as a source
            value = change.value if change.kind is ChangeKind.PUT else None
            self.logs.setdefault(disk.data.store_id, {}).setdefault(change.key, []).append(value)
            self.committed[disk.data.store_id][change.key] = (change.revision, value)
        try:
            for direction in self.directions:
                if direction.sink is disk:
                    log = self.logs.get(direction.source.data.store_id, {})
                    mine = {
                        k.removeprefix(direction.prefix): v for k, v in log.items() if k.startswith(direction.prefix)
                    }

                    def former(key: str, value: bytes, own: Direction = direction) -> bool:
                        return any(value in log.get(own.prefix + key, ()) for log in self.logs.values())

                    direction.check_commit(before, mine, former)
        except Violation as exc:
            self.fail(str(exc))

    # -- writing ------------------------------------------------------------------------------------------------------------

    async def _write(self, direction: Direction, store: object) -> None:
        """One write of somebody who waits for its acknowledgement."""
        self.count += 1
        ops: list[Put | Delete] = []
        for key in self.rng.sample("abcdefghij", self.rng.choice((1, 1, 1, 2, 5))):
            size = self.rng.choice((0, 10, 150, 1500))
            full = f"{direction.prefix}pods/default/{key}"
            if self.rng.random() < 0.25:
                ops.append(Delete(full))
            else:
                ops.append(Put(full, f"{self.count}-{key} ".encode() + self.rng.randbytes(size)))
        with contextlib.suppress(KubeEdgeError):
            result = await store.txn((), ops)  # type: ignore[attr-defined]
            for op in ops:
                direction.acknowledged[op.key] = (result.revision, op.value if isinstance(op, Put) else None)

    def _start_write(self) -> None:
        direction = self.rng.choice(self.directions)
        process = self.cloud if direction.source is self.cloud_disk else None
        for node, disk in self.disks.items():
            if direction.source is disk:
                process = self.edges[node]  # type: ignore[assignment]
        if process is not None:
            process.spawn(self._write(direction, process.store))

    # -- faults -------------------------------------------------------------------------------------------------------------

    def _start_cloud(self) -> None:
        self.cloud = Cloud(self.cloud_disk, random.Random(f"{self.seed} cloud {self.loop.time()}"))

    def _start_edge(self, node: NodeName) -> None:
        rng = random.Random(f"{self.seed} {node} {self.loop.time()}")
        self.edges[node] = Edge(node, self.disks[node], self.wires[node], lambda: self.cloud, rng)

    async def _kill_cloud(self, *, power: bool) -> None:
        cloud, self.cloud = self.cloud, None
        if cloud:
            await cloud.kill(power=power)

    async def _kill_edge(self, node: NodeName, *, power: bool) -> None:
        edge, self.edges[node] = self.edges[node], None
        if edge:
            await edge.kill(power=power)

    async def _fault(self) -> None:
        node = self.rng.choice(self.nodes)
        wire = self.wires[node]
        match self.rng.choice(self.faults):
            case "cut":
                self.tell(f"cut {node}")
                wire.cut()
            case "repair":
                self.tell(f"repair {node}")
                wire.repair()
            case "reset":
                self.tell(f"reset {node}")
                wire.reset()
            case "slow":
                wire.delay = self.rng.choice((0.001, 0.01, 0.1, 1.0))
                self.tell(f"delay {wire.delay} {node}")
            case "late":
                self.loop.lateness = self.rng.choice((0.0, 0.0, 0.1, 30.0))
                self.tell(f"timers late by {self.loop.lateness}")
            case "hint":
                if edge := self.edges[node]:
                    edge.hub.network_changed()
            case "kill edge":
                power = self.rng.random() < 0.5
                self.tell(f"kill {node} power={power}")
                await self._kill_edge(node, power=power)
            case "start":
                if self.cloud is None:
                    self.tell("start cloud")
                    self._start_cloud()
                for name, edge in self.edges.items():
                    if edge is None:
                        self.tell(f"start {name}")
                        self._start_edge(name)
            case "kill cloud":
                power = self.rng.random() < 0.5
                self.tell(f"kill cloud power={power}")
                await self._kill_cloud(power=power)
            case "compact":
                disk = self.rng.choice((self.cloud_disk, *self.disks.values()))
                target = disk.data.revision - self.rng.choice((0, 1, 5, 20))
                if target > disk.data.compacted:
                    self.tell(f"compact {disk.data.store_id} to {target}")
                    await disk.data.compact(Revision(target))
            case "sick edge":
                self.tell(f"{node} loses its store")
                await self._kill_edge(node, power=False)
                self.count += 1
                self.disks[node] = Disk(f"{node}-{self.count}")
                self._watch_disks()
            case "restore cloud":
                await self._restore_cloud()

    async def _restore_cloud(self) -> None:
        """The cloud goes on with another store: a copy of the present one under a new identity, or the one it had before."""
        await self._kill_cloud(power=False)
        former = self.cloud_disk
        if self.other_cloud_disk is not None and self.rng.random() < 0.7:
            self.cloud_disk = self.other_cloud_disk
        else:
            self.count += 1
            self.cloud_disk = Disk(f"cloud-{self.count}")
            everything = former.live("/")
            if everything:
                ops = [Put("/" + key, value) for key, value in everything.items()]
                self._watch_disks()  # it takes note of the copy, too
                await self.cloud_disk.commit((), ops, ())
        self.other_cloud_disk = former
        former.on_commit = lambda before: None
        for direction in self.directions:
            direction.place.clear()
        self._watch_disks()
        for direction in self.directions:
            direction.place.clear()
        self.tell(f"the cloud goes on with {self.cloud_disk.data.store_id}")
        if self.rng.random() < 0.8:
            self._start_cloud()

    # -- the story ------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._start_cloud()
        for node in self.nodes:
            self._start_edge(node)
        until = self.rng.choice((20.0, 60.0, 200.0))
        trouble = self.rng.choice((0.1, 0.35, 0.7))
        while self.loop.time() < until and self.failure is None:
            await asyncio.sleep(self.rng.expovariate(1.0))
            for _ in range(self.rng.choice((0, 0, 1, 1, 2, 10))):
                self._start_write()
            if self.rng.random() < trouble:
                await self._fault()
        await self._end()

    async def _end(self) -> None:
        self.tell("everything is repaired")
        self.loop.lateness = 0.0
        for wire in self.wires.values():
            wire.delay = 0.01
            wire.repair()
        if self.cloud is None:
            self._start_cloud()
        for node, edge in self.edges.items():
            if edge is None:
                self._start_edge(node)
        deadline = self.loop.time() + SETTLE
        while self.failure is None:
            await asyncio.sleep(1.0)
            try:
                self._check_settled()
                break
            except Violation as exc:
                if self.loop.time() > deadline:
                    self.fail(str(exc))
        if self.failure is None:
            self.tell("settled")
            await asyncio.sleep(60)  # half-open channels are found, progress is written down
            disks = (self.cloud_disk, *self.disks.values())
            before = [disk.data.revision for disk in disks]
            await asyncio.sleep(QUIET)
            if before != [disk.data.revision for disk in disks]:
                self.fail("something was written though nobody changed anything")
            try:
                self._check_settled()
            except Violation as exc:
                self.fail(str(exc))
        await self._kill_cloud(power=True)
        for node in self.nodes:
            await self._kill_edge(node, power=True)

    def _check_settled(self) -> None:
        for direction in self.directions:
            direction.check_end(self.committed[direction.source.data.store_id])
        for node, edge in self.edges.items():
            if self.cloud_disk.data.newest(keys.session(TENANT, node)) is None:
                raise Violation(f"{node} has no session at the end")
            if edge is None or edge.running.done():
                raise Violation(f"the hub of {node} has ended")


REPAIRS = ("repair", "start", "start", "hint")
FAULTS = (
    *("cut", "cut", "reset", "slow", "slow", "late", "kill edge", "kill edge", "kill cloud", "compact", "compact"),
    *("sick edge", "restore cloud", "restore cloud"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    failure: str | None
    trace: list[str]


class _Errors(logging.Handler):
    """An error in a log is a failure: the product caught what should not have happened."""

    def __init__(self, story: Story) -> None:
        super().__init__(logging.ERROR)
        self._story = story

    def emit(self, record: logging.LogRecord) -> None:
        self._story.fail(f"logged: {record.getMessage()} {record.exc_info[1] if record.exc_info else ''!r}")


@contextlib.contextmanager
def small_limits(rng: random.Random) -> Iterator[None]:
    """Limits of the product made small, so that a short story meets them."""
    small = [
        (sync_core, "TARGET_BODY", rng.choice((400, 2000, 100_000))),
        (sync_core, "MAX_ITEMS", rng.choice((2, 5, 1000))),
        (sync_driver, "MAX_ITEMS", rng.choice((2, 5, 1000))),
        (sync_core, "PROGRESS_EVERY", rng.choice((5, 50))),
        (sync_core, "WINDOW_BATCHES", rng.choice((1, 2, 8))),
        (sync_driver, "SNAPSHOT_PAGE", rng.choice((1, 3, 500))),
        (sync_driver, "RANGE_KEYS", rng.choice((1, 2, 16))),
        (sync_driver, "MAX_RANGES", rng.choice((1, 2, 2000))),
        (hub_core, "FEATURES", rng.choice(((), hub_core.FEATURES, hub_core.FEATURES, hub_core.FEATURES))),
        (store_watch, "QUEUED_CHANGES", rng.choice((1, 3, 512))),
        (store_watch, "PROGRESS_EVERY", rng.choice((3, 20, 2000))),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in small]
    try:
        for module, name, value in small:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def play(seed: int) -> Outcome:
    """Tell the story of one seed."""
    loop = LateLoop(random.Random(f"{seed} timers"))
    asyncio.set_event_loop(loop)
    story = Story(seed, loop)
    loop.set_exception_handler(lambda _, context: story.fail(f"unhandled: {context.get('exception', context)!r}"))
    errors = _Errors(story)
    log = logging.getLogger("kubeedge")
    level, propagate = log.level, log.propagate
    log.addHandler(errors)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        with small_limits(random.Random(f"{seed} limits")):
            loop.run_until_complete(story.run())
            loop.run_until_complete(loop.shutdown_asyncgens())
    except Exception as exc:
        story.fail(f"the story broke: {exc!r}")
    finally:
        log.removeHandler(errors)
        log.setLevel(level)
        log.propagate = propagate
        loop.close()
        asyncio.set_event_loop(None)
    return Outcome(seed, str(story.failure) if story.failure else None, story.trace)


__all__ = ["Outcome", "Violation", "play"]
