"""Clients of a real cloud process that ask for much and read nothing: watches, lists. What they hold is bounded, and others are served."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.topology import Host, descendants, edges_behind_nat, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
KUBECTL = str(ROOT / "build/debian/usr/bin/kubectl")
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
CLOUD = "203.0.113.1"
MIB = 1024  # KiB
GROWTH = 128 * MIB  # for 32 MiB that may wait, and what is made of one object or list meanwhile


class Site:
    def __init__(self, directory: Path, cloud: Host, internet: Host) -> None:
        self.directory, self.cloud, self.internet = directory, cloud, internet
        config = {
            "kind": "CloudCore", "advertise": [CLOUD], "paths": {"state": f"{directory}/state", "run": f"{directory}/run"}
        }  # fmt: skip
        (directory / "cloud.yaml").write_text(json.dumps(config))
        process = cloud.spawn(
            *KUBEEDGE, "cloud", "--config", str(directory / "cloud.yaml"), log=directory / "cloud.log"
        )
        until((directory / "run/cloud.sock").exists, what="the cloud's socket")
        self.pid = descendants(process.pid)[0]
        self.kubeconfig = directory / "state/kubeconfig-default"

    def kubectl(self, *argv: str, input: str | None = None) -> str:
        return self.cloud.run(
            "env", f"HOME={self.directory}", KUBECTL, f"--kubeconfig={self.kubeconfig}", *argv, input=input
        )

    def put(self, name: str, letter: str) -> None:
        obj = {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
            "data": {"k": letter * 1_000_000},
        }  # fmt: skip
        self.kubectl("replace", "-f", "-", input=json.dumps(obj))

    def make(self, name: str) -> None:
        obj = {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
            "data": {"k": "a" * 1_000_000},
        }  # fmt: skip
        self.kubectl("create", "-f", "-", input=json.dumps(obj))

    def resident(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("the cloud is gone")

    @contextlib.contextmanager
    def unread(self, target: str, count: int) -> Iterator[subprocess.Popen[str]]:
        config = {"host": CLOUD, "port": 6443, "kubeconfig": str(self.kubeconfig), "target": target, "count": count}
        argv = self.internet.command(
            "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.kit.unread", json.dumps(config)
        )
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None and process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.stdin.close()
            process.stdout.close()
            process.kill()
            process.wait()


def still_open(process: subprocess.Popen[str]) -> int:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=f"kbunr{os.getpid()}"))
    try:
        with edges_behind_nat(1) as (_, cloud, _, _, internet):
            yield Site(directory, cloud, internet)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_watches_that_nobody_reads_hold_one_copy_of_an_event(site: Site) -> None:
    site.make("big")
    version = json.loads(site.kubectl("get", "--raw", "/api/v1/namespaces/default/configmaps?limit=1"))["metadata"]
    target = f"/api/v1/configmaps?watch=1&resourceVersion={version['resourceVersion']}"
    before = site.resident()
    with site.unread(target, 150) as clients:
        most = 0
        for letter in "bcdefghij":
            site.put("big", letter)
            most = max(most, site.resident() - before)
        assert site.kubectl("get", "configmap", "big", "-o", "jsonpath={.metadata.name}") == "big"
        print(f"the cloud grew by {most} KiB, {still_open(clients)} of 150 watches are open")
        assert most < GROWTH
    assert "Traceback" not in (site.directory / "cloud.log").read_text()


def test_lists_that_nobody_reads_are_cut_off_or_refused(site: Site) -> None:
    for n in range(8):
        site.make(f"large{n}")
    before = site.resident()
    with site.unread("/api/v1/configmaps", 100) as clients:
        until(lambda: still_open(clients) <= 100, what="an answer")
        most = 0
        for _ in range(10):
            site.kubectl("get", "namespaces")
            most = max(most, site.resident() - before)
        print(f"the cloud grew by {most} KiB, {still_open(clients)} of 100 lists are open")
        assert most < GROWTH
        site.kubectl("get", "configmaps")
    assert "Traceback" not in (site.directory / "cloud.log").read_text()
