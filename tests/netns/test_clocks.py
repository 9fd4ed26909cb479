"""Clocks that are off by decades, or set while everything runs: a real cloud and a real agent, each with a time of day of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit.clock import DAY, YEAR, WallClock
from tests.kit.topology import Topology, until
from tests.netns.test_join import PREFIX
from tests.netns.test_metaserver import EdgeSite

pytestmark = pytest.mark.root

CRASHING = """
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  nodeName: edge1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "demo:1", command: [sh, -c, "exit 1"]}]
"""


class ClockSite(EdgeSite):
    def __init__(self, net: Topology, directory: Path) -> None:
        self.of_cloud = WallClock(directory / "cloud.clock")
        self.of_machine = WallClock(directory / "machine.clock")
        super().__init__(net, directory, env=self.of_cloud.env)
        self.agent_env = self.of_machine.env

    def says(self, a: str) -> None:
        """The cloud's people change what the pod sees."""
        self.kubectl("patch", "configmap", "web", "-p", json.dumps({"data": {"a": a}}))

    def writes(self, b: str) -> None:
        """The machine's people do the same."""
        self.edge("patch", "configmap", "web", "-p", json.dumps({"data": {"b": b}}))

    def pod(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "pod", "sleeper", "-o", "json"))
        return found

    def ready(self) -> bool:
        return " Ready " in self.kubectl("get", "nodes")


@pytest.fixture
def site(topology: Topology) -> Iterator[ClockSite]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    try:
        site = ClockSite(topology, directory)
        site.begin()
        yield site
    finally:
        topology.__exit__()
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize(("off", "power_cut"), [(-50 * YEAR, True), (20 * YEAR, False)])
def test_a_machine_that_starts_in_another_decade_says_so_and_is_back_when_its_clock_is_set(
    site: ClockSite, off: int, power_cut: bool
) -> None:
    before = site.pod()
    site.machine.signal(site.agent, signal.SIGKILL)
    site.agent.wait(90)
    if power_cut:
        for process in cgroups.processes(PREFIX):
            os.kill(process, signal.SIGKILL)
    site.of_machine.set(off)
    begun = time.monotonic()
    site.start_again()
    until(lambda: "clock of this machine" in site.status()["channel"]["lastError"], what="the reason")
    until(
        lambda: "clock of this machine" in site.status()["link"]["lastError"],
        what="the reason, of the link",
    )
    assert max(site.status()[way]["seconds"] for way in ("channel", "link")) < time.monotonic() - begun + 1
    # alone, and at work: what it knows, what people write there, what runs
    restarts = ["get", "pod", "sleeper", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}"]
    until(lambda: site.edge(*restarts) == f"Running {int(power_cut)}", what="the pod runs")
    site.writes("offline")
    site.says("2")

    site.of_machine.set(0)
    until(site.ready, what="Ready, without a restart")
    until(lambda: site.mounted("a") == "2", what="the change of meanwhile")
    until(lambda: site.pending() == 0, what="the write is merged")
    assert site.kubectl("get", "configmap", "web", "-o", "jsonpath={.data}") == '{"a":"2","b":"offline"}'
    until(lambda: site.status()["link"]["up"], what="the link")
    after = site.pod()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    until(lambda: site.kubectl(*restarts) == f"Running {int(power_cut)}", what="the cloud knows, too")


@pytest.mark.parametrize(
    ("whose", "offsets"),
    [
        ("machine", [3 * DAY, -3 * DAY, 9 * YEAR, -40 * YEAR, 0]),
        ("cloud", [3 * DAY, 30 * DAY, 0, -60]),  # further back, it refuses kubectl's certificate: not valid yet
    ],
)
def test_a_clock_that_is_set_under_way_changes_nothing(site: ClockSite, whose: str, offsets: list[int]) -> None:
    clock = site.of_machine if whose == "machine" else site.of_cloud
    uid = site.pod()["metadata"]["uid"]
    for n, off in enumerate(offsets):
        clock.set(off)
        site.says(f"cloud {n}")
        until(lambda n=n: site.mounted("a") == f"cloud {n}", what=f"a change of the cloud at {off}")
        site.writes(f"edge {n}")
        until(lambda: site.pending() == 0, what=f"the edge's write is merged at {off}")
        assert site.kubectl("get", "configmap", "web", "-o", "jsonpath={.data.b}") == f"edge {n}"
        assert site.ready()
    after = site.pod()
    assert (after["metadata"]["uid"], after["status"]["phase"]) == (uid, "Running")
    assert [c["restartCount"] for c in after["status"]["containerStatuses"]] == [0]
    said = (site.directory / "edge.log").read_text()
    assert (said.count("edgehub: attached"), "detached" in said) == (1, False), said
    for log in ("cloud.log", "edge.log"):
        assert "Traceback" not in (site.directory / log).read_text()


def test_a_cloud_that_wakes_up_in_another_decade_keeps_its_nodes(site: ClockSite) -> None:
    for off in (30 * YEAR, -40 * YEAR):
        site.of_cloud.set(off)
        site.writes(f"at {off}")
        until(lambda: site.pending() == 0, what="the write is merged")
    site.of_cloud.set(0)
    assert site.kubectl("get", "configmap", "web", "-o", "jsonpath={.data.b}") == f"at {-40 * YEAR}"
    assert site.ready() and site.status()["channel"]["attached"]
    site.says("2")
    until(lambda: site.mounted("a") == "2", what="a change")


def test_a_container_in_back_off_does_not_wait_for_a_clock_that_was_set_back(site: ClockSite) -> None:
    site.kubectl("apply", "-f", "-", input=CRASHING)
    restarts = ["get", "pod", "crashing", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]
    until(lambda: site.kubectl(*restarts) == "1", what="it crashed twice: the third start waits for 10 s")
    site.of_machine.set(-40 * YEAR)
    until(lambda: site.kubectl(*restarts) == "2", what="it is started again")
