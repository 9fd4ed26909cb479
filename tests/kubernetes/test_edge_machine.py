"""What a node does by itself in a real cluster: static pods with their mirrors, and the order in which pods end when its machine shuts down."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cluster.site import IMAGE, Site
from tests.kubernetes.workloads import eventually, gone, pod, wait_ready

pytestmark = pytest.mark.root


def manifest(name: str, command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", command]}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [container], **spec},
    }  # fmt: skip


def put(site: Site, name: str, content: str) -> Path:
    """A file among the manifests of edge1, at once, as an editor writes it."""
    directory = site.directory / "edge1/etc/kubernetes/manifests"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f".{name}").write_text(content)
    return (directory / f".{name}").rename(directory / name)


def shown(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        site.cluster.kubectl("get", "pod", name, "--ignore-not-found", "-o", "json") or "{}"
    )
    return found


def running(site: Site, name: str) -> bool:
    statuses = (shown(site, name).get("status") or {}).get("containerStatuses") or [{}]
    return bool(statuses[0].get("ready"))


def attachments(site: Site) -> int:
    """How often agents of edge1 have reached the cloud, which comes after all that they do alone."""
    return (site.directory / "edge1.log").read_text().count("attached endpoint=")


def test_a_static_pod_is_run_and_mirrored_and_comes_back_until_its_file_goes(site: Site) -> None:
    put(
        site,
        "bad.yaml",
        "kind: Pod\napiVersion: v1\nmetadata: {name: bad}\nspec: {containers: [{name: c}], volumes: 7}\n",
    )
    forbidden = manifest("spy", "exec sleep 1", volumes=[{"name": "s", "secret": {"secretName": "s"}}])
    put(site, "spy.json", json.dumps(forbidden))
    file = put(site, "web.json", json.dumps(manifest("web", "exec sleep 88001")))
    eventually(lambda: running(site, "web-edge1"), "the mirror is Ready")
    first = shown(site, "web-edge1")
    annotations, (owner,) = first["metadata"]["annotations"], first["metadata"]["ownerReferences"]
    assert annotations["kubernetes.io/config.source"] == "file" and (owner["kind"], owner["name"]) == ("Node", "edge1")
    assert first["metadata"]["labels"] == {"app": "web"} and shown(site, "spy-edge1") == shown(site, "bad-edge1") == {}
    id = first["status"]["containerStatuses"][0]["containerID"]

    site.cluster.kubectl("delete", "pod", "web-edge1", "--wait=false", timeout=90)
    uid = first["metadata"]["uid"]
    eventually(lambda: shown(site, "web-edge1").get("metadata", {}).get("uid") not in (None, uid), "another mirror")
    eventually(lambda: running(site, "web-edge1"), "with the status of the pod")
    second = shown(site, "web-edge1")
    assert second["status"]["containerStatuses"][0]["containerID"] == id  # nothing of it was ended

    site.stop_agent("edge1")
    site.start_agent("edge1")
    put(site, "web.json", json.dumps(manifest("web", "exec sleep 88002")))

    def changed() -> bool:
        found = shown(site, "web-edge1")
        statuses = (found.get("status") or {}).get("containerStatuses") or [{}]
        command = ((found.get("spec") or {}).get("containers") or [{}])[0].get("command") or []
        return "exec sleep 88002" in command and bool(statuses[0].get("ready")) and statuses[0].get("containerID") != id

    eventually(changed, "the pod of the new file")
    assert site.edges["edge1"].running(b"88002") and not site.edges["edge1"].running(b"88001")
    file.unlink()
    gone(site, "pod", "web-edge1")
    eventually(lambda: not site.edges["edge1"].running(b"88002"), "its process has ended")


def test_pods_end_before_the_machine_those_of_low_priority_first_and_start_with_it(site: Site, tmp_path: Path) -> None:
    """systemd is played by a program of that name which says what it says during a shutdown."""
    order = site.directory / "order"
    order.mkdir(exist_ok=True)
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\necho stopping\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def says(name: str) -> str:
        return (
            f"trap 'echo {name} >> /order/ends; exit 0' TERM; echo {name} >> /order/starts; while :; do sleep 0.1; done"
        )

    mounted = {"volumes": [{"name": "o", "hostPath": {"path": str(order)}}]}
    plain = pod("ordinary", command=says("ordinary"), **mounted)
    static = manifest("vital", says("vital"), **mounted)
    for obj in (plain, static):
        obj["spec"]["containers"][0]["volumeMounts"] = [{"name": "o", "mountPath": "/order"}]
        obj["spec"]["terminationGracePeriodSeconds"] = 60
    file = put(site, "vital.json", json.dumps(static))
    site.cluster.apply(plain)
    before = wait_ready(site, "ordinary")
    eventually(lambda: running(site, "vital-edge1"), "both run")

    def lines(name: str) -> list[str]:
        return (order / name).read_text().split()

    eventually(lambda: sorted(lines("starts")) == ["ordinary", "vital"], "both have begun")
    site.stop_agent("edge1")  # the agent alone: its pods go on
    assert not (order / "ends").exists()
    attached = attachments(site)
    site.start_agent("edge1", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    try:
        eventually(lambda: attachments(site) > attached, "the agent is there, with its pods")
    finally:
        site.stop_agent("edge1")
        site.start_agent("edge1")
    assert lines("ends") == ["ordinary", "vital"]
    eventually(lambda: sorted(lines("starts")) == ["ordinary", "ordinary", "vital", "vital"], "both begin again")

    def again() -> bool:
        """What the cluster knows may be from before for a moment."""
        found = shown(site, "ordinary")
        (status,) = found["status"]["containerStatuses"]
        assert found["metadata"]["uid"] == before["metadata"]["uid"] and status["restartCount"] <= 1
        return bool(status["ready"] and status["restartCount"] == 1)

    eventually(again, "the cluster knows that it was started again, once")
    file.unlink()
    gone(site, "pod", "vital-edge1")
    site.cluster.kubectl("delete", "pod", "ordinary", timeout=90)
