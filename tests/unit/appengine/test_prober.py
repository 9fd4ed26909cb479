"""Which probes of a container run, over virtual time: all of them while it is to run, readiness alone while it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubeedge.appengine.prober import Prober
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import ExecResult
from kubeedge.appengine.settings import AppEngineSettings
from kubeedge.appengine.worker import Worker
from kubeedge.store.memory import MemoryStore
from tests.kit import virtual_time
from tests.unit.appengine.world import container, observed, pod, running


class Asked:
    """The part of a runtime that runs commands in containers: it counts them, and those of `failing` fail."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failing: set[str] = set()

    async def exec_sync(self, id: str, command: Sequence[str], timeout: float) -> ExecResult:
        self.counts[command[0]] += 1
        return ExecResult(int(command[0] in self.failing), b"no")


async def asked_within(asked: Asked, seconds: float) -> dict[str, int]:
    asked.counts.clear()
    await asyncio.sleep(seconds)
    return dict(asked.counts)


def probe(name: str) -> dict[str, Any]:
    return {"exec": {"command": [name]}, "periodSeconds": 1, "failureThreshold": 1}


def made(asked: Any, tmp_path: Path) -> Prober:
    settings = AppEngineSettings(node="edge1", address="100.64.0.1/16", state=tmp_path, logs=tmp_path)
    return Prober(asked, Reports(MemoryStore(), settings, asked, lambda: 0.0), settings.host_ip)


def test_a_container_that_is_told_to_end_is_asked_whether_it_is_ready_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        asked = Asked()
        prober = made(asked, tmp_path)
        p = pod(containers=[container(livenessProbe=probe("live"), readinessProbe=probe("ready"))])
        worker = Worker("u1", "default", "web", None, observed(main=running()))
        worker.want(p)
        state = worker.observed.of("main")
        prober.keep(worker)
        assert await asked_within(asked, 9.5) == {"live": 10, "ready": 10}
        prober.only_readiness(worker, "main")
        asked.failing |= {"live", "ready"}
        worker.wake.clear()
        assert await asked_within(asked, 9.5) == {"ready": 10}
        assert not state.ready and not state.unhealthy and worker.wake.is_set(), "its status is to be reported"
        asked.failing.clear()
        prober.keep(worker)  # it goes on after all
        assert await asked_within(asked, 9.5) == {"live": 10, "ready": 10} and state.ready
        prober.only_readiness(worker, "main")
        prober.end(worker, "main")  # it has ended
        assert await asked_within(asked, 9.5) == {} and not worker.probes

    virtual_time.run(scenario())


def test_one_without_a_readiness_probe_or_not_started_yet_is_not_asked_at_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        asked = Asked()
        asked.failing.add("started")
        prober = made(asked, tmp_path)
        starting = container(
            "b", readinessProbe=probe("ready"), startupProbe={**probe("started"), "failureThreshold": 99}
        )
        p = pod(containers=[container("a", livenessProbe=probe("live")), starting])
        worker = Worker("u1", "default", "web", None, observed(a=running(), b=running()))
        worker.want(p)
        worker.observed.of("b").started = worker.observed.of("b").ready = False
        prober.keep(worker)
        assert await asked_within(asked, 4.5) == {"live": 5, "started": 5}
        for name in ("a", "b"):
            prober.only_readiness(worker, name)
        assert await asked_within(asked, 9.5) == {} and not worker.probes

    virtual_time.run(scenario())
