"""One scenario: writers, faults, and the end, when everything is repaired and all must agree.

Lives elsewhere: what must hold (invariants.py), the world (world.py, disks.py, loop.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Protocol

import kubeedge.hub.core as hub_core
import kubeedge.store.watch as store_watch
import kubeedge.sync.content as sync_content
import kubeedge.sync.core as sync_core
import kubeedge.sync.sink as sync_sink
import kubeedge_cloud.cloudhub.module as cloudhub
import tests.simulator.world as world
from kubeedge import faults
from kubeedge.api import keys
from kubeedge.api.names import NodeName, Revision
from kubeedge.errors import KubeEdgeError
from kubeedge.store.model import Change, Delete, Put
from tests.simulator.disks import Data, Disk, SimStore
from tests.simulator.invariants import Direction, Violation, outlived
from tests.simulator.loop import StoryLoop
from tests.simulator.sqlite_disks import SimSqlite, SqliteDisk, sqlite_disks
from tests.simulator.world import OWNER, TENANT, Cloud, Edge, Process, Wire

SETTLE = (
    180.0  # seconds for everything to agree once everything works: 45 to find a peer dead, then back-off, then sync
)
LAST_LEASES = 75.0  # seconds from the last write to the end of the last lease, with timers that were late
QUIET = 100.0  # seconds without a write at the end
LENGTHS = (10.0, 30.0, 60.0)  # seconds until everything is repaired
TROUBLE = (0.3, 0.7, 1.0)  # probability of a fault, about every second
KINDS = (1, 2, 3, 5, 18)  # faults that a scenario knows
RHYTHMS = ((0, 0, 0, 1), (0, 0, 1, 1, 2, 6), (0, 0, 0, 0, 0, 0, 0, 0, 0, 40))  # writes, as often
GONE = 30.0  # seconds after which nothing of a process runs that has died

#: where a process may die: all fault points of store, sync and hub
POINTS = (
    "store.commit.before_fsync",
    "store.commit.after_fsync",
    "sync.sink.before_fetch",
    "sync.apply.before_commit",
    "sync.apply.after_commit",
    "sync.sink.before_ack",
    "sync.sink.after_ack",
    "sync.source.after_start",
    "sync.source.before_send",
    "sync.source.after_send",
    "cloudhub.before_session",
    "cloudhub.after_session",
    "cloudhub.before_forget",
)


#: and where one with a real SQLite store may
SQLITE_POINTS = ("store.compact.after_mark", "store.compact.after_sweep")


class DiskMaker(Protocol):
    def __call__(self, store_id: str, *, data: Data | None = None) -> Disk: ...


@dataclass(slots=True)
class Counts:
    """What a scenario had in it."""

    operations: int = 0  # puts and deletes that somebody asked for
    messages: int = 0
    commits: int = 0
    faults: int = 0
    deaths: Counter[str] = field(default_factory=Counter)  # at which fault point
    callbacks: int = 0

    def add(self, other: Counts) -> None:
        self.operations += other.operations
        self.messages += other.messages
        self.commits += other.commits
        self.faults += other.faults
        self.deaths += other.deaths
        self.callbacks += other.callbacks


class Scenario:
    def __init__(self, seed: int, loop: StoryLoop, make_disk: DiskMaker, *, digests: bool) -> None:
        """`digests`: the two ends compare what they have (they speak "sync2"); without that some faults need a person."""
        self.make_disk = make_disk
        self.digests = digests
        self.seed = seed
        self.loop = loop
        self.rng = random.Random(f"{seed} scenario")
        # not everything in every scenario: some mistakes show only when nothing else disturbs them, some need one fault again and again
        known = [fault for fault in FAULTS if digests or fault not in NEED_DIGESTS]
        if self.rng.random() < 0.3:
            some = [fault for fault in self.rng.choice(TOGETHER) if fault in known]
        else:
            some = self.rng.sample(known, min(len(known), self.rng.choice(KINDS)))
        self.faults = [*REPAIRS, *(f for f in some for _ in range(FAULTS[f]))]
        self.trace: list[str] = []
        self.failure: Violation | None = None
        self.counts = Counts()
        self.count = 0
        self.seen = hashlib.blake2b(digest_size=8)
        self.nodes = [NodeName(f"edge{n + 1}") for n in range(self.rng.choice((1, 1, 2)))]
        self.cloud_disk = make_disk("cloud-0")
        self.other_cloud_disk: Disk | None = None
        self.cloud_image: Disk | None = None
        self.cloud: Cloud | None = None
        self.disks = {node: make_disk(f"{node}-0") for node in self.nodes}
        self.images: dict[NodeName, Disk] = {}
        self.all_disks: list[Disk] = []
        self.wires = {node: Wire(random.Random(f"{seed} wire {node}")) for node in self.nodes}
        for wire in self.wires.values():
            wire.on_message = self._message
        self.edges: dict[NodeName, Edge | None] = dict.fromkeys(self.nodes)
        self.twins: dict[NodeName, Edge] = {}
        self.doubled: set[NodeName] = set()  # that had a twin once
        self.directions: list[Direction] = []
        self._watch_disks()

    # -- telling ------------------------------------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        line = f"{self.loop.time():9.3f} {text}"
        self.trace.append(line)
        self.seen.update(line.encode())

    def fail(self, why: str) -> None:
        if self.failure is None:
            self.failure = Violation(why)
            self.tell(f"VIOLATION {why}")

    def _message(self, message: bytes) -> None:
        self.counts.messages += 1
        self.seen.update(b"%f" % self.loop.time())
        self.seen.update(message)

    # -- judging ------------------------------------------------------------------------------------------------------------

    def _watch_disks(self) -> None:
        """New ones whenever a disk was replaced: what was recorded of a store that is gone means nothing."""
        old = {d.name: d for d in self.directions}
        self.directions = []
        for node, disk in self.disks.items():
            cloud = self.cloud_disk
            for made in (
                Direction(
                    f"down to {node}", cloud, keys.edge_desired(TENANT, node), disk, keys.DESIRED, keys.SYNC_DOWN
                ),
                Direction(
                    f"up from {node}",
                    disk,
                    keys.REPORTED,
                    cloud,
                    keys.edge_reported(TENANT, node),
                    keys.edge_sync_up(TENANT, node),
                ),
            ):
                known = old.get(made.name)
                if known and known.source is made.source and known.sink is made.sink:
                    made = known
                elif known:
                    self._goes_on(made, known)
                made.enforced = not (node in self.doubled and made.source is disk)
                self.directions.append(made)
        for disk in (self.cloud_disk, *self.disks.values()):
            if disk not in self.all_disks:
                self.all_disks.append(disk)
                disk.on_commit = lambda changes, disk=disk: self._committed(disk, changes)

    def _goes_on(self, made: Direction, known: Direction) -> None:
        """The source or the sink is another one, or an older copy of itself."""
        if known.source.data.store_id == made.source.data.store_id:
            image = made.source.data.revision
            made.acknowledged = {key: at for key, at in known.acknowledged.items() if at[0] <= image}
        if record := made.sink.data.newest(made.lsr_key):
            made.stale = record.mod_revision

    def _committed(self, disk: Disk, changes: Sequence[Change]) -> None:
        self.counts.commits += 1
        self.tell(f"{disk.data.store_id} at {disk.data.revision}")
        for change in changes:
            self.seen.update(change.key.encode())
            self.seen.update(change.value)
        try:
            for direction in self.directions:
                if direction.sink is disk:
                    direction.check_commit(changes, self._former)
        except Violation as exc:
            self.fail(str(exc))

    def _former(self, key: str, value: bytes) -> bool:
        return any(value in disk.log.get(key, ()) for disk in self.all_disks)

    # -- writing ------------------------------------------------------------------------------------------------------------

    async def _write(self, direction: Direction, store: SimStore | SimSqlite) -> None:
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
        self.counts.operations += len(ops)
        with contextlib.suppress(KubeEdgeError):
            result = await store.txn((), ops)
            for op in ops:
                direction.acknowledged[op.key] = (result.revision, op.value if isinstance(op, Put) else None)

    async def _hold(self, direction: Direction, store: SimStore | SimSqlite) -> None:
        """A key that lives as long as somebody asks for it, and not longer."""
        self.count += 1
        self.counts.operations += 1
        key, value = f"{direction.prefix}leases/default/{self.count}", b"%d" % self.count
        ttl = self.rng.choice((1.0, 4.0, 12.0))
        keep = self.rng.choice((0, 2, 5))
        revoke = self.rng.random() < 0.3
        try:
            lease = await store.lease_grant(ttl)
            await store.put(key, value, lease)
            for _ in range(keep):
                await asyncio.sleep(ttl / 3)
                await store.lease_keepalive(lease)
                if await store.get(key) is None:
                    self.fail(f"{key} is gone before its lease")
            if revoke:
                await store.lease_revoke(lease)
                if await store.get(key) is not None:
                    self.fail(f"{key} is there after its lease was revoked")
        except KubeEdgeError:  # the disk is full, or a timer was so late that the lease had ended
            pass

    def _start_write(self) -> None:
        direction = self.rng.choice(self.directions)
        process: Process | None = self.cloud if direction.source is self.cloud_disk else None
        for node, disk in self.disks.items():
            if direction.source is disk:
                process = self.edges[node]
        if process is not None and not process.dead:
            work = self._hold if self.rng.random() < 0.07 else self._write
            process.spawn(work(direction, process.store))

    # -- processes ----------------------------------------------------------------------------------------------------------

    def _start_cloud(self) -> None:
        try:
            self.cloud = Cloud(self.cloud_disk, random.Random(f"{self.seed} cloud {self.loop.time()}"))
        except Violation as exc:
            self.fail(str(exc))

    def _start_edge(self, node: NodeName) -> None:
        rng = random.Random(f"{self.seed} {node} {self.loop.time()}")
        try:
            self.edges[node] = Edge(node, self.disks[node], self.wires[node], lambda: self.cloud, rng)
        except Violation as exc:
            self.fail(str(exc))

    def _start_all(self) -> None:
        if self.cloud is None or self.cloud.dead:
            self.tell("start cloud")
            self._start_cloud()
        for node, edge in self.edges.items():
            if edge is None or edge.dead:
                self.tell(f"start {node}")
                self._start_edge(node)

    def _kill_cloud(self, *, power: bool) -> None:
        if self.cloud:
            self.cloud.kill(power=power)
            self.cloud = None

    def _kill_edge(self, node: NodeName, *, power: bool) -> None:
        if edge := self.edges[node]:
            edge.kill(power=power)
            self.edges[node] = None

    def _die_at(self, point: str, hits: int) -> None:
        """The process that comes to this point so many times hence ends there."""
        left = hits

        def reached() -> None:
            nonlocal left
            process = OWNER.get(None)
            if process is None or process.dead:
                return
            left -= 1
            if left == 0:
                faults.disarm(point)
                power = self.rng.random() < 0.5
                self.tell(f"{process.name} dies at {point} power={power}")
                self.counts.deaths[point] += 1
                process.kill(power=power)
                raise asyncio.CancelledError

        faults.disarm()
        faults.arm(point, reached)

    # -- faults -------------------------------------------------------------------------------------------------------------

    async def _fault(self) -> None:
        kind = self.rng.choice(self.faults)
        self.counts.faults += kind not in REPAIRS
        node = self.rng.choice(self.nodes)
        scenario: object = getattr(self, "_fault_" + kind.replace(" ", "_"))(node)
        if isinstance(scenario, Awaitable):
            await scenario

    def _fault_cut(self, node: NodeName) -> None:
        self.tell(f"cut {node}")
        self.wires[node].cut()

    def _fault_repair(self, node: NodeName) -> None:
        self.tell(f"repair {node}")
        self.wires[node].repair()

    def _fault_reset(self, node: NodeName) -> None:
        self.tell(f"reset {node}")
        self.wires[node].reset()

    def _fault_stall(self, node: NodeName) -> None:
        """The address of the node changed: what was sent on the old connection comes late, and it asks whether the cloud is there."""
        seconds = self.rng.choice((3.0, 20.0, 90.0))
        self.tell(f"stall {node} for {seconds}")
        self.wires[node].stall(seconds)
        if (edge := self.edges[node]) and not edge.dead:
            edge.hub.network_changed()

    def _fault_slow(self, node: NodeName) -> None:
        wire = self.wires[node]
        wire.delay = self.rng.choice((0.001, 0.01, 0.1, 1.0))
        self.tell(f"delay {wire.delay} {node}")

    def _fault_duplicate(self, node: NodeName) -> None:
        self.wires[node].duplicates = self.rng.choice((0.0, 0.01, 0.1))
        self.tell(f"duplicates {self.wires[node].duplicates} {node}")

    def _fault_reorder(self, node: NodeName) -> None:
        self.wires[node].reorders = self.rng.choice((0.0, 0.1, 0.5))
        self.tell(f"reorders {self.wires[node].reorders} {node}")

    def _fault_late(self, node: NodeName) -> None:
        self.loop.lateness = self.rng.choice((0.0, 0.0, 0.1, 30.0))
        self.tell(f"timers late by {self.loop.lateness}")

    def _fault_hint(self, node: NodeName) -> None:
        if (edge := self.edges[node]) and not edge.dead:
            edge.hub.network_changed()

    def _fault_start(self, node: NodeName) -> None:
        self._start_all()

    def _fault_kill_edge(self, node: NodeName) -> None:
        power = self.rng.random() < 0.5
        self.tell(f"kill {node} power={power}")
        self._kill_edge(node, power=power)

    def _fault_kill_cloud(self, node: NodeName) -> None:
        power = self.rng.random() < 0.5
        self.tell(f"kill cloud power={power}")
        self._kill_cloud(power=power)

    def _fault_die(self, node: NodeName) -> None:
        points = POINTS if type(self.cloud_disk) is Disk else (*POINTS, *SQLITE_POINTS)
        self._die_at(self.rng.choice(points), self.rng.choice((1, 1, 2, 5)))

    def _fault_full(self, node: NodeName) -> None:
        disk = self.rng.choice((self.cloud_disk, self.disks[node]))
        self.tell(f"{disk.data.store_id} is full")
        disk.full = True

    def _fault_room(self, node: NodeName) -> None:
        self.cloud_disk.full = self.disks[node].full = False

    def _fault_compact(self, node: NodeName) -> None:
        process = self.rng.choice((self.cloud, *self.edges.values()))
        if process is None or process.dead:
            return
        disk = process.store.disk
        target = disk.data.revision - self.rng.choice((0, 1, 5, 20))
        if target > disk.data.compacted:
            self.tell(f"compact {disk.data.store_id} to {target}")
            process.spawn(_compact(process.store, Revision(target)))

    def _fault_sick_edge(self, node: NodeName) -> None:
        self.tell(f"{node} loses its store")
        self._kill_edge(node, power=False)
        self.count += 1
        self.images.pop(node, None)
        self.disks[node] = self.make_disk(f"{node}-{self.count}")
        self._watch_disks()

    async def _fault_to_and_fro(self, node: NodeName) -> None:
        """The cloud goes on with another store, and soon with the one before: what the other one has begun to say is not to count."""
        self._fault_restore_cloud(node)
        if self.cloud is None:
            self._start_cloud()
        await asyncio.sleep(self.rng.uniform(0.5, 5.0))
        self._fault_restore_cloud(node)

    def _fault_restore_cloud(self, node: NodeName) -> None:
        """The cloud goes on with another store: a copy of the present one under a new identity, or the one it had before."""
        self._kill_cloud(power=False)
        former = self.cloud_disk
        self.cloud_image = None
        if self.other_cloud_disk is not None and self.rng.random() < 0.7:
            self.cloud_disk = self.other_cloud_disk
        else:
            self.count += 1
            copy = Data(store_id=f"cloud-{self.count}")
            copy.apply((), [Put(key, value) for key, value in former.live("").items()], ())
            self.cloud_disk = self.make_disk("", data=copy)
        self.other_cloud_disk = former
        self._watch_disks()
        self.tell(f"the cloud goes on with {self.cloud_disk.data.store_id}")
        if self.rng.random() < 0.8:
            self._start_cloud()

    async def _fault_old_image(self, node: NodeName) -> None:
        """Somebody copies a disk; the next time the node, or the cloud, goes on with that copy, under the same identity. (Without
        digests nobody could tell.)"""
        if self.rng.random() < 0.5:
            if self.cloud_image is None:
                self.cloud_image = self.cloud_disk.image()
                return
            self._kill_cloud(power=False)
            await self._unanswered()
            self.cloud_disk, self.cloud_image = self.cloud_image, None
        else:
            if node not in self.images:
                self.images[node] = self.disks[node].image()
                return
            self._kill_edge(node, power=False)
            await self._unanswered()
            self.disks[node] = self.images.pop(node)
        self.tell("an old image goes on")
        self._watch_disks()

    def _fault_twin(self, node: NodeName) -> None:
        """A second agent with the identity of the node, from a copy of its disk or with none; the next time it ends."""
        if twin := self.twins.pop(node, None):
            self.tell(f"the twin of {node} ends")
            twin.kill(power=self.rng.random() < 0.5)
            return
        self.count += 1
        copied = self.digests and self.rng.random() < 0.5
        disk = self.disks[node].image() if copied else self.make_disk(f"{node}-twin-{self.count}")
        self.tell(f"{node} has a twin, copied={copied}")
        rng = random.Random(f"{self.seed} twin {self.count}")
        self.twins[node] = Edge(node, disk, self.wires[node], lambda: self.cloud, rng)
        self.doubled.add(node)
        self._watch_disks()

    async def _unanswered(self) -> None:
        """Until what had arrived from a process that is dead is on the disk of its peer."""
        self.loop.lateness = 0.0
        for wire in self.wires.values():
            wire.reset()
        await asyncio.sleep(3.0 if "late" not in self.faults else 40.0)

    async def _fault_rot(self, node: NodeName) -> None:
        """A bit of what the cloud wants flips on the disk of a node that is off, or of how far it has come."""
        self._kill_edge(node, power=True)
        await self._unanswered()
        self._kill_edge(node, power=True)  # somebody may have started it
        disk = self.disks[node]
        if isinstance(disk, SqliteDisk):
            self.count += 1
            self.tell(f"a bit of {node} flips")
            self.disks[node] = disk.flip(self.rng) or self.make_disk(f"{node}-{self.count}")
            self.tell(f"{node} goes on with {self.disks[node].data.store_id} at {self.disks[node].data.revision}")
            self._watch_disks()
            return
        there = [*disk.data.newest_range(keys.DESIRED, keys.prefix_end(keys.DESIRED))]
        if record := disk.data.newest(keys.SYNC_DOWN):
            there += [record] * self.rng.choice((1, 3))
        there = [kv for kv in there if kv.value]
        if not there:
            return
        kv = self.rng.choice(there)
        bad = bytearray(kv.value)
        bad[self.rng.randrange(len(bad))] ^= 1 << self.rng.randrange(8)
        self.tell(f"a bit of {kv.key} flips on {node}")
        disk.rot(kv, bytes(bad))

    # -- the scenario ------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self._start_cloud()
        for node in self.nodes:
            self._start_edge(node)
        until = self.rng.choice(LENGTHS)
        trouble = self.rng.choice(TROUBLE)
        rhythm = self.rng.choice(RHYTHMS)
        while self.loop.time() < until and self.failure is None:
            await asyncio.sleep(self.rng.expovariate(1.0))
            for _ in range(self.rng.choice(rhythm)):
                self._start_write()
            if self.rng.random() < trouble:
                await self._fault()
        await self._end()

    async def _end(self) -> None:
        self.tell("everything is repaired")
        faults.disarm()
        for twin in self.twins.values():
            twin.kill(power=False)
        self.loop.lateness = 0.0
        for wire in self.wires.values():
            wire.delay, wire.duplicates, wire.reorders = 0.01, 0.0, 0.0
            wire.repair()
        for disk in (self.cloud_disk, *self.disks.values()):
            disk.full = False
        self._start_all()
        deadline = self.loop.time() + SETTLE
        looked: object = None
        while self.failure is None:
            await asyncio.sleep(1.0)
            if looked == self._revisions() and self.loop.time() <= deadline:
                continue  # what was wrong a second ago still is
            looked = self._revisions()
            try:
                self._check_settled()
                break
            except Violation as exc:
                if self.loop.time() > deadline:
                    self.fail(str(exc))
        if self.failure is None:
            self.tell("settled")
            await asyncio.sleep(LAST_LEASES)  # half-open channels are found, progress is written down
            before = self._revisions()
            await asyncio.sleep(QUIET)
            if before != self._revisions():
                self.fail("something was written though nobody changed anything")
            try:
                self._check_settled()
                for disk in (self.cloud_disk, *self.disks.values()):
                    if left := outlived(disk):
                        raise Violation(f"{left[0].key} outlives its lease")
            except Violation as exc:
                self.fail(str(exc))
        self._kill_cloud(power=True)
        for node in self.nodes:
            self._kill_edge(node, power=True)
        await asyncio.sleep(GONE)
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            self.fail(f"tasks outlive their process: {sorted(t.get_name() for t in left)}")

    def _revisions(self) -> list[Revision]:
        return [disk.data.revision for disk in (self.cloud_disk, *self.disks.values())]

    def _check_settled(self) -> None:
        for direction in self.directions:
            direction.check_end()
        for node, edge in self.edges.items():
            if self.cloud_disk.data.newest(keys.session(TENANT, node)) is None:
                raise Violation(f"{node} has no session at the end")
            if edge is None or edge.running.done():
                raise Violation(f"the hub of {node} has ended")


async def _compact(store: SimStore | SimSqlite, revision: Revision) -> None:
    with contextlib.suppress(KubeEdgeError):
        await store.compact(revision)


REPAIRS = ("repair", "start", "start", "hint", "room")
FAULTS = {  # how often, compared with the others of the scenario
    "cut": 2, "reset": 2, "stall": 1, "slow": 2, "duplicate": 1, "reorder": 1, "late": 1,
    "kill edge": 2, "kill cloud": 1, "die": 3, "full": 1, "compact": 2,
    "sick edge": 1, "restore cloud": 2, "to and fro": 1, "old image": 2, "rot": 1, "twin": 2,
}  # fmt: skip
ENDS = ((), hub_core.FEATURES, hub_core.FEATURES)  # what both speak: ends of yesterday, or of today
TOGETHER = (  # what hurts most together
    ("slow", "to and fro"),  # snapshots that are cut, and begun again from another store
    ("slow", "restore cloud", "reset", "die"),
    ("slow", "cut", "compact", "kill edge"),  # much to say on both sides, and history that is gone
    ("stall", "reset", "twin"),  # sessions that overlap
    ("die", "old image", "cut"),
    ("full", "die", "late"),
)
NEED_DIGESTS = ("old image", "rot")


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    failure: str | None
    trace: list[str]
    digest: str  # of every message and every commit, and when
    counts: Counts


class _Errors(logging.Handler):
    """An error in a log is a failure: the product caught what should not have happened."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(logging.ERROR)
        self._scenario = scenario

    def emit(self, record: logging.LogRecord) -> None:
        self._scenario.fail(f"logged: {record.getMessage()} {record.exc_info[1] if record.exc_info else ''!r}")


@contextlib.contextmanager
def _replaced(what: Sequence[tuple[object, str, object]]) -> Iterator[None]:
    before = [(module, name, getattr(module, name)) for module, name, _ in what]
    try:
        for module, name, value in what:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def small_limits(rng: random.Random) -> list[tuple[object, str, object]]:
    """Limits of the product made small, so that a short scenario meets them."""
    return [
        (sync_core, "TARGET_BODY", rng.choice((400, 2000, 100_000))),
        (sync_core, "MAX_ITEMS", rng.choice((2, 5, 1000))),
        (sync_sink, "MAX_ITEMS", rng.choice((2, 5, 1000))),
        (sync_core, "PROGRESS_EVERY", rng.choice((5, 50))),
        (sync_core, "WINDOW_BATCHES", rng.choice((1, 2, 8))),
        (sync_content, "SNAPSHOT_PAGE", rng.choice((1, 3, 500))),
        (sync_content, "RANGE_KEYS", rng.choice((1, 2, 16))),
        (sync_content, "MAX_RANGES", rng.choice((1, 2, 2000))),
        (hub_core, "FEATURES", rng.choice(ENDS)),
        (world, "SOCKET_BUFFER", rng.choice((300, 4000, 60_000))),
        (store_watch, "QUEUED_CHANGES", rng.choice((1, 3, 512))),
        (store_watch, "PROGRESS_EVERY", rng.choice((3, 20, 2000))),
    ]


def nothing_by_chance(rng: random.Random, clock: Callable[[], float]) -> list[tuple[object, str, object]]:
    """What the product asks the machine for, from the seed instead."""
    return [
        (cloudhub, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"{rng.getrandbits(128):032x}"))),
        (cloudhub, "time", SimpleNamespace(time=clock)),
    ]


def play(seed: int, disk: str = "memory") -> Outcome:
    """Tell the scenario of one seed. `disk`: "memory", or "sqlite" in a process that the recorder was loaded into."""
    loop = StoryLoop(random.Random(f"{seed} timers"))
    asyncio.set_event_loop(loop)
    limits = small_limits(random.Random(f"{seed} limits"))
    collecting = gc.isenabled()
    gc.disable()  # when it runs depends on what ran before
    log = logging.getLogger("kubeedge")
    level, propagate = log.level, log.propagate
    with contextlib.ExitStack() as place:
        place.enter_context(_replaced([*limits, *nothing_by_chance(random.Random(f"{seed} chance"), loop.time)]))
        disks = place.enter_context(sqlite_disks(seed)) if disk == "sqlite" else Disk
        scenario = Scenario(seed, loop, disks, digests=bool(hub_core.FEATURES))
        loop.set_exception_handler(
            lambda _, context: scenario.fail(f"unhandled: {context.get('exception', context)!r}")
        )
        errors = _Errors(scenario)
        log.addHandler(errors)
        log.setLevel(logging.ERROR)
        log.propagate = False
        try:
            with _replaced(
                [(asyncio, "get_running_loop", lambda: loop), (asyncio.events, "get_running_loop", lambda: loop)]
            ):
                loop.run_until_complete(
                    scenario.run()
                )  # without a question to the kernel each time (is this another process now?)
                loop.run_until_complete(loop.shutdown_asyncgens())
        except Exception as exc:
            scenario.fail(f"the scenario broke: {exc!r}")
        finally:
            faults.disarm()
            _end_all(loop)
            log.removeHandler(errors)
            log.setLevel(level)
            log.propagate = propagate
            loop.close()
            asyncio.set_event_loop(None)
            if collecting:
                gc.enable()
    scenario.counts.callbacks = loop.callbacks
    failure = str(scenario.failure) if scenario.failure else None
    return Outcome(seed, failure, scenario.trace, scenario.seen.hexdigest(), scenario.counts)


def _end_all(loop: StoryLoop) -> None:
    """What a scenario that broke has left."""
    if tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        with contextlib.suppress(Exception):
            loop.run_until_complete(asyncio.wait(tasks, timeout=GONE))


__all__ = ["POINTS", "Counts", "Outcome", "Scenario", "Violation", "play"]
