"""What people do with kubectl and controllers: roll out, look, go back, scale, delete. The kubelet is a few lines here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import meta
from kubeedge.api.names import TenantId
from kubeedge.api.resources import DEPLOYMENTS, NODES, PODS
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.module import run_controllers
from tests.kit.upstream import build
from tests.kubectl import charts
from tests.kubectl.conftest import Cluster, Kubectl

NODE: dict[str, Any] = {
    "metadata": {"name": "edge1", "labels": {"kubernetes.io/hostname": "edge1"}},
    "status": {
        "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: "busybox:1"}]
"""

DAEMON = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: watch}
spec:
  selector: {matchLabels: {app: watch}}
  template:
    metadata: {labels: {app: watch}}
    spec: {containers: [{name: c, image: "busybox:1"}]}
"""

UNDONE = (
    "Warning: resource deployments/web was previously managed with 'kubectl apply'. Rolling back will not update the "
    "kubectl.kubernetes.io/last-applied-configuration annotation, which may cause unexpected behavior on future "
    "'kubectl apply' operations. Consider using 'kubectl apply' with your previous configuration file instead.\n"
)


async def kubelet(registry: Registry) -> None:
    async for event in registry.watch(PODS, resource_version="0"):
        pod = event.object
        namespace, name = meta.namespace_of(pod), meta.name_of(pod)
        if event.type == "DELETED" or pod["spec"].get("nodeName") != "edge1":
            continue
        with contextlib.suppress(NotFound, Conflict):
            if pod["metadata"].get("deletionTimestamp"):
                await registry.delete(PODS, namespace, name, grace_period=0)
            elif pod["status"].get("phase") == "Pending":
                stamp = meta.timestamp(time.time())
                ready = {"type": "Ready", "status": "True", "lastTransitionTime": stamp}
                conditions = [*pod["status"].get("conditions", ()), ready]
                status = {"phase": "Running", "podIP": "10.244.1.2", "conditions": conditions}
                await registry.merge_patch(PODS, namespace, name, {"status": status}, subresource="status")


@pytest.fixture(scope="module", autouse=True)
def controllers(cluster: Cluster) -> Iterator[None]:
    """All controllers, and one node that runs whatever it gets."""

    async def begin() -> list[asyncio.Task[None]]:
        registry = Registry(cluster.registry._store, TenantId("a"), foreground=True)
        cluster.registries[TenantId("a")] = registry
        with contextlib.suppress(Conflict):
            await registry.create(NODES, "", NODE)
        ready = asyncio.Event()
        tasks = [
            asyncio.create_task(run_controllers(registry, ready)),
            asyncio.create_task(kubelet(registry)),
        ]
        await asyncio.wait_for(ready.wait(), 60)
        return tasks

    async def end(tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    tasks = cluster.call(begin())
    yield
    cluster.call(end(tasks))


def images(kubectl: Kubectl, namespace: str) -> set[str]:
    pods = json.loads(kubectl("get", "pods", "-n", namespace, "-l", "app=web", "-o", "json"))["items"]
    return {pod["spec"]["containers"][0]["image"] for pod in pods if not pod["metadata"].get("deletionTimestamp")}


def undo(kubectl: Kubectl, *arguments: str) -> None:
    """Of what was applied. The newest kubectl says that the annotation of `apply` stays as it was."""
    done = kubectl.run("rollout", "undo", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr in ("", UNDONE), done.stderr


def test_a_deployment_rolls_out_and_back(kubectl: Kubectl, namespace: str) -> None:
    inside = ("-n", namespace)
    kubectl("apply", *inside, "-f", "-", stdin=WEB)
    assert "successfully rolled out" in kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    kubectl("wait", *inside, "--for=condition=available", "deployment/web", "--timeout=60s")
    assert images(kubectl, namespace) == {"busybox:1"}
    kubectl("annotate", *inside, "deployment/web", "kubernetes.io/change-cause=two")
    kubectl("set", "image", *inside, "deployment/web", "c=busybox:2")
    assert "successfully rolled out" in kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    assert images(kubectl, namespace) == {"busybox:2"}
    history = kubectl("rollout", "history", *inside, "deployment/web")
    assert ["2", "two"] in [line.split() for line in history.splitlines()]
    undo(kubectl, *inside, "deployment/web")
    kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    assert images(kubectl, namespace) == {"busybox:1"}
    undo(kubectl, *inside, "deployment/web", "--to-revision=2")
    kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    assert images(kubectl, namespace) == {"busybox:2"}
    assert len(kubectl("get", "replicasets", *inside, "-o", "name").split()) == 2


def test_pause_restart_and_scale(kubectl: Kubectl, namespace: str) -> None:
    inside = ("-n", namespace)
    kubectl("apply", *inside, "-f", "-", stdin=WEB)
    kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    kubectl("rollout", "pause", *inside, "deployment/web")
    kubectl("set", "image", *inside, "deployment/web", "c=busybox:3")
    kubectl("scale", *inside, "deployment/web", "--replicas=5")
    kubectl("rollout", "resume", *inside, "deployment/web")
    kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    assert images(kubectl, namespace) == {"busybox:3"}
    kubectl("rollout", "restart", *inside, "deployment/web")
    kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    assert kubectl("get", "deployment", *inside, "web", "--no-headers").split()[:4] == ["web", "5/5", "5", "5"]


def test_describe_tells_the_story(kubectl: Kubectl, namespace: str) -> None:
    inside = ("-n", namespace)
    kubectl("apply", *inside, "-f", "-", stdin=WEB)
    kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    kubectl("run", *inside, "nowhere", "--image=busybox:1", '--overrides={"spec":{"nodeSelector":{"kind":"camera"}}}')
    deadline = time.monotonic() + 60
    while True:
        deployment = kubectl("describe", *inside, "deployment/web")
        pods = kubectl(
            "describe", *inside, "pods", "--show-events=true"
        )  # the newest tells them of several pods only when asked
        told = all(words in deployment for words in ("Scaled up replica set web-", "NewReplicaSetAvailable"))
        told = told and "Successfully assigned" in pods and "FailedScheduling" in pods
        if told or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert "Scaled up replica set web-" in deployment and "NewReplicaSetAvailable" in deployment
    assert "Successfully assigned" in pods
    assert "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector." in pods


def test_daemonsets_roll_too(kubectl: Kubectl, namespace: str) -> None:
    inside = ("-n", namespace)
    kubectl("apply", *inside, "-f", "-", stdin=DAEMON)
    assert "successfully rolled out" in kubectl("rollout", "status", *inside, "daemonset/watch", "--timeout=60s")
    kubectl("set", "image", *inside, "daemonset/watch", "c=busybox:2")
    assert "successfully rolled out" in kubectl("rollout", "status", *inside, "daemonset/watch", "--timeout=60s")
    assert "busybox:2" in kubectl("get", *inside, "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}")


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_what_is_deleted_takes_its_pods_along(kubectl: Kubectl, namespace: str, cascade: str) -> None:
    inside = ("-n", namespace)
    kubectl("apply", *inside, "-f", "-", stdin=WEB)
    kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    kubectl("delete", *inside, "deployment/web", f"--cascade={cascade}", "--timeout=60s")
    deadline = time.monotonic() + 60
    while left := kubectl("get", *inside, "pods,replicasets", "-o", "name").split():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_orphans_stay(kubectl: Kubectl, namespace: str) -> None:
    inside = ("-n", namespace)
    kubectl("apply", *inside, "-f", "-", stdin=WEB)
    kubectl("rollout", "status", *inside, "deployment/web", "--timeout=60s")
    kubectl("delete", *inside, "deployment/web", "--cascade=orphan")
    time.sleep(0.5)  # a collector that was wrong would have been at work by now
    assert len(kubectl("get", *inside, "pods", "-o", "name").split()) == 3


def test_a_namespace_goes_with_everything_in_it(kubectl: Kubectl) -> None:
    name = f"gone-{time.monotonic_ns()}"
    kubectl("create", "namespace", name)
    kubectl("apply", "-n", name, "-f", "-", stdin=WEB)
    kubectl("rollout", "status", "-n", name, "deployment/web", "--timeout=60s")
    kubectl("delete", "namespace", name, "--timeout=60s")
    assert "NotFound" in kubectl.fails("get", "namespace", name)


@pytest.mark.parametrize("kubectl", ["newest"], indirect=True)
def test_helm_waits_for_pods_and_goes_back_when_they_do_not_come(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    helm, chart, inside = cluster.kubectl(build.program("helm")), charts.write(tmp_path / "chart"), ("-n", namespace)
    helm("install", "web", chart, *inside, "--wait", "--timeout=60s", "--set=replicas=2")
    before = cluster.call(cluster.registry.get(DEPLOYMENTS, namespace, "web"))
    assert before["status"]["availableReplicas"] == 2
    failed = helm.fails("upgrade", "web", chart, *inside, "--atomic", "--timeout=10s", "--set=node.kind=camera")
    assert "has been rolled back due to atomic being set" in failed
    after = cluster.call(cluster.registry.get(DEPLOYMENTS, namespace, "web"))
    assert after["spec"] == before["spec"]
    history = json.loads(helm("history", "web", *inside, "-o", "json"))
    assert [release["status"] for release in history] == ["superseded", "failed", "deployed"]
    helm("uninstall", "web", *inside, "--wait", "--timeout=60s")
