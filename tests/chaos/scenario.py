"""One play: a site, people at work, the storm, the calm, the checks.

Lives elsewhere: each of these (site.py, clients.py, faults.py, checks.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import checks
from tests.chaos.clients import Api, Counter, Lost, PodKeeper, Poller, Watcher, Worker, token_of
from tests.chaos.faults import Fault, schedule
from tests.chaos.journal import History, Journal, Pods, Readings
from tests.chaos.site import ROOT, Site
from tests.kit.topology import Topology, descendants, inside

RECOVERY = 120.0  # seconds in which both sides come to agree
ENOUGH = 20  # writes, and readings, more than which there are: a slow machine plays on until then
_SHIFT = 20  # of the row ids of a store in SQLite
_LABEL = "example.com/n"
_SUSPICIOUS = ("Traceback (most recent", "was never retrieved", "was never awaited", "Segmentation fault", "set aside")


@dataclass(slots=True)
class Result:
    faults: int = 0
    attempted: int = 0
    acknowledged: int = 0
    unknown: int = 0
    conflicts: int = 0  # attempts that lost a race and got a conflict
    readings: int = 0
    revisions: int = 0
    restarts: int = 0  # of cloud processes that ended by themselves: their store was not there at their start
    recovery: float = 0.0  # seconds until both sides agreed
    wrong: list[str] = field(default_factory=list)
    directory: str = ""  # logs and stores, when something is wrong

    def __str__(self) -> str:
        return (
            f"{self.faults} faults; {self.acknowledged} writes acknowledged, {self.unknown} without an answer, "
            f"{self.conflicts} lost a race; {self.readings} readings; {self.revisions} revisions looked at; "
            f"agreement {self.recovery:.1f} s after the last fault; {len(self.wrong)} wrong"
        )


class Recorder(threading.Thread):
    """Extends the histories of all stores while they change."""

    def __init__(self, site: Site) -> None:
        super().__init__(name="recorder", daemon=True)
        self.cloud = History()
        self.edges = {node: History() for node in site.nodes}
        self.collector: subprocess.Popen[str] | None = None
        self._databases = {site.store(node): self.edges[node] for node in site.nodes}
        if site.members:
            self._log = open(site.directory / "collector.log", "w")
            self.collector = subprocess.Popen(
                site.user.command(sys.executable, "-m", "tests.chaos.collector", json.dumps(site.etcd_settings())),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        else:
            self._databases[site.cloud_store] = self.cloud
        self._over = threading.Event()
        self.broken: BaseException | None = None
        self._reader = threading.Thread(target=self._read_lines, name="collector", daemon=True)

    def run(self) -> None:
        try:
            if self.collector:
                self._reader.start()
            while not self._over.wait(0.25):
                for path, history in self._databases.items():
                    _extend(path, history)
                if self.collector and self.collector.poll() is not None:
                    raise RuntimeError(f"the collector ended: {Path(self._log.name).read_text()[-1000:]}")
        except BaseException as exc:
            self.broken = exc

    def close(self) -> None:
        self._over.set()
        self.join()
        if self.collector:
            for pid in descendants(self.collector.pid):
                os.kill(pid, signal.SIGKILL)
            self.collector.wait()
            if self._reader.ident:
                self._reader.join()
            assert self.collector.stdout
            self.collector.stdout.close()
            self._log.close()

    def _read_lines(self) -> None:
        assert self.collector and self.collector.stdout
        for line in self.collector.stdout:
            try:
                revision, changes = json.loads(line)
            except ValueError:  # it was killed in the middle of its last line
                return
            self.cloud.add(
                revision, [(k, None if v is None else v.encode(errors="surrogateescape")) for k, v in changes]
            )


def _extend(path: Path, history: History) -> None:
    """What is new in a SQLite store, beside the process that uses it."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        db.execute("BEGIN")
        (compacted,) = db.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()
        if history.revisions and compacted > history.revision:
            history.wrong.append(f"compacted up to {compacted} before anybody looked at {history.revision}")
        rows = db.execute(
            "SELECT id, key, value FROM history WHERE id >= ? ORDER BY id", ((history.revision + 1) << _SHIFT,)
        )
        by_revision: dict[int, list[tuple[str, bytes | None]]] = {}
        for row_id, key, value in rows:
            value = value.encode() if isinstance(value, str) else value
            by_revision.setdefault(row_id >> _SHIFT, []).append((key, value))
    for revision, changes in by_revision.items():
        history.add(revision, changes)


class Scenario:
    def __init__(self, site: Site, seed: int, say: Callable[[str], None]) -> None:
        self.site, self.seed, self.say = site, seed, say
        self.result = Result()
        self.journals: list[Journal] = []
        self.pods: list[tuple[str, Pods]] = []
        self.readings: list[Readings] = []
        self.writers: list[Worker] = []
        self.readers: list[Worker] = []
        self._ends_seen: dict[str, int] = {}

    def run(self, faults: Sequence[Fault], seconds: float) -> Result:
        site = self.site
        site.begin()
        inside(site.user, self._create)
        self.recorder = Recorder(site)
        self.recorder.start()
        try:
            self._wait_for("the objects at their nodes", self._projected, RECOVERY)
            self._invite()
            for worker in (*self.writers, *self.readers):
                worker.start()
            self._inject(faults, seconds)
            begun = time.monotonic()
            self._wait_for("every writer gets something through, and all enough", self._all_answered, RECOVERY)
            _stop(self.writers)
            self._wait_for("both sides agree", self._agreed, RECOVERY)
            self.result.recovery = time.monotonic() - begun
            with contextlib.suppress(TimeoutError):
                self._wait_for(
                    "the watchers have seen all", lambda: not any(map(self._observed, self.readings)), RECOVERY
                )
        except TimeoutError as exc:
            self.result.wrong.append(str(exc))
            self.result.wrong += self._differences()
        finally:
            _stop((*self.writers, *self.readers))
            self.recorder.close()
        self._check()
        return self.result

    # -- clients -------------------------------------------------------------------------------------------------------

    def _cloud_api(self, name: str) -> Api:
        servers = [(address, 6443) for address in self.site.servers]
        return Api(servers, self.site.user_context(), seed=f"{self.seed} {name}")

    def _edge_api(self, node: str, name: str) -> Api:
        root = self.site.root(node)
        context = ssl.create_default_context(cafile=str(root / "var/lib/kubeedge/edge/metaserver/server.crt"))
        token = token_of(root / "etc/kubeedge/kubeconfig")
        return Api([("127.0.0.1", 10550)], context, token=token, seed=f"{self.seed} {name}")

    def _create(self) -> None:
        api = self._cloud_api("author")
        for path, obj in self.site.objects():
            deadline = time.monotonic() + RECOVERY
            while True:
                with contextlib.suppress(Lost):
                    status, answer = api.ask("POST", path, obj)
                    if status in (201, 409):
                        break
                    if status < 500:
                        raise RuntimeError(f"{obj['metadata']['name']}: {status} {answer}")
                if time.monotonic() > deadline:
                    raise TimeoutError("the cloud's API does not answer")
                time.sleep(0.1)
        api.close()

    def _counter(self, name: str, node: str, kind: str, obj: str, path: tuple[str, ...], *, pace: float,
                 tally: bool = False) -> None:  # fmt: skip
        place = f"namespaces/default/{kind}" if kind == "configmaps" else kind
        key = f"core/{kind}/default/{obj}" if kind == "configmaps" else f"core/{kind}/{obj}"
        journal = Journal(name, node, key, path)
        host, api = (
            (self.site.edge(node), self._edge_api(node, name)) if node else (self.site.user, self._cloud_api(name))
        )
        self.journals.append(journal)
        self.writers.append(Counter(host, api, journal, f"/api/v1/{place}/{obj}", tally=tally, pace=pace))

    def _invite(self) -> None:
        site = self.site
        maps = "/api/v1/namespaces/default/configmaps"
        for node in site.nodes:
            self._counter(f"cloud-{node}", "", "configmaps", f"c-{node}", ("data", "cloud"), pace=0.15)
            self._counter(f"map-{node}", node, "configmaps", f"c-{node}", ("data", "edge"), pace=0.06)
            self._counter(f"label-{node}", node, "nodes", node, ("metadata", "labels", _LABEL), pace=0.4)
            pods = Pods(f"p-{node}")
            self.pods.append((node, pods))
            api = self._cloud_api(pods.name)
            self.writers.append(PodKeeper(site.user, api, pods, node, seed=f"{self.seed} {node}", pace=0.2))
            here = [f"{maps}/c-{node}", f"{maps}/tally", f"/api/v1/nodes/{node}"]
            get, watch = Readings(f"get-{node}"), Readings(f"watch-{node}", watching=True)
            self.readings += [get, watch]
            self.readers.append(Poller(site.edge(node), self._edge_api(node, get.name), get, here, pace=0.1))
            self.readers.append(Watcher(site.edge(node), self._edge_api(node, watch.name), watch))
        for n in range(2):
            self._counter(f"tally-{n}", "", "configmaps", "tally", ("data", f"t{n}"), pace=0.3, tally=True)
        paths = [f"{maps}/{name}" for name in ("tally", *(f"c-{node}" for node in site.nodes))]
        get, watch = Readings("get-cloud"), Readings("watch-cloud", watching=True)
        self.readings += [get, watch]
        self.readers.append(Poller(site.user, self._cloud_api(get.name), get, paths, pace=0.1))
        self.readers.append(Watcher(site.user, self._cloud_api(watch.name), watch))

    # -- faults and recovery -------------------------------------------------------------------------------------------

    def _inject(self, faults: Sequence[Fault], seconds: float) -> None:
        begun = time.monotonic()
        actions = sorted(
            [(s.at, 1, n, s) for n, s in enumerate(faults)] + [(s.ends, 0, n, s) for n, s in enumerate(faults)]
        )
        for at, begins, _, s in actions:
            while (left := begun + at - time.monotonic()) > 0:
                time.sleep(min(left, 0.2))
                self._restart_ended()
            if begins:
                self.say(str(s))
                self.site.inject(s)
            else:
                self.site.lift(s)
        self.result.faults = len(faults)
        while time.monotonic() < begun + seconds:
            time.sleep(0.1)
            self._restart_ended()

    def _restart_ended(self) -> None:
        """What systemd does: a process that ended is started again. Only a cloud process without its store may end."""
        for name, process in self.site.processes.items():
            status = process.ended()
            if status is None:
                continue
            words = process.log.read_text(errors="replace")[-2000:].strip().splitlines()
            if not name.startswith("cloud") or "Traceback" in "".join(words[-20:]):
                self.result.wrong.append(f"{name} ended by itself with {status}: {words[-1:]}")
            self.result.restarts += 1
            process.end()
            process.start()

    def _wait_for(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s")
            if self.recorder.broken:
                raise self.recorder.broken
            time.sleep(0.1)
            self._restart_ended()

    def _projected(self) -> bool:
        """And everything that happens from now on is recorded."""
        there = self.recorder.cloud.below(f"{checks.REGISTRY}core/configmaps/default/").keys()
        return all(
            {f"c-{node}", "tally"} <= there & edge.below("/desired/configmaps/default/").keys()
            for node, edge in self.recorder.edges.items()
        )

    def _pairs(self, node: str) -> list[tuple[str, dict[str, bytes], dict[str, bytes]]]:
        cloud, edge = self.recorder.cloud, self.recorder.edges[node]
        return [
            (f"{kind} of {node}", cloud.below(f"/t/default/edge/{node}/{kind}/"), edge.below(f"/{kind}/"))
            for kind in ("desired", "reported")
        ]

    def _all_answered(self) -> bool:
        written = sum(len(j.acknowledged) for j in self.journals)
        read = sum(len(readings.seen) for readings in self.readings)
        each = all(j.acknowledged for j in self.journals) and all(pods.created for _, pods in self.pods)
        return each and min(written, read) > ENOUGH

    def _agreed(self) -> bool:
        return self._recorded() and not self._differences() and self._attached()

    def _recorded(self) -> bool:
        """The histories have what was acknowledged: they are read a moment after it is written."""
        for journal in self.journals:
            history = self.recorder.edges[journal.node] if journal.node else self.recorder.cloud
            if max(journal.acknowledged.values(), default=0) > history.revision:
                return False
        there = self.recorder.cloud.below(f"{checks.REGISTRY}core/pods/default/").keys()
        return all(pods.created - pods.deleting <= there for _, pods in self.pods)

    def _attached(self) -> bool:
        return self.recorder.cloud.below("/sessions/default/").keys() == set(self.site.nodes)

    def _differences(self) -> list[str]:
        wrong = []
        for node in self.site.nodes:
            for what, there, here in self._pairs(node):
                wrong += checks.same(what, there, here)
            waiting = [key for key in self.recorder.edges[node].below("/reported/") if key.startswith("writes/")]
            if waiting:
                wrong.append(f"{len(waiting)} writes of {node} wait for their answer, the first is {waiting[0]}")
            prefix, registry = "/desired/configmaps/default/", f"{checks.REGISTRY}core/configmaps/default/"
            for name, value in self.recorder.edges[node].below(prefix).items():
                source = self.recorder.cloud.below(registry).get(name)
                if source is None or json.loads(source).get("data") != json.loads(value).get("data"):
                    wrong.append(f"{name} at {node} is not what the API has")
            node_object = json.loads(self.recorder.cloud.below(f"{checks.REGISTRY}core/nodes/").get(node, b"{}"))
            wrong += checks.ready(node, node_object)
        if not self._attached():
            wrong.append(f"attached: {sorted(self.recorder.cloud.below('/sessions/default/'))}")
        return wrong

    # -- the checks ----------------------------------------------------------------------------------------------------

    def _observed(self, readings: Readings) -> list[str]:
        mine = [j for j in self.journals if "/configmaps/" in j.key and readings.name == f"watch-{j.node or 'cloud'}"]
        return checks.observed(readings, mine)

    def _check(self) -> None:
        r, cloud = self.result, self.recorder.cloud
        for journal in self.journals:
            edge = self.recorder.edges[journal.node] if journal.node else None
            r.wrong += checks.counted(cloud, journal, edge)
            r.attempted += journal.attempted
            r.acknowledged += len(journal.acknowledged)
            r.unknown += journal.unknown
            r.conflicts += journal.refused.get(409, 0)
        r.wrong += checks.tally(cloud, "core/configmaps/default/tally")
        for node, pods in self.pods:
            r.wrong += checks.pods(cloud, node, pods)
            r.acknowledged += len(pods.created) + len(pods.deleted)
            r.attempted += len(pods.attempted) + len(pods.deleting)
        for readings in self.readings:
            r.wrong += self._observed(readings)
            r.readings += len(readings.seen)
        for node, edge in self.recorder.edges.items():
            above = f"/t/default/edge/{node}/"
            r.wrong += checks.followed(cloud, f"{above}desired/", edge, "/desired/", "/sync/down")
            r.wrong += checks.followed(edge, "/reported/", cloud, f"{above}reported/", f"{above}sync/up")
        for history in (cloud, *self.recorder.edges.values()):
            r.wrong += history.wrong
            r.revisions += len(history.revisions)
        r.wrong += checks.unharmed(cloud)
        r.wrong += self._logs()
        r.wrong += [f"{p.name} broke: {p.broken!r}" for p in (*self.writers, *self.readers, self.recorder) if p.broken]

    def _logs(self) -> list[str]:
        wrong = []
        for process in self.site.processes.values():
            lines = process.log.read_text(errors="replace").splitlines()
            for n, line in enumerate(lines):
                if any(word in line for word in _SUSPICIOUS):
                    wrong.append(f"{process.log.name}:{n + 1}: {line} ... {' | '.join(lines[n + 1 : n + 40])[-300:]}")
                    break
        return wrong


def _stop(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.stopping.set()
    for worker in workers:
        if worker.ident:
            worker.join(timeout=30)


def run(seed: int, seconds: float, *, store: str = "etcd", agents: int = 2, say: Callable[[str], None] = print,
         keep: bool = False) -> Result:  # fmt: skip
    """`store`: "etcd" (two cloud processes, three members) or "sqlite" (one process)."""
    clouds, members = (2, 3) if store == "etcd" else (1, 0)
    keep_revisions = 300 if seed % 2 else 20_000  # with 300, who was away for seconds finds its history compacted
    faults = schedule(seed, seconds, agents=agents, clouds=clouds, members=members)
    directory = Path(tempfile.mkdtemp(prefix="kbchaos"))  # short: the path of a socket has 108 bytes
    result = Result(wrong=["it broke"])
    try:
        with Topology() as net:
            result = Scenario(
                Site(net, directory, clouds=clouds, members=members, agents=agents, keep=keep_revisions), seed, say
            ).run(faults, seconds)
    finally:
        if result.wrong and keep:
            result.directory = str(directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return result
