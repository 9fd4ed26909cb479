"""The loop of one pod, where its parts take long."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from kubeedge.api.pod import Pod
from kubeedge.appengine import core, qos
from kubeedge.appengine.core import PodObservation
from kubeedge.appengine.driver import PodDriver
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.worker import Worker, Workers
from tests.unit.appengine.world import container, pod


class Driver(PodDriver):
    async def _gone(self, worker: Worker) -> bool:
        return True


def test_a_pod_that_is_deleted_while_its_volumes_get_new_content_goes_at_once(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker("u1", "default", "web", pod(), PodObservation("u1"), stale_volumes=True)

    async def refresh(refreshed: Pod, ip: str) -> None:
        worker.end()

    parts: Any = SimpleNamespace(images=None, refresh=refresh)
    driver = Driver(parts, Workers(), parts, parts, parts, parts, clock=lambda: 0.0, wall=lambda: 0.0)
    with caplog.at_level(logging.WARNING):
        asyncio.run(asyncio.wait_for(driver.drive(worker), 60))
    assert caplog.text == ""


def test_pods_with_users_of_their_own_are_counted_and_what_could_not_start_of_them() -> None:
    worker = Worker("u1", "default", "web", pod(hostUsers=False), PodObservation("u1"))
    workers = Workers()

    async def create(config: Any) -> None:
        raise StartError("FailedCreatePodSandBox", "no users left")

    async def event(*words: Any) -> None:
        pass

    parts: Any = SimpleNamespace(images=None, create_sandbox=create, sandbox=lambda *_: None, event=event)
    driver = Driver(parts, workers, parts, parts, parts, parts, clock=lambda: 0.0, wall=lambda: 0.0)
    asyncio.run(driver._perform(worker, core.CreateSandbox()))
    assert (workers.with_own_users, workers.failed_with_own_users) == (1, 1)


def test_a_pod_that_asks_for_more_as_a_whole_gets_it_while_it_runs() -> None:
    """Also where each container has limits of its own, which stay."""
    resources = {"limits": {"memory": "1Mi"}}
    before, after = (
        pod(resources={"limits": {"memory": f"{n}Mi"}}, containers=[container(resources=resources)]) for n in (10, 20)
    )
    worker = Worker("u1", "default", "web", before, PodObservation("u1", sandbox=True))
    told: list[Any] = []

    async def update(config: Any) -> None:
        told.append(config)
        worker.end()

    def sandbox(wanted: Pod, observed: PodObservation) -> Any:
        return qos.pod_resources(wanted, {}).memory_limit

    parts: Any = SimpleNamespace(
        images=None, update_sandbox=update, sandbox=sandbox, end_all=lambda *_: None, note_last_status=lambda *_: None,
        remove_pod=_nothing, remove=_nothing,
    )  # fmt: skip
    worker.want(before)
    assert not worker.stale_limits
    worker.want(after)
    driver = Driver(parts, Workers(), parts, parts, parts, parts, clock=lambda: 0.0, wall=lambda: 0.0)
    asyncio.run(asyncio.wait_for(driver.drive(worker), 60))
    assert told == [20 << 20]


async def _nothing(*_: Any) -> None:
    pass
