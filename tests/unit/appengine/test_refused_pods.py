"""What the status of a pod says that this node does not run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.api.pod_parser import parse
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.settings import AppEngineSettings
from kubeedge.appengine.worker import Worker
from kubeedge.errors import Invalid
from kubeedge.store.memory import MemoryStore
from tests.unit.appengine.world import manifest, observed

KEY = keys.reported("pods", "default", "web")


async def reported(tmp_path: Path, before: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
    """The status and the reasons of the events; `before` was reported earlier."""
    store, nobody = MemoryStore(), None
    settings = AppEngineSettings(node="edge1", address="100.64.0.1/16", state=tmp_path, logs=tmp_path)
    runtime: Any = nobody
    worker = Worker("u1", "default", "web", None, observed())
    worker.reported = before
    with pytest.raises(Invalid) as caught:
        parse(manifest(**spec))
    worker.refuse(caught.value)
    await Reports(store, settings, runtime, lambda: 0.0).report_invalid(worker)
    row = await store.get(KEY)
    events = await store.range(f"{keys.REPORTED}events/", keys.prefix_end(f"{keys.REPORTED}events/"))
    status = json.loads(row.value)["status"] if row is not None else {}
    return {**status, "events": [json.loads(kv.value)["reason"] for kv in events.kvs]}


UNSAFE = {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}}


@pytest.mark.parametrize(
    ("spec", "phase", "reason"),
    [
        ({"restartPolicy": 1}, "Failed", "InvalidPod"),
        ({"restartPolicy": "Sometimes"}, "Pending", "UnsupportedPod"),
        ({"resourceClaims": [{"name": "gpu"}]}, "Pending", "UnsupportedPod"),
        ({"os": {"name": "windows"}}, "Failed", "PodOSNotSupported"),
        (UNSAFE, "Failed", "SysctlForbidden"),
    ],
)
def test_a_mistake_fails_what_is_missing_here_waits_and_what_is_never_admitted_fails(
    tmp_path: Path, spec: dict[str, Any], phase: str, reason: str
) -> None:
    said = asyncio.run(reported(tmp_path, None, **spec))
    assert (said["phase"], said["reason"], said["events"]) == (phase, reason, [reason])


def test_a_pod_that_an_older_agent_let_wait_fails_and_the_same_is_not_said_twice(tmp_path: Path) -> None:
    said = asyncio.run(reported(tmp_path, None, **UNSAFE))
    before = {"phase": "Pending", "reason": "UnsupportedPod", "message": said["message"]}
    assert asyncio.run(reported(tmp_path, before, **UNSAFE))["phase"] == "Failed"
    known = {key: value for key, value in said.items() if key != "events"}
    assert asyncio.run(reported(tmp_path, known, **UNSAFE)) == {"events": []}
