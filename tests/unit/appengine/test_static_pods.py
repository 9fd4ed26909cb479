"""Static pods: which files are pods, and what is told when they change; pods that end with the machine, in their order."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kubeedge.agent import machine
from kubeedge.appengine.shutdown import groups
from kubeedge.appengine.static_pods import MAX_FILES, StaticPod, StaticPods, static_pod
from kubeedge.appengine.worker import Worker
from kubeedge.errors import KubeEdgeError
from tests.unit.appengine.world import container, observed, pod, running

YAML = b"apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec:\n  priority: 5\n  containers: [{name: c, image: i}]\n"


def manifest(**spec: Any) -> bytes:
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [container()], **spec},
    }
    return json.dumps(made).encode()


def test_a_file_is_a_pod_of_this_node() -> None:
    found = static_pod(YAML, "edge1")
    assert found.mirror["metadata"] == {"name": "web-edge1", "namespace": "default", "labels": {"a": "b"}}
    assert found.mirror["spec"]["nodeName"] == "edge1" and "priority" not in found.mirror["spec"]
    assert found.mirror["spec"]["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]
    assert found.run["spec"]["priority"] > 2_000_000_000 and len(found.run["metadata"]["uid"]) == 32
    others = {
        static_pod(YAML, "edge2").run["metadata"]["uid"],
        static_pod(YAML + b"\n", "edge1").run["metadata"]["uid"],
    }
    assert found.run["metadata"]["uid"] not in others and static_pod(YAML, "edge1") == found


SECRET = {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}
TOKEN = {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}
CLAIM = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}
FROM = {"containers": [container(envFrom=[{"configMapRef": {"name": "c"}}])]}
KEY = {
    "initContainers": [container("i", env=[{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])]
}


@pytest.mark.parametrize(
    "spec", [SECRET, TOKEN, CLAIM, FROM, KEY, {"serviceAccountName": "x"}, {"imagePullSecrets": [{"name": "s"}]}]
)
def test_a_static_pod_reads_nothing_of_an_api(spec: dict[str, Any]) -> None:
    with pytest.raises(KubeEdgeError, match="cannot refer to an object of the API"):
        static_pod(manifest(**spec), "edge1")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"7", b"{", b"\xff", b"a: &a [*a]", b"kind: Pod", b'{"kind": "Pod", "apiVersion": "v1"}',
        b'{"kind": "Pod", "apiVersion": "v1", "metadata": [], "spec": {}}',
        b'{"kind": "Deployment", "apiVersion": "apps/v1"}', manifest(containers=[]), manifest(volumes=7),
        b'{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "../x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}',
    ],
)  # fmt: skip
def test_what_is_no_pod_is_refused(data: bytes) -> None:
    with pytest.raises(KubeEdgeError):
        static_pod(data, "edge1")


def test_files_that_come_change_and_go_are_told_once(tmp_path: Path) -> None:
    told: list[tuple[str, StaticPod | None]] = []
    pods = StaticPods(tmp_path / "manifests", "edge1", lambda namespace, name, found: told.append((name, found)))

    def look() -> list[tuple[str, bool]]:
        told.clear()
        asyncio.run(pods.look())
        return [(name, found is not None) for name, found in told]

    assert look() == []  # there is no directory
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/web.yaml").write_bytes(YAML)
    (tmp_path / "manifests/.web.yaml.swp").write_bytes(YAML)
    (tmp_path / "manifests/bad").write_bytes(b"{")
    (tmp_path / "manifests/large").write_bytes(b"x" * 300_000)
    os.mkfifo(tmp_path / "manifests/pipe")
    assert look() == [("web-edge1", True)] and ("default", "web-edge1") in pods
    assert look() == []
    (tmp_path / "manifests/again.yaml").write_bytes(
        YAML.replace(b"image: i", b"image: j")
    )  # the first file has the name
    assert look() == [("web-edge1", True)]
    (tmp_path / "manifests/again.yaml").unlink()
    assert look() == [("web-edge1", True)]
    (tmp_path / "manifests/web.yaml").write_bytes(b"{")
    assert look() == [("web-edge1", False)] and ("default", "web-edge1") not in pods


def test_a_directory_with_a_thousand_files_is_read_in_part(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 10):
        (tmp_path / f"{number:04}").write_bytes(manifest().replace(b'"web"', b'"web%d"' % number))
    told: list[str] = []
    asyncio.run(StaticPods(tmp_path, "edge1", lambda namespace, name, found: told.append(name)).look())
    assert len(told) == MAX_FILES


def worker(name: str, priority: int, **states: Any) -> Worker:
    made = pod(name, priority=priority)
    return Worker(name, "default", name, made, observed(**states))


def test_pods_of_low_priority_end_first_and_critical_ones_have_their_part_of_the_time() -> None:
    low, vital = worker("low", 0, main=running()), worker("vital", 2_000_000_000, main=running())
    idle = worker("idle", 0)
    assert groups([vital, low, idle], 30.0, 10.0) == [([low], 20.0), ([vital], 10.0)]
    assert groups([vital], 5.0, 10.0) == [([vital], 5.0)]
    assert groups([idle], 30.0, 10.0) == []


@pytest.mark.parametrize(
    ("said", "expected"), [("stopping", True), ("running", False), ("", False), ("stopping-not", False)]
)
def test_systemd_says_whether_the_machine_shuts_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: bool
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\necho {said}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert asyncio.run(machine.shuts_down()) is expected


def test_a_machine_without_systemd_never_shuts_down_for_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert asyncio.run(machine.shuts_down()) is False
