"""The loop of one pod, where its parts take long."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from kubeedge.api.pod import Pod
from kubeedge.appengine.core import PodObservation
from kubeedge.appengine.driver import PodDriver
from kubeedge.appengine.worker import Worker, Workers
from tests.unit.appengine.world import pod


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
