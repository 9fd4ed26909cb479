"""The loop of one pod, where its parts take long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from kubeedge.api.pod import Pod
from kubeedge.appengine import core, qos
from kubeedge.appengine.core import PodObservation
from kubeedge.appengine.driver import PodDriver
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.worker import Worker, Workers
from tests.kit import virtual_time
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


@pytest.mark.parametrize("host_network", [False, True])
def test_a_container_starts_when_its_pod_is_admitted_and_not_before(host_network: bool) -> None:
    told: list[Any] = []
    observed = PodObservation("u1")
    observed.sandbox, observed.ip, observed.ipv6 = True, "10.244.1.2", "fd00:10:244:1::2"
    worker = Worker("u1", "default", "web", pod(hostNetwork=host_network), observed)

    async def nothing(*arguments: Any, **more: Any) -> Any:
        return ()

    async def start_container(sandbox: Any, config: Any) -> None:
        told.append("starts")
        worker.end()
        raise OSError("enough")

    async def admit(namespace: str, name: str, uid: str, addresses: Sequence[str]) -> None:
        await asyncio.sleep(0)
        told.append((namespace, name, uid, *addresses))

    async def ensure(*arguments: Any) -> bool:
        return False

    parts: Any = SimpleNamespace(
        images=None, ensure=ensure, event=nothing, report=nothing, attach=nothing, configure=nothing, sandbox=lambda *a: None,
        start_container=start_container, find=lambda *a: None, refresh=nothing,
    )  # fmt: skip
    driver = Driver(parts, Workers(), parts, parts, parts, parts, clock=lambda: 0.0, wall=lambda: 0.0, admit=admit)
    driver._pulls = parts
    found = worker.desired
    assert found is not None
    asyncio.run(asyncio.wait_for(driver._start(worker, found, found.all_containers[0], 0), 60))
    both = ("10.244.1.2", "fd00:10:244:1::2")
    assert told == (["starts"] if host_network else [("default", "web", found.uid, *both), "starts"])


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


def test_limits_of_a_pod_that_could_not_be_are_said_and_tried_again() -> None:
    """The pod goes on meanwhile: what plan() says is done."""
    before, after = (pod(resources={"limits": {"memory": f"{n}Mi"}}) for n in (20, 10))
    worker = Worker(before.uid, "default", "web", before, PodObservation(before.uid, sandbox=True))
    told: list[Any] = []

    async def update(config: Any) -> None:
        told.append("tried")
        if told.count("tried") < 3:
            raise StartError("Error", "in use")
        worker.end()

    async def event(*words: Any) -> None:
        told.append(words[2:4])

    parts: Any = SimpleNamespace(
        images=None, update_sandbox=update, sandbox=lambda *_: None, end_all=lambda *_: None, note_last_status=lambda *_: None,
        remove_pod=_nothing, remove=_nothing, event=event, report=_nothing, keep=lambda *_: None,
    )  # fmt: skip

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        driver = Driver(parts, Workers(), parts, parts, parts, parts, clock=loop.time, wall=loop.time)
        await driver.drive(worker)

    worker.observed.final = "Succeeded"  # nothing else is to be done for it
    worker.want(after)
    virtual_time.run(scenario())
    assert told == ["tried", ("ResizeError", "in use"), "tried", "tried"]


async def _nothing(*_: Any) -> None:
    pass
